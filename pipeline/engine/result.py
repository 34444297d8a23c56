"""Find, make, complete and lock the folder of one result below exp/."""

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import DataError
from datasets.files import lock_file, sync
from datasets.links import target
from pipeline.engine import manifest
from pipeline.engine.manifest import MANIFEST, PARTIAL, Begun, Manifest
from pipeline.engine.trash import Trash


class Result:
    """The result of one fingerprint, in the folder `exp/<path>@<first 8 digits of the fingerprint>`.

    The result is made in a folder with the suffix `.partial`, which is renamed when the result is complete. The symlink
    `exp/<path>` points at the result of the current settings (see `pipeline.engine.links`).
    """

    def __init__(self, exp: Path, path: str, fingerprint: Callable[[], str]) -> None:
        """fingerprint: function that returns the fingerprint; called only at first use, because it may read external files."""
        self.exp, self.link, self.trash = exp, exp / path, Trash(exp)
        self._fingerprint = fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the result, 64 hexadecimal digits."""
        return self._fingerprint()

    @property
    def home(self) -> Path:
        """The folder in which a new result is stored: exp/<path>@<first 8 digits of the fingerprint>."""
        return self.link.with_name(f"{self.link.name}@{self.fingerprint[:8]}")

    @property
    def folder(self) -> Path:
        """The folder of the result: `home`, or another folder next to `home` that contains the manifest of this result.

        The folder is not `home` if an experiment was renamed in the settings, or if exp/ was copied so that symlinks became
        folders.
        """
        if not self._is_mine(self.home):
            for folder in (*sorted(self.home.parent.glob(f"*@{self.fingerprint[:8]}")), self.link):
                if self._is_mine(folder):
                    return folder
        return self.home

    def _is_mine(self, folder: Path) -> bool:
        found = manifest.read(folder)
        return found is not None and found.fingerprint == self.fingerprint

    @property
    def partial(self) -> Path:
        """The folder of the unfinished result, which may have been started when the experiment had another name."""
        home = self.home.with_name(self.home.name + ".partial")
        for path in () if home.exists() else sorted(home.parent.glob(f"*@{self.fingerprint[:8]}.partial")):
            begun = manifest.read_partial(path) or manifest.read(path)
            if begun and begun.fingerprint == self.fingerprint:
                return path
        return home

    def manifest(self) -> Manifest | None:
        """Return the manifest of the finished result, or None if there is no finished result."""
        found = manifest.read(self.folder)
        return found if found and found.fingerprint == self.fingerprint else None

    def previous(self, stage: str) -> Manifest | None:
        """Return the manifest of the result to which the symlink points or, without a symlink, of the stage's newest result.

        Return None if the stage has no result. stage: the stage's name.
        """
        others = [manifest.read(folder) for folder in self.link.parent.glob(f"{self.link.name}@????????")]
        newest_first = sorted(filter(None, others), key=lambda found: found.finished, reverse=True)
        candidates = filter(None, [manifest.read(target(self.link) or self.link), *newest_first])
        return next((found for found in candidates if found.identity.stage == stage), None)

    # Making the result.

    def make_parent(self) -> None:
        """Create the parent folder of the results. Raises DataError if that is impossible."""
        try:
            self.link.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"[workspace] exp = {self.exp} cannot be used as the folder of results ({error.strerror}); set another folder."
            ) from None

    @contextlib.contextmanager
    def lock(self, wait: Callable[[], object]) -> Iterator[None]:
        """Hold the result's lock in the with block, so that one process at a time makes the result.

        wait: function that is called if another process holds the lock, before this process waits for the lock. The
        operating system releases the lock of a killed process.
        """
        held = lock_of(self.folder, self.exp)
        try:
            held.acquire(timeout=0)
        except Timeout:
            wait()
            held.acquire()
        try:
            yield
        finally:
            held.release()

    def is_locked(self) -> bool:
        """Return whether a process is making the result at this moment."""
        return is_locked(self.folder, self.exp)

    def open_partial(self, begun: Begun, forget: Callable[[Path], object]) -> float:
        """Prepare the partial folder; return the seconds of work already spent on it.

        If the folder was made with inputs that are unknown or differ from those in `begun`, `forget` is called with the
        folder's path, and the folder is then deleted.
        """
        found = manifest.read_partial(self.partial)
        spent = found.seconds if found else 0.0
        if not found or not _same(found, begun):
            if self.partial.exists():
                forget(self.partial)
            self.trash.discard(self.partial)
            spent = 0.0
        self.partial.mkdir(parents=True, exist_ok=True)
        manifest.write_partial(self.partial, begun, spent)
        return spent

    def was_finished(self, begun: Begun) -> bool:
        """Return whether the partial folder is complete, that is, its process was killed just before publishing the result."""
        found = manifest.read(self.partial)
        if not found or not _same(found, begun):
            return False
        try:
            manifest.check_sizes(self.partial, found.content)
        except manifest.Damaged:  # the folder has a manifest, but its files do not match it, as after a power cut
            (self.partial / MANIFEST).unlink()
            return False
        return True

    def publish(self) -> None:
        """Rename the partial folder to the final name; an older result is moved to the trash.

        Before that, all files are flushed to the disk, so that after a power cut a result is either complete or missing.
        """
        partial = self.partial  # kept in a variable, because the property reads partial.json, which is deleted below
        sync(partial)
        for older in (self.folder, self.home):
            if older.exists():
                self.trash.take(older)
        (partial / PARTIAL).unlink(missing_ok=True)
        partial.rename(self.home)
        sync(self.home.parent)


def _same(one: Begun, other: Begun) -> bool:
    return (one.fingerprint, one.input_contents) == (other.fingerprint, other.input_contents)


def lock_path(folder: Path, exp: Path) -> Path:
    """Return the path of the lock of a result folder below exp/; the path does not depend on the name of an experiment."""
    return exp / ".locks" / f"{folder.name.rpartition('@')[2]}.lock"


def is_locked(folder: Path, exp: Path) -> bool:
    """Return whether a process is making the result folder below exp/ at this moment."""
    path = lock_path(folder, exp)
    if not path.exists():
        return False
    try:
        with lock_file(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def lock_of(folder: Path, exp: Path) -> FileLock:
    """Return the lock of a result folder below exp/, whether the folder exists or not."""
    path = lock_path(folder, exp)
    path.parent.mkdir(parents=True, exist_ok=True)
    return lock_file(path)
