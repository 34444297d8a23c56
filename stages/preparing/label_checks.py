"""Find suspicious labels: people outside their image, and swapped left and right joints. Suspicious rows are kept and listed.

A suspicious row need not be wrong: people reach beyond the image, cross their arms and turn their shoulders against their
hips. But the published files have a few wrong labels, so a person should look at the listed rows
(`tools.inspect_dataset --suspicious`).
"""

from collections.abc import Iterator

import numpy as np

from datasets.formats.annotations import Annotations
from datasets.skeletons import Skeleton

LIMBS = {
    "upper arms": ("shoulder", "elbow"),
    "lower arms": ("elbow", "wrist"),
    "thighs": ("hip", "knee"),
    "lower legs": ("knee", "ankle"),
    "sides": ("shoulder", "hip"),
}
PAIRS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def check(rows: Annotations, sizes: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Return, for each kind of suspicion, a mask (N,) bool of the rows that are suspicious.

    sizes: (N, 2), width and height of the images in px. A point lies outside the image if a coordinate is below -0.5 or at
    least side - 0.5. Three tests look for swapped left and right joints:

    - crossed: swapping the right and the left joint at one end of a pair of limbs, such as the wrists of the lower arms, would
      make the two limbs together at least 20 % shorter, and shorter by at least 20 % of the person's extent;
    - shoulders against hips: the vectors from right to left shoulder and from right to left hip are both longer than 0.3 times
      the torso, and more than 143 degrees apart (cosine below -0.8);
    - exchanged: swapping a right and a left joint would make their motion since the previous frame at least 60 % shorter,
      and shorter by at least 5 % of the person's extent; only consecutive frames of one folder are tested.

    Measured on the published labels: the share of all rows that the first two tests report, and the share of rows that they
    report after a pair of labelled joints was swapped on purpose:

                      unchanged    shoulders  elbows  wrists  hips  knees  ankles  whole arms  whole legs
        MPII               1.4 %       73 %     72 %    66 %   63 %   23 %    23 %        61 %        62 %
        Penn Action        0.3 %       85 %     71 %    65 %   68 %   32 %    31 %        78 %        64 %
        FLIC               1.1 %      100 %    100 %    95 %  100 %      -       -       100 %           -

    The third test reports 7 of Penn Action's 163,650 frames, and 96 to 100 % of the joints that were swapped on purpose from
    one frame to the next. In 4 of the 7 frames (sequences 0003, 0872, 1997) the labels are swapped; in the other 3 frames,
    people turn fast.
    """
    labelled = ~np.isnan(rows.part).any(axis=2)
    outside = joints_outside(rows, sizes)
    return {
        "center outside": ((rows.center < -0.5) | (rows.center >= sizes - 0.5)).any(axis=1),
        "joints outside": outside.any(axis=1),
        "all joints outside": (outside | ~labelled).all(axis=1) & labelled.any(axis=1),
        **dict(_crossed(rows.part, skeleton)),
        "shoulders against hips": _against(rows.part, skeleton),
        **dict(_exchanged(rows, skeleton)),
    }


def joints_outside(rows: Annotations, sizes: np.ndarray) -> np.ndarray:
    """Return which labelled joints lie outside their image, (N, J) bool; sizes: (N, 2), width and height in px."""
    return np.any((rows.part < -0.5) | (rows.part >= sizes[:, None] - 0.5), axis=2)


def _crossed(part: np.ndarray, skeleton: Skeleton) -> Iterator[tuple[str, np.ndarray]]:
    extent = _extent(part)
    for limbs, (near, far) in LIMBS.items():
        ends = _pair(part, skeleton, near), _pair(part, skeleton, far)
        yield f"{limbs} crossed", _better_exchanged(*ends, 0.8, 0.2 * extent)


def _against(part: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    shoulders, hips = _pair(part, skeleton, "shoulder"), _pair(part, skeleton, "hip")
    across, below = shoulders[:, 1] - shoulders[:, 0], hips[:, 1] - hips[:, 0]
    lengths = np.linalg.norm(across, axis=1), np.linalg.norm(below, axis=1)
    torso = np.linalg.norm(shoulders.mean(axis=1) - hips.mean(axis=1), axis=1)
    return (np.minimum(*lengths) > 0.3 * torso) & ((across * below).sum(axis=1) < -0.8 * lengths[0] * lengths[1])


def _exchanged(rows: Annotations, skeleton: Skeleton) -> Iterator[tuple[str, np.ndarray]]:
    folders = [image.rpartition("/")[0] for image in rows.images]
    same = [bool(folder) and folder == after for folder, after in zip(folders, folders[1:], strict=False)]
    follows = np.array(same, bool) & (np.diff(rows.index) == 1)
    extent = _extent(rows.part)
    for name in PAIRS:
        pair = _pair(rows.part, skeleton, name)
        found = np.zeros(len(rows), bool)
        found[1:] = follows & _better_exchanged(pair[:-1], pair[1:], 0.4, 0.05 * np.minimum(extent[1:], extent[:-1]))
        yield f"{name}s exchanged", found


def _better_exchanged(first: np.ndarray, second: np.ndarray, share: float, least: np.ndarray) -> np.ndarray:
    """Return a mask (N,) bool: whether swapping the two points of `second` brings them closer to the points of `first`.

    first, second: pairs of points (N, 2, 2) px. The sum of the two distances must become smaller than `share` times the sum
    without swapping, and smaller by more than `least` (N,) px.
    """
    straight = np.linalg.norm(first - second, axis=2).sum(axis=1)
    crosswise = np.linalg.norm(first - second[:, ::-1], axis=2).sum(axis=1)
    return (crosswise < share * straight) & (straight - crosswise > least)


def _pair(part: np.ndarray, skeleton: Skeleton, name: str) -> np.ndarray:
    """Return right_`name` and left_`name` of each person, (N, 2, 2) px; NaN if the skeleton does not have these joints."""
    joints = skeleton.joints
    if f"right_{name}" not in joints:
        return np.full((len(part), 2, 2), np.nan)
    return part[:, [joints.index(f"right_{name}"), joints.index(f"left_{name}")]]


def _extent(part: np.ndarray) -> np.ndarray:
    """Return the longer side of the box around each person's labelled joints, (N,) px; -inf without labelled joints."""
    high, low = np.where(np.isnan(part), -np.inf, part), np.where(np.isnan(part), np.inf, part)
    return (high.max(axis=1) - low.min(axis=1)).max(axis=1)
