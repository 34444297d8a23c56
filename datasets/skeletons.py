"""Skeleton: the joints of a dataset in the dataset's order; and functions that relate the joints of two skeletons.

Left and right always mean the person's own left and right.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from datasets.errors import DataError

_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_SIDE = {"left": "left", "l": "left", "right": "right", "r": "right"}


@dataclass(frozen=True)
class Skeleton:
    """The joints of one dataset. `limbs` and `scoring` contain indices into `joints`."""

    joints: tuple[str, ...]
    scoring: tuple[int, ...]  # joints over which the training accuracy is averaged
    limbs: tuple[tuple[int, int], ...]  # pairs of joints that are connected by a line when a person is drawn
    not_in_mean: tuple[str, ...] = ()  # joints that the dataset's evaluation leaves out of the mean over joints

    def mirrored(self) -> list[int]:
        """Return the index of each joint's left-right partner; see the function `mirrored`.

        `values[..., mirrored, :]` relabels the joints of a mirrored image.
        """
        return mirrored(self.joints)


# Joints that have different names in two datasets but nearly the same position. LSP's neck is at the height of the chin, like
# MPII's upper neck; MPII's thorax is lower, between the shoulders.
SAME_JOINT = {"head": "head_top", "neck": "upper_neck"}


def mirrored(joints: tuple[str, ...]) -> list[int]:
    """Return the index of each joint's left-right partner, found by name: right_knee is the partner of left_knee.

    A joint without a side in its name is its own partner. Raises DataError for a left or right joint without a partner.
    """
    partners = []
    for name in joints:
        side, _, rest = name.partition("_")
        partner = "_".join(filter(None, (_OTHER_SIDE[side], rest))) if side in ("left", "right") else name
        if partner not in joints:
            raise DataError(
                f"the joints include {name} but not {partner}, so a mirrored image cannot be labelled; if a joint is labelled "
                "on one side only, give it a name without the side, by `rename` in the section [dataset:NAME]."
            )
        partners.append(joints.index(partner))
    return partners


def matching_joints(source: tuple[str, ...], target: tuple[str, ...]) -> list[int | None]:
    """Return for each joint of `target` the index of this joint in `source`, or None if `source` does not have this joint."""
    alias = {b: a for a, b in SAME_JOINT.items()} | SAME_JOINT
    index = {name: i for i, name in enumerate(source)}
    return [index.get(name, index.get(alias.get(name, ""))) for name in target]


def standard_names(names: list[str]) -> tuple[str, ...]:
    """Return names of joints in this project's standard form: lower case, with left_ or right_ in front of paired joints.

    LeftKnee, knee_L, l-knee and Lknee become left_knee if `names` also contains the right knee, such as RightKnee. In the same
    way, hindleftpaw becomes left_hindpaw and frontLpaw becomes left_front_paw. If the joint of the other side is not in
    `names`, an l or r does not count as a side. Raises DataError if two joints would get the same
    name.
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
    """Yield the possible standard names of a joint, with its side in front; none if the joint of the other side does not exist.

    words: the words of the joint's name; others: the words of every joint's name; joined: every joint's name, with its words
    joined to one word.
    """
    for place, word in enumerate(words):
        before, after = words[:place], words[place + 1 :]
        if word in _SIDE and (before or after) and (*before, _OTHER_SIDE[word], *after) in others:
            yield "_".join((_SIDE[word], *before, *after))
    text = "".join(words)
    for side, other in _OTHER_SIDE.items():  # names in which the side is no separate word: lknee and rknee, or kneel and kneer
        for rest, partner in ((text.removeprefix(side), other + text.removeprefix(side)),
                              (text.removesuffix(side), text.removesuffix(side) + other)):  # fmt: skip
            if rest and rest != text and partner in joined:
                yield f"{_SIDE[side]}_{rest}"
        for place, word in enumerate(words):  # a side at the beginning of a later word: frontLpaw
            rest = word.removeprefix(side)
            if place and rest and rest != word and "".join((*words[:place], other, rest, *words[place + 1 :])) in joined:
                yield "_".join((_SIDE[side], *words[:place], rest, *words[place + 1 :]))
    for side in ("left", "right"):  # a side within a word: hindleftpaw
        start, found, end = text.partition(side)
        if found and start and end and start + _OTHER_SIDE[side] + end in joined:
            yield f"{side}_{start}{end}"
