"""exp/.trash: where results go that are replaced or cleaned away, until `clean --empty-trash`."""

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path

from datasets.errors import DataError
from pipeline import config


def trash() -> Path:
    """The folder of what was replaced or cleaned away."""
    return config.exp() / ".trash"


def to_trash(folder: Path) -> Path:
    """Move a folder below exp/ to exp/.trash, in one step, so that half of it is never taken for a result.

    Raises FileNotFoundError where the folder is not there (any more), and DataError where it is on another disk.
    """
    while True:
        trash().mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=trash()))
        try:
            return folder.rename(place / folder.name)
        except FileNotFoundError:
            if place.exists() or not folder.exists():  # else another process has just emptied the trash
                raise
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise DataError(f"{folder} is on another disk than {trash()}; move it away by hand, and run again.") from None


def discard(folder: Path) -> None:
    """Remove a folder below exp/, if it is there."""
    if folder.exists():
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            empty(to_trash(folder).parent)


def empty(folder: Path) -> None:
    """Delete a folder of the trash, perhaps together with another process. Raises DataError where that is forbidden."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DataError(f"{folder} cannot be deleted; check who may write there.")
