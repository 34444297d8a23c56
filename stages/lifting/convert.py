"""Motion capture of any kind, checked and split, as the trainings read it: train.npz and valid.npz."""

from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DataError
from datasets.mocap import clips
from datasets.mocap.clips import Clips
from datasets.mocap.sources import read_clips
from stages.lifting.bodies import JOINTS

SPLITS = ("train", "valid")


def convert(source: Path, valid: Sequence[str], folder: Path) -> dict[str, dict[str, int]]:
    """Write train.npz and valid.npz with the 13 joints of Penn Action; return the numbers of clips and poses of each split.

    source: a file or folder of `datasets.mocap`; valid: beginnings of the names of the clips that validate. Raises DataError
    for files that are missing or damaged, lack a joint, or cannot be split in this way.
    """
    found = read_clips(source)
    try:
        split = found.with_joints(JOINTS).split(valid)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    for name, part in split.items():
        clips.write(folder / f"{name}.npz", part)
    return {name: {"clips": len(part), "poses": len(part.poses)} for name, part in split.items()}


def read_split(folder: Path) -> dict[str, Clips]:
    """Return the clips of train and valid that `convert` wrote. Raises DataError where a file is missing or damaged."""
    return {name: clips.read(folder / f"{name}.npz") for name in SPLITS}
