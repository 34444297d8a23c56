"""Read one object from a Torch7 file, and check every number before using it; the entry point is `t7.read`."""

import mmap
import re
import struct
from collections.abc import Generator
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from stages.torch7.values import (
    BOOLEAN,
    CLOSURE,
    ELEMENTS,
    FUNCTION,
    NIL,
    NUMBER,
    OLD_CLOSURE,
    STRING,
    TABLE,
    TORCH,
    Function,
    Storage,
    Table,
    Tensor,
    TorchObject,
    Value,
    array_class,
    element_type,
    text_of,
)

_VERSION = re.compile(r"V (\d{1,9})")
_WORD = re.compile(rb"\S+")
_DIMENSIONS = 64  # largest number of dimensions, as in numpy


class _Damaged(DataError):
    """A DataError about the byte at `offset`; `reached`: the reading position when the damage was found."""

    def __init__(self, path: Path, offset: int, text: str, reached: int = 0) -> None:
        super().__init__(f"{path}, byte {offset}: {text}. The file is damaged or not a Torch7 file; fetch or copy it again.")
        self.reached = reached


def read_mapped(path: Path, data: mmap.mmap, long_size: int | None) -> Value:
    """Return the object in the file at `path`, whose bytes are `data` (at least one); see `t7.read`."""
    if data[0] in b"012345678":
        return _Reader(_AsciiSource(path, data)).read()
    if data[0] > CLOSURE:
        raise DataError(
            f"{path} is not a Torch7 file: it begins with {data[:8]!r}; give a .t7 file, or another kind of file by its suffix."
        )
    failures = []
    for size in [long_size] if long_size else [8, 4]:
        try:
            return _Reader(_BinarySource(path, data, size)).read()
        except _Damaged as failure:
            failures.append(failure)
    # Report the error of the attempt that read furthest, because its size of longs is probably the right one.
    raise max(failures, key=lambda failure: failure.reached) from None


