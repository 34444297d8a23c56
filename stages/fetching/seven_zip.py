"""Unpack .7z archives with py7zr, which writes only through objects of this module, never to a file directly."""

import struct
from typing import IO

import py7zr
from py7zr.io import Py7zIO, WriterFactory

from stages.fetching.unpacking import Output, unreadable

LARGEST_LIST = 1 << 28  # bytes; limit of the packed list of members, which py7zr reads into memory


def unpack_7z(raw: IO[bytes], output: Output) -> None:
    """Unpack the wanted members of a .7z archive. Raises ValueError for a damaged archive, DataError for other failures."""
    (size,) = struct.unpack_from("<Q", raw.read(32), 20)
    raw.seek(0)
    if size > LARGEST_LIST:
        raise ValueError(f"a list of members of {size} bytes is announced")
    try:
        with py7zr.SevenZipFile(raw, max_extract_size=output.most) as file:
            files = [info for info in file.list() if info.is_file and not info.is_symlink]
            for number, info in enumerate(files):
                output.check(info.filename, info.uncompressed or 0, number)
            wanted = {info.filename: info.uncompressed or 0 for info in files if output.wanted(info.filename)}
            output.require_room(sum(wanted.values()))
            for info in files:
                output.passed(info.filename)
            if wanted:
                file.extract(targets=list(wanted), factory=_SevenZipWriters(output, wanted))
    except py7zr.exceptions.DecompressionBombError:
        raise output.too_much() from None
    except py7zr.PasswordRequired:
        raise unreadable(output.archive, "is encrypted") from None
    except py7zr.UnsupportedCompressionMethodError as error:
        raise unreadable(output.archive, f"cannot be read here ({error.args[-1]})") from None
    except (py7zr.exceptions.ArchiveError, TypeError, AttributeError, AssertionError) as error:  # a damaged list of members
        raise ValueError(str(error)) from None


class _SevenZipWriters(WriterFactory):
    """A factory of writers: py7zr requests a writer for each member, and writes the member's bytes to this writer."""

    def __init__(self, output: Output, sizes: dict[str, int]) -> None:
        self.output, self.sizes = output, sizes

    def create(self, filename: str, mode: str = "wb") -> Py7zIO:
        to = self.output.wanted(filename)
        if not to or filename not in self.sizes:
            raise ValueError(f"member {filename!r} is not in the list of wanted members")
        self.output.begin(filename)
        return _SevenZipWriter(self.output, to, self.sizes[filename])


class _SevenZipWriter(Py7zIO):
    def __init__(self, output: Output, to: str, size: int) -> None:
        self.file = output.open(to, size)

    def write(self, data: bytes | bytearray) -> int:
        self.file.add(bytes(data))
        return len(data)

    def close(self) -> None:
        self.file.finish()

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        """Do nothing: the data is flushed when the file is closed."""

    def size(self) -> int:
        return self.file.done
