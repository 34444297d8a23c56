"""Read MATLAB 7.3 files, which are HDF5 files with a special layout; the values have the types that `matlab.read_mat` uses.

A struct is a group with one member per field; in a struct array, each member contains references to the values of all records.
Arrays are stored transposed, text as UTF-16 code units. Every size is checked before its data is read.
"""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.errors import DataError
from datasets.formats.matlab_values import MOST, Record, Value

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_INTERNAL = "#"  # first character of the names of MATLAB's internal groups, #refs# and #subsystem#


def read_mat73(path: Path, *names: str) -> dict[str, Value]:
    """Return the variables `names` of a MATLAB 7.3 file; values, records and errors as in `matlab.read_mat`."""
    source = _Hdf5(path)
    found = [name for name in source.members(source.file) if not name.startswith(_INTERNAL)]
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no field {name!r}; it has {', '.join(found[:8]) or 'no fields'}. Check the path.")
    return {name: source.value(source.member(source.file, name)) for name in names}


class _Hdf5:
    """An open HDF5 file; it stays open as long as one of its records is in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = h5py.File(path, "r")
        except Exception as error:  # h5py raises many kinds of exceptions for damaged files
            raise self._damaged(error) from None

    def value(self, place: Any) -> Value:
        """Return the value of a group, of a dataset, or of the object to which a reference points."""
        try:
            return self._value(self.file[place] if isinstance(place, h5py.Reference) else place)
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(error) from None

    def members(self, group: h5py.Group) -> list[str]:
        """Return the names of a group's members."""
        try:
            return list(group)
        except Exception as error:
            raise self._damaged(error) from None

    def member(self, group: h5py.Group, name: str) -> Any:
        """Return the member `name` of a group. Raises DataError for a link, which could lead to another file."""
        try:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is a link")
            return group[name]
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is not readable as MATLAB 7.3 data ({error}); fetch the file again, or save it again.")

    def _value(self, found: Any) -> Value:
        if isinstance(found, h5py.Group):
            return self._structs(found)
        if not isinstance(found, h5py.Dataset):
            raise ValueError("found an HDF5 type, expected a value")
        kind = found.attrs.get("MATLAB_class", b"")
        if "MATLAB_empty" in found.attrs or not found.size:
            return "" if kind == b"char" else np.zeros((0, 0))
        content = self._read(found)
        if content.dtype == object:
            return self._cell(content)
        if content.dtype.kind not in "fiub":
            raise ValueError(f"it holds {content.dtype}, expected numbers, text or structs")
        if kind == b"char":
            return content.astype("<u2").tobytes().decode("utf-16-le") if 1 in content.shape else content.T
        return float(content.ravel()[0]) if content.size == 1 else np.atleast_2d(content.T)

    def _read(self, dataset: h5py.Dataset) -> np.ndarray:
        """Return the content of a dataset as stored. Raises ValueError for an impossible size or an unknown filter."""
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
        largest = max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
        if made.get_external_count() or dataset.is_virtual or not filters <= _FILTERS or largest > MOST:
            raise ValueError(f"{dataset.name} is stored in another file, has an unknown compression, or has {largest} bytes")
        return np.asarray(dataset[()])

    def _structs(self, group: h5py.Group) -> list[Record]:
        """Return the records of a struct or a struct array. A group whose members all hold references is a struct array."""
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
        """Return the structs in a cell array, in MATLAB's order."""
        groups = [self.file[reference] for reference in references.ravel()]
        if not all(isinstance(group, h5py.Group) for group in groups):
            raise ValueError("a cell does not hold structs; other cells are not supported")
        return [record for group in groups for record in self._structs(group)]


def _is_of_array(found: Any) -> bool:
    """Return whether a member of a group holds references to the values of one field in all records of a struct array."""
    return isinstance(found, h5py.Dataset) and found.dtype == h5py.ref_dtype and "MATLAB_class" not in found.attrs
