"""MATLAB files of version 5: written, and read without trusting the sizes in them.

SciPy's reader believes those sizes: of our mutated labels and structs about 1 in 60 crashed the process; and it makes an
array of every number in a struct, which for MPII's took 700 MB. Here each size is checked against what is left, and the
fields of a record are read when they are asked for. The layout is that of MathWorks' "MAT-File Format", level 5: a file
is a header and elements; an element is a type, a size, and a content padded to 8 bytes; a variable is an element of
elements (flags, dimensions, name, content), often compressed; a struct holds an unnamed one for every field of every record.
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
_FREE_TEXT = 116  # bytes at the beginning of the header
_HDF5, _SIGNATURE_AT = b"\x89HDF\r\n\x1a\n", 512
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT, _NUMBERS = 1, 2, 4, range(6, 16)  # classes of variables
_TYPES = {1: "<b", 2: "<B", 3: "<h", 4: "<H", 5: "<i", 6: "<I", 7: "<f", 9: "<d", 12: "<q", 13: "<Q"}
_ENCODINGS = {1: "ascii", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_MOST_DIMENSIONS = 32  # numpy's own limit is 64
_SINGLE = struct.pack("<6I", 5, 8, 1, 1, 1, 0)  # the dimensions and the name of a single number in a field
_SINGLES = {number: struct.Struct(name) for number, name in _TYPES.items()}
_TAG = struct.Struct("<2I")
_HEAD = struct.Struct("<6I")  # flags with their tag, and the tag of the dimensions that follow


def write_mat(path: Path, content: dict[str, Any], text: str) -> None:
    """Write variables by name as a compressed MATLAB 5 file, whole or not at all. OSError (a full disk) passes.

    text: what the file begins with, in place of SciPy's own text, which holds the time: equal variables give equal bytes.
    """
    from scipy.io import savemat  # takes 60 ms to import, which every command would wait for

    buffer = io.BytesIO()
    savemat(buffer, content, format="5", do_compression=True, oned_as="row")
    buffer.seek(0)
    buffer.write(f"MATLAB 5.0 MAT-file, {text}".encode().ljust(_FREE_TEXT))
    write_atomically(path, buffer.getvalue())


def structs(records: list[dict[str, Any]]) -> np.ndarray:
    """Return records of the same fields as the 1 x N struct array that `write_mat` takes."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def read_mat(path: Path, *names: str) -> dict[str, Value]:
    """The variables `names` of a MATLAB file, of version 5 or (see `matlab_hdf5`) 7.3.

    A single number comes as float, others as arrays of two or more dimensions and of the type they are stored with, which
    for whole numbers is often uint8: cast before calculating. Text of one row comes as str, a struct array as the list of
    its records in MATLAB's order (columns first). Raises DataError where the file is missing, damaged or of another kind,
    or lacks one of `names`.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the dataset's archive again, or check the path.")
    if is_hdf5(path):
        return read_mat73(path, *names)
    if path.stat().st_size > MOST:
        raise DataError(f"{path} has more than {MOST} bytes, which no annotation file has; check the path.")
    file = _Elements(path.read_bytes(), str(path))
    if file.data[124:_HEADER] != b"\0\1IM":
        file.fail("it has another header")
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
            file.fail(f"an element of type {kind} stands where a variable should")
        name = source.head(start, stop)[2]
        others.append(name)
        if name in names:
            found[name] = _Elements(source.data, f"{path}: field {name!r}").value(start, stop)
    for name in names:
        if name not in found:
            raise DataError(
                f"{path} has no field {name!r}, as expected, but {', '.join(others[:8]) or 'nothing'}; is it the right file?"
            )
    return found


def is_hdf5(path: Path) -> bool:
    """Whether a file is of MATLAB 7.3: HDF5 behind a header of 512 bytes, or as other programs write it, without one."""
    with open(path, "rb") as file:
        begin = file.read(_SIGNATURE_AT + len(_HDF5))
    return begin.startswith(_HDF5) or begin.endswith(_HDF5)


class _Elements:
    """The bytes of a file, or of what was compressed in it; `what` to call them."""

    __slots__ = ("data", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.what = data, what

    def fail(self, why: str) -> NoReturn:
        raise DataError(f"{self.what} is not readable as MATLAB 5 data ({why}); unpack the archive again.")

    def unpacked(self, start: int, stop: int, room: int) -> "_Elements":
        """What is compressed there, at most `room` bytes. Two labels of Penn Action lack the stream's end, but nothing else."""
        unpack = zlib.decompressobj()
        try:
            data = unpack.decompress(memoryview(self.data)[start:stop], room + 1)
        except zlib.error as error:
            self.fail(str(error))
        if len(data) > room:
            self.fail(f"it unpacks to more than {MOST} bytes")
        return _Elements(data, self.what)

    def element(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Type of the element at `position`, start and stop of its content, and where the next one begins."""
        if position + 8 > end:
            self.fail("it is cut off")
        kind, size = _TAG.unpack_from(self.data, position)
        if kind < 1 << 16:
            start = position + 8
            stop = start + size
            after = stop if kind == _COMPRESSED else stop + -size % 8
        else:  # up to four bytes stand within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = position + 4, position + 8
            stop = start + size
        if stop > end or stop > after:
            self.fail(f"{size} bytes are announced where there are fewer")
        return kind, start, stop, after

    def head(self, start: int, stop: int) -> tuple[int, tuple[int, ...], str, int]:
        """Class, dimensions and name of a variable, and where its content begins."""
        if start + 40 > stop:
            self.fail("a variable is cut off")
        *head, kind, size = _HEAD.unpack_from(self.data, start)
        if head[:2] != [6, 8] or kind != 5 or size % 4 or not 8 <= size <= 4 * _MOST_DIMENSIONS:
            self.fail("a variable begins with something else than flags and dimensions")
        if head[2] & 0x800:
            self.fail("it holds complex numbers")
        _, first, last, position = self.element(start + 16, stop)
        dimensions = struct.unpack_from(f"<{size // 4}I", self.data, first)
        _, first, last, position = self.element(position, stop)
        return head[2] & 0xFF, dimensions, self.data[first:last].decode("latin-1"), position

    def value(self, start: int, stop: int) -> Value:
        """A variable."""
        if self.data[start + 16 : start + 40] == _SINGLE and start + 48 <= stop and self.data[start + 8] in _NUMBERS:
            return self._number(start + 40, stop)
        if start == stop:
            return np.zeros((0, 0))  # how an empty field may be stored
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
        """The structs in a cell array, as which SciPy saves arrays of them; other cells are not read."""
        records: list[Record] = []
        for _ in range(count):
            kind, start, end, position = self.element(position, stop)
            if kind != _MATRIX or start == end or self.head(start, end)[0] != _STRUCT:
                self.fail("a cell holds something else than structs")
            _, dimensions, _, first = self.head(start, end)
            records += self._records(math.prod(dimensions), first, end)
        return records

    def _number(self, position: int, stop: int) -> float:
        """The number in the element at `position`: what `value` does for a single one, in a third of the time."""
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
            self.fail(f"{count} records are announced where there is room for fewer")
        records, data, tag = [], self.data, _TAG.unpack_from  # this loop runs millions of times
        for _ in range(count if names else 0):
            places = {}
            for name in names:
                kind, size = tag(data, position) if position + 8 <= stop else (0, 0)
                first = position + 8
                position = first + size
                if kind != _MATRIX or position > stop:
                    self.fail(f"field {name!r} of a record is cut off")
                places[name] = first, position
                position += -size % 8
            records.append(Record(self, places))
        return records
