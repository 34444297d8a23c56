"""Skeleton: the joints that a dataset labels, in its own order; and how the joints of two skeletons correspond.

Left and right are the person's own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from datasets.errors import DataError

_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_SIDE = {"left": "left", "l": "left", "right": "right", "r": "right"}


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
    partners = []
    for name in joints:
        side, _, rest = name.partition("_")
        partner = "_".join(filter(None, (_OTHER_SIDE[side], rest))) if side in ("left", "right") else name
        if partner not in joints:
            raise DataError(
                f"the joints hold {name} but not {partner}, so a mirrored image cannot be labelled; give names of joints that "
                "are labelled on one side only without the side, by `rename` in a section [dataset:NAME]."
            )
        partners.append(joints.index(partner))
    return partners


def matching_joints(source: tuple[str, ...], target: tuple[str, ...]) -> list[int | None]:
    """For each joint of `target`, the index of the same joint in `source`, or None where `source` has no such joint."""
    alias = {b: a for a, b in SAME_JOINT.items()} | SAME_JOINT
    index = {name: i for i, name in enumerate(source)}
    return [index.get(name, index.get(alias.get(name, ""))) for name in target]


def standard_names(names: list[str]) -> tuple[str, ...]:
    """Return names of joints as this workspace writes them: lower case, and left_ or right_ in front of those with a side.

    LeftKnee, knee_L, l-knee and Lknee become left_knee, if the names hold the same joint of the other side, too; an l or r
    without such a partner is no side. Raises DataError where two joints would have the same name.
    """
    words = [tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", n)) for n in names]
    joined = {"".join(each) for each in words}
    found = tuple(next(_with_side(each, set(words), joined), "_".join(each)) or n for each, n in zip(words, names, strict=True))
    for name in found:
        same = [given for given, standard in zip(names, found, strict=True) if standard == name]
        if len(same) > 1:
            raise DataError(f"the joints {' and '.join(same)} would both be called {name}; give other names with `rename`.")
    return found


def _with_side(words: tuple[str, ...], others: set[tuple[str, ...]], joined: set[str]) -> Iterator[str]:
    """Yield a joint's name with its side in front, for each way in which the names hold the same joint of the other side."""
    for place, word in enumerate(words):
        before, after = words[:place], words[place + 1 :]
        if word in _SIDE and (before or after) and (*before, _OTHER_SIDE[word], *after) in others:
            yield "_".join((_SIDE[word], *before, *after))
    text = "".join(words)
    for side, other in _OTHER_SIDE.items():  # without a boundary: lknee, kneel with kneer
        for rest, partner in ((text.removeprefix(side), other + text.removeprefix(side)),
                              (text.removesuffix(side), text.removesuffix(side) + other)):  # fmt: skip
            if rest and rest != text and partner in joined:
                yield f"{_SIDE[side]}_{rest}"
