"""Compute the 3D movements of the drawn people: as motion capture, and as true 3D poses for the drawn Penn Action sequences.

World frame, in mm: x points forward from the person, y to the person's left, z up. The joints are those of Penn Action.
"""

from pathlib import Path

import numpy as np

from datasets.mocap import clips
from datasets.mocap.clips import Clips
from datasets.penn_action import PENN_ACTION
from datasets.progress import Report, silent
from datasets.sample.archives import penn_clips
from datasets.sample.pictures import penn_joints
from datasets.sample.poses import ACTIONS, Movement, build_figures, everyday_pose, vary_lengths

FPS = 10.0  # poses per second of the clips; by default, a clip of an action takes two seconds
HEIGHTS = (1500.0, 1950.0)  # mm, shortest and tallest person
STILLS = 4  # number of everyday poses for each clip of an action


def write_motions(path: Path, sequences: int, frames: int, seed: int = 0, report: Report = silent) -> None:
    """Write a .npz file with `sequences` clips of each action and STILLS times as many clips of everyday poses.

    A clip of an action has `frames` poses, a clip of an everyday pose has one pose. The person in each clip has a random
    height. The names of about a third of the clips begin with valid/, all other names begin with train/. Equal arguments give
    equal bytes. Calls report(number of clips so far, number of all clips).
    """
    poses: list[np.ndarray] = []
    names: list[str] = []
    total = len(ACTIONS) * sequences * (1 + STILLS)
    for number in range(total):
        rng = np.random.default_rng([seed, 4, number])
        action = list(ACTIONS)[number % len(ACTIONS)] if number < len(ACTIONS) * sequences else "everyday"
        if action == "everyday":
            movement, _ = everyday_pose(rng)
        else:
            movement = ACTIONS[action][0](np.arange(frames) / max(frames - 1, 1) + rng.uniform(-0.03, 0.03), rng)
            movement.lengths = vary_lengths(rng)
        poses.append(joints_in_world(movement, rng.uniform(*HEIGHTS)))
        names.append(f"{'valid' if number // len(ACTIONS) % 3 == 2 else 'train'}/{action}/{number + 1}")
        report(number + 1, total)
    first = np.r_[0, np.cumsum([len(part) for part in poses])].astype(np.int64)
    fps = np.full(len(names), FPS, np.float32)
    clips.write(path, Clips(PENN_ACTION.skeleton.joints, np.concatenate(poses), first, tuple(names), fps))


def joints_in_world(movement: Movement, height: float) -> np.ndarray:
    """Return the 13 joints of Penn Action in a movement, (T, 13, 3) float32, mm, world frame; height: body height in mm."""
    figures = build_figures(movement, yaw=0, pitch=0, roll=0, height=height)
    points = np.stack([figure.points for figure in figures])
    # In the coordinates of the array `points`, the x axis leads to the person's left, y down and z forward.
    world = np.stack([points[..., 2], points[..., 0], -points[..., 1]], axis=-1)
    return penn_joints(world).astype(np.float32)


def penn_poses(sequences: int, frames: tuple[int, int], seed: int = 0) -> dict[int, np.ndarray]:
    """Return the true 3D poses of the drawn sequences of Penn Action: number of the sequence -> (T, 13, 3) float32, mm.

    The arguments are those of `archives.write_penn`. The poses are the joints minus their mean, in the camera frame: x right, y
    down, z forward. Everybody's height is assumed to be the mean of HEIGHTS, because a picture does not show it.
    """
    found = {}
    for number, _, _, clip in penn_clips(sequences, frames, seed=seed):
        figures = clip.figures[::3]  # the first of the three figures of a frame is the labelled one
        joints = penn_joints(np.stack([figure.points for figure in figures])) * [1, 1, -1]
        joints *= sum(HEIGHTS) / 2 / figures[0].height
        found[number] = (joints - joints.mean(axis=1, keepdims=True)).astype(np.float32)
    return found
