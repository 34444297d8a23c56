"""3D poses for tests."""

import numpy as np

from datasets.penn_action import PENN_ACTION

JOINTS = PENN_ACTION.skeleton.joints
HEIGHTS = {"head": 1650, "shoulder": 1400, "elbow": 1150, "wrist": 900, "hip": 950, "knee": 500, "ankle": 80}  # mm
WIDTHS = {"head": 0, "shoulder": 180, "elbow": 230, "wrist": 250, "hip": 120, "knee": 130, "ankle": 140}  # mm


def standing(count: int, seed: int = 0, spread: float = 60.0) -> np.ndarray:
    """Return poses (N, 13, 3) float32 in mm of people who stand and look along x; z is up; noise: `spread` mm."""
    rng = np.random.default_rng(seed)
    pose = np.array([(0.0, _left(name) * WIDTHS[_part(name)], HEIGHTS[_part(name)]) for name in JOINTS])
    return (pose + rng.normal(0, spread, (count, len(JOINTS), 3))).astype(np.float32)


def _part(name: str) -> str:
    return name.rpartition("_")[2]


def _left(name: str) -> float:
    return {"left": 1.0, "right": -1.0}.get(name.partition("_")[0], 0.0)
