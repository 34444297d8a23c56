"""People in images, row by row, and the published HDF5 annotation files that hold them.

The layout is that of pose-hg-train, branch image-play: `{split}.h5` with one float64 dataset a field, and
`{split}_images.txt` with the image of row i on line i. The files count pixels from 1 and mark a joint without a label
by the coordinates (0, 0); here pixels count from 0 and such a joint is NaN. Both are converted in this module and
nowhere else.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np

from datasets.errors import DataError
from datasets.skeletons import PENN_ACTION, SKELETONS

# Far above any skeleton; a file that claims more is broken, and its sizes must not decide how much memory is taken.
MAX_JOINTS = 256
_LAYOUT_BYTES = 1 << 16  # more than the library writes of a file without its rows
LARGEST = 2.0**53  # no number in annotations comes near, and none below it overflows in what is done with them


@dataclass(frozen=True)
class Annotations:
    """One row a person (MPII) or a frame (Penn Action), in file order; N rows, J joints, pixels counted from 0, (x, y).

    A joint with a NaN coordinate has no label; `visible` is False there, and for labelled joints that are occluded.
    """

    images: list[str]  # image path relative to the images folder
    index: np.ndarray  # (N,) int64, number of the image in the dataset, as published (counted from 0)
    person: np.ndarray  # (N,) int64, number of the person in the image, from 0; zeros for Penn Action
    center: np.ndarray  # (N, 2) float64 px, centre of the person's box, already moved down by 15 * scale
    scale: np.ndarray  # (N,) float64, side of the person's box / 200 px, already enlarged by 1.25
    part: np.ndarray  # (N, J, 2) float64 px, NaN where not labelled
    visible: np.ndarray  # (N, J) bool
    normalize: np.ndarray  # (N,) float64 px, what PCK divides by: head (MPII) or torso (FLIC, LSP), -1 where unknown
    torsoangle: np.ndarray  # (N,) float64 degrees, 0 for an upright torso or none, -1 where unknown

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: np.ndarray) -> "Annotations":
        """The given rows, by number or by a mask of N bools, in the given order."""
        numbers = np.arange(len(self))[rows]
        arrays = {field.name: getattr(self, field.name)[numbers] for field in fields(self) if field.name != "images"}
        return Annotations(images=[self.images[i] for i in numbers], **arrays)


def hold_out(images: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """(N,) bool: the rows on a share `fraction` of the different images, numbers (N,), drawn by `default_rng(seed)`.

    Raises DataError for a fraction that is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the validation fraction is {fraction}, expected a number between 0 and 1.")
    candidates = np.unique(images)
    held_out = np.random.default_rng(seed).choice(candidates, round(fraction * len(candidates)), replace=False)
    return np.isin(images, held_out)


