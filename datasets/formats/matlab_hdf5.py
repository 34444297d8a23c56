"""MATLAB 7.3 files, which are HDF5 files of a certain layout, read into the same values as those of MATLAB 5.

A struct is a group with a member for each field; a struct array has in each member a reference to every record's value.
Arrays stand transposed, text as UTF-16 numbers. Nothing is read that is larger than its file's readers may expect.
"""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.errors import DataError
from datasets.formats.matlab_values import MOST, Record, Value

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_INTERNAL = "#"  # how MATLAB's own groups begin, #refs# and #subsystem#


def read_mat73(path: Path, *names: str) -> dict[str, Value]:
    """The variables `names` of a MATLAB 7.3 file; values, records and errors as `matlab.read_mat`."""
    source = _Hdf5(path)
    there = [name for name in source.members(source.file) if not name.startswith(_INTERNAL)]
    for name in names:
        if name not in there:
            raise DataError(
                f"{path} has no field {name!r}, as expected, but {', '.join(there[:8]) or 'nothing'}; is it the right file?"
            )
    return {name: source.value(source.member(source.file, name)) for name in names}


class _Hdf5:
    """An open file; it stays open as long as a record of it is in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = h5py.File(path, "r")
        except Exception as error:  # damaged files make the library raise nearly anything
            raise self._damaged(error) from None

    def value(self, place: Any) -> Value:
        """The value of a group, a dataset, or a reference to one."""
        try:
            return self._value(self.file[place] if isinstance(place, h5py.Reference) else place)
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(error) from None

    def members(self, group: h5py.Group) -> list[str]:
        """Names of what stands in a group."""
        try:
            return list(group)
        except Exception as error:
            raise self._damaged(error) from None

    def member(self, group: h5py.Group, name: str) -> Any:
        """What stands in a group under a name; links may lead to other files, and are not followed."""
        try:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is a link")
            return group[name]
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is not readable as MATLAB 7.3 data ({error}); get the file again, or save it again.")

    def _value(self, found: Any) -> Value:
        if isinstance(found, h5py.Group):
            return self._structs(found)
        if not isinstance(found, h5py.Dataset):
            raise ValueError("a type stands where a value should")
        kind = found.attrs.get("MATLAB_class", b"")
        if "MATLAB_empty" in found.attrs or not found.size:
            return "" if kind == b"char" else np.zeros((0, 0))
        content = self._read(found)
        if content.dtype == object:
            return self._cell(content)
        if content.dtype.kind not in "fiub":
            raise ValueError(f"it holds {content.dtype}")
        if kind == b"char":
            return content.astype("<u2").tobytes().decode("utf-16-le") if 1 in content.shape else content.T
        return float(content.ravel()[0]) if content.size == 1 else np.atleast_2d(content.T)

    def _read(self, dataset: h5py.Dataset) -> np.ndarray:
        """The content of a dataset, as it stands, once its sizes are known to be possible."""
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
        largest = max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
        if made.get_external_count() or dataset.is_virtual or not filters <= _FILTERS or largest > MOST:
            raise ValueError(f"{dataset.name} stands in another file, is packed in an unknown way, or has {largest} bytes")
        return np.asarray(dataset[()])

    def _structs(self, group: h5py.Group) -> list[Record]:
        """The records of a struct, or of a struct array: then all members are references without a class of their own."""
        members = {name: self.member(group, name) for name in group}
        arrays = {name: found for name, found in members.items() if _is_of_array(found)}
        if not members or len(arrays) < len(members):
            return [Record(self, {name: (found,) for name, found in members.items()})]
        columns = {name: self._read(found).ravel() for name, found in arrays.items()}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError(f"the fields of {group.name} have different numbers of records")
        return [
            Record(self, {n: (r,) for n, r in zip(columns, row, strict=True)}) for row in zip(*columns.values(), strict=True)
        ]

    def _cell(self, references: np.ndarray) -> list[Record]:
        """The structs in a cell array, in MATLAB's order."""
        groups = [self.file[reference] for reference in references.ravel()]
        if not all(isinstance(group, h5py.Group) for group in groups):
            raise ValueError("a cell holds something else than structs")
        return [record for group in groups for record in self._structs(group)]


def _is_of_array(found: Any) -> bool:
    """Whether a member of a group has the values of a field of all records of a struct array."""
    return isinstance(found, h5py.Dataset) and found.dtype == h5py.ref_dtype and "MATLAB_class" not in found.attrs
