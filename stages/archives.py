"""The contents of archives, unpacked safely and in bounded memory.

Archives come from the internet: only the wanted regular files are taken out of them, each is written by us below the
target folder, and nothing in the archive decides where, how much, or how many.
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages.fetch import how_to_replace, is_web_page
from stages.files import CHUNK, require_space, size_in_words

LARGEST_MEMBER = 4 << 30  # no file in these datasets comes near; more is a damaged or hostile archive
MOST_MEMBERS = 1_000_000  # six times Penn Action's
MOST_TIMES, AT_LEAST = 100, 1 << 30  # what may come out of an archive: times its own size, and bytes that any may hold
LONGEST_NAME = 255  # bytes, of file systems
LONGEST_END = 22 + 0xFFFF  # bytes of what ends a zip: a record and a comment
LONGEST_HEADER = 1 << 20  # tarfile takes these, which hold long names and the like, into memory
HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
ROOM = 1.1  # a tar's contents to its size: JPEGs hardly compress, and every file fills whole blocks of the disk

OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    RuntimeError, ValueError, LookupError, struct.error,
)  # fmt: skip


def unpack(archive: Path, pattern: str, folder: Path, report: Report = silent) -> int:
    """Unpack the members of a .zip, .tar or .tar.{gz,bz2,xz} whose name matches `pattern` into `folder`; their number.

    pattern: regular expression over the whole name whose group `to` is the path below `folder`. Files that an earlier,
    interrupted call has written are compared with the archive and kept. Raises DataError for a damaged archive (naming
    the member where it broke), a member that points outside, more contents than the archive's size can explain, too
    little space on the disk, and an archive in which nothing matches.
    """
    wanted, count, where, first = re.compile(pattern), 0, "at its beginning", ""
    try:
        with open(archive, "rb") as raw:
            total = archive.stat().st_size
            for name, size, content in _members(raw, archive, wanted, folder):
                if match := wanted.fullmatch(name.removeprefix("./")):
                    where = f"in {name!r}"
                    _write_member(folder, match["to"], size, content, archive)
                    count += 1
                else:
                    first = first or f"such as {name!r}"
                where = f"after {name!r}"
                report(raw.tell(), total, f"unpacking {archive.name}", unit="B")
    except DAMAGE as error:
        raise _damaged(archive, where, error) from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # of the disk
            raise
        raise _damaged(archive, where, error) from None  # bz2 and a seek to nowhere have no exceptions of their own
    if not count:
        raise DataError(
            f"{archive} has none of the files that are wanted from it, but {first or 'nothing'}; is it the right archive?"
        )
    return count


def _damaged(archive: Path, where: str, error: Exception) -> DataError:
    return DataError(f"{archive} is damaged or cut off: reading broke {where} ({error}). {how_to_replace(archive)}")


def _most(archive: Path) -> int:
    """Bytes that may come out of an archive."""
    return max(MOST_TIMES * archive.stat().st_size, AT_LEAST)


def _too_much(archive: Path) -> DataError:
    return DataError(
        f"{archive} unpacks to more than {size_in_words(_most(archive))}, which its own size cannot explain. This is not the "
        "published archive; fetch it again from its owner."
    )


def _members(raw: IO[bytes], archive: Path, wanted: re.Pattern[str], folder: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(name, size, content) of the regular files; every member is checked, also those that nobody wants."""
    begin = raw.read(CHUNK)
    raw.seek(0)
    if is_web_page(begin):
        raise DataError(f"{archive} is a web page, not an archive. {how_to_replace(archive)}")
    if begin.startswith((b"PK\3\4", b"PK\5\6")):
        yield from _members_of_zip(raw, archive, wanted, folder)
        return
    size = archive.stat().st_size
    _require_room(folder, int(ROOM * size), archive)
    opener = next((opener for magic, opener in OPENERS.items() if begin.startswith(magic)), None)
    stream = _Bounded(opener(raw) if opener else raw, archive)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:  # type: ignore[call-overload]
        for number, member in enumerate(tar):
            _check_member(member.name, member.size, number, archive)
            if member.isreg() and (stored := tar.extractfile(member)):
                yield member.name, member.size, stored
            tar.members.clear()  # it would keep every member that it has seen
    while stream.read(CHUNK):  # to the checksum that ends a compressed file
        pass


def _members_of_zip(
    raw: IO[bytes], archive: Path, wanted: re.Pattern[str], folder: Path
) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(raw) as file:
        _check_count(raw, len(file.infolist()))
        for number, info in enumerate(file.infolist()):
            _check_member(info.filename, info.file_size, number, archive)
        needed = sum(info.file_size for info in file.infolist() if wanted.fullmatch(info.filename.removeprefix("./")))
        if needed > _most(archive):
            raise _too_much(archive)
        _require_room(folder, needed, archive)
        for info in file.infolist():
            if not info.is_dir():
                with file.open(info) as content:
                    yield info.filename, info.file_size, content


def _check_count(raw: IO[bytes], found: int) -> None:
    """zipfile does not compare the members it finds with their number at the file's end: a wrong size can hide some."""
    raw.seek(max(raw.seek(0, os.SEEK_END) - LONGEST_END, 0))
    end = raw.read()
    (announced,) = struct.unpack_from("<H", end, end.rindex(b"PK\5\6") + 10)
    if announced not in (found % (1 << 16), 0xFFFF):  # 0xFFFF: more than fit there
        raise zipfile.BadZipFile(f"{found} of {announced} members are listed")


def _require_room(folder: Path, needed: int, archive: Path) -> None:
    """Raise DataError where the disk is too small for what an earlier call has not written yet."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    require_space(folder, needed - there, f"Unpacking {archive}")


class _Bounded:
    """A stream that ends in an error where more comes out of an archive than it may hold."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self.stream, self.archive, self.left = stream, archive, _most(archive)

    def read(self, count: int) -> bytes:
        data = self.stream.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise _too_much(self.archive)
        return data


class _Member(tarfile.TarInfo):
    """tarfile takes a damaged header, or the file's end between two members, for the end of the archive; we do not."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # the block of zeros at the end
                raise
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not 0 <= member.size <= (LONGEST_HEADER if member.type in HEADERS else LARGEST_MEMBER):
            raise tarfile.ReadError(f"a header claims {member.size} bytes")
        return member


def _check_member(name: str, size: int, number: int, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"{archive} holds a member named {name!r}, which points outside the folder it is unpacked to. This is not the "
            "published archive; fetch it again from its owner."
        )
    if size > LARGEST_MEMBER or number >= MOST_MEMBERS:
        raise DataError(
            f"{archive}, member {name!r}, number {number + 1}, claims {size} bytes: more, or larger, than any file of these "
            "datasets. This is not the published archive; fetch it again from its owner."
        )


def _write_member(folder: Path, name: str, size: int, content: IO[bytes], archive: Path) -> None:
    """Write one member; of a file that is there already, only what differs.

    After a kill, or a loss of power, a file may be there in part or with blocks of zeros, so nothing is taken on trust.
    """
    if not name.isprintable() or any(len(os.fsencode(part)) > LONGEST_NAME for part in name.split("/")):
        raise DataError(f"{archive} holds a member with the impossible name {name!r}. {how_to_replace(archive)}")
    path, done = folder / name, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if path.exists() else "w+b") as file:
        while chunk := content.read(CHUNK):
            if file.read(len(chunk)) != chunk:
                file.seek(done)
                file.write(chunk)
                file.seek(done + len(chunk))
            done += len(chunk)
        if file.seek(0, os.SEEK_END) > done:
            file.truncate(done)
    if done != size:
        raise EOFError(f"{done} of {size} bytes")
