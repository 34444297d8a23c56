"""Convert motion capture of any supported kind to train.npz and valid.npz, which the trainings read."""

from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DataError
from datasets.mocap import clips
from datasets.mocap.clips import Clips
from datasets.mocap.sources import read_clips
from stages.lifting.bodies import JOINTS

SPLITS = ("train", "valid")


def convert(source: Path, valid: Sequence[str], folder: Path) -> dict[str, dict[str, int]]:
    """Write train.npz and valid.npz with the 13 joints of Penn Action; return the number of clips and of poses in each split.

    source: a file or folder that `datasets.mocap` can read; valid: clips whose names begin with one of these texts become the
    validation split. Raises DataError for files that are missing or damaged or lack a joint, if no clip's name begins with a
    text in `valid`, and if no clip is left for training.
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
    """Return split -> clips, from the files that `convert` wrote. Raises DataError for a missing or damaged file."""
    return {name: clips.read(folder / f"{name}.npz") for name in SPLITS}
