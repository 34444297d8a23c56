"""Compute errors of estimated 3D poses and cameras in mm and px, with and without Procrustes alignment of the poses.

The estimates are outputs (N, 3 J + 4) as in `stages.lifting.network.Pose3D`; the true values are `Scenes` of N poses.
"""

from dataclasses import dataclass

import numpy as np

from stages.evaluation.significance import Difference, Hits, difference, interval
from stages.lifting.bodies import limb_lengths
from stages.lifting.cameras import project
from stages.lifting.samples import Scenes


@dataclass(frozen=True)
class Errors:
    """The errors of N estimated poses with J joints."""

    joints: np.ndarray  # (N, J) mm: distance in repos from each estimated joint to the true joint, without alignment
    aligned: np.ndarray  # (N, J) mm: the same distance after Procrustes alignment, see the function `aligned`
    depth: np.ndarray  # (N,) mm: absolute error of the depth in trans
    focal: np.ndarray  # (N,) px: absolute error of the focal length
    magnification: np.ndarray  # (N,): relative error of focal length / depth, the ratio that sets a person's size in an image
    reprojection: np.ndarray  # (N, J) px: distance in the image from each projected estimated joint to the true joint


def errors(outputs: np.ndarray, scenes: Scenes) -> Errors:
    """Return the errors of outputs (N, 3 J + 4); scenes: the true poses and cameras."""
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
    """Return poses (N, J, 3), each rotated, shifted and scaled to the best least-squares fit to truth (N, J, 3).

    Poses are never mirrored (Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
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
    """Return the relative variation of limb lengths over time in each of W movements, (W,), 0 for rigid limbs.

    repos: (W, T, J, 3), poses at T moments of each movement. The variation of a limb is the standard deviation of its length
    over the moments, divided by its mean length. The result is the mean of the variations of all limbs.
    """
    lengths = limb_lengths(repos)
    return (lengths.std(axis=1) / np.maximum(lengths.mean(axis=1), 1e-9)).mean(axis=1)


def by_clip(values: np.ndarray, clip: np.ndarray) -> Hits:
    """Return, as `Hits`, the sum and the number of the values (N, J) of each clip; clip: (N,), clip number of each pose."""
    numbers = np.unique(clip, return_inverse=True)[1]
    sums, counts = np.zeros((numbers.max() + 1, 1)), np.zeros((numbers.max() + 1, 1))
    np.add.at(sums[:, 0], numbers, values.sum(axis=1))
    np.add.at(counts[:, 0], numbers, values.shape[1])
    return Hits(sums, counts, "total")


def mean_with_interval(values: np.ndarray, clip: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of values (N, J), and both ends of the mean's 95 % confidence interval, by a bootstrap over clips."""
    return (float(values.mean()), *interval(by_clip(values, clip)))


def compare(first: np.ndarray, second: np.ndarray, clip: np.ndarray) -> Difference:
    """Return the mean of `second` minus the mean of `first`, with a paired bootstrap interval and a paired permutation test
    that treat clips as the independent samples.

    first, second: values (N, J) of the same poses; clip: (N,), number of the clip of each pose.
    """
    return difference(by_clip(first, clip), by_clip(second, clip))