class _Source:
    """A reading position in a file; the size of every read is checked against the bytes that are left."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.position = path, data, 0

    def damaged(self, text: str, offset: int | None = None) -> _Damaged:
        return _Damaged(self.path, self.position if offset is None else offset, text, self.position)

    def take(self, size: int) -> int:
        """Advance by `size` bytes; return the old position. Raises DataError if fewer than `size` bytes are left."""
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise self.damaged(f"the file specifies {size} bytes here, but only {left} bytes are left")
        self.position += size
        return self.position - size


class _BinarySource(_Source):
    """A binary file: little-endian ints of 4 bytes, longs of `long_size` bytes, doubles of 8 bytes."""

    def __init__(self, path: Path, data: mmap.mmap, long_size: int) -> None:
        super().__init__(path, data)
        self.long_type = np.dtype(f"<i{long_size}")

    def integer(self) -> int:
        return struct.unpack_from("<i", self.data, self.take(4))[0]

    def double(self) -> float:
        return struct.unpack_from("<d", self.data, self.take(8))[0]

    def longs(self, count: int) -> tuple[int, ...]:
        return tuple(self.array(ELEMENTS["Long"], count).tolist())

    def chars(self, count: int) -> bytes:
        start = self.take(count)
        return self.data[start : self.position]

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        stored = self.long_type if dtype == ELEMENTS["Long"] else dtype
        start = self.take(count * stored.itemsize)
        # astype makes a copy, which is aligned, writable, and independent of the file.
        return np.frombuffer(self.data, stored, count, start).astype(dtype)


class _AsciiSource(_Source):
    """An ascii file: decimal numbers, one array per line. An empty array has no line at all."""

    def numbers(self, dtype: np.dtype, count: int) -> np.ndarray:
        """Return the numbers of the next line, (count,), parsed one by one, because a list of words would need much memory."""
        if not count:
            return np.empty(0, dtype)
        start, end = self.position, self.data.find(b"\n", self.position)
        if end < 0:
            raise self.damaged("the file ends within a line")
        self.position = end + 1
        line, parse = self.data[start:end], int if dtype.kind == "i" else float
        words = _WORD.finditer(line)
        try:
            if count > len(line) or b"_" in line:  # Python reads 1_000 as a number, C does not
                raise ValueError
            with np.errstate(over="ignore"):
                numbers = np.fromiter((parse(word[0]) for word in words), dtype, count)
            if next(words, None):
                raise ValueError
        except OverflowError:
            raise self.damaged(f"found a number too large for {dtype}", start) from None
        except ValueError:
            raise self.damaged(f"found {line[:40]!r} in a line, expected {count} number(s)", start) from None
        return numbers

    def integer(self) -> int:
        return int(self.numbers(ELEMENTS["Int"], 1)[0])

    def double(self) -> float:
        return float(self.numbers(ELEMENTS["Double"], 1)[0])

    def longs(self, count: int) -> tuple[int, ...]:
        return tuple(self.numbers(ELEMENTS["Long"], count).tolist())

    def chars(self, count: int) -> bytes:
        start = self.take(count)
        data = self.data[start : self.position]
        if count and self.data[self.take(1)] != ord("\n"):
            raise self.damaged(f"found no newline after {count} bytes", self.position - 1)
        return data

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        if count < 0:
            raise self.damaged(f"found an array of {count} elements")
        if dtype.itemsize == 1:  # storages of bytes and characters are raw bytes, even in ascii files
            return np.frombuffer(self.chars(count), dtype).copy()
        return self.numbers(dtype, count)


class _Reader:
    """Reads objects without recursion: `pending` is a stack of generators, each of which fills one unfinished object.

    A generator yields when it has started an inner object. The bytes of the inner object come next, so the reader fills the
    inner object first.
    """

    def __init__(self, source: _BinarySource | _AsciiSource) -> None:
        self.source = source
        self.seen: list[Value] = []
        self.pending: list[Generator[bool, None, None]] = []

    def read(self) -> Value:
        value = self._object()
        while self.pending:
            if not next(self.pending[-1], False):
                self.pending.pop()
        left = len(self.source.data) - self.source.position
        if left:
            raise self.source.damaged(f"found {left} bytes after the end of the object")
        return value

    def _object(self) -> Value:
        start = self.source.position
        kind = self.source.integer()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return self.source.double()
        if kind == STRING:
            return text_of(self._chars())
        if kind == BOOLEAN:
            return self._boolean()
        if kind == TABLE:
            return self._table()
        if kind == TORCH:
            return self._torch()
        if kind in (FUNCTION, OLD_CLOSURE, CLOSURE):
            return self._function(kind)
        raise self.source.damaged(f"found {kind}, expected one of Torch7's type numbers (0 to 8)", start)

    def _chars(self) -> bytes:
        return self.source.chars(self.source.integer())

    def _boolean(self) -> bool:
        start = self.source.position
        value = self.source.integer()
        if value not in (0, 1):
            raise self.source.damaged(f"found {value}, expected a boolean (0 or 1)", start)
        return value == 1

    def _indexed(self, *types: type) -> Value:
        """Read an object's index. Return the object with this index if it was read before.

        Return None if the index is new: then the content of the new object comes next in the file.
        Torch7 numbers objects from 1 in order of occurrence, so a new index is always the last new index plus 1.
        """
        start = self.source.position
        index = self.source.integer()
        if index == len(self.seen) + 1:
            return None
        if not 1 <= index <= len(self.seen):
            raise self.source.damaged(f"found object index {index}, expected 1 to {len(self.seen) + 1}", start)
        value = self.seen[index - 1]
        if not isinstance(value, types):
            raise self.source.damaged(f"found object index {index}, which is {value!r}, of another type", start)
        return value

    def _table(self) -> Table:
        known = self._indexed(Table)
        if known is not None:
            return known
        start = self.source.position
        count = self.source.integer()
        # An entry takes several bytes, so a table cannot have more entries than the file has bytes left.
        if not 0 <= count <= len(self.source.data) - self.source.position:
            raise self.source.damaged(f"found a table of {count} entries, more than the file can hold", start)
        table = Table()
        self.seen.append(table)
        self.pending.append(self._fill_table(table, count))
        return table

    def _fill_table(self, table: Table, count: int) -> Generator[bool, None, None]:
        depth = len(self.pending)
        for _ in range(count):
            start = self.source.position
            key = self._object()
            if len(self.pending) > depth:
                yield True
            value = self._object()
            if len(self.pending) > depth:
                yield True
            try:
                table[key] = value
            except ValueError as error:
                raise self.source.damaged(f"found {error}", start) from None

    def _torch(self) -> TorchObject | Tensor | Storage:
        known = self._indexed(TorchObject, Tensor, Storage)
        if known is not None:
            return known
        class_name, version = self._class()
        known_class = array_class(class_name)
        if known_class is not None:
            is_tensor = known_class[1] == "Tensor"
            return self._tensor(class_name, version) if is_tensor else self._storage(class_name, version)
        value = TorchObject(class_name, version=version)
        self.seen.append(value)
        start = self.source.position
        kind = self.source.integer()
        if kind != TABLE:
            what = f"{TABLE}, the table of fields of {class_name[:60]!r}"
            raise self.source.damaged(f"found type number {kind}, expected {what}", start)
        value.fields = self._table()
        return value

    def _class(self) -> tuple[str, int]:
        text = text_of(self._chars())
        match = _VERSION.fullmatch(text)
        return (text_of(self._chars()), int(match[1])) if match else (text, 0)

    def _storage(self, class_name: str, version: int) -> Storage:
        (count,) = self.source.longs(1)
        storage = Storage(class_name, self.source.array(element_type(class_name), count), version)
        self.seen.append(storage)
        return storage

    def _tensor(self, class_name: str, version: int) -> Tensor:
        start = self.source.position
        dimensions = self.source.integer()
        if not 0 <= dimensions <= _DIMENSIONS:
            raise self.source.damaged(f"found a tensor of {dimensions} dimensions", start)
        size, stride = self.source.longs(dimensions), self.source.longs(dimensions)
        tensor = Tensor(class_name, size, stride, self.source.longs(1)[0] - 1, None, version)
        self.seen.append(tensor)
        tensor.storage = self._storage_of(class_name)
        try:
            tensor.array()
        except (ValueError, OverflowError):
            length = 0 if tensor.storage is None else len(tensor.storage.array)
            view = f"a tensor of size {size}, stride {stride}, offset {tensor.offset + 1}"
            raise self.source.damaged(f"found {view}, which exceeds its storage of {length} elements", start) from None
        return tensor

    def _storage_of(self, tensor_class: str) -> Storage | None:
        start = self.source.position
        kind = self.source.integer()
        if kind == NIL:
            return None
        wanted = tensor_class.removesuffix("Tensor") + "Storage"
        if kind != TORCH:
            raise self.source.damaged(f"found type number {kind}, expected {wanted} or nil", start)
        known = self._indexed(Storage)
        if known is None:
            class_name, version = self._class()
            if class_name == wanted:
                return self._storage(class_name, version)
        elif (class_name := known.class_name) == wanted:
            return known
        raise self.source.damaged(f"found {class_name[:60]!r}, expected {wanted}", start)

    def _function(self, kind: int) -> Function:
        if kind != FUNCTION:  # functions of the oldest kind, FUNCTION, have no index
            known = self._indexed(Function)
            if known is not None:
                return known
        function = Function(self._chars(), None, kind)
        if kind != FUNCTION:
            self.seen.append(function)
        self.pending.append(self._fill_function(function))
        return function

    def _fill_function(self, function: Function) -> Generator[bool, None, None]:
        depth = len(self.pending)
        function.upvalues = self._object()
        if len(self.pending) > depth:
            yield True
