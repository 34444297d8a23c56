"""Write the files that are unpacked from an archive: to safe paths, and within limits independent of the archive's claims."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from datasets.errors import DataError
from datasets.files import CHUNK, require_space, size_in_words
from stages.fetching.sources import how_to_replace

# Bytes; all files of these datasets are far smaller, so a larger file means a damaged or hostile archive.
LARGEST_MEMBER = 4 << 30
MOST_MEMBERS = 1_000_000  # six times the number of files of Penn Action
MOST_TIMES, AT_LEAST = 100, 1 << 30  # limit of the unpacked bytes: 100 times the archive's size, but never below 1 GiB
LONGEST_NAME = 255  # bytes; the limit of common file systems
# In the regular expression for members, the group "images" matches the names of files that are unpacked to the folder images/.
IMAGES = "images"
NOT_PUBLISHED = "This is not the published archive; fetch it again from its owner."


class Output:
    """A writer of the files that are unpacked from one archive; it counts the files and their bytes."""

    def __init__(self, archive: Path, folder: Path, pattern: str) -> None:
        self.archive, self.folder, self.count = archive, folder, 0
        self.progress: Callable[[], object] = lambda: None
        self.where, self.unwanted = "at its beginning", ""
        self.most = max(MOST_TIMES * archive.stat().st_size, AT_LEAST)  # limit of the unpacked bytes
        self._pattern, self._written = re.compile(pattern), 0

    def check(self, name: str, size: int, number: int) -> None:
        """Raise DataError if a member, wanted or not, has an unsafe path, or its size or number (from 0) is too large."""
        path = _portable(name)  # plain strings, because PurePath would keep every part of every name in memory
        if path.startswith("/") or ".." in path.split("/") or "\0" in name:
            raise DataError(
                f"{self.archive} holds a member named {name!r}, which points outside the folder it is unpacked to. "
                f"{NOT_PUBLISHED}"
            )
        if size > LARGEST_MEMBER or number >= MOST_MEMBERS:
            raise DataError(
                f"{self.archive}: member {name!r}, number {number + 1}, claims {size} bytes. These datasets have no file of "
                f"more than {size_in_words(LARGEST_MEMBER)} and no archive of more than {MOST_MEMBERS} files. {NOT_PUBLISHED}"
            )

    def wanted(self, name: str) -> str:
        """Return a member's path below the folder; "" for an unwanted member, such as the ._* files of macOS."""
        path = _portable(name)
        if any(part.startswith("._") or part == "__MACOSX" for part in path.split("/")):
            return ""
        match = self._pattern.fullmatch(path)
        if not match:
            return ""
        return match["to"] or f"{IMAGES}/{match[IMAGES]}"

    def begin(self, name: str) -> None:
        """Note that a member is about to be read, so that an error message can say that reading failed in this member."""
        self.where = f"in {name!r}"

    def passed(self, name: str) -> None:
        """Note that a member was read, so that an error message can say that reading failed after this member.

        The name of the first unwanted member is an example in the error message about an archive without wanted members.
        """
        if not self.unwanted and not name.endswith("/") and not self.wanted(name):
            self.unwanted = name
        self.where = f"after {name!r}"
        self.progress()

    def require_room(self, needed: int) -> None:
        """Raise DataError if the wanted files are too large: larger than the limit `most`, or too large for the disk.

        needed: bytes of all wanted files together; bytes that an earlier run has unpacked need no further disk space.
        """
        if needed > self.most:
            raise self.too_much()
        written = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        require_space(self.folder, needed - written, f"Unpacking {self.archive}")

    def too_much(self) -> DataError:
        """Return the error for a decompression bomb."""
        return DataError(
            f"{self.archive} unpacks to more than {size_in_words(self.most)}, far more than its own size can explain. "
            f"{NOT_PUBLISHED}"
        )

    def write(self, to: str, size: int, content: IO[bytes]) -> None:
        """Write one member of `size` bytes to the path `to` below the folder."""
        file = self.open(to, size)
        while chunk := content.read(CHUNK):
            file.add(chunk)
        file.finish()

    def repeat(self, to: str, name: str) -> None:
        """Write a copy of the unpacked member `name` to the path `to`, where the tar has a hard link to this member."""
        before = self.wanted(name)
        if not before or not (self.folder / before).is_file() or before == to:
            return  # the link leads to a member that is not unpacked, or to itself
        with open(self.folder / before, "rb") as content:
            self.write(to, os.fstat(content.fileno()).st_size, content)

    def open(self, to: str, size: int) -> "OutputFile":
        """Open the file at the path `to` below the folder, to write a member of `size` bytes to it.

        Raises DataError for a name that is too long or has unprintable characters, and for a full disk.
        """
        if not to.isprintable() or any(len(os.fsencode(part)) > LONGEST_NAME for part in to.split("/")):
            raise DataError(f"{self.archive} holds a member with the impossible name {to!r}. {how_to_replace(self.archive)}")
        path = self.folder / to
        path.parent.mkdir(parents=True, exist_ok=True)
        require_space(self.folder, size - (path.stat().st_size if path.exists() else 0), f"Unpacking {self.archive}")
        self.count += 1
        return OutputFile(path, size, self)

    def spend(self, count: int) -> None:
        """Count `count` unpacked bytes. Raises DataError once all unpacked bytes exceed the limit (decompression bomb)."""
        self._written += count
        if self._written > self.most:
            raise self.too_much()


class OutputFile:
    """One file that is being unpacked. If the file exists, only bytes that differ from the archive's are written.

    After a kill or a power loss an existing file may be incomplete or contain blocks of zeros, so every byte is compared.
    """

    def __init__(self, path: Path, size: int, output: Output) -> None:
        self.size, self.done, self.output = size, 0, output
        self.file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by finish, or with the process)

    def add(self, chunk: bytes) -> None:
        """Write the next bytes. Raises EOFError if the member has more bytes than announced."""
        self.output.spend(len(chunk))
        if self.done + len(chunk) > self.size:
            raise EOFError(f"more than {self.size} bytes")
        if self.file.read(len(chunk)) != chunk:
            self.file.seek(self.done)
            self.file.write(chunk)
            self.file.seek(self.done + len(chunk))
        self.done += len(chunk)

    def finish(self) -> None:
        """Cut off what an earlier, longer file has left at the end; close the file. Raises EOFError if bytes are missing."""
        with self.file:
            if self.file.seek(0, os.SEEK_END) > self.done:
                self.file.truncate(self.done)
        if self.done != self.size:
            raise EOFError(f"{self.done} of {self.size} bytes")


def unreadable(archive: Path, what: str) -> DataError:
    """Return the error for an undamaged archive that this program cannot read; what: the reason, as in "is encrypted"."""
    return DataError(f"{archive} {what}; unpack it with the program that made it, and give the folder instead.")


def _portable(name: str) -> str:
    """Return a member's name with slashes for the backslashes that old programs for Windows write."""
    return name.replace("\\", "/").removeprefix("./")
