"""Read movements, the labelled poses of all frames of cropped Penn Action, and choose which frames a forecast predicts.

A start frame is a frame from which the network forecasts. Published rule (image-play): every frame of every sequence is a start
frame. With n frames in the sequence, the 16 steps from frame i are the frames round(linspace(i, i + n - 1, 16)): the stride is
(n - 1) / 15 frames for every start frame. Steps beyond the end of the sequence repeat the last step inside the sequence.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.image_play import read_image_play
from datasets.formats.penn_labels import read_label

STEPS = 16
FILES = {"train": "train", "valid": "val", "test": "test"}  # split -> name of image-play's file, without the ending


@dataclass(frozen=True)
class Movements:
    """The poses of one split: F frames of S sequences, one sequence after the other."""

    sequence: np.ndarray  # (S,) int64, number of each sequence: 1 for the folder 0001
    first: np.ndarray  # (S + 1,) int64, row of each sequence's first frame; the last value is F
    joints: np.ndarray  # (F, J, 2) float64, (x, y) in 0-based px of the cropped frame, NaN where not visible
    size: np.ndarray  # (S, 2) int64 px, width and height of each sequence's cropped frames
    action: tuple[str, ...]  # (S,)

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of frames of each sequence, (S,) int64."""
        return np.diff(self.first)

    @property
    def side(self) -> np.ndarray:
        """Return the longer side of each sequence's frames, the reference length of PCK, (S,) float64 px."""
        return self.size.max(axis=1).astype(np.float64)

    @property
    def of_frame(self) -> np.ndarray:
        """Return the index of each frame's sequence, (F,) int64."""
        return np.repeat(np.arange(len(self.sequence)), self.lengths)


@dataclass(frozen=True)
class Starts:
    """The frames of N forecasts of T steps each; the first step of a forecast is its start frame."""

    rows: np.ndarray  # (N, T) int64: row of each step's frame in `Movements.joints`
    sequence: np.ndarray  # (N,) int64: index of each forecast's sequence
    repeated: np.ndarray  # (N, T) bool: whether the step lies beyond the sequence's end and repeats an earlier step

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: np.ndarray) -> "Starts":
        """Return the frames of some of the forecasts; chosen: indices of these forecasts, or a mask (N,) bool."""
        return Starts(self.rows[chosen], self.sequence[chosen], self.repeated[chosen])


def read_movements(annotations: Path, labels: Path, split: str) -> Movements:
    """Return the movements of a split: train, valid or test.

    annotations: the folder exp/penn_action_cropped/annot, which has image-play's files in penn-crop/; labels: the folder
    exp/penn_action_cropped/data/labels, from which each sequence's action and frame size are read. Raises DataError if a file
    is missing or damaged, or if the split is empty.
    """
    path = annotations / "penn-crop" / f"{FILES[split]}.h5"
    numbers, joints = read_image_play(path)
    if not len(numbers):
        raise DataError(f"{path} contains no frame; there is nothing to forecast.")
    begins = np.flatnonzero(np.r_[True, numbers[1:, 0] != numbers[:-1, 0]])
    first = np.r_[begins, len(numbers)]
    whole = np.concatenate([np.arange(1, length + 1) for length in np.diff(first)])
    if not np.array_equal(numbers[:, 1], whole):
        raise DataError(f"{path} does not list every frame of its sequences in order; run AnnotatePenn again.")
    found = [read_label(labels / f"{number:04d}.mat") for number in numbers[begins, 0].tolist()]
    size = np.array([(label.width, label.height) for label in found], dtype=np.int64)
    return Movements(numbers[begins, 0], first, joints, size, tuple(label.action for label in found))


def published_starts(movements: Movements, steps: int = STEPS) -> Starts:
    """Return every frame as a start frame, with the frames of its `steps` by the published rule (see above)."""
    rows, repeated = [], []
    for begin, length in zip(movements.first[:-1].tolist(), movements.lengths.tolist(), strict=True):
        offsets = np.rint(np.arange(steps) * (length - 1) / (STEPS - 1)).astype(
            np.int64
        )  # no ties: k (n - 1) / 15 is never x.5
        places = np.arange(length)[:, None] + offsets
        inside = places < length
        last = np.take_along_axis(places, inside.sum(axis=1, keepdims=True) - 1, axis=1)
        rows.append(begin + np.where(inside, places, last))
        repeated.append(~inside)
    return Starts(np.concatenate(rows), movements.of_frame, np.concatenate(repeated))


def fixed_rate_starts(movements: Movements, stride: int, steps: int = STEPS) -> Starts:
    """Return the start frames from which `steps` steps, `stride` frames apart, lie inside the sequence; no step is repeated.

    Raises DataError if no sequence is long enough, or if `steps` or `stride` is below 1.
    """
    reach = (steps - 1) * stride
    if steps < 1 or stride < 1:
        raise DataError(f"steps = {steps} and stride = {stride}: both should be 1 or more.")
    end = movements.first[1:][movements.of_frame]
    begins = np.flatnonzero(np.arange(len(movements.joints)) + reach < end)
    if not len(begins):
        raise DataError(f"no sequence has {reach + 1} frames in a row; set a smaller [forecast] stride.")
    rows = begins[:, None] + np.arange(steps) * stride
    return Starts(rows, movements.of_frame[begins], np.zeros(rows.shape, bool))
