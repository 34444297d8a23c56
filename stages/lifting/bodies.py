"""Measure and change the limb lengths of bodies with the 13 joints of Penn Action."""

import numpy as np

from datasets.penn_action import PENN_ACTION

JOINTS = PENN_ACTION.skeleton.joints
MIRRORED = PENN_ACTION.skeleton.mirrored()
# Pairs of joints that a bone connects: the distance of the two joints does not change when the person moves.
RIGID_LIMBS = tuple(
    (JOINTS.index(f"{side}_{first}"), JOINTS.index(f"{side}_{second}"))
    for first, second in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    for side in ("right", "left")
)
# Body parts whose lengths `scale_limbs` changes, in the order of the columns of its argument `factors`.
FACTORS = ("torso", "hips", "thighs", "shanks", "shoulders", "upper arms", "forearms", "neck")


def scale_limbs(poses: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return poses (N, 13, 3) in mm in which the limbs have new lengths and unchanged directions.

    poses: (N, 13, 3) mm; factors: (N, 8), the number by which the length of each body part in FACTORS is multiplied. One
    factor applies to both the right and the left limb.
    """
    torso, hips, thighs, shanks, shoulders, upper_arms, forearms, neck = factors.T[:, :, None]
    joint = {name: poses[:, i] for i, name in enumerate(JOINTS)}
    low, high = ((joint[f"right_{name}"] + joint[f"left_{name}"]) / 2 for name in ("hip", "shoulder"))
    top = low + torso * (high - low)
    new = {"head": top + neck * (joint["head"] - high)}
    for side in ("right", "left"):
        hip, knee, ankle, shoulder, elbow, wrist = (
            joint[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        new[f"{side}_hip"] = low + hips * (hip - low)
        new[f"{side}_knee"] = new[f"{side}_hip"] + thighs * (knee - hip)
        new[f"{side}_ankle"] = new[f"{side}_knee"] + shanks * (ankle - knee)
        new[f"{side}_shoulder"] = top + shoulders * (shoulder - high)
        new[f"{side}_elbow"] = new[f"{side}_shoulder"] + upper_arms * (elbow - shoulder)
        new[f"{side}_wrist"] = new[f"{side}_elbow"] + forearms * (wrist - elbow)
    return np.stack([new[name] for name in JOINTS], axis=1)


def limb_lengths(poses: np.ndarray) -> np.ndarray:
    """Return the lengths (..., 8) of RIGID_LIMBS in poses (..., 13, 3), in the unit of the poses."""
    first, second = np.array(RIGID_LIMBS).T
    return np.linalg.norm(poses[..., first, :] - poses[..., second, :], axis=-1)
