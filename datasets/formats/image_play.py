"""Files of image-play (Chao et al., CVPR 2017) for cropped Penn Action: joints of every frame, and the validation sequences."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.hdf5 import RowsH5, h5_field, open_h5, read_field

JOINTS = 13  # of Penn Action


def write_image_play(path: Path, sequences: Iterable[tuple[int, np.ndarray, np.ndarray]], frames: int) -> None:
    """Write an annotation file of image-play: every frame of the sequences, `frames` in all.

    sequences: in the order of their numbers, each with joints (T, 13, 2) float64, 0-based px of the cropped frame, and visible
    (T, 13) bool. The file holds `ind2sub` (N, 2) float64: sequence and frame, both from 1; `part` (N, 13, 2) float64 px of the
    cropped frame, counted from 1, (0, 0) where not visible.
    """
    layout = {"ind2sub": ((2,), np.dtype(np.float64)), "part": ((JOINTS, 2), np.dtype(np.float64))}
    with RowsH5(path, frames, layout) as table:
        for number, joints, visible in sequences:
            numbers = np.arange(1.0, len(joints) + 1)
            part = np.where(visible[:, :, None], joints + 1, 0)
            table.append({"ind2sub": np.column_stack([np.full(len(joints), float(number)), numbers]), "part": part})


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


def write_valid_ind(path: Path, sequences: Sequence[int]) -> None:
    """Write `valid_ind.txt`: the numbers of the validation sequences (1 for 0001), one a line, action by action."""
    path.write_text("".join(f"{number}\n" for number in sequences), "ascii")
