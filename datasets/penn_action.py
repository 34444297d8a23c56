"""Penn Action: its label files, the window each sequence is cropped to, the published split, and its annotations.

The distribution holds `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`; coordinates in the files count from 1 (MATLAB),
here from 0. Windows, split and annotations follow pose-hg-train, branch image-play, which the cropped dataset comes
from.
"""

import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from datasets.errors import DataError
from datasets.formats.annotations import LARGEST, Annotations, RowsH5, h5_field, open_h5, person_box, read_field
from datasets.formats.matlab import read_mat
from datasets.formats.matlab_values import Value
from datasets.skeletons import PENN_ACTION

# Share of an action's training sequences that validate (pose-hg-train, branch image-play).
VALID_SHARE = 0.092
JOINTS = len(PENN_ACTION.joints)
FIELDS = ("action", "pose", "x", "y", "visibility", "train", "bbox", "dimensions", "nframes")
# The first 116 bytes of a MATLAB 5 file are free text. The writer's own holds the time of writing; a fixed one makes
# equal labels equal files.
HEADER = b"MATLAB 5.0 MAT-file, Penn Action label".ljust(116)


@dataclass(frozen=True)
class Label:
    """The label of one sequence of T frames; pixels of its frames, counted from 0, (x, y).

    Joints that are not visible are parked anywhere, (0, 0) and the image's edges included: their coordinates mean
    nothing.
    """

    sequence: str  # "0001"
    action: str
    pose: str  # camera: front, back, left, right
    train: bool
    joints: np.ndarray  # (T, 13, 2) float64 px
    visible: np.ndarray  # (T, 13) bool
    bbox: np.ndarray  # (B, 4) float64 px: x1 y1 x2 y2; B is T but for a few sequences, where it is T - 1
    width: int  # px of every frame
    height: int

    @property
    def frames(self) -> int:
        """T, the number of frames."""
        return len(self.joints)

    @property
    def counted(self) -> np.ndarray:
        """(T,) bool: frames that count, those that show at least one of the ten joints below the shoulders."""
        return np.any(self.visible[:, list(PENN_ACTION.scoring)], axis=1)


def head(label: Label) -> Label:
    """The label without its coordinates, which are NaN then and take no memory: for what needs all sequences at once."""
    return replace(label, joints=np.broadcast_to(np.nan, label.joints.shape), bbox=np.full((1, 4), np.nan))


@dataclass(frozen=True)
class Window:
    """What is cut out of every frame of a sequence: columns left to left + width - 1, rows top to top + height - 1."""

    left: int
    top: int
    width: int
    height: int


def frame_name(frame: int) -> str:
    """File name of a frame, counted from 0: the first is 000001.jpg."""
    return f"{frame + 1:06d}.jpg"


def label_paths(root: Path) -> list[Path]:
    """Label files of a Penn Action folder (`root/labels/NNNN.mat`) in the order of their numbers; DataError if none."""
    paths = [path for path in (root / "labels").glob("*.mat") if not path.name.startswith(".")]  # ._0001.mat, of macOS
    if not paths:
        raise DataError(f"{root / 'labels'} holds no .mat files, expected Penn Action's; unpack the archive there.")
    for path in paths:
        if not path.stem.isascii() or not path.stem.isdigit():
            raise DataError(f"{path} is not named by a sequence's number, such as 0001.mat; move it away.")
    return sorted(paths, key=lambda path: int(path.stem))


def read_label(path: Path) -> Label:
    """Read `labels/NNNN.mat`, as distributed or as `write_label` wrote it.

    Whole numbers are stored as uint8 or uint16 in some files and are made float64 first. Boxes may have fewer rows than
    there are frames. Raises DataError, naming file and field, for what is missing, misshapen, not finite or not
    possible.
    """
    content = read_mat(path, *FIELDS)
    nframes = int(_numbers(content, path, "nframes", (1, 1)).item())
    x, y, visible = (_numbers(content, path, name, (nframes, JOINTS)) for name in ("x", "y", "visibility"))
    bbox = _numbers(content, path, "bbox", (None, 4))
    size = _numbers(content, path, "dimensions", (1, None)).ravel()  # rows, columns, frames
    train = _numbers(content, path, "train", (1, 1)).item()
    if len(x) < 1 or len(bbox) < 1:
        raise DataError(f"{path}: field {'bbox' if len(x) else 'nframes'!r} tells of no frame, expected at least one.")
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
    """Write a label in the distribution's layout, as a whole or not at all; equal labels give equal bytes.

    OSError (disk full) passes, and leaves no file called `path`.
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
    buffer = io.BytesIO()
    savemat(buffer, content, format="5", do_compression=True, oned_as="row")
    buffer.seek(0)
    buffer.write(HEADER)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, path)


def round_half_away(value: float) -> int:
    """The nearest whole number, halves away from zero, as MATLAB's `round` (Python's rounds halves to even)."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def crop_window(label: Label) -> Window:
    """The window around all boxes of a sequence, as published: the rounded least x1, y1 and greatest x2, y2, inclusive.

    Rounding is MATLAB's, on coordinates counted from 1. As published, every box takes part: those without an area lie
    among the others and change nothing; the one inverted box (sequence 2173) lies in the image's corner and stretches
    its window to it. A window of a few pixels (1516) is cut as it is. A window that reaches beyond the frame, as
    rounding can do, ends at the frame's edge; DataError if nothing of it lies inside.
    """
    x1, y1 = (round_half_away(value + 1) - 1 for value in label.bbox[:, :2].min(axis=0))
    x2, y2 = (round_half_away(value + 1) - 1 for value in label.bbox[:, 2:].max(axis=0))
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, label.width - 1), min(y2, label.height - 1)
    if right < left or bottom < top:
        raise DataError(
            f"sequence {label.sequence}: its boxes span columns {x1} to {x2} and rows {y1} to {y2} (counted from 0),"
            f" nothing of its {label.width} x {label.height} px frames; field 'bbox' of its label is wrong."
        )
    return Window(left, top, right - left + 1, bottom - top + 1)


