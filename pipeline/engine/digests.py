"""Compute the sha256 digests of external files (outside exp/), and cache them so that each file is read only once."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pydantic import BaseModel, ValidationError

from datasets.errors import DataError
from datasets.files import lock_file, sha256, write_atomically
from datasets.progress import Report

SMALL = 64 << 20  # bytes; files up to this size are read even in a `without_reading` block
_may_read: ContextVar[bool] = ContextVar("may_read", default=True)


@contextmanager
def without_reading() -> Iterator[None]:
    """Forbid reading large files in the with block: `Digests` raises DataError if a large file's digest is not cached."""
    token = _may_read.set(False)
    try:
        yield
    finally:
        _may_read.reset(token)


class Known(BaseModel):
    """The cached digest of a file or folder."""

    sha256: str
    size: int
    mtime_ns: int
    listing: str = ""  # for a folder: the digest of the names, sizes and times of its files
    contents: bool = False  # for a folder: whether `sha256` covers the contents of its files


MEMORY = ".digests.json"  # name of the cache file in exp/


class Digests:
    """The digests of external files, cached in the file `memory`."""

    def __init__(self, memory: Path, report: Report, remedy: str) -> None:
        """report: progress callback for reading large files; remedy: advice for the user in the error for a missing file."""
        self.memory, self.report, self.remedy = memory, report, remedy

    def of_file(self, path: Path) -> str:
        """Return the hex sha256 of a file's content, cached by path, size and modification time.

        A missing file keeps its last cached digest, so that results stay valid when an archive is deleted to free space. Raises
        DataError if a missing file has no cached digest, or if a large file would have to be read in a `without_reading` block.
        """
        known, key = self._read(), str(path.absolute())
        if path.is_dir():
            raise DataError(f"{path} is a folder; give the path of the file in it.")
        if not path.is_file():
            return self.of_missing(path)
        stat = path.stat()
        found = known.get(key)
        if found and (found.size, found.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return found.sha256
        if stat.st_size > SMALL:
            self.require_reading(path)
        found = Known(sha256=sha256(path, self.report), size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        self._add(key, found)
        return found.sha256

    def of_missing(self, path: Path) -> str:
        """Return the cached digest of a file or folder that no longer exists. Raises DataError if no digest is cached."""
        known = self._read()
        if str(path.absolute()) not in known:
            raise DataError(f"{path} does not exist; {self.remedy}.")
        return known[str(path.absolute())].sha256

    def of_listing(self, folder: Path, listing: str, contents: Callable[[], str] | None) -> str:
        """Return the digest of a folder: `listing` or, if `contents` is given, the digest that `contents` returns.

        listing: digest of the names, sizes and times of the files. The digest of the contents is cached until `listing`
        changes. Raises DataError as `of_file` does.
        """
        known, key = self._read(), str(folder.absolute())
        found = known.get(key)
        digest = listing
        if contents:
            if found and found.listing == listing and found.contents:
                return found.sha256
            self.require_reading(folder)
            digest = contents()
        new = Known(sha256=digest, size=len(listing), mtime_ns=0, listing=listing, contents=bool(contents))
        if found != new:
            self._add(key, new)
        return digest

    def require_reading(self, path: Path) -> None:
        """Raise DataError if called in a `without_reading` block, because the file or folder `path` would have to be read."""
        if not _may_read.get():
            raise DataError(f"{path} is new or changed and has not been read yet; start `run`, which reads it.")

    def _add(self, key: str, new: Known) -> None:
        """Add an entry to the cache, even if other commands add entries at the same time."""
        with contextlib.suppress(OSError):  # if the cache cannot be written, the files are read again next time
            lock = self.memory.parent / ".locks" / "digests.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock_file(lock):
                known = self._read() | {key: new}
                text = json.dumps({path: found.model_dump(exclude_defaults=True) for path, found in known.items()}, indent=1)
                write_atomically(self.memory, text.encode())

    def _read(self) -> dict[str, Known]:
        """Return the cache as path -> entry; an empty dictionary if the cache file is missing or damaged."""
        try:
            raw = json.loads(self.memory.read_bytes())
            entries = list(raw.items())
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}
        known = {}
        for path, facts in entries:
            with contextlib.suppress(ValidationError):
                known[path] = Known.model_validate(facts)
        return known
