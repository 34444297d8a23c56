"""Bodies of Penn Action's 13 joints: their limbs, and random proportions."""

import numpy as np

from datasets.penn_action import PENN_ACTION

JOINTS = PENN_ACTION.skeleton.joints
MIRRORED = PENN_ACTION.skeleton.mirrored()
# Limbs between two joints that stay equally far apart however a person moves.
RIGID_LIMBS = tuple(
    (JOINTS.index(f"{side}_{first}"), JOINTS.index(f"{side}_{second}"))
    for first, second in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    for side in ("right", "left")
)
FACTORS = ("torso", "hips", "thighs", "shanks", "shoulders", "upper arms", "forearms", "neck")


def scale_limbs(poses: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return poses (N, 13, 3) whose limbs are longer or shorter, with all directions as before.

    poses: (N, 13, 3) mm; factors: (N, 8), one for each of FACTORS, equal for right and left.
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
    """Return the lengths (..., 8) of RIGID_LIMBS in poses (..., 13, 3), in their unit."""
    first, second = np.array(RIGID_LIMBS).T
    return np.linalg.norm(poses[..., first, :] - poses[..., second, :], axis=-1)
