"""Find the frames on which a network is probably wrong: unsure, flickering, or in disagreement with itself or another network.

Each measure is computed for one person per frame, and is larger for worse frames. Distances are divided by the longer side of
the image. NaN means that a measure is undefined for a frame.
"""

from collections.abc import Mapping

import numpy as np

from datasets.skeletons import matching_joints


def unsure(confidence: np.ndarray) -> np.ndarray:
    """Return 1 - the mean confidence of the joints, (N,); confidence: (N, J), heights of the heatmaps' peaks."""
    return 1 - confidence.mean(axis=1)


def flicker(joints: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return how far each frame's joints are from the midpoint of their positions in the previous and next frame, (N,).

    The value of a frame is the largest distance of a joint from its midpoint, divided by the longer side of the image; the
    first and the last frame have NaN. joints: (N, J, 2) px, of consecutive frames; size: (N,) px, longer side of each image.
    """
    found = np.full(len(joints), np.nan)
    if len(joints) > 2:
        middle = (joints[:-2] + joints[2:]) / 2
        found[1:-1] = np.linalg.norm(joints[1:-1] - middle, axis=2).max(axis=1) / size[1:-1]
    return found


def disagreement(joints: np.ndarray, others: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return, for each frame, the largest distance of two predictions of a joint, divided by the image's longer side, (N,).

    joints, others: (N, J, 2) px, two predictions of the same joints; size: (N,) px, longer side of each image.
    """
    return np.linalg.norm(joints - others, axis=2).max(axis=1) / size


def mirrored_back(joints: np.ndarray, width: np.ndarray, mirrored: list[int]) -> np.ndarray:
    """Convert joints predicted on mirrored images to px of the original images, (N, J, 2), and exchange left and right.

    joints: (N, J, 2) px of the mirrored images; width: (N,) px, width of each image; mirrored: for each joint, the index of
    the joint with which it is exchanged.
    """
    back = joints[:, mirrored].copy()
    back[..., 0] = width[:, None] - 1 - back[..., 0]
    return back


def common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Return the common joints of two networks: their indices in the first, and in the second network; joints match by name."""
    partners = matching_joints(second, first)
    return [j for j, partner in enumerate(partners) if partner is not None], [p for p in partners if p is not None]


def choose(measures: Mapping[str, np.ndarray], count: int, apart: int) -> list[tuple[int, str]]:
    """Return up to `count` pairs (number of a frame, name of the measure that chose the frame), in the order of choice.

    measures: name -> value of each frame. The measures take turns. In its turn, a measure chooses the worst frame of those
    that are at least `apart` frames away from all chosen frames: neighbouring frames of a video show nearly the same picture.
    """
    ranked = {name: iter(_worst_first(values)) for name, values in measures.items()}
    chosen: list[tuple[int, str]] = []
    while ranked and len(chosen) < count:
        for name in list(ranked):
            frame = next((f for f in ranked[name] if all(abs(f - other) >= apart for other, _ in chosen)), None)
            if frame is None:
                del ranked[name]
            elif len(chosen) < count:
                chosen.append((frame, name))
    return chosen


def _worst_first(values: np.ndarray) -> list[int]:
    known = np.flatnonzero(values > 0)  # leaves out frames with NaN, and with 0, which means that nothing is wrong
    return known[np.argsort(-values[known], kind="stable")].tolist()
