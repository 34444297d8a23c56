"""Annotations: people in images, one per row; and the HDF5 annotation files in the published layout.

The layout is that of pose-hg-train, branch image-play: `{split}.h5` with one float64 dataset per field, and
`{split}_images.txt`, whose line i is the image of row i. In the files, pixels count from 1 and a joint without a label has
the coordinates (0, 0). In `Annotations`, pixels count from 0 and a joint without a label is NaN. Only this module converts
between the two conventions.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.hdf5 import LARGEST, RowsH5, open_h5, read_field, read_numbers

# A person's box is moved down by this fraction of its side to contain the feet, as pose-hg-train does for all datasets.
MOVED_DOWN = 15 / 200
# A person's box is enlarged by this factor, so that it contains head, hands and feet; mmpose uses the same factor.
ENLARGED = 1.25


@dataclass(frozen=True)
class Annotations:
    """People with their joints: N rows, one per person (in Penn Action one per frame), in file order; J joints.

    Points are (x, y) in pixels counted from 0. A joint with a NaN coordinate has no label. `visible` is False for joints
    without a label, and for labelled joints that are occluded.
    """

    images: list[str]  # image paths relative to the images folder
    index: np.ndarray  # (N,) int64, number of the image in the dataset, as published (counted from 0)
    person: np.ndarray  # (N,) int64, number of the person in the image, from 0; zeros for Penn Action
    center: np.ndarray  # (N, 2) float64 px, centre of the box that the network sees (`person_box`, `framed_by_joints`)
    scale: np.ndarray  # (N,) float64, side of this box / 200 px; it is already enlarged by 1.25
    part: np.ndarray  # (N, J, 2) float64 px, joints; NaN if not labelled
    visible: np.ndarray  # (N, J) bool: whether the joint is labelled and not occluded
    normalize: np.ndarray  # (N,) float64 px, reference length of PCK: head size (MPII) or torso (FLIC, LSP); -1 if unknown
    torsoangle: np.ndarray  # (N,) float64 degrees (see `mpii_release.torso_angle`); -1 if not computed

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: np.ndarray) -> "Annotations":
        """Return the annotations of some rows. rows: row numbers in the wanted order, or a mask of N bools."""
        numbers = np.arange(len(self))[rows]
        arrays = {field.name: getattr(self, field.name)[numbers] for field in fields(self) if field.name != "images"}
        return Annotations(images=[self.images[i] for i in numbers], **arrays)


def hold_out(images: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (N,) bool of the rows whose image belongs to a random fraction of the images.

    images: (N,) number of each row's image; fraction: the fraction of distinct images to draw; seed: seed of
    `numpy.random.default_rng`. Raises DataError for a fraction that is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the validation fraction is {fraction}, expected a number between 0 and 1.")
    candidates = np.unique(images)
    held_out = np.random.default_rng(seed).choice(candidates, round(fraction * len(candidates)), replace=False)
    return np.isin(images, held_out)


def person_box(objpos: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the box that the network sees: its centre (..., 2) in px, and its scale (...), which is its side / 200 px.

    objpos: (..., 2) px, a person's position; scale: (...), the person's size / 200 px. The box is moved down by 15 * scale px
    and enlarged by 1.25, as in pose-hg-train.
    """
    center = np.array(objpos, dtype=np.float64)
    center[..., 1] += MOVED_DOWN * 200 * scale
    return center, scale * ENLARGED


