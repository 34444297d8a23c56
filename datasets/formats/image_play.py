"""Read and write the files that image-play (Chao et al., CVPR 2017) uses for cropped Penn Action.

One kind of file contains joints; the other kind, `valid_ind.txt`, lists the validation sequences and is only written.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.hdf5 import RowsH5, h5_field, open_h5, read_field

JOINTS = 13  # number of joints in Penn Action


def write_image_play(path: Path, sequences: Iterable[tuple[int, np.ndarray, np.ndarray]], frames: int) -> None:
    """Write the joints in every frame of the sequences to an annotation file for image-play; frames: number N of all frames.

    sequences: (number, joints, visible) of each sequence, ordered by number; joints (T, 13, 2) float64 in 0-based px of the
    cropped frame, visible (T, 13) bool. The file has two fields. `ind2sub` (N, 2) float64: numbers of sequence and frame, both
    from 1. `part` (N, 13, 2) float64: joints in px of the cropped frame, counted from 1, (0, 0) if not visible.
    """
    layout = {"ind2sub": ((2,), np.dtype(np.float64)), "part": ((JOINTS, 2), np.dtype(np.float64))}
    with RowsH5(path, frames, layout) as table:
        for number, joints, visible in sequences:
            numbers = np.arange(1.0, len(joints) + 1)
            part = np.where(visible[:, :, None], joints + 1, 0)
            table.append({"ind2sub": np.column_stack([np.full(len(joints), float(number)), numbers]), "part": part})


def read_image_play(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequence and frame numbers, and the joints, in a file that `write_image_play` wrote.

    The numbers are (N, 2) int64, counted from 1. The joints are (N, 13, 2) float64, in px of the cropped
    frame counted from 0, NaN if not visible. Raises DataError, with file and field, for a damaged file.
    """
    with open_h5(path) as file:
        count = int(h5_field(file, path, "ind2sub").shape[0])
        numbers, part = read_field(file, path, "ind2sub", (count, 2)), read_field(file, path, "part", (count, None, 2))
    if part.shape[1] != JOINTS or not (numbers == np.floor(numbers)).all() or not (numbers >= 1).all():
        raise DataError(
            f"{path} is damaged: each row must have {JOINTS} joints, and the numbers of its sequence and frame as whole "
            "numbers from 1; run AnnotatePenn again."
        )
    return numbers.astype(np.int64), np.where((part == 0).all(axis=2, keepdims=True), np.nan, part - 1)


def write_valid_ind(path: Path, sequences: Sequence[int]) -> None:
    """Write `valid_ind.txt`: the numbers of the validation sequences (1 for 0001) in the given order, one per line."""
    path.write_text("".join(f"{number}\n" for number in sequences), "ascii")
