"""Read and write Torch7's .t7 files with numpy alone: binary and ascii, with longs of 4 or 8 bytes.

Torch7 type          Python value

    nil, boolean       None, bool
    number             float (Lua has no other number)
    string             str, decoded as UTF-8 with `surrogateescape`: `string_bytes(text)` returns the exact bytes
    table              Table: dict-like, keys of every kind, file order kept
    tensor, storage    Tensor, Storage: tensors are views of storages, which they may share
    other class        TorchObject: class name, version, table of fields
    function           Function: the dumped bytecode, kept as bytes, never run

Tables, tensors, storages, objects and functions are compared by identity. An object that occurs twice in a file is one Python
object.
Writing the object that `read` returned for a file of Torch7 reproduces the bytes of the file, because objects are numbered by
first occurrence.

The file layout is that of torch7's File.lua, DiskFile.c and generic/Tensor.c, Storage.c.
"""

import math
import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.errors import DataError
from stages.torch7.reading import read_mapped
from stages.torch7.values import (
    BOOLEAN,
    FUNCTION,
    NIL,
    NUMBER,
    STRING,
    TABLE,
    TORCH,
    Function,
    Storage,
    Table,
    Tensor,
    TorchObject,
    Value,
    element_type,
    string_bytes,
)

__all__ = ["Function", "Storage", "Table", "Tensor", "TorchObject", "read", "string_bytes", "write"]


def read(path: Path, long_size: int | None = None) -> Value:
    """Return the object in a .t7 file.

    The first byte shows whether the file is binary (a type number from 0 to 8) or ascii (the digit of a type number). The file
    does not record the size of its longs (4 or 8 bytes). Without `long_size`, 8 is tried, then 4; the wrong size does not fit
    the file's length, because every tensor and storage contains longs. Raises DataError, naming file and byte, for
    truncated or trailing bytes, sizes beyond the end of the file, and indices out of order.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise DataError(f"{path} is empty; expected a Torch7 file.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return read_mapped(path, data, long_size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def write(path: Path, value: Value, ascii: bool = False, long_size: int = 8) -> None:
    """Write one object as Torch7's torch.save does; an object that occurs several times in `value` is written once.

    Numbers may be int or float, strings str or bytes. Raises DataError for an integer that the format cannot represent
    exactly, and TypeError for objects of types that the format does not have.
    """
    with path.open("wb") as file:
        _Writer(_AsciiSink(file) if ascii else _BinarySink(file, long_size)).write(value)


class _BinarySink:
    def __init__(self, file: BinaryIO, long_size: int) -> None:
        self.file, self.long_type = file, np.dtype(f"<i{long_size}")

    def integer(self, value: int) -> None:
        self.file.write(struct.pack("<i", value))

    def double(self, value: float) -> None:
        self.file.write(struct.pack("<d", value))

    def longs(self, values: Iterable[int]) -> None:
        self.array(np.array(list(values), np.int64))

    def chars(self, data: bytes) -> None:
        self.file.write(data)

    def array(self, array: np.ndarray) -> None:
        if array.dtype == np.int64:
            stored = array.astype(self.long_type)
            if not np.array_equal(stored, array):
                raise DataError(f"{self.file.name}: a number is too large for longs of 4 bytes; write longs of 8 bytes.")
            array = stored
        self.file.write(array.data)


class _AsciiSink:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def integer(self, value: int) -> None:
        self.longs([value])

    def double(self, value: float) -> None:
        self.array(np.array([value]))

    def longs(self, values: Iterable[int]) -> None:
        self.array(np.array(list(values), np.int64))

    def chars(self, data: bytes) -> None:
        self.file.write(data + b"\n" if data else b"")

    def array(self, array: np.ndarray) -> None:
        if array.dtype.itemsize == 1:
            self.chars(array.tobytes())
        elif len(array):
            form = "%d" if array.dtype.kind == "i" else "%.17g" if array.dtype == np.float64 else "%.9g"
            words = (form % v if v == v else "-nan" if math.copysign(1, v) < 0 else "nan" for v in array.tolist())
            self.file.write(" ".join(words).encode() + b"\n")


class _Writer:
    """Writes objects without recursion: `pending` is a stack of iterators over the parts that are still to be written."""

    def __init__(self, sink: _BinarySink | _AsciiSink) -> None:
        self.sink = sink
        self.index: dict[int, int] = {}

    def write(self, root: Value) -> None:
        pending: list[Iterator[Value]] = [iter([root])]
        while pending:
            for value in pending[-1]:
                parts = self._begin(value)
                if parts is not None:
                    pending.append(parts)
                    break
            else:
                pending.pop()

    def _begin(self, value: Value) -> Iterator[Value] | None:
        """Write the beginning of a value; return an iterator over its parts, or None if no parts are left to write."""
        if value is None:
            self.sink.integer(NIL)
        elif isinstance(value, bool):
            self.sink.integer(BOOLEAN)
            self.sink.integer(value)
        elif isinstance(value, int | float):
            self._number(value)
        elif isinstance(value, str | bytes):
            self.sink.integer(STRING)
            self._chars(string_bytes(value))
        elif isinstance(value, Table):
            if self._is_new(TABLE, value):
                self.sink.integer(len(value))
                return (part for entry in value.items() for part in entry)
        elif isinstance(value, Function):
            if self._is_new(value.kind, value):
                self._chars(value.bytecode)
                return iter([value.upvalues])
        elif isinstance(value, TorchObject | Tensor | Storage):
            if self._is_new(TORCH, value):
                return self._torch(value)
        else:
            raise TypeError(f"A Torch7 file cannot hold a {type(value).__name__}.")
        return None

    def _number(self, value: float) -> None:
        if isinstance(value, int) and (abs(value) > 2**1023 or int(float(value)) != value):
            raise DataError(f"{self.sink.file.name}: Torch7 stores numbers as doubles, which cannot represent {value} exactly.")
        self.sink.integer(NUMBER)
        self.sink.double(float(value))

    def _chars(self, data: bytes) -> None:
        self.sink.integer(len(data))
        self.sink.chars(data)

    def _is_new(self, kind: int, value: Value) -> bool:
        """Write an object's type number, and its index (objects of type FUNCTION have none).

        Returns whether the object occurs for the first time; if so, the caller must write its content next.
        """
        self.sink.integer(kind)
        if kind == FUNCTION:
            return True
        known = self.index.get(id(value))
        if known is None:
            self.index[id(value)] = len(self.index) + 1
        self.sink.integer(known or len(self.index))
        return known is None

    def _torch(self, value: TorchObject | Tensor | Storage) -> Iterator[Value] | None:
        if value.version:
            self._chars(b"V %d" % value.version)
        self._chars(string_bytes(value.class_name))
        if isinstance(value, TorchObject):
            return iter([value.fields])
        if isinstance(value, Tensor):
            self.sink.integer(len(value.size))
            self.sink.longs(value.size)
            self.sink.longs(value.stride)
            self.sink.longs([value.offset + 1])
            return iter([value.storage])
        dtype = element_type(value.class_name)
        if value.array.dtype != dtype or value.array.ndim != 1:
            raise TypeError(f"{value.class_name} holds {value.array.ndim}-d {value.array.dtype}, expected 1-d {dtype}.")
        self.sink.longs([len(value.array)])
        self.sink.array(np.ascontiguousarray(value.array))
        return None
