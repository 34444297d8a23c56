"""Estimate 3D poses without a network: by the mean pose, the nearest 2D pose, or a linear map.

The baselines learn from synthetic samples of the training poses. Each baseline maps queries to outputs. Queries are 2D joints
(N, J, 2) in px, NaN for unknown joints. Outputs are (N, 3 J + 4) in mm and px, in the order of `stages.lifting.network.Pose3D`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stages.lifting.network import normalised_joints
from stages.lifting.samples import Scenes

RIDGE = 1.0  # added to each diagonal entry of the normal equations; the entries are much larger: sums over thousands of samples
CHUNK = 1024  # number of queries that are computed at a time, to limit memory


@dataclass(frozen=True)
class Baselines:
    """The three baselines, after learning from M samples with J joints and F features."""

    features: np.ndarray  # (M, F) float64: the samples' 2D joints, after `normalised_joints`
    targets: np.ndarray  # (M, 3 J + 4): the correct outputs for the samples, in mm and px
    side: int  # side of the heatmaps in px

    @classmethod
    def learn(cls, scenes: Scenes, side: int) -> "Baselines":
        """Return the baselines, learnt from scenes; side: side of the heatmaps in px."""
        found = [scenes.repos.reshape(len(scenes), -1), scenes.trans, scenes.focal[:, None]]
        return cls(_features(scenes.points, side), np.concatenate(found, axis=1), side)

    def mean_pose(self, points: np.ndarray) -> np.ndarray:
        """Return the outputs (N, 3 J + 4) of the mean pose: for every query, the mean of the samples' correct outputs."""
        return np.repeat(self.targets.mean(axis=0)[None], len(points), axis=0)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """Return for each query the outputs (N, 3 J + 4) of the sample whose centred and scaled 2D joints are nearest.

        The distance is computed over the known joints of the query.
        """
        joints = points.shape[1]
        queries = _features(points, self.side)
        known = np.repeat(queries[:, 2 * joints : 3 * joints], 2, axis=1)
        places, theirs = queries[:, : 2 * joints], self.features[:, : 2 * joints]
        best = np.empty(len(points), np.int64)
        for start in range(0, len(points), CHUNK):
            some = slice(start, start + CHUNK)
            # |q - t|^2 over the known joints of query q and sample t, without |q|^2, which does not depend on t.
            best[some] = (known[some] @ (theirs**2).T - 2 * (known[some] * places[some]) @ theirs.T).argmin(axis=1)
        return self.targets[best]

    def linear_map(self, points: np.ndarray) -> np.ndarray:
        """Return the outputs (N, 3 J + 4) of a linear map of the queries, fitted to the samples by ridge regression."""
        features = _with_one(self.features)
        left = features.T @ features + RIDGE * np.eye(features.shape[1])
        return _with_one(_features(points, self.side)) @ np.linalg.solve(left, features.T @ self.targets)


def _features(points: np.ndarray, side: int) -> np.ndarray:
    return normalised_joints(torch.from_numpy(points.astype(np.float64)), side).numpy()


def _with_one(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
