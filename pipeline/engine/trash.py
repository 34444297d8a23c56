"""Keep replaced and cleaned results in the folder exp/.trash until `clean --empty-trash` deletes them."""

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
        """Move a folder below exp/ to the trash atomically, so that no part of it looks like a result; return its new path.

        Raises FileNotFoundError if the folder does not exist (any more), and DataError if it is on another disk than the trash.
        """
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=self.folder))
            try:
                return folder.rename(place / folder.name)
            except FileNotFoundError:
                if place.exists() or not folder.exists():  # otherwise another process has just emptied the trash: try again
                    raise
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                raise DataError(
                    f"{folder} is on another disk than {self.folder}; move it away by hand, and run again."
                ) from None

    def discard(self, folder: Path) -> None:
        """Delete a folder below exp/, if it exists."""
        if folder.exists():
            with contextlib.suppress(FileNotFoundError):  # no error if another process has just moved the folder
                empty(self.take(folder).parent)


def empty(folder: Path) -> None:
    """Delete a folder in the trash, even if another process deletes it at the same time.

    Raises DataError if the folder cannot be deleted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DataError(f"{folder} cannot be deleted; check who may write there.")
