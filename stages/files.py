"""Files that are written whole or not at all, and their digests."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.errors import DataError
from datasets.progress import Report, silent

CHUNK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the whole new one, whatever kills the process or the machine."""
    temporary = path.with_name(path.name + ".writing")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256(path: Path, report: Report = silent) -> str:
    """Hex digest of a file's content, read in pieces. Raises DataError where it cannot be read."""
    digest, done = hashlib.sha256(), 0
    try:
        total = path.stat().st_size
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                report(done, total, f"checking {path.name}", unit="B")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path in the settings.") from None
    return digest.hexdigest()


class NotEnoughSpace(DataError):
    """The disk is too small for what is about to be written."""


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise NotEnoughSpace where fewer than `needed` bytes are free for `folder`, which need not be there yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NotEnoughSpace(
            f"{what} needs {size_in_words(needed)} in {folder}, where {size_in_words(free)} are free; free some space, or set "
            "[workspace] exp to a larger disk."
        )


def size_in_words(count: float) -> str:
    """1234567 -> 1 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def time_in_words(seconds: float) -> str:
    """7500 -> 2 h."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def disk_trouble_is_a_sentence(place: Path) -> Iterator[None]:
    """A full or forbidden disk is the user's to mend; any other OSError is an error of ours and keeps its traceback."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            what = "The disk is full; free some space, or set [workspace] exp to a larger disk"
        elif error.errno in FORBIDDEN:
            what = f"{error.filename or place} must not be written ({error.strerror}); change its rights, or [workspace] exp"
        else:
            raise
        raise DataError(f"{what}, and run again. What is finished is kept.") from error
