"""exp/.trash: replaced and cleaned results, until `clean --empty-trash` deletes them."""

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
        """Move a folder below exp/ to the trash in one step, so that no part of it looks like a result; return its path.

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
        """Remove a folder below exp/, if it exists."""
        if folder.exists():
            with contextlib.suppress(FileNotFoundError):  # another process has done it
                empty(self.take(folder).parent)


def empty(folder: Path) -> None:
    """Delete a folder of the trash, even if another process does so, too. Raises DataError without permission."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DataError(f"{folder} cannot be deleted; check who may write there.")