def person_box(objpos: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (..., 2) px and scale (...) of the box that the network sees, from a person's position and size / 200 px.

    The box is moved down by 15 * scale and enlarged by 1.25, so that feet stay inside (pose-hg-train, all datasets).
    """
    center = np.array(objpos, dtype=np.float64)
    center[..., 1] += 15 * scale
    return center, scale * 1.25


def write(folder: Path, split: str, annotations: Annotations) -> None:
    """Write `{split}.h5` and `{split}_images.txt` into `folder` in the published layout; see `Writer`."""
    with Writer(folder, split, len(annotations)) as writer:
        writer.append(annotations)


class Writer:
    """`{split}.h5` and `{split}_images.txt` of a split of so many rows, written part by part: memory holds one part.

    Joints keep their fractions (the published files truncate them). Files of 13 joints, those of Penn Action, have no
    `person` and `imgname`, as published. Raises DataError for an image name that is not ASCII on one line, for a number
    that is not finite, and for a labelled joint exactly at (-1, -1) px, which would read back as unlabelled; OSError passes.
    """

    def __init__(self, folder: Path, split: str, rows: int, dataset: str = "") -> None:
        """`dataset` is the attribute `name` of the file; where it is not given, the first dataset of as many joints."""
        self._path, self._rows, self._dataset = folder / f"{split}.h5", rows, dataset
        self._table: RowsH5 | None = None
        self._listing = open(folder / f"{split}_images.txt", "w", encoding="ascii", newline="\n")  # noqa: SIM115

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._listing.close()
        if self._table:
            self._table.__exit__(error, *rest)

    def append(self, annotations: Annotations) -> None:
        """Write the next rows, at least one part even if it is empty."""
        joints = annotations.part.shape[1]
        columns = self._columns(annotations)
        if not self._table:
            name = self._dataset or next((s.name for s in SKELETONS.values() if len(s.joints) == joints), "")
            attributes = {"name": name} if name else {}
            layout = {field: (values.shape[1:], values.dtype) for field, values in columns.items()}
            self._table = RowsH5(self._path, self._rows, layout, **attributes)
        self._table.append(columns)
        self._listing.writelines(f"{image}\n" for image in annotations.images)

    def _columns(self, annotations: Annotations) -> dict[str, np.ndarray]:
        """Field -> values as the file has them."""
        try:
            imgname = [image.encode("ascii") for image in annotations.images]
        except UnicodeEncodeError as error:
            raise DataError(f"image name {error.object!r} is not ASCII, as annotation files require; rename it.") from None
        if any(image.splitlines() != [image] for image in annotations.images):
            raise DataError(f"an image name of {self._path} is empty or has a line break; rename it.")
        unlabelled = np.isnan(annotations.part).any(axis=2)
        part = annotations.part + 1
        if ((part == 0).all(axis=2) & ~unlabelled).any():
            raise DataError(f"{self._path} would not read back as it is written; a label lies exactly at (0, 0) in it.")
        part[unlabelled] = 0
        columns = {
            "index": annotations.index,
            "center": annotations.center + 1,
            "scale": annotations.scale,
            "part": part,
            "visible": annotations.visible,
            "normalize": annotations.normalize,
            "torsoangle": annotations.torsoangle,
        }
        if part.shape[1] != len(PENN_ACTION.joints):
            columns["person"] = annotations.person
        columns = {field: values.astype(np.float64, copy=False) for field, values in columns.items()}
        for field, values in columns.items():
            if not (np.abs(values) < LARGEST).all():
                raise DataError(f"{self._path}: field {field!r} would hold a NaN or too large a number; check the labels.")
        if "person" in columns:
            columns["imgname"] = np.array(imgname, dtype="S" if imgname else "S1")
        return columns


class RowsH5:
    """An HDF5 file of so many rows, written part by part: field -> shape of a row, and type. ValueError for more or fewer rows.

    The HDF5 library lays the file out and never meets the rows, because it crashes the process when the disk is full: they
    are written to their places in the file as to any other. OSError passes.
    """

    def __init__(self, path: Path, rows: int, layout: dict[str, tuple[tuple[int, ...], np.dtype]], **attributes: str) -> None:
        path.write_bytes(bytes(_LAYOUT_BYTES))  # what the library is going to write fits on the disk
        places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        places.set_obj_track_times(False)  # equal rows, equal bytes
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
            raise ValueError(f"{self._file.name} wants {self._left} more rows")

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
    """Write arrays, and attributes of the whole, to an HDF5 file.

    It is built in memory, because the HDF5 library crashes the process when the disk is full; OSError passes.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(attributes)
        for field, values in columns.items():
            file[field] = values
    path.write_bytes(content.getbuffer())


def read(folder: Path, split: str, variant: str = "") -> Annotations:
    """Read `{split}.h5` and `{split}_images.txt`: ours, and the published files of MPII, Penn Action and FLIC.

    With a `variant`, the rows are those of `{split}_{variant}.h5`. A joint at exactly (0, 0) in the file has no label
    and becomes NaN; one zero coordinate alone is a label. `person` may be absent (zeros then). Raises DataError, naming
    file and field, for files that are absent, damaged or inconsistent.
    """
    path, listing = folder / f"{split}{variant and '_' + variant}.h5", folder / f"{split}_images.txt"
    if not listing.is_file():
        raise DataError(f"{listing} is missing: it names the image of each row of {path.name}; run the annotation stage.")
    try:
        images = listing.read_text("ascii").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not a plain list of image paths; run the annotation stage again.") from None
    count = len(images)
    with open_h5(path) as file:
        part = read_field(file, path, "part", (count, None, 2))
        joints = part.shape[1]
        columns = {
            "center": read_field(file, path, "center", (count, 2)) - 1,
            "visible": read_field(file, path, "visible", (count, joints)),
            **{name: read_field(file, path, name, (count,)) for name in ("scale", "normalize", "torsoangle")},
            "index": read_numbers(file, path, "index", count),
            "person": read_numbers(file, path, "person", count) if "person" in file else np.zeros(count, np.int64),
        }
    if not (columns["scale"] > 0).all():
        raise DataError(f"{path}: field 'scale' is not positive in row {np.argmin(columns['scale'])} (counted from 0).")
    columns["visible"] = columns["visible"] != 0
    unlabelled = (part == 0).all(axis=2)
    part -= 1
    part[unlabelled] = np.nan
    return Annotations(images=images, part=part, **columns)


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """`path` opened for reading; DataError where it is missing or damaged, also for what the block stumbles over."""
    if not path.is_file():
        raise DataError(f"{path} is missing; run the annotation stage, or check the path.")
    try:
        with _opened(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # damaged files make the library raise nearly anything
        raise DataError(f"{path} is not a readable HDF5 file ({error}); it may be cut short: make it again.") from None


def _opened(path: Path) -> h5py.File:
    """`path` opened for reading; without the library's lock on a disk that has no locks, as what is read here is whole."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        return h5py.File(path, "r", locking=False)


def h5_field(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """Dataset `name`, whose values stand in the file as they are: filters could unpack to any size, and links lead elsewhere.

    Raises DataError naming file and field.
    """
    dataset = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{path} has no field {name!r}; it is not an annotation file in the published layout.")
    made = dataset.id.get_create_plist()
    if made.get_nfilters() or made.get_external_count() or dataset.is_virtual:
        raise DataError(
            f"{path}: field {name!r} is compressed or stands in another file, as in no published file; write it plainly."
        )
    return dataset


def read_field(file: h5py.File, path: Path, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Dataset `name` as float64 below LARGEST of `shape`, where None stands for the number of joints (1 to 256).

    The shape is checked before anything is read. Raises DataError naming file and field.
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
    """Dataset `name` of `count` whole numbers from 0, as int64; they are stored as floats. Errors as `read_field`."""
    values = read_field(file, path, name, (count,))
    if not ((values >= 0) & (values == np.floor(values))).all():
        raise DataError(f"{path}: field {name!r} holds something else than whole numbers from 0; make the file again.")
    return values.astype(np.int64)
