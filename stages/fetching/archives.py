"""Unpack archives safely and in bounded memory.

Archives come from the internet and are not trusted. Only the wanted regular files are unpacked, and only below the target
folder. Limits in this code, not the archive's claims, decide how many files and bytes are written.
"""

import bz2
import errno
import gzip
import lzma
import os
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from datasets.errors import DataError
from datasets.files import CHUNK
from datasets.progress import Report, silent
from stages.fetching.kinds import ARCHIVE, is_web_page, kind_of_bytes
from stages.fetching.sources import how_to_replace
from stages.fetching.unpacking import LARGEST_MEMBER, Output, unreadable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # comes with py7zr

_T = TypeVar("_T", bound=tarfile.TarInfo)
LONGEST_END = 22 + 0xFFFF  # bytes: largest size of the record at the end of a .zip, which may contain a comment
LONGEST_HEADER = 1 << 20  # bytes; tarfile reads extended headers (long names and other metadata) into memory
HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
ROOM = 1.1  # disk space of a tar's files / size of the archive: JPEGs hardly compress, but each file occupies whole disk blocks
MOST_LAYERS = 3  # largest number of layers of compression: a server or a browser may have compressed a .tar.gz again

OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"\x28\xb5\x2f\xfd": zstd.open}
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError, EOFError,
    RuntimeError, ValueError, LookupError, struct.error,
)  # fmt: skip


def unpack(archive: Path, pattern: str, folder: Path, report: Report = silent, expected: str = "") -> int:
    """Unpack into `folder` the members whose names match `pattern`, from a .zip, .7z, .tar or .tar.{gz,bz2,xz,zst}.

    pattern: regular expression for a member's whole name. The group `to` of the expression captures the path below `folder` to
    which the member is written, or the group `images` captures the path below `folder`/images. expected: a description of the
    matching members, for error messages.

    Returns the number of members that were unpacked. If an earlier call was interrupted, its files are compared with the
    archive, and only bytes that differ are written again.
    Raises DataError for a damaged archive (the message names the member where reading failed), a file that is not an archive
    (the message states its kind), a member whose path leads outside the folder, a decompression bomb, a full disk, and an
    archive without a matching member.
    """
    output = Output(archive, folder, pattern)
    try:
        with open(archive, "rb") as raw:
            output.progress = lambda: report(raw.tell(), archive.stat().st_size, f"unpacking {archive.name}", unit="B")
            _reader(raw, archive, expected)(raw, output)
    except DAMAGE as error:
        raise _damaged(output, error) from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the disk failed; the archive may be good
            raise
        raise _damaged(output, error) from None  # damaged bz2 data and a seek to a negative position raise OSError
    if not output.count:
        wanted = expected or "any of the expected files"
        found = f"has files such as {output.unwanted!r}" if output.unwanted else "is empty"
        raise DataError(f"{archive} does not contain {wanted}: it {found}. Give the right archive.")
    return output.count


def _damaged(output: Output, error: Exception) -> DataError:
    archive = output.archive
    return DataError(f"{archive} is damaged or truncated: reading failed {output.where} ({error}). {how_to_replace(archive)}")


def _reader(raw: IO[bytes], archive: Path, expected: str) -> Callable[[IO[bytes], Output], None]:
    """Return the function that unpacks this kind of archive. Raises DataError if the file is not an archive."""
    begin = raw.read(CHUNK)
    raw.seek(0)
    if is_web_page(begin):
        raise DataError(f"{archive} is a web page, not an archive. {how_to_replace(archive)}")
    if begin.startswith((b"PK\3\4", b"PK\5\6")):
        return _unpack_zip
    if begin.startswith(SEVEN_ZIP):
        from stages.fetching.seven_zip import unpack_7z  # imported only here, because the import is slow

        return unpack_7z
    kind = kind_of_bytes(begin)
    if begin and kind != ARCHIVE and not _begins_tar(begin):
        wanted = f" with {expected}" if expected else ""
        raise DataError(
            f"{archive} is {kind}; expected an archive{wanted} (.zip, .7z, .tar or .tar.gz, .bz2, .xz, .zst), or the unpacked "
            "folder."
        )
    return _unpack_tar