def frame_box(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre (..., 2) px and the scale (...), side / 200 px, of the box that the network sees of a whole image.

    size: (..., 2) px, (width, height) of the images, such as Penn Action's cropped frames. `person_box` computes the box from
    the centre and the longer side of the image.
    """
    return person_box((size - 1) / 2, size.max(axis=-1) / 200)


def framed_by_joints(images: list[str], part: np.ndarray, visible: np.ndarray) -> Annotations:
    """Return annotations of one person per image; the box of each person is computed from the joints.

    part: (N, J, 2) float64, 0-based px, NaN if not labelled; visible: (N, J) bool. The box is a square around the centre of the
    joints' bounding box; its side is 1.25 times the longer side of the bounding box. `normalize` and `torsoangle` are -1.
    People without two joints at different positions have no box and are left out. `index` is the position of the image in
    the list `images`, which includes the images of the people who are left out.
    """
    labelled = ~np.isnan(part).any(axis=2, keepdims=True)
    low = np.where(labelled, part, np.inf).min(axis=1)
    high = np.where(labelled, part, -np.inf).max(axis=1)
    usable = ((high - low) > 0).any(axis=1)
    low, high = (np.where(usable[:, None], corner, 0.0) for corner in (low, high))
    count = len(images)
    everybody = Annotations(
        images=images,
        index=np.arange(count),
        person=np.zeros(count, np.int64),
        center=(low + high) / 2,
        scale=ENLARGED * (high - low).max(axis=1) / 200,
        part=part,
        visible=visible,
        normalize=np.full(count, -1.0),
        torsoangle=np.full(count, -1.0),
    )
    return everybody.select(usable)


def write(folder: Path, split: str, annotations: Annotations, dataset: str = "", one_person: bool = False) -> None:
    """Write `{split}.h5` and `{split}_images.txt` into `folder` in the published layout; see `Writer`."""
    with Writer(folder, split, len(annotations), dataset, one_person) as writer:
        writer.append(annotations)


class Writer:
    """Writes `{split}.h5` and `{split}_images.txt` part by part, with only one part in memory at a time.

    Joints keep their fractional coordinates (the published files truncate them). Raises DataError for an image name with line
    breaks or non-ASCII characters, for a number that is not finite, and for a labelled joint exactly at (-1, -1) px, which
    would be read as unlabelled. Raises OSError, e.g. for a full disk.
    """

    def __init__(self, folder: Path, split: str, rows: int, dataset: str = "", one_person: bool = False) -> None:
        """Open the files in `folder` for a split of `rows` rows in all.

        dataset: value of the attribute `name` in the HDF5 file; empty: no attribute. one_person: leave out the fields `person`
        and `imgname`, as in the published files of Penn Action.
        """
        self._path, self._rows, self._dataset, self._one_person = folder / f"{split}.h5", rows, dataset, one_person
        self._table: RowsH5 | None = None
        self._listing = open(folder / f"{split}_images.txt", "w", encoding="ascii", newline="\n")  # noqa: SIM115

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._listing.close()
        if self._table:
            self._table.__exit__(error, *rest)

    def append(self, annotations: Annotations) -> None:
        """Write the next rows. Even a split without rows needs one call, with empty annotations."""
        columns = self._columns(annotations)
        if not self._table:
            attributes = {"name": self._dataset} if self._dataset else {}
            layout = {field: (values.shape[1:], values.dtype) for field, values in columns.items()}
            self._table = RowsH5(self._path, self._rows, layout, **attributes)
        self._table.append(columns)
        self._listing.writelines(f"{image}\n" for image in annotations.images)

    def _columns(self, annotations: Annotations) -> dict[str, np.ndarray]:
        """Return field -> values as the file stores them: pixels count from 1, joints without a label are (0, 0)."""
        try:
            imgname = [image.encode("ascii") for image in annotations.images]
        except UnicodeEncodeError as error:
            raise DataError(f"image name {error.object!r} is not ASCII, as annotation files require; rename it.") from None
        if any(image.splitlines() != [image] for image in annotations.images):
            raise DataError(f"an image name of {self._path} is empty or has a line break; rename it.")
        unlabelled = np.isnan(annotations.part).any(axis=2)
        part = annotations.part + 1
        if len(lost := np.flatnonzero(((part == 0).all(axis=2) & ~unlabelled).any(axis=1))):
            raise DataError(
                f"a label of image {annotations.images[lost[0]]} lies exactly at (-1, -1) px, counted from 0, which annotation "
                "files use for joints without a label; remove or move the label."
            )
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
        if not self._one_person:
            columns["person"] = annotations.person
        columns = {field: values.astype(np.float64, copy=False) for field, values in columns.items()}
        for field, values in columns.items():
            if not (np.abs(values) < LARGEST).all():
                raise DataError(f"{self._path}: field {field!r} would hold a NaN or too large a number; check the labels.")
        if "person" in columns:
            columns["imgname"] = np.array(imgname, dtype="S" if imgname else "S1")
        return columns


def read(folder: Path, split: str, variant: str = "") -> Annotations:
    """Read `{split}.h5` and `{split}_images.txt`, written by this workspace or published for MPII, Penn Action or FLIC.

    variant: if given, `{split}_{variant}.h5` is read instead of `{split}.h5`. A joint exactly at (0, 0) in the file has no
    label and becomes NaN; a joint with only one zero coordinate is labelled. If the field `person` is missing, all person
    numbers are 0. Raises DataError, with the names of file and field, for files that are missing, damaged or inconsistent.
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
