"""Clips of motion capture: 3D movements of people with named joints, and the .npz files that hold clips.

The z axis of the world frame points up; the unit is mm. A file holds these arrays:
    poses    (N, J, 3) numbers, mm: the poses of all clips, clip after clip
    start    (C + 1,) integers: number of the first pose of each clip, and N at the end
    names    (C,) texts: name of each clip, such as cmu/01_05
    fps      (C,) numbers: poses per second of each clip
    joints   (J,) texts: name of each joint, such as right_knee or r_knee
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.npz import read_npz, write_npz

FARTHEST = 1e6  # mm, largest coordinate: no recorded person is that far from the origin, and float32 still resolves 0.1 mm
SIZES = (500.0, 3000.0)  # mm, limits of the median size of a file's poses; size: longest side of the pose's bounding box
# Abbreviated first word of a joint's name -> the full word.
_SIDES = {"r_": "right_", "l_": "left_"}


@dataclass(frozen=True)
class Clips:
    """Recorded 3D movements of people: N poses with J joints, in C clips."""

    joints: tuple[str, ...]  # names of the joints; left and right as the person sees them
    poses: np.ndarray  # (N, J, 3) float32, mm, world frame, z up
    first: np.ndarray  # (C + 1,) int64: number of the first pose of each clip, and N at the end
    names: tuple[str, ...]  # names of the clips
    fps: np.ndarray  # (C,) float32: poses per second of each clip

    def __len__(self) -> int:
        return len(self.names)

    @property
    def clip(self) -> np.ndarray:
        """Return, for each pose, the number of the clip that contains it: (N,) int64, counted from 0."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))

    @property
    def actions(self) -> tuple[str, ...]:
        """Return the action of each clip, derived from the clip's name by `action_of`."""
        return tuple(action_of(name) for name in self.names)

    def with_joints(self, joints: Sequence[str]) -> "Clips":
        """Return the clips with only the given joints, in the given order. Raises DataError for a joint that the clips lack."""
        missing = [name for name in joints if name not in self.joints]
        if missing:
            raise DataError(f"the motion capture has no joint {missing[0]}; it has {', '.join(self.joints)}.")
        return replace(self, joints=tuple(joints), poses=self.poses[:, [self.joints.index(name) for name in joints]])

    def select(self, chosen: np.ndarray) -> "Clips":
        """Return the chosen clips; chosen: (C,) bool."""
        lengths = np.diff(self.first)[chosen]
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        return Clips(self.joints, self.poses[chosen[self.clip]], np.r_[0, np.cumsum(lengths)], names, self.fps[chosen])

    def split(self, valid: Sequence[str]) -> dict[str, "Clips"]:
        """Return split -> clips: `valid` has the clips whose names begin with a text in `valid`, `train` has all other clips.

        A text such as cmu/03 selects the clips of one person. Raises DataError for a text with which no name begins, and if no
        clip is left for `train`.
        """
        for start in valid:
            if not any(name.startswith(start) for name in self.names):
                shown = ", ".join(dict.fromkeys(name.rpartition("/")[0] or name for name in self.names))
                raise DataError(
                    f"no clip has a name that begins with {start}; the names begin with {shown[:500]}; "
                    "correct [mocap] valid_clips."
                )
        held_out = np.array([name.startswith(tuple(valid)) for name in self.names])
        if held_out.all():
            raise DataError(f"all clips have names that begin with {' or '.join(valid)}; none is left to train on.")
        return {"train": self.select(~held_out), "valid": self.select(held_out)}


def action_of(name: str) -> str:
    """Return the action in the name of a clip.

    The action is the last part of the name without a number at its end: cmu8/test/running/running_1 -> running. If the last
    part is only a number, the part before it is used: S5/eating/2 -> eating. If the last part contains no letter at all, the
    action consists of the parts before it: cmu/01_05 -> cmu/01.
    """
    before, _, last = name.rpartition("/")
    action = re.sub(r"[_ -]?\d+$", "", last)
    if not action:
        return action_of(before) if before else name
    return action if re.search("[A-Za-z]", action) or not before else f"{before}/{action}"


def write(path: Path, clips: Clips) -> None:
    """Write clips to a .npz file atomically."""
    texts = {"names": np.array(clips.names), "joints": np.array(clips.joints)}
    write_npz(path, {"poses": clips.poses, "start": clips.first, "fps": clips.fps} | texts)


def read(path: Path) -> Clips:
    """Return the clips in a .npz file. Raises DataError, with the path in its message, for a missing or invalid file."""
    found = read_npz(path, "poses", "start", "names", "fps", "joints")
    poses, start, names, fps, joints = found.values()
    wrong = next((name for name in ("names", "joints") if found[name].dtype.kind != "U" or found[name].ndim != 1), None)
    wrong = wrong or next((name for name in ("poses", "start", "fps") if found[name].dtype.kind not in "iuf"), None)
    if wrong:
        raise DataError(f"{path}: {wrong} holds {found[wrong].dtype} of shape {found[wrong].shape}; make the file again.")
    if poses.shape != (len(poses), len(joints), 3) or start.shape != (len(names) + 1,) or fps.shape != (len(names),):
        raise DataError(
            f"{path}: poses of shape {poses.shape} do not fit {len(joints)} joints, or start of shape {start.shape} and "
            f"fps of shape {fps.shape} do not fit {len(names)} clips; make the file again."
        )
    if start.dtype.kind == "f" or start[0] != 0 or start[-1] != len(poses) or (np.diff(start.astype(np.int64)) < 1).any():
        raise DataError(f"{path}: start should rise from 0 to the number of poses, {len(poses)}; make the file again.")
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and `checked` refuses infinity
        poses = poses.astype(np.float32)
    plain = tuple(_SIDES.get(name[:2], name[:2]) + name[2:] for name in joints.tolist())
    clips = Clips(plain, poses, start.astype(np.int64), tuple(names.tolist()), fps.astype(np.float32))
    return checked(clips, path)


def checked(clips: Clips, path: Path) -> Clips:
    """Return `clips` unchanged. Raises DataError, with `path` in its message, for clips that cannot be people in mm, z up."""
    if not len(clips.poses):
        raise DataError(f"{path} holds no pose; give another file.")
    if len(set(clips.joints)) < len(clips.joints) or not all((*clips.joints, *clips.names)):
        raise DataError(f"{path} has a joint or a clip without a name, or two joints of one name; make the file again.")
    good = (np.abs(clips.poses) <= FARTHEST).all(axis=(1, 2))  # this condition is false for NaN
    if not good.all():
        bad = int(np.flatnonzero(~good)[0])
        clip = int(clips.clip[bad])
        raise DataError(
            f"{path}: pose {bad - clips.first[clip]} of clip {clips.names[clip]} has a coordinate that is no number or beyond "
            f"{FARTHEST:.0e} mm; correct the pose or leave the clip out."
        )
    extent = float(np.median(np.ptp(clips.poses, axis=1).max(axis=1)))
    if not SIZES[0] <= extent <= SIZES[1]:
        raise DataError(f"{path}: the median size of the poses is {extent:.4g}; expected people in mm.")
    if {"head", "left_ankle", "right_ankle"} <= set(clips.joints):
        head, left, right = (clips.poses[:, clips.joints.index(name)] for name in ("head", "left_ankle", "right_ankle"))
        up = np.abs((head - (left + right) / 2).mean(axis=0))
        if up.argmax() != 2:
            raise DataError(f"{path}: on average the people's heads are not above or below their feet; expected the z axis up.")
    return clips
