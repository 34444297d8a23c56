"""Define the Python values that represent the contents of a Torch7 file; the docstring of `t7` lists the types."""

import math
import re
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# One of None, bool, float, str, Table, TorchObject, Tensor, Storage or Function.
Value = Any

# The type numbers that a Torch7 file uses.
NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, OLD_CLOSURE, CLOSURE = range(9)

ELEMENTS: dict[str, np.dtype] = {
    "Byte": np.dtype("u1"),
    "Char": np.dtype("i1"),
    "Short": np.dtype("<i2"),
    "Int": np.dtype("<i4"),
    "Long": np.dtype("<i8"),  # a C long, which has 4 or 8 bytes in the file
    "Half": np.dtype("<f2"),
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
}
_ARRAY_CLASS = re.compile(rf"torch\.(?:Cuda)?({'|'.join(ELEMENTS)})(Tensor|Storage)|torch\.Cuda(Tensor|Storage)")


class Table(MutableMapping[Value, Value]):
    """A Lua table: a mapping in file order whose keys may be strings, numbers, booleans and objects (by identity).

    As in Lua, 1 and 1.0 are the same key, 1 and True are different keys, storing None removes the entry, and neither None nor
    NaN can be a key. A table equals only itself.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[tuple[Value, Value]] = ()) -> None:
        self._entries: dict[Any, tuple[Value, Value]] = {}
        for key, value in entries:
            self[key] = value

    @classmethod
    def from_list(cls, values: Iterable[Value]) -> "Table":
        """Return a table with the values at the keys 1, 2, 3 ..."""
        return cls((float(i), value) for i, value in enumerate(values, 1))

    def list(self) -> list[Value]:
        """Return the values at the keys 1, 2, 3 ... up to the first missing key."""
        values: list[Value] = []
        while (entry := self._entries.get(float(len(values) + 1))) is not None:
            values.append(entry[1])
        return values

    @staticmethod
    def _slot(key: Value) -> Any:
        """Return a hashable object that is equal for two keys exactly if Lua treats them as one key."""
        if isinstance(key, bool):
            return bool, key
        if isinstance(key, int | float):
            if math.isnan(key):
                raise ValueError("NaN cannot be the key of a Lua table.")
            return float(key)
        if isinstance(key, bytes):
            return text_of(key)
        if key is None:
            raise ValueError("None (nil) cannot be the key of a Lua table.")
        return key

    def __getitem__(self, key: Value) -> Value:
        return self._entries[self._slot(key)][1]

    def __setitem__(self, key: Value, value: Value) -> None:
        slot = self._slot(key)
        if value is None:
            self._entries.pop(slot, None)
        else:
            self._entries[slot] = (key, value)

    def __delitem__(self, key: Value) -> None:
        del self._entries[self._slot(key)]

    def __iter__(self) -> Iterator[Value]:
        return (key for key, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Table of {len(self)}>"  # without the entries, because a table may contain itself


@dataclass(eq=False, slots=True)
class TorchObject:
    """An object of a Torch class other than tensors and storages, such as nn.Linear."""

    class_name: str
    fields: Table = field(default_factory=Table, repr=False)
    version: int = 1  # 0: the file was written before classes had versions


@dataclass(eq=False, slots=True)
class Storage:
    """The elements of tensors: a contiguous array (n,) whose dtype the class name determines."""

    class_name: str  # e.g. torch.FloatStorage, torch.CudaStorage
    array: np.ndarray = field(repr=False)
    version: int = 1


@dataclass(eq=False, slots=True)
class Tensor:
    """A strided view of a storage; strides and the 0-based offset count elements."""

    class_name: str  # e.g. torch.FloatTensor, torch.CudaTensor
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0
    storage: Storage | None = None
    version: int = 1

    @classmethod
    def from_array(cls, array: np.ndarray, class_name: str | None = None) -> "Tensor":
        """Return a tensor with its own storage, a copy of `array`; class_name = None: the dtype determines the class.

        An array without elements becomes Torch7's empty tensor, which has no size and no storage.
        Raises ValueError for a dtype that Torch7 does not have.
        """
        if class_name is None:
            names = [name for name, dtype in ELEMENTS.items() if dtype == array.dtype]
            if not names:
                raise ValueError(f"Torch7 has no tensors of {array.dtype}.")
            class_name = f"torch.{names[0]}Tensor"
        if array.size == 0:
            return cls(class_name)
        array = np.array(array, element_type(class_name), order="C", ndmin=1)
        storage = Storage(class_name.removesuffix("Tensor") + "Storage", array.reshape(-1))
        return cls(class_name, array.shape, tuple(s // array.itemsize for s in array.strides), 0, storage)

    def array(self) -> np.ndarray:
        """Return a numpy view (no copy) of shape `size`; an array of shape (0,) for Torch7's empty tensor.

        Raises ValueError if the view exceeds the storage; tensors that `read` returned never do.
        """
        if not self.size or 0 in self.size:
            return np.empty(self.size or 0, element_type(self.class_name))
        # Check the bounds here, because numpy does not check the bounds of a view of an empty buffer.
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        length = 0 if self.storage is None else len(self.storage.array)
        if self.storage is None or min(self.offset, *self.size, *self.stride) < 0 or last >= length:
            raise ValueError(f"{self} exceeds its storage of {length} elements.")
        base, width = self.storage.array, self.storage.array.itemsize
        return np.ndarray(self.size, base.dtype, base, self.offset * width, tuple(s * width for s in self.stride))


@dataclass(eq=False, slots=True)
class Function:
    """A dumped Lua function. The bytecode of the function is kept and written back unchanged, and never run."""

    bytecode: bytes = field(repr=False)
    upvalues: Value = field(default=None, repr=False)
    kind: int = CLOSURE  # the type number in the file: 6, 7 or 8


def string_bytes(text: str | bytes) -> bytes:
    """Return the bytes of a Lua string, as they are in a file."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """Return the bytes of a Lua string as str; `string_bytes` is the inverse function."""
    return data.decode("utf-8", "surrogateescape")


def array_class(class_name: str) -> tuple[np.dtype, str] | None:
    """Return the dtype of a tensor or storage class, and its kind ("Tensor" or "Storage"); None for any other class.

    The elements of torch.CudaTensor and torch.CudaStorage are floats.
    """
    match = _ARRAY_CLASS.fullmatch(class_name)
    return (ELEMENTS[match[1] or "Float"], match[2] or match[3]) if match else None


def element_type(class_name: str) -> np.dtype:
    """Return the dtype of a tensor or storage class. Raises ValueError for any other class."""
    found = array_class(class_name)
    if found is None:
        raise ValueError(f"{class_name} is not a tensor or storage class.")
    return found[0]
