"""Read train.mat and val.mat, the files that skeleton2d3d makes from the poses of Human3.6M.

Human3.6M requires a signed licence and must not be redistributed, so this project only reads files that the user already has.
The files also contain the views of four cameras, which are not read. These variables are read:
    ind2sub   (N, 4) int32: subject, action, take and frame of each pose; frames are counted from 1 at 50 frames per second
    coord_w   (N, 51) single: x, y and z of 17 joints in mm, in the world frame with z up
"""

from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.matlab import read_mat
from datasets.mocap.clips import Clips, checked

# Split -> name of its file.
FILES = {"train": "train.mat", "valid": "val.mat"}
JOINTS = (
    "hips", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck", "head",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
ACTIONS = (
    "directions", "discussion", "eating", "greeting", "phoning", "posing", "purchases", "sitting", "sitting_down", "smoking",
    "taking_photo", "waiting", "walking", "walking_dog", "walking_together",
)  # fmt: skip
FIRST_ACTION = 2  # number in ind2sub of the first action in ACTIONS
RATE = 50.0  # frames per second of the recordings


def files(folder: Path) -> list[Path]:
    """Return the paths of train.mat and val.mat that exist in a folder."""
    return [folder / name for name in FILES.values() if (folder / name).is_file()]


def read(folder: Path) -> Clips:
    """Return the clips of train.mat and val.mat in a folder; names are SPLIT/SUBJECT/ACTION/TAKE, as in train/S1/directions/1.

    Raises DataError for a missing or damaged file.
    """
    parts = [_read(folder / name, split) for split, name in FILES.items()]
    poses, names, fps = (np.concatenate([getattr(part, what) for part in parts]) for what in ("poses", "names", "fps"))
    lengths = np.concatenate([np.diff(part.first) for part in parts])
    return Clips(JOINTS, poses, np.r_[0, np.cumsum(lengths)], tuple(names.tolist()), fps)


def _read(path: Path, split: str) -> Clips:
    found = read_mat(path, "ind2sub", "coord_w")
    index, poses = (np.asarray(found[name]) for name in ("ind2sub", "coord_w"))
    numbers = all(values.dtype.kind in "iuf" for values in (index, poses))
    if not numbers or index.ndim != 2 or index.shape != (len(index), 4) or poses.shape != (len(index), 3 * len(JOINTS)):
        raise DataError(
            f"{path}: ind2sub is {index.dtype} of shape {index.shape} and coord_w {poses.dtype} of shape {poses.shape}, "
            f"expected N x 4 and N x {3 * len(JOINTS)} numbers; make the file again with skeleton2d3d."
        )
    if not len(index):
        raise DataError(f"{path} holds no pose; make the file again with skeleton2d3d.")
    if index.dtype.kind == "f" and not (np.isfinite(index).all() and (index == np.floor(index)).all()):
        raise DataError(f"{path}: ind2sub holds something else than whole numbers; make the file again with skeleton2d3d.")
    index = index.astype(np.int64)
    last = FIRST_ACTION + len(ACTIONS) - 1
    if not ((index[:, 1] >= FIRST_ACTION) & (index[:, 1] <= last)).all():
        raise DataError(f"{path}: ind2sub has actions outside of {FIRST_ACTION} to {last}; make the file again.")
    first = np.flatnonzero(np.r_[True, (np.diff(index[:, :3], axis=0) != 0).any(axis=1), True])
    names = tuple(f"{split}/S{s}/{ACTIONS[a - FIRST_ACTION]}/{take}" for s, a, take in index[first[:-1], :3].tolist())
    steps = np.array([np.median(np.diff(index[a:b, 3])) if b - a > 1 else 1 for a, b in zip(first, first[1:], strict=False)])
    fps = (RATE / np.maximum(steps, 1)).astype(np.float32)
    return checked(Clips(JOINTS, poses.reshape(-1, len(JOINTS), 3).astype(np.float32), first, names, fps), path)
