"""Errors of poses in space, in mm and px (FORECAST.md 8): with and without alignment, of the camera, and over time.

Outputs are (N, 3 J + 4) as in `stages.lifting.network`, and the truth is Scenes of N poses.
"""

from dataclasses import dataclass

import numpy as np

from stages.evaluation.significance import Difference, Hits, difference, interval
from stages.lifting.bodies import limb_lengths
from stages.lifting.cameras import project
from stages.lifting.samples import Scenes


@dataclass(frozen=True)
class Errors:
    """Errors of N poses with J joints."""

    joints: np.ndarray  # (N, J) mm: distances of repos, without alignment
    aligned: np.ndarray  # (N, J) mm: after the best rotation, shift and scale of each pose (Procrustes)
    depth: np.ndarray  # (N,) mm: of the pose's distance along the camera's axis
    focal: np.ndarray  # (N,) px
    magnification: np.ndarray  # (N,) part of the true one: of focal length / depth, all that an image shows of these two
    reprojection: np.ndarray  # (N, J) px: how far from the image's joints the outputs are seen


def errors(outputs: np.ndarray, scenes: Scenes) -> Errors:
    """Return the errors of outputs (N, 3 J + 4)."""
    outputs = outputs.astype(np.float64)
    repos, trans, focal = outputs[:, :-4].reshape(len(outputs), -1, 3), outputs[:, -4:-1], outputs[:, -1]
    seen = project(repos + trans[:, None], focal, scenes.center)
    truth = scenes.focal / scenes.trans[:, 2]
    with np.errstate(divide="ignore"):
        magnification = np.abs(focal / trans[:, 2] / truth - 1)
    return Errors(
        joints=np.linalg.norm(repos - scenes.repos, axis=-1),
        aligned=np.linalg.norm(aligned(repos, scenes.repos) - scenes.repos, axis=-1),
        depth=np.abs(trans[:, 2] - scenes.trans[:, 2]),
        focal=np.abs(focal - scenes.focal),
        magnification=magnification,
        reprojection=np.linalg.norm(seen - scenes.points, axis=-1),
    )


def aligned(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return poses (N, J, 3), each rotated, shifted and scaled to lie as near to truth (N, J, 3) as possible.

    Least squares; never mirrored (Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991).
    """
    middle, goal = poses.mean(axis=1, keepdims=True), truth.mean(axis=1, keepdims=True)
    centred = poses - middle
    u, s, vt = np.linalg.svd(centred.transpose(0, 2, 1) @ (truth - goal))
    s[:, 2] *= np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    scale = s.sum(axis=1) / np.maximum((centred**2).sum(axis=(1, 2)), 1e-9)
    return scale[:, None, None] * centred @ (u @ vt) + goal


def limb_unsteadiness(repos: np.ndarray) -> np.ndarray:
    """Return by how much limbs change their lengths over time: (W,), parts of their lengths, 0 for rigid limbs.

    repos: (W, T, J, 3), T moments of W people. The standard deviation over the moments over the mean, averaged over the limbs.
    """
    lengths = limb_lengths(repos)
    return (lengths.std(axis=1) / np.maximum(lengths.mean(axis=1), 1e-9)).mean(axis=1)


def by_clip(values: np.ndarray, clip: np.ndarray) -> Hits:
    """Return the sums and counts of values (N, J) by clip; clip: (N,), number of the clip of each pose."""
    numbers = np.unique(clip, return_inverse=True)[1]
    sums, counts = np.zeros((numbers.max() + 1, 1)), np.zeros((numbers.max() + 1, 1))
    np.add.at(sums[:, 0], numbers, values.sum(axis=1))
    np.add.at(counts[:, 0], numbers, values.shape[1])
    return Hits(sums, counts, "total")


def mean_with_interval(values: np.ndarray, clip: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of values (N, J) and its 95 % confidence interval, by a bootstrap over clips."""
    return (float(values.mean()), *interval(by_clip(values, clip)))


def compare(first: np.ndarray, second: np.ndarray, clip: np.ndarray) -> Difference:
    """Return by how much the second's mean of values (N, J) is larger, with a paired interval and test over clips."""
    return difference(by_clip(first, clip), by_clip(second, clip))
