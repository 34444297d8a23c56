"""Functions for files: atomic writing, digests, text in any encoding, sizes, free disk space, and disk errors."""

import codecs
import ctypes
import errno
import hashlib
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from datasets.errors import DataError
from datasets.progress import Report, silent

CHUNK = 1 << 20
FEW_FILES, MANY_FILES = 256, 4096  # number of open files: lowest limit accepted, and limit requested
FULL = (errno.ENOSPC, errno.EDQUOT)
_AND_AGAIN = ", and run again. Finished results are kept."
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # error numbers of disks that cannot lock files
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


WRITING = ".writing"  # end of the names of files that `write_atomically` has not finished


def write_atomically(path: Path, data: bytes, before: Path | None = None) -> None:
    """Write a file atomically: even after a crash or power cut, `path` has either its old or the complete new content.

    before: a path in the folder of `path`. If it is given, an existing file `path` is first renamed to `before`; a crash right
    after this renaming leaves the old content only in `before`. Without `before`, an existing file is replaced.
    """
    temporary = path.with_name(path.name + WRITING)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, an unfinished file would only take space
        raise
    if before and path.exists():
        os.replace(path, before)
    os.replace(temporary, path)


def sync(folder: Path) -> None:
    """Wait until everything written to the file system of a folder is on the disk; this is faster than fsync for each file."""
    at = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # syncfs exists only on Linux
        if syncfs is None:
            os.sync()
        elif syncfs(at):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(at)


def lock_file(path: Path, timeout: float = -1) -> FileLock:
    """Return a lock between processes, which is released when the process that acquired it ends.

    timeout: seconds to wait for the lock; -1: no limit. On a file system without locks, acquiring the lock raises OSError. With
    its default setting, the package filelock would instead create a file that marks the lock, and this file would remain if the
    process is killed.
    """
    return FileLock(path, timeout=timeout, fallback_to_soft=False)


def decode_text(data: bytes) -> str:
    """Return the text of a file's content, with \\n at the end of its lines and without a byte order mark.

    Content that begins with the byte order mark of UTF-16 is decoded as UTF-16. All other content is decoded as UTF-8 or, if it
    is not valid UTF-8, as Windows-1252, which agrees with Latin-1 in all printable characters.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_text(cell: str) -> str:
    """Return a text as a cell of a .csv file, with ' in front if a spreadsheet would treat the text as a formula.

    `csv_cell` removes this ' again.
    """
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r", "'")) else cell


def csv_cell(text: str) -> str:
    """Return the original text of a cell that `csv_text` made."""
    return text.removeprefix("'")


def sha256(path: Path, report: Report = silent) -> str:
    """Return the hex sha256 digest of a file's content, read in pieces. Raises DataError if the file cannot be read."""
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


def allow_open_files() -> None:
    """Raise the limit of open files of this process and its child processes to 4096, or to a lower hard limit.

    Each batch that is passed between processes needs open files. If too few are allowed, the processes that read images hang.
    Raises DataError if fewer than 256 files may be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if max(soft, most) < FEW_FILES:
        raise DataError(f"Only {most} files may be open at a time; allow more: ulimit -n {MANY_FILES}")
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class NotEnoughSpace(DataError):
    """The error for a disk that has too little free space for the files that are about to be written."""


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise NotEnoughSpace if fewer than `needed` bytes are free on the disk of `folder`, which need not exist yet.

    what: the purpose for which the space is needed; the error message begins with this text.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NotEnoughSpace(
            f"{what} needs {size_in_words(needed)} in {folder}, where {size_in_words(free)} are free; free some space, or set "
            "[workspace] exp to a larger disk."
        )


def size_in_words(count: float) -> str:
    """Return a number of bytes as text: 1234567 -> 1 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def time_in_words(seconds: float) -> str:
    """Return a time in s as text: 7500 -> 2 h."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def disk_trouble_as_data_error(place: Path) -> Iterator[None]:
    """Turn errors that the user can remedy into DataError.

    Such errors are: too little memory, a disk that is full or cannot lock files, missing permission to write a file, too many
    open files, and too large a file. Any other OSError is raised unchanged, because it shows an error in the code. place: the
    folder that the error message contains.
    """
    try:
        yield
    except MemoryError as error:
        raise DataError(
            "There is too little memory; set fewer [workspace] workers, and run again. Finished results are kept."
        ) from error
    except OSError as error:
        if error.errno in FULL:
            what = "The disk is full; free some space, or set [workspace] exp to a larger disk"
        elif error.errno in FORBIDDEN:
            what = f"{error.filename or place} must not be written ({error.strerror}); change its rights, or [workspace] exp"
        elif error.errno in (errno.EMFILE, errno.ENFILE):
            what = "Too few files may be open at a time; allow more (ulimit -n 4096), or set fewer [workspace] workers"
        elif error.errno == errno.EFBIG:
            name = error.filename or f"A file in {place}"
            what = f"{name} would exceed the limit on the size of files; raise the limit (ulimit -f)"
        elif error.errno in NO_LOCKS:
            what = (
                f"The disk of {place} cannot lock files, so two commands could write the same result; set [workspace] exp "
                "to another disk, or have this disk mounted with locks (Lustre: mount it with flock; NFS: start lockd, or "
                "mount it with local_lock=all if only this machine works on it)"
            )
        else:
            raise
        raise DataError(what + _AND_AGAIN) from error
