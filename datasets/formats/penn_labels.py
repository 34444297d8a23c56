"""Read and write label files of Penn Action, `labels/NNNN.mat`: coordinates count from 1 in the files and from 0 in `Label`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.formats.hdf5 import LARGEST
from datasets.formats.matlab import read_mat, write_mat
from datasets.formats.matlab_values import Value

JOINTS = 13  # number of joints; their order is that of `datasets.penn_action.SKELETON`
BELOW_SHOULDERS = slice(3, 13)  # indices of elbows, wrists, hips, knees and ankles
FIELDS = ("action", "pose", "x", "y", "visibility", "train", "bbox", "dimensions", "nframes")


@dataclass(frozen=True)
class Label:
    """The label of one sequence of T frames. Points are (x, y) in px of the frames, counted from 0.

    The coordinates of joints that are not visible are meaningless: often (0, 0) or a point on the image's edge.
    """

    sequence: str  # number of the sequence, such as "0001"
    action: str
    pose: str  # the side from which the camera sees the person: front, back, left or right
    train: bool
    joints: np.ndarray  # (T, 13, 2) float64 px
    visible: np.ndarray  # (T, 13) bool
    bbox: np.ndarray  # (B, 4) float64 px: x1 y1 x2 y2; B is T or, in a few sequences, T - 1
    width: int  # px, of all frames
    height: int  # px, of all frames

    @property
    def frames(self) -> int:
        """The number of frames, T."""
        return len(self.joints)

    @property
    def counted(self) -> np.ndarray:
        """A mask (T,) bool of the frames used: those in which at least one of the ten joints below the shoulders is visible."""
        return np.any(self.visible[:, BELOW_SHOULDERS], axis=1)


def head(label: Label) -> Label:
    """Return a copy of the label without coordinates (all NaN), so that the labels of all sequences together fit in memory."""
    return replace(label, joints=np.broadcast_to(np.nan, label.joints.shape), bbox=np.full((1, 4), np.nan))


def label_paths(root: Path) -> list[Path]:
    """Return the label files `root/labels/NNNN.mat` in the order of their numbers. Raises DataError if no label file exists."""
    # Leave out files such as ._0001.mat, which macOS adds.
    paths = [path for path in (root / "labels").glob("*.mat") if not path.name.startswith(".")]
    if not paths:
        raise DataError(f"{root / 'labels'} holds no .mat files, expected Penn Action's; unpack the archive there.")
    for path in paths:
        if not path.stem.isascii() or not path.stem.isdigit():
            raise DataError(f"{path} is not named by a sequence's number, such as 0001.mat; move it away.")
    return sorted(paths, key=lambda path: int(path.stem))


def read_label(path: Path) -> Label:
    """Read `labels/NNNN.mat`, as distributed or as `write_label` wrote it.

    Some files store whole numbers as uint8 or uint16; these numbers are converted to float64. There may be fewer boxes than
    frames. Raises DataError, whose text states file and field, for a field that is missing, has a wrong shape, or contains
    numbers that are not finite or not possible.
    """
    content = read_mat(path, *FIELDS)
    nframes = int(_numbers(content, path, "nframes", (1, 1)).item())
    x, y, visible = (_numbers(content, path, name, (nframes, JOINTS)) for name in ("x", "y", "visibility"))
    bbox = _numbers(content, path, "bbox", (None, 4))
    size = _numbers(content, path, "dimensions", (1, None)).ravel()  # rows, columns, frames
    train = _numbers(content, path, "train", (1, 1)).item()
    if len(x) < 1 or len(bbox) < 1:
        raise DataError(f"{path}: field {'bbox' if len(x) else 'nframes'!r} has no frame, expected at least one.")
    if len(size) < 2 or not all(1 <= side <= 65535 and side == int(side) for side in size[:2]):
        raise DataError(f"{path}: field 'dimensions' is {size.tolist()}, expected rows, columns and frames.")
    if train not in (1, -1):
        raise DataError(f"{path}: field 'train' is {train:g}, expected 1 (training) or -1 (test).")
    if not np.isin(visible, (0, 1)).all():
        raise DataError(f"{path}: field 'visibility' holds values other than 0 and 1.")
    return Label(
        sequence=path.stem,
        action=_text(content, path, "action"),
        pose=_text(content, path, "pose"),
        train=train == 1,
        joints=np.stack([x, y], axis=2) - 1,
        visible=visible == 1,
        bbox=bbox - 1,
        width=int(size[1]),
        height=int(size[0]),
    )


def write_label(path: Path, label: Label) -> None:
    """Write a label file in the layout of Penn Action's archive, atomically; equal labels give equal bytes.

    Raises OSError, e.g. for a full disk; in this case, no new file `path` is left.
    """
    content: dict[str, Any] = {
        "action": label.action,
        "pose": label.pose,
        "x": label.joints[:, :, 0] + 1,
        "y": label.joints[:, :, 1] + 1,
        "visibility": label.visible,
        "train": 1.0 if label.train else -1.0,
        "bbox": label.bbox + 1,
        "dimensions": np.array([[label.height, label.width, label.frames]], dtype=np.float64),
        "nframes": float(label.frames),
    }
    write_mat(path, content, "Penn Action label")


def _numbers(content: dict[str, Value], path: Path, name: str, shape: tuple[int | None, int | None]) -> np.ndarray:
    """Return the field `name` as float64. shape: the expected shape, in which None means any size.

    Raises DataError for another shape, and for a number that is NaN or not below `LARGEST`.
    """
    value = content[name]
    numbers = np.atleast_2d(value).astype(np.float64) if isinstance(value, float | np.ndarray) else None
    expected = " x ".join("any" if size is None else str(size) for size in shape)
    if numbers is None or len(numbers.shape) != 2 or any(b not in (a, None) for a, b in zip(numbers.shape, shape, strict=True)):
        found = "something else" if numbers is None else " x ".join(map(str, numbers.shape))
        raise DataError(f"{path}: field {name!r} is {found}, expected {expected} numbers; unpack the archive again.")
    if not (np.abs(numbers) < LARGEST).all():
        raise DataError(f"{path}: field {name!r} holds a NaN or too large a number; unpack the archive again.")
    return numbers


def _text(content: dict[str, Value], path: Path, name: str) -> str:
    value = content[name]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}: field {name!r} is not a word, as it should be; unpack the archive again.")
    return value.strip()
