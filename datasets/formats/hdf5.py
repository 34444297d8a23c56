"""HDF5 files: write tables part by part, and read them field by field; sizes in a file are checked before they are used."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from datasets.errors import DataError

# Largest number of joints, many more than any skeleton has. A damaged file may claim more joints; without this limit, the
# claim would determine how much memory is allocated.
MAX_JOINTS = 256
_LAYOUT_BYTES = 1 << 16  # upper limit of the bytes that the HDF5 library writes for a file without rows
# Upper limit of numbers in annotations: numbers in valid files are far smaller, and numbers up to this limit cause no overflow.
LARGEST = 2.0**53


Layout = dict[str, tuple[tuple[int, ...], np.dtype]]  # name of a field -> (shape of a row, dtype)


class RowsH5:
    """Writes a table with a known number of rows to an HDF5 file, part by part.

    The HDF5 library only creates the file's structure, because it crashes the process when the disk is full. The rows are then
    written to their positions in the file by ordinary file operations. Raises ValueError for more or fewer than `rows` rows,
    and OSError, e.g. for a full disk.
    """

    def __init__(self, path: Path, rows: int, layout: Layout, **attributes: str) -> None:
        path.write_bytes(bytes(_LAYOUT_BYTES))  # reserves disk space for what the HDF5 library itself writes
        places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        places.set_obj_track_times(False)  # no time stamps, so that equal rows give equal bytes
        self._places: dict[str, int] = {}
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes)
            for field, (shape, dtype) in layout.items():
                space = h5py.h5s.create_simple((rows, *shape))
                dataset = h5py.h5d.create(file.id, field.encode(), h5py.h5t.py_create(dtype, logical=True), space, places)
                self._places[field] = dataset.get_offset() or 0
        self._left, self._layout = rows, layout
        self._file = open(path, "r+b")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "RowsH5":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if self._left and not error:
            raise ValueError(f"{self._file.name} needs {self._left} more rows")

    def append(self, columns: dict[str, np.ndarray]) -> None:
        """Write the next rows of every field."""
        count = len(next(iter(columns.values())))
        if count > self._left or {name: (v.shape[1:], v.dtype) for name, v in columns.items()} != self._layout:
            raise ValueError(f"{count} rows of {list(columns)} do not fit the file, where {self._left} rows are left")
        self._left -= count
        for field, values in columns.items() if count else ():
            self._file.seek(self._places[field])
            self._places[field] += self._file.write(np.ascontiguousarray(values).tobytes())


def write_h5(path: Path, columns: dict[str, np.ndarray], **attributes: str) -> None:
    """Write arrays to an HDF5 file, and `attributes` as attributes of the file.

    The file is built in memory, because the HDF5 library crashes the process when the disk is full. Raises OSError,
    e.g. for a full disk.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(attributes)
        for field, values in columns.items():
            file[field] = values
    path.write_bytes(content.getbuffer())


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises DataError for a missing or damaged file, and for any exception in the with block.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; run the annotation stage, or check the path.")
    try:
        with _opened(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds of exceptions for damaged files
        raise DataError(f"{path} is not a readable HDF5 file ({error}); it may be cut short: make it again.") from None


def _opened(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    On a disk that cannot lock files, the file is opened without a lock; this is safe, because no process writes to it now.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        return h5py.File(path, "r", locking=False)


def h5_field(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """Return the HDF5 dataset `name`. Raises DataError, with file and field, if the dataset is missing, compressed or linked.

    Compressed data could unpack to any size, and links could lead to other files.
    """
    dataset = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{path} has no field {name!r}; it is not an annotation file in the published layout.")
    made = dataset.id.get_create_plist()
    if made.get_nfilters() or made.get_external_count() or dataset.is_virtual:
        raise DataError(
            f"{path}: field {name!r} is compressed or stored in another file, unlike published files; write it uncompressed."
        )
    return dataset


def read_field(file: h5py.File, path: Path, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return the HDF5 dataset `name` as float64. shape: the expected shape; None stands for the number of joints (1 to 256).

    The shape is checked before the values are read. Raises DataError, with file and field, for another shape, or for a value
    that is NaN or not below `LARGEST`.
    """
    dataset = h5_field(file, path, name)
    fits = dataset.shape is not None and len(dataset.shape) == len(shape)
    fits = fits and all(
        1 <= size <= MAX_JOINTS if expected is None else size == expected
        for size, expected in zip(dataset.shape, shape, strict=True)
    )
    if not fits or dataset.dtype.kind not in "fiub":
        wanted = " x ".join("joints" if size is None else str(size) for size in shape)
        raise DataError(
            f"{path}: field {name!r} is {dataset.dtype} of shape {dataset.shape}, expected {wanted} numbers"
            " (a row for every line of the image list)."
        )
    values = np.asarray(dataset[()], dtype=np.float64)
    if not (np.abs(values) < LARGEST).all():
        raise DataError(f"{path}: field {name!r} holds a NaN or too large a number; the file is damaged: make it again.")
    return values


def read_numbers(file: h5py.File, path: Path, name: str, count: int) -> np.ndarray:
    """Return the `count` whole numbers >= 0 in the HDF5 dataset `name`, (count,) int64; errors as in `read_field`."""
    values = read_field(file, path, name, (count,))
    if not ((values >= 0) & (values == np.floor(values))).all():
        raise DataError(f"{path}: field {name!r} holds something else than whole numbers from 0; make the file again.")
    return values.astype(np.int64)
