"""Score forecast 3D poses where the truth is known: on the built-in sample, whose images are drawn from 3D poses.

The poses are `repos` of `stages.lifting.network.Pose3D`: joints minus their mean, in the camera frame, in mm. Errors are
distances in mm, computed once without alignment, and once after the best rotation, shift and scale of each pose (Procrustes).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from datasets.formats.hdf5 import h5_field, open_h5
from stages.forecasting.movements import STEPS, Movements, Starts
from stages.lifting.network import Pose3D
from stages.lifting.scoring import aligned, compare, mean_with_interval

CHUNK = 512  # number of forecasts that are read at a time
ALIGNMENTS = ("none", "Procrustes")
STEADY = ", steady focal length"  # suffix of a network's name in tables, for its poses rescaled by `Pose3D.steady`
PREDICTED, TRUE = "zero velocity, from the predicted pose", "zero velocity, from the true pose"


def true_poses(truth: dict[int, np.ndarray], movements: Movements) -> np.ndarray:
    """Return the true pose of every frame of a split, (F, J, 3) mm; truth: number of a sequence -> poses of its frames, mm."""
    return np.concatenate([truth[number] for number in movements.sequence.tolist()])


def read_poses(path: Path, rows: slice | int) -> Pose3D:
    """Return the 3D poses in some rows of a forecasts_<split>.h5; their leading dimensions are (n, T), or (T,) for one row.

    Raises DataError for a damaged file.
    """
    with open_h5(path) as file:
        return Pose3D(*(torch.from_numpy(h5_field(file, path, name)[rows]) for name in Pose3D._fields))


def errors_by_step(path: Path, name: str, starts: Starts, truth: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Return (forecaster, alignment) -> error of each forecast at each step, (N, T) float32 mm, averaged over the joints.

    path: forecasts_<split>.h5 of the network `name`, with a row for each start frame in `starts`; truth: (F, J, 3) mm, see
    `true_poses`.
    """
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for begin in range(0, len(starts), CHUNK):
        some = slice(begin, begin + CHUNK)
        poses, goal = read_poses(path, some), truth[starts.rows[some]]
        for forecaster, forecast in _forecasts(name, poses, goal):
            for alignment in ALIGNMENTS:
                fitted = forecast if alignment == "none" else _fitted(forecast, goal)
                wrong = np.linalg.norm(fitted - goal, axis=-1).mean(axis=-1)
                found.setdefault((forecaster, alignment), []).append(wrong.astype(np.float32))
    return {which: np.concatenate(parts) for which, parts in found.items()}


def _forecasts(name: str, poses: Pose3D, goal: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the poses (n, T, J, 3) mm of the network and of two zero-velocity baselines.

    The network's poses are yielded twice: as they are, and rescaled by `Pose3D.steady`.
    """
    forecast = poses.repos.numpy()
    yield name, forecast
    yield f"{name}{STEADY}", poses.steady().repos.numpy()
    yield PREDICTED, np.repeat(forecast[:, :1], STEPS, axis=1)
    yield TRUE, np.repeat(goal[:, :1], STEPS, axis=1)


def _fitted(poses: np.ndarray, goal: np.ndarray) -> np.ndarray:
    joints = poses.shape[2:]
    return aligned(poses.reshape(-1, *joints).astype(np.float64), goal.reshape(-1, *joints)).reshape(poses.shape)


def table(errors: dict[tuple[str, str], np.ndarray], starts: Starts) -> pd.DataFrame:
    """Return a table with a row per forecaster and alignment: mean error in mm at each step, and over all steps.

    `low` and `high` are the ends of the 95 % confidence interval of the mean over all steps, by a bootstrap over sequences.
    """
    rows = [
        [forecaster, alignment, *wrong.mean(axis=0), *mean_with_interval(wrong, starts.sequence)]
        for (forecaster, alignment), wrong in sorted(errors.items(), key=lambda item: ALIGNMENTS.index(item[0][1]))
    ]
    steps = [str(step) for step in range(1, STEPS + 1)]
    return pd.DataFrame(rows, columns=["forecaster", "alignment", *steps, "mean", "low", "high"])


def tests(errors: dict[tuple[str, str], np.ndarray], name: str, starts: Starts) -> pd.DataFrame:
    """Return a table of significance tests, paired by sequence: is the network's error below that of zero velocity?"""
    rows = []
    for alignment in ALIGNMENTS:
        for rival in (PREDICTED, TRUE):
            for step in range(STEPS):
                ours, theirs = (errors[who, alignment][:, step : step + 1] for who in (name, rival))
                d = compare(theirs, ours, starts.sequence)
                verdict = "no difference shown" if not d.p < 0.05 else "better" if d.value < 0 else "worse"
                rows.append([name, alignment, step + 1, verdict, rival, d.value, d.low, d.high, d.p])
    columns = ["forecaster", "alignment", "step", "verdict", "than", "difference mm", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns)