def crop_label(label: Label, window: Window) -> Label:
    """The label of the same frames cut to `window`: joints (visible or not) and boxes move with it."""
    corner = np.array([window.left, window.top], dtype=np.float64)
    return replace(
        label,
        joints=label.joints - corner,
        bbox=label.bbox - np.tile(corner, 2),
        width=window.width,
        height=window.height,
    )


def split(labels: Sequence[Label]) -> dict[str, list[Label]]:
    """Sequences of `train`, `valid` and `test`, by the published rule.

    The dataset tells training from test. Of every action's training sequences with at least one counted frame, in file
    order, the last 9.2 % (rounded half up) validate. `valid` lists them action by action, actions in order of first
    appearance; the others keep the order of `labels`. Sequences without a counted frame stay where the dataset put
    them.
    """
    actions: dict[str, list[Label]] = {}
    for label in labels:
        candidates = actions.setdefault(label.action, [])
        if label.train and label.counted.any():
            candidates.append(label)
    valid = []
    for candidates in actions.values():
        valid += candidates[len(candidates) - round_half_away(VALID_SHARE * len(candidates)) :]
    chosen = {label.sequence for label in valid}
    return {
        "train": [label for label in labels if label.train and label.sequence not in chosen],
        "valid": valid,
        "test": [label for label in labels if not label.train],
    }


def annotations(labels: Sequence[Label], first: dict[str, int]) -> Annotations:
    """A row for every counted frame of cropped sequences; `first` gives the global number (from 0) of their first
    frames.

    The person fills the frame: the box stands on the frame's centre with its longer side, then as for MPII. The
    published converter takes rows for columns there, which misplaces the centre of crops that are not square; this does
    not. Joints that are not visible are not labelled (NaN). `normalize` and `torsoangle` are -1.
    """
    counted = [(label, np.flatnonzero(label.counted)) for label in labels]
    rows = np.array([len(frames) for _, frames in counted], dtype=np.int64)
    size = np.array([(label.width, label.height) for label in labels], dtype=np.float64).reshape(-1, 2)
    center, scale = frame_box(size)
    # The empty arrays in front let an empty split keep shapes and types.
    visible = np.concatenate([np.zeros((0, JOINTS), bool), *(label.visible[frames] for label, frames in counted)])
    part = np.concatenate([np.zeros((0, JOINTS, 2)), *(label.joints[frames] for label, frames in counted)])
    part[~visible] = np.nan
    index = np.concatenate([np.zeros(0, np.int64), *(first[label.sequence] + frames for label, frames in counted)])
    return Annotations(
        images=[f"{label.sequence}/{frame_name(frame)}" for label, frames in counted for frame in frames.tolist()],
        index=index,
        person=np.zeros(rows.sum(), np.int64),
        center=np.repeat(center, rows, axis=0),
        scale=np.repeat(scale, rows),
        part=part,
        visible=visible,
        normalize=np.full(rows.sum(), -1.0),
        torsoangle=np.full(rows.sum(), -1.0),
    )


def frame_box(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (..., 2) px and scale (...) of what the network sees of cropped frames; size: (..., 2) px, (width, height)."""
    return person_box((size - 1) / 2, size.max(axis=-1) / 200)


def write_valid_ind(path: Path, valid: Sequence[Label]) -> None:
    """Write `valid_ind.txt`: the numbers of the validation sequences (1 for 0001), one a line, action by action."""
    path.write_text("".join(f"{int(label.sequence)}\n" for label in valid), "ascii")


def write_image_play(path: Path, labels: Iterable[Label], frames: int) -> None:
    """Write image-play's own annotation file: every frame of the labels, `frames` in all, none left out.

    labels: in the order of sequence numbers. `ind2sub` (N, 2) float64: sequence and frame, both from 1; `part` (N, 13, 2)
    float64 px of the cropped frame, counted from 1, (0, 0) where not visible.
    """
    layout = {"ind2sub": ((2,), np.dtype(np.float64)), "part": ((JOINTS, 2), np.dtype(np.float64))}
    with RowsH5(path, frames, layout) as table:
        for label in labels:
            numbers = np.arange(1.0, label.frames + 1)
            part = np.where(label.visible[:, :, None], label.joints + 1, 0)
            table.append({"ind2sub": np.column_stack([np.full(label.frames, float(label.sequence)), numbers]), "part": part})


def read_image_play(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_image_play` wrote: sequence and frame numbers from 1, (N, 2) int64, and joints.

    Joints (N, 13, 2) float64 are px of the cropped frame counted from 0, NaN where not visible. Raises DataError naming
    file and field.
    """
    with open_h5(path) as file:
        count = int(h5_field(file, path, "ind2sub").shape[0])
        numbers, part = read_field(file, path, "ind2sub", (count, 2)), read_field(file, path, "part", (count, None, 2))
    if part.shape[1] != JOINTS or not (numbers == np.floor(numbers)).all() or not (numbers >= 1).all():
        raise DataError(f"{path} does not list sequences and frames from 1 with {JOINTS} joints; run AnnotatePenn again.")
    return numbers.astype(np.int64), np.where((part == 0).all(axis=2, keepdims=True), np.nan, part - 1)


def _numbers(content: dict[str, Value], path: Path, name: str, shape: tuple[int | None, int | None]) -> np.ndarray:
    """Field `name` as float64 below LARGEST of `shape` (None: any size)."""
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