def _begins_tar(begin: bytes) -> bool:
    """Return whether a file begins with a tar header; also true for old formats without a magic number and for empty tars."""
    try:
        tarfile.TarInfo.frombuf(begin[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return True
    except tarfile.HeaderError:  # type: ignore[attr-defined]
        return False
    return True


def _unpack_tar(raw: IO[bytes], output: Output) -> None:
    output.require_room(int(ROOM * output.archive.stat().st_size))
    stream = _decompressed(raw, output)
    _check_is_tar(stream, output.archive)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:  # type: ignore[call-overload]
        for number, member in enumerate(tar):
            output.check(member.name, member.size, number)
            to = output.wanted(member.name)
            if to:
                output.begin(member.name)
            if to and member.islnk():
                output.check(member.linkname, 0, number)
                output.repeat(to, member.linkname)
            elif to and member.isreg():
                if member.issparse():
                    raise unreadable(output.archive, f"holds {member.name!r} as a sparse file, which could fill the disk")
                content = tar.extractfile(member)
                assert content  # None only for members that are not regular files
                output.write(to, member.size, content)
            output.passed(member.name + "/" * member.isdir())
            tar.members.clear()  # otherwise tarfile keeps every member in memory
    while stream.read(CHUNK):  # read to the end, so that the checksum of a compressed file is verified
        pass


def _decompressed(raw: IO[bytes], output: Output) -> "_Bounded":
    """Return the decompressed stream of a tar file, which may have been compressed up to MOST_LAYERS times."""
    stream = _Bounded(raw, output)
    for _ in range(MOST_LAYERS):
        begin = stream.peek(len(max(OPENERS, key=len)))
        opener = next((opener for magic, opener in OPENERS.items() if begin.startswith(magic)), None)
        if not opener:
            break
        stream = _Bounded(opener(stream), output)
    return stream


def _check_is_tar(stream: "_Bounded", archive: Path) -> None:
    """Raise DataError for an undamaged compressed file without a tar in it; if the file is damaged, reading raises an error."""
    begin = stream.peek(tarfile.BLOCKSIZE)
    kind = kind_of_bytes(begin)
    if not begin or kind == ARCHIVE or _begins_tar(begin):
        return
    while stream.read(CHUNK):
        pass
    raise DataError(f"{archive} is a compressed file that holds {kind}; expected an archive, such as a .tar.gz or a .zip.")


class _Bounded:
    """A stream that raises DataError if more than `output.most` bytes are read from it (decompression bomb)."""

    def __init__(self, stream: IO[bytes], output: Output) -> None:
        self.stream, self.output, self.left, self.ahead = stream, output, output.most, b""

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes without consuming them; fewer at the end of the stream."""
        while len(self.ahead) < count and (data := self.stream.read(count - len(self.ahead))):
            self.ahead += data
        return self.ahead

    def read(self, count: int = -1) -> bytes:
        data, self.ahead = (self.ahead, b"") if self.ahead else (self.stream.read(count), b"")
        if 0 <= count < len(data):
            data, self.ahead = data[:count], data[count:]
        self.left -= len(data)
        if self.left < 0:
            raise self.output.too_much()
        return data

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Leave the wrapped file open: the caller that opened the file closes it."""


class _Member(tarfile.TarInfo):
    """A tar member that raises an error for a damaged header or a truncated file.

    tarfile alone would treat a damaged header, or the end of the file between two members, as the end of the archive.
    """

    # tarfile calls `_fromtarfile` and `_frombuf` in versions in which CVE-2025-13462 is fixed. Older versions call
    # `fromtarfile` and `frombuf`.

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        with _header_damage_as_error():
            return super().fromtarfile(tarfile_)

    @classmethod
    def _fromtarfile(cls, tarfile_: tarfile.TarFile, **how: bool) -> Self:
        with _header_damage_as_error():
            return super()._fromtarfile(tarfile_, **how)  # type: ignore[misc]

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        return _checked(super().frombuf(buf, encoding, errors))

    @classmethod
    def _frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str, **how: bool) -> Self:
        return _checked(super()._frombuf(buf, encoding, errors, **how))  # type: ignore[misc]


@contextmanager
def _header_damage_as_error() -> Iterator[None]:
    """Raise tarfile.ReadError for a damaged header, which tarfile would treat as the end of the archive."""
    try:
        yield
    except tarfile.HeaderError as error:
        if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # the block of zeros at the end
            raise
        raise tarfile.ReadError(str(error)) from None


def _checked(member: _T) -> _T:
    """Return the member. Raises tarfile.ReadError if the size in its header is negative or exceeds the limit for its type."""
    if not 0 <= member.size <= (LONGEST_HEADER if member.type in HEADERS else LARGEST_MEMBER):
        raise tarfile.ReadError(f"a header claims {member.size} bytes")
    return member


def _unpack_zip(raw: IO[bytes], output: Output) -> None:
    with zipfile.ZipFile(raw) as file:
        _check_count(raw, len(file.infolist()))
        for number, info in enumerate(file.infolist()):
            output.check(info.filename, info.file_size, number)
        output.require_room(sum(info.file_size for info in file.infolist() if output.wanted(info.filename)))
        for info in file.infolist():
            to = output.wanted(info.filename)
            if not info.is_dir():
                output.begin(info.filename)
                if info.flag_bits & 1:
                    raise unreadable(output.archive, "is encrypted")
                try:
                    with file.open(info) as content:  # opens unwanted members too: a damaged name may hide a wanted member
                        if to:
                            output.write(to, info.file_size, content)
                except NotImplementedError as error:
                    raise unreadable(output.archive, f"cannot be read here ({error})") from None
            output.passed(info.filename)


def _check_count(raw: IO[bytes], found: int) -> None:
    """Raise BadZipFile if the .zip's end record announces another number of members than were found.

    zipfile does not compare the two numbers, so a damaged directory could hide members.
    """
    raw.seek(max(raw.seek(0, os.SEEK_END) - LONGEST_END, 0))
    end = raw.read()
    (announced,) = struct.unpack_from("<H", end, end.rindex(b"PK\5\6") + 10)
    if announced not in (found % (1 << 16), 0xFFFF):  # 0xFFFF: the number does not fit in 16 bits
        raise zipfile.BadZipFile(f"{found} of {announced} members are listed")
