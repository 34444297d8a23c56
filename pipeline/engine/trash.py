"""exp/.trash: where results go that are replaced or cleaned away, until `clean --empty-trash`."""

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path

from datasets.errors import DataError


class Trash:
    """The trash of one folder of results."""

    def __init__(self, exp: Path) -> None:
        self.folder = exp / ".trash"

    def take(self, folder: Path) -> Path:
        """Move a folder below exp/ to the trash in one step, so that half of it is never taken for a result; return its place.

        Raises FileNotFoundError where the folder is not there (any more), and DataError where it is on another disk.
        """
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=self.folder))
            try:
                return folder.rename(place / folder.name)
            except FileNotFoundError:
                if place.exists() or not folder.exists():  # else another process has just emptied the trash
                    raise
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                raise DataError(
                    f"{folder} is on another disk than {self.folder}; move it away by hand, and run again."
                ) from None

    def discard(self, folder: Path) -> None:
        """Remove a folder below exp/, if it is there."""
        if folder.exists():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                empty(self.take(folder).parent)


def empty(folder: Path) -> None:
    """Delete a folder of the trash, perhaps together with another process. Raises DataError where that is forbidden."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DataError(f"{folder} cannot be deleted; check who may write there.")
