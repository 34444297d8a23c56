"""Write and read MATLAB files of version 5; sizes in a file are checked before they are used.

SciPy's reader does not check these sizes; in tests, about 1 in 60 damaged files crashed the process. SciPy also makes a
separate array for each number in a struct, which took 700 MB for MPII. This reader checks each size against the number of bytes
left in the file, and reads a record's field only when it is requested.

The layout is the one that MathWorks' document "MAT-File Format" calls level 5. A file has a header and elements. An element
has a type, a size and a content padded to 8 bytes. A variable is an element that contains elements (flags, dimensions, name,
content) and is often compressed. A struct contains an unnamed variable for every field of every record.
"""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.formats.matlab_hdf5 import read_mat73
from datasets.formats.matlab_values import MOST, Record, Value

_HEADER = 128
_FREE_TEXT = 116  # number of bytes of free text at the beginning of the header
_HDF5, _SIGNATURE_AT = b"\x89HDF\r\n\x1a\n", 512
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT, _NUMBERS = 1, 2, 4, range(6, 16)  # classes of variables
_TYPES = {1: "<b", 2: "<B", 3: "<h", 4: "<H", 5: "<i", 6: "<I", 7: "<f", 9: "<d", 12: "<q", 13: "<Q"}
_ENCODINGS = {1: "ascii", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_MOST_DIMENSIONS = 32  # largest number of dimensions; numpy's own limit is 64
# The bytes that encode dimensions and name of a field that contains a single number.
_SINGLE = struct.pack("<6I", 5, 8, 1, 1, 1, 0)
_SINGLES = {number: struct.Struct(name) for number, name in _TYPES.items()}
_TAG = struct.Struct("<2I")
_HEAD = struct.Struct("<6I")  # layout of a variable's first bytes: its flags with their tag, and the tag of its dimensions


def write_mat(path: Path, content: dict[str, Any], text: str) -> None:
    """Write variables (name -> value) as a compressed MATLAB 5 file, atomically. Raises OSError, e.g. for a full disk.

    text: written at the beginning of the file, in place of SciPy's text. SciPy's text contains the time; with it, equal
    variables would not give equal bytes.
    """
    from scipy.io import savemat  # imported here: at the top, it would delay every command by 60 ms

    buffer = io.BytesIO()
    savemat(buffer, content, format="5", do_compression=True, oned_as="row")
    buffer.seek(0)
    buffer.write(f"MATLAB 5.0 MAT-file, {text}".encode().ljust(_FREE_TEXT))
    write_atomically(path, buffer.getvalue())


def structs(records: list[dict[str, Any]]) -> np.ndarray:
    """Return records that have the same field names as a 1 x N struct array for `write_mat`."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def read_mat(path: Path, *names: str) -> dict[str, Value]:
    """Return the variables `names` of a MATLAB file of version 5 or 7.3 (see `matlab_hdf5`), by name.

    A single number becomes a float. Several numbers become an array of two or more dimensions with the stored dtype, which for
    integers is often uint8: cast before calculating. Text of one row becomes a str. A struct array becomes the list of its
    records in MATLAB's order (columns first). Raises DataError for a file that is missing, damaged, of another kind, or without
    one of `names`.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the dataset's archive again, or check the path.")
    if is_hdf5(path):
        return read_mat73(path, *names)
    if path.stat().st_size > MOST:
        raise DataError(f"{path} has more than {MOST} bytes, too many for an annotation file; check the path.")
    file = _Elements(path.read_bytes(), str(path))
    if file.data[124:_HEADER] != b"\0\1IM":
        file.fail("it has no MATLAB 5 header")
    found: dict[str, Value] = {}
    others: list[str] = []
    position, room = _HEADER, MOST
    while position < len(file.data):
        kind, start, stop, position = file.element(position, len(file.data))
        source = file
        if kind == _COMPRESSED:
            source = file.unpacked(start, stop, room)
            room -= len(source.data)
            kind, start, stop, _ = source.element(0, len(source.data))
        if kind != _MATRIX:
            file.fail(f"found an element of type {kind}, expected a variable")
        name = source.head(start, stop)[2]
        others.append(name)
        if name in names:
            found[name] = _Elements(source.data, f"{path}: field {name!r}").value(start, stop)
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no field {name!r}; it has {', '.join(others[:8]) or 'no fields'}. Check the path.")
    return found


def is_hdf5(path: Path) -> bool:
    """Return whether a file is of MATLAB 7.3: HDF5 after a header of 512 bytes (some programs write no header)."""
    with open(path, "rb") as file:
        begin = file.read(_SIGNATURE_AT + len(_HDF5))
    return begin.startswith(_HDF5) or begin.endswith(_HDF5)


class _Elements:
    """The bytes of a file or of a decompressed variable; `what`: the name of file and variable in error messages."""

    __slots__ = ("data", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.what = data, what

    def fail(self, why: str) -> NoReturn:
        raise DataError(f"{self.what} is not readable as MATLAB 5 data ({why}); unpack the archive again.")

    def unpacked(self, start: int, stop: int, room: int) -> "_Elements":
        """Return the content that the compressed bytes `start` to `stop` hold.

        Raises DataError if the bytes are damaged, or if the content has more than `room` bytes.

        A stream without its end marker is accepted, because two label files of Penn Action lack only this marker.
        """
        unpack = zlib.decompressobj()
        try:
            data = unpack.decompress(memoryview(self.data)[start:stop], room + 1)
        except zlib.error as error:
            self.fail(str(error))
        if len(data) > room:
            self.fail(f"it unpacks to more than {MOST} bytes")
        return _Elements(data, self.what)

    def element(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Return the type of the element at `position`, start and stop of its content, and the position of the next element."""
        if position + 8 > end:
            self.fail("it is truncated")
        kind, size = _TAG.unpack_from(self.data, position)
        if kind < 1 << 16:
            start = position + 8
            stop = start + size
            after = stop if kind == _COMPRESSED else stop + -size % 8
        else:  # a content of up to four bytes is stored within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = position + 4, position + 8
            stop = start + size
        if stop > end or stop > after:
            self.fail(f"{size} bytes are announced, but fewer are left")
        return kind, start, stop, after

    def head(self, start: int, stop: int) -> tuple[int, tuple[int, ...], str, int]:
        """Return class, dimensions and name of a variable, and the position of its content."""
        if start + 40 > stop:
            self.fail("a variable is truncated")
        *head, kind, size = _HEAD.unpack_from(self.data, start)
        if head[:2] != [6, 8] or kind != 5 or size % 4 or not 8 <= size <= 4 * _MOST_DIMENSIONS:
            self.fail("a variable does not begin with flags and dimensions")
        if head[2] & 0x800:
            self.fail("it holds complex numbers, which are not supported")
        _, first, last, position = self.element(start + 16, stop)
        dimensions = struct.unpack_from(f"<{size // 4}I", self.data, first)
        _, first, last, position = self.element(position, stop)
        return head[2] & 0xFF, dimensions, self.data[first:last].decode("latin-1"), position

    def value(self, start: int, stop: int) -> Value:
        """Return the value of the variable in the bytes `start` to `stop`; its type is as in `read_mat`."""
        if self.data[start + 16 : start + 40] == _SINGLE and start + 48 <= stop and self.data[start + 8] in _NUMBERS:
            return self._number(start + 40, stop)
        if start == stop:
            return np.zeros((0, 0))  # a field without a value may be stored without any bytes
        kind, dimensions, _, position = self.head(start, stop)
        count = math.prod(dimensions)
        if kind == _STRUCT:
            return self._records(count, position, stop)
        if kind == _CELL:
            return self._cell(count, position, stop)
        stored, first, last, _ = self.element(position, stop)
        if kind == _TEXT and stored in _ENCODINGS and (dimensions[0] == 1 or not count):
            try:
                return self.data[first:last].decode(_ENCODINGS[stored])
            except UnicodeDecodeError as error:
                self.fail(str(error))
        if kind in _NUMBERS and stored in _TYPES:
            dtype = np.dtype(_TYPES[stored])
            if count * dtype.itemsize != last - first:
                self.fail(f"{last - first} bytes are stored for {count} numbers")
            numbers = np.frombuffer(self.data, dtype, count, first)
            return float(numbers[0]) if count == 1 else numbers.reshape(dimensions, order="F")
        self.fail(f"it holds class {kind} of {dimensions} stored as type {stored}, expected numbers, a row of text or structs")

    def _cell(self, count: int, position: int, stop: int) -> list[Record]:
        """Return the structs in a cell array. Raises DataError for a cell that does not hold structs.

        SciPy may write such a cell array when it saves a struct array that it has loaded.
        """
        records: list[Record] = []
        for _ in range(count):
            kind, start, end, position = self.element(position, stop)
            if kind != _MATRIX or start == end or self.head(start, end)[0] != _STRUCT:
                self.fail("a cell does not hold structs; other cells are not supported")
            _, dimensions, _, first = self.head(start, end)
            records += self._records(math.prod(dimensions), first, end)
        return records

    def _number(self, position: int, stop: int) -> float:
        """Return the single number in the element at `position`; this takes a third of the time of `value`."""
        kind, size = _TAG.unpack_from(self.data, position)
        small = kind >> 16
        if small:
            kind, size = kind & 0xFFFF, small
        reader = _SINGLES.get(kind)
        if reader is None or size != reader.size or position + 8 + (0 if small else size) > stop:
            self.fail(f"{size} bytes of type {kind} are stored for a number")
        return float(reader.unpack_from(self.data, position + (4 if small else 8))[0])

    def _records(self, count: int, position: int, stop: int) -> list[Record]:
        _, first, last, position = self.element(position, stop)
        width = int.from_bytes(self.data[first : min(last, first + 4)], "little")
        _, first, last, position = self.element(position, stop)
        if not 1 <= width <= 64 or (last - first) % width:
            self.fail(f"names of fields have {width} bytes")
        names = [self.data[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(first, last, width)]
        if count * len(names) > (stop - position) // 8:
            self.fail(f"{count} records are announced, but the bytes left suffice for fewer")
        records, data, tag = [], self.data, _TAG.unpack_from  # local names for speed: this loop runs millions of times
        for _ in range(count if names else 0):
            places = {}
            for name in names:
                kind, size = tag(data, position) if position + 8 <= stop else (0, 0)
                first = position + 8
                position = first + size
                if kind != _MATRIX or position > stop:
                    self.fail(f"field {name!r} of a record is truncated")
                places[name] = first, position
                position += -size % 8
            records.append(Record(self, places))
        return records
