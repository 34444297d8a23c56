"""Which joints each dataset labels, in its own order: names, limbs, and the joints that score in training.

Left and right are the person's own. Orders and scoring joints are those of the published datasets and of the
published training program (pose-hg-train, branch image-play).
"""

from dataclasses import dataclass, replace

from datasets.errors import DataError


@dataclass(frozen=True)
class Skeleton:
    """Joints of one dataset. `limbs` and `scoring` hold indices into `joints`."""

    name: str
    joints: tuple[str, ...]
    scoring: tuple[int, ...]  # joints that the training accuracy averages over
    limbs: tuple[tuple[int, int], ...]  # what to connect when a person is drawn

    def mirrored(self) -> list[int]:
        """Index of each joint's partner: `values[..., mirrored, :]` relabels the joints of a mirrored image."""
        return mirrored(self.joints)


MPII = Skeleton(
    name="mpii",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    scoring=(0, 1, 2, 3, 4, 5, 10, 11, 14, 15),
    limbs=(
        (0, 1), (1, 2), (2, 6), (5, 4), (4, 3), (3, 6), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (15, 14), (14, 13), (13, 7),
    ),
)  # fmt: skip

PENN_ACTION = Skeleton(
    name="penn_action",
    joints=(
        "head", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow", "right_wrist", "left_wrist",
        "right_hip", "left_hip", "right_knee", "left_knee", "right_ankle", "left_ankle",
    ),
    scoring=(3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    limbs=(
        (0, 1), (0, 2), (1, 2), (1, 3), (3, 5), (2, 4), (4, 6), (1, 7), (2, 8), (7, 8), (7, 9), (9, 11), (8, 10),
        (10, 12),
    ),
)  # fmt: skip

# Upper bodies only.
FLIC = Skeleton(
    name="flic",
    joints=(
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist", "left_hip",
        "right_hip", "left_eye", "right_eye", "nose",
    ),
    scoring=(1, 2, 4, 5, 6, 7),
    limbs=((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (0, 6), (3, 7), (6, 7), (8, 10), (9, 10)),
)  # fmt: skip

# Leeds Sports Pose and its extension. The published program does not train on them: the joints that score are MPII's.
LSP = Skeleton(
    name="lsp",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    scoring=(0, 1, 2, 3, 4, 5, 6, 7, 10, 11),
    limbs=(
        (0, 1), (1, 2), (3, 4), (4, 5), (2, 3), (6, 7), (7, 8), (9, 10), (10, 11), (8, 12), (9, 12), (2, 8), (3, 9),
        (12, 13),
    ),
)  # fmt: skip

LSPET = replace(LSP, name="lspet")

SKELETONS = {skeleton.name: skeleton for skeleton in (MPII, PENN_ACTION, FLIC, LSP, LSPET)}
TITLES = {"mpii": "MPII", "penn_action": "Penn Action", "flic": "FLIC", "lsp": "LSP", "lspet": "LSPET"}  # as their owners do

# Joints that two datasets name differently but label at nearly the same place. LSP's neck is where MPII has the upper
# neck, at the chin's height; MPII's thorax lies lower, between the shoulders.
SAME_JOINT = {"head": "head_top", "neck": "upper_neck"}


def mirrored(joints: tuple[str, ...]) -> list[int]:
    """Index of each joint's partner, by name: left_knee for right_knee; joints on the body's middle stay.

    Raises DataError for a joint without a partner.
    """
    swap = {"left": "right", "right": "left"}
    partners = []
    for name in joints:
        side, _, rest = name.partition("_")
        partner = f"{swap[side]}_{rest}" if side in swap else name
        if partner not in joints:
            raise DataError(f"the joints hold {name} but not {partner}, so a mirrored image cannot be labelled.")
        partners.append(joints.index(partner))
    return partners


def matching_joints(source: tuple[str, ...], target: tuple[str, ...]) -> list[int | None]:
    """For each joint of `target`, the index of the same joint in `source`, or None where `source` has no such joint."""
    alias = {b: a for a, b in SAME_JOINT.items()} | SAME_JOINT
    index = {name: i for i, name in enumerate(source)}
    return [index.get(name, index.get(alias.get(name, ""))) for name in target]
