"""What is written of an archive: where, and how much at most, whatever the archive says."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from datasets.errors import DataError
from datasets.files import CHUNK, require_space, size_in_words
from stages.fetching.sources import how_to_replace

LARGEST_MEMBER = 4 << 30  # no file in these datasets comes near; more is a damaged or hostile archive
MOST_MEMBERS = 1_000_000  # six times Penn Action's
MOST_TIMES, AT_LEAST = 100, 1 << 30  # what may come out of an archive: times its own size, and bytes that any may hold
LONGEST_NAME = 255  # bytes, of file systems
IMAGES = "images"  # the group of a pattern whose files go to a folder of this name
NOT_PUBLISHED = "This is not the published archive; fetch it again from its owner."


class Output:
    """The files that are taken out of one archive; keeps count of them and of their bytes."""

    def __init__(self, archive: Path, folder: Path, pattern: str) -> None:
        self.archive, self.folder, self.count = archive, folder, 0
        self.progress: Callable[[], object] = lambda: None
        self.where, self.unwanted = "at its beginning", ""
        self.most = max(MOST_TIMES * archive.stat().st_size, AT_LEAST)  # bytes that may come out of the archive
        self._pattern, self._written = re.compile(pattern), 0

    def check(self, name: str, size: int, number: int) -> None:
        """Raise DataError for a member that no published archive has, also for one that nobody wants."""
        path = _portable(name)  # no PurePath: it would keep every part of every name in Python's table of strings
        if path.startswith("/") or ".." in path.split("/") or "\0" in name:
            raise DataError(
                f"{self.archive} holds a member named {name!r}, which points outside the folder it is unpacked to. "
                f"{NOT_PUBLISHED}"
            )
        if size > LARGEST_MEMBER or number >= MOST_MEMBERS:
            raise DataError(
                f"{self.archive}, member {name!r}, number {number + 1}, claims {size} bytes: more, or larger, than any file of "
                f"these datasets. {NOT_PUBLISHED}"
            )

    def wanted(self, name: str) -> str:
        """Where below the folder a member goes; "" for one that nobody wants, such as the ._* files of macOS."""
        path = _portable(name)
        if any(part.startswith("._") or part == "__MACOSX" for part in path.split("/")):
            return ""
        match = self._pattern.fullmatch(path)
        if not match:
            return ""
        return match["to"] or f"{IMAGES}/{match[IMAGES]}"

    def begin(self, name: str) -> None:
        """Note that a member is about to be read, for the sentence about what breaks in it."""
        self.where = f"in {name!r}"

    def passed(self, name: str) -> None:
        """Note that a member was read, for sentences about what breaks after it or about an archive with nothing wanted."""
        if not self.unwanted and not name.endswith("/") and not self.wanted(name):
            self.unwanted = name
        self.where = f"after {name!r}"
        self.progress()

    def require_room(self, needed: int) -> None:
        """Raise DataError where the disk is too small for what an earlier call has not written yet, or the claim too large."""
        if needed > self.most:
            raise self.too_much()
        there = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        require_space(self.folder, needed - there, f"Unpacking {self.archive}")

    def too_much(self) -> DataError:
        """What to say of an archive that unpacks to more than its own size can explain."""
        return DataError(
            f"{self.archive} unpacks to more than {size_in_words(self.most)}, which its own size cannot explain. "
            f"{NOT_PUBLISHED}"
        )

    def write(self, to: str, size: int, content: IO[bytes]) -> None:
        """Write one member."""
        file = self.open(to, size)
        while chunk := content.read(CHUNK):
            file.add(chunk)
        file.finish()

    def repeat(self, to: str, name: str) -> None:
        """Write once more what was written as the member `name`, to which a tar has a hard link."""
        before = self.wanted(name)
        if not before or not (self.folder / before).is_file() or before == to:
            return  # a link to what is not unpacked, or outside
        with open(self.folder / before, "rb") as content:
            self.write(to, os.fstat(content.fileno()).st_size, content)

    def open(self, to: str, size: int) -> "OutputFile":
        """The file of a member of so many bytes. Raises DataError for an impossible name and where the disk is too small."""
        if not to.isprintable() or any(len(os.fsencode(part)) > LONGEST_NAME for part in to.split("/")):
            raise DataError(f"{self.archive} holds a member with the impossible name {to!r}. {how_to_replace(self.archive)}")
        path = self.folder / to
        path.parent.mkdir(parents=True, exist_ok=True)
        require_space(self.folder, size - (path.stat().st_size if path.exists() else 0), f"Unpacking {self.archive}")
        self.count += 1
        return OutputFile(path, size, self)

    def spend(self, count: int) -> None:
        """Count bytes that are written. Raises DataError where they are more than the archive can explain."""
        self._written += count
        if self._written > self.most:
            raise self.too_much()


class OutputFile:
    """One file that is written; of one that is there already, only what differs.

    After a kill, or a loss of power, a file may be there in part or with blocks of zeros, so nothing is taken on trust.
    """

    def __init__(self, path: Path, size: int, output: Output) -> None:
        self.size, self.done, self.output = size, 0, output
        self.file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by finish, or with the process)

    def add(self, chunk: bytes) -> None:
        """Write the next bytes. Raises EOFError for more than there should be."""
        self.output.spend(len(chunk))
        if self.done + len(chunk) > self.size:
            raise EOFError(f"more than {self.size} bytes")
        if self.file.read(len(chunk)) != chunk:
            self.file.seek(self.done)
            self.file.write(chunk)
            self.file.seek(self.done + len(chunk))
        self.done += len(chunk)

    def finish(self) -> None:
        """Close the file, and cut off what is left of an older file. Raises EOFError where bytes are missing."""
        with self.file:
            if self.file.seek(0, os.SEEK_END) > self.done:
                self.file.truncate(self.done)
        if self.done != self.size:
            raise EOFError(f"{self.done} of {self.size} bytes")


def unreadable(archive: Path, what: str) -> DataError:
    """What to say of an archive that is whole, but not for us to read."""
    return DataError(f"{archive} {what}; unpack it with the program that made it, and give the folder in its place.")


def _portable(name: str) -> str:
    """A member's name with slashes, also where an old program for Windows wrote backslashes."""
    return name.replace("\\", "/").removeprefix("./")
