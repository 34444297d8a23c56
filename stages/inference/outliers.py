"""Find the frames on which a network is probably wrong: unsure, flickering, or in disagreement with itself or another network.

All measures are of one person a frame, and larger for worse frames; distances are in parts of the image's longer side. NaN
means that a measure says nothing of a frame.
"""

from collections.abc import Mapping

import numpy as np

from datasets.skeletons import matching_joints


def unsure(confidence: np.ndarray) -> np.ndarray:
    """Return 1 - the mean confidence of the joints, (N,); confidence: (N, J), heights of the heatmaps' peaks."""
    return 1 - confidence.mean(axis=1)


def flicker(joints: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the largest distance (N,) of a joint from the middle between its places in the frame before and the frame after.

    joints: (N, J, 2) px, of consecutive frames; size: (N,) px, the longer sides. The first and the last frame have NaN.
    """
    found = np.full(len(joints), np.nan)
    if len(joints) > 2:
        middle = (joints[:-2] + joints[2:]) / 2
        found[1:-1] = np.linalg.norm(joints[1:-1] - middle, axis=2).max(axis=1) / size[1:-1]
    return found


def disagreement(joints: np.ndarray, others: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the largest distance (N,) between two predictions (N, J, 2) of the same joints; size: (N,), the longer sides."""
    return np.linalg.norm(joints - others, axis=2).max(axis=1) / size


def mirrored_back(joints: np.ndarray, width: np.ndarray, mirrored: list[int]) -> np.ndarray:
    """Return joints (N, J, 2) px that were predicted on mirrored images in px of the images, with left and right exchanged.

    width: (N,) px, of the images; mirrored: indices of the joints' partners.
    """
    back = joints[:, mirrored].copy()
    back[..., 0] = width[:, None] - 1 - back[..., 0]
    return back


def common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Return the indices, in both networks, of the joints that both know by name."""
    partners = matching_joints(second, first)
    return [j for j, partner in enumerate(partners) if partner is not None], [p for p in partners if p is not None]


def choose(measures: Mapping[str, np.ndarray], count: int, apart: int) -> list[tuple[int, str]]:
    """Return up to `count` frames with the measure that each was chosen for, in the order of the choice.

    The measures choose in turns, each its worst frame that is at least `apart` frames from all chosen ones, because
    neighbouring frames of a video show nearly the same.
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
    known = np.flatnonzero(values > 0)  # not NaN, and not 0, which is no reason to choose a frame
    return known[np.argsort(-values[known], kind="stable")].tolist()
