"""Skeleton: the joints that a dataset labels, in its own order; and how the joints of two skeletons correspond.

Left and right are the person's own.
"""

from dataclasses import dataclass

from datasets.errors import DataError


@dataclass(frozen=True)
class Skeleton:
    """Joints of one dataset. `limbs` and `scoring` hold indices into `joints`."""

    joints: tuple[str, ...]
    scoring: tuple[int, ...]  # joints that the training accuracy averages over
    limbs: tuple[tuple[int, int], ...]  # what to connect when a person is drawn
    not_in_mean: tuple[str, ...] = ()  # joints that the dataset's evaluation leaves out of the mean over joints

    def mirrored(self) -> list[int]:
        """Index of each joint's partner: `values[..., mirrored, :]` relabels the joints of a mirrored image."""
        return mirrored(self.joints)


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
