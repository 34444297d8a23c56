"""Poses in space without a network: the mean pose, the nearest 2D pose, and a linear map.

They learn from synthetic samples of the training poses, and see the joints (N, J, 2) in px that they are asked about, NaN where
unknown. Each gives (N, 3 J + 4) in mm and px, as the networks do.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stages.lifting.network import normalised_joints
from stages.lifting.samples import Scenes

RIDGE = 1.0  # added to the diagonal of the normal equations; the features have a variance of about 1 in thousands of samples
CHUNK = 1024  # queries at a time, to limit memory


@dataclass(frozen=True)
class Baselines:
    """Baselines that have learnt from M samples."""

    features: np.ndarray  # (M, F) float64: `normalised_joints` of the samples
    targets: np.ndarray  # (M, 3 J + 4) mm, px
    side: int  # px of the heatmaps

    @classmethod
    def learn(cls, scenes: Scenes, side: int) -> "Baselines":
        """Return the baselines after learning from scenes."""
        found = [scenes.repos.reshape(len(scenes), -1), scenes.trans, scenes.focal[:, None]]
        return cls(_features(scenes.points, side), np.concatenate(found, axis=1), side)

    def mean_pose(self, points: np.ndarray) -> np.ndarray:
        """Return the mean of the samples for each query."""
        return np.repeat(self.targets.mean(axis=0)[None], len(points), axis=0)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """Return the pose of the sample whose joints, centred and scaled, are the most similar.

        Only the joints that the query knows count.
        """
        joints = points.shape[1]
        queries = _features(points, self.side)
        known = np.repeat(queries[:, 2 * joints : 3 * joints], 2, axis=1)
        places, theirs = queries[:, : 2 * joints], self.features[:, : 2 * joints]
        best = np.empty(len(points), np.int64)
        for start in range(0, len(points), CHUNK):
            some = slice(start, start + CHUNK)
            # |q - t|^2 over the known joints, without |q|^2, which does not change which sample is nearest.
            best[some] = (known[some] @ (theirs**2).T - 2 * (known[some] * places[some]) @ theirs.T).argmin(axis=1)
        return self.targets[best]

    def linear_map(self, points: np.ndarray) -> np.ndarray:
        """Return a linear map of the features, fitted to the samples by least squares."""
        features = _with_one(self.features)
        left = features.T @ features + RIDGE * np.eye(features.shape[1])
        return _with_one(_features(points, self.side)) @ np.linalg.solve(left, features.T @ self.targets)


def _features(points: np.ndarray, side: int) -> np.ndarray:
    return normalised_joints(torch.from_numpy(points.astype(np.float64)), side).numpy()


def _with_one(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
