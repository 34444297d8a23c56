"""Trees of bones: compute the positions of joints in each frame, and find the joints of Penn Action by usual bone names."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from datasets.errors import DataError
from datasets.files import decode_text, size_in_words

MOST_BONES = 1000  # largest number of bones in a body; a body with fingers and face has about 200
MOST_BYTES = 1 << 28  # largest size of a file in bytes; ten minutes at 120 frames per second have about 50 MB
_AT_ONCE = 4096  # frames that are computed at a time, to limit memory

# Joint -> names of the bone that begins at the joint, without the side; the first name that a file contains is used. In files
# with a bone LeftArm, the bone LeftShoulder begins at the neck, so `arm` comes first. In CMU's files, the bone lwrist begins at
# the wrist, and the bone lhand begins within the hand, so `wrist` comes first.
_SIDED = {
    "shoulder": ("arm", "upperarm", "uparm", "humerus", "shldr", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "radius", "elbow"),
    "wrist": ("wrist", "hand"),
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("leg", "lowerleg", "lowleg", "shin", "calf", "tibia", "knee"),
    "ankle": ("foot", "ankle"),
}
_SIDES = {"right": ("right{}", "r{}", "{}right", "{}r"), "left": ("left{}", "l{}", "{}left", "{}l")}
# Joint of Penn Action -> names of the bone that begins at the joint, in lower case and with only letters and digits. The first
# name that a file contains is used.
NAMES = {"head": ("head",)} | {
    f"{side}_{joint}": tuple(form.format(name) for name in names for form in forms)
    for joint, names in _SIDED.items()
    for side, forms in _SIDES.items()
}


@dataclass(frozen=True)
class Bone:
    """A bone of a body. A bone begins at a joint and moves with its parent bone."""

    name: str
    parent: int  # number of the parent, which comes earlier in the list of bones; -1 for the root
    offset: np.ndarray  # (3,) vector from the parent's beginning to this bone's beginning, in the parent's frame
    # Columns of x, y and z in `Recording.values`; these values replace `offset`. Empty if `offset` is used in all frames.
    places: tuple[int, ...] = ()
    # Axes of the rotations, in the order in which the bone is turned, as for scipy's `Rotation.from_euler`: with upper-case
    # letters, such as ZXY, the axes turn with the bone; with lower-case letters, the axes do not turn with the bone.
    order: str = ""
    turns: tuple[int, ...] = ()  # columns of the angles in `Recording.values`, in degrees, one for each axis
    axes: Rotation | None = None  # rotation from the bone's axes to the axes of `offset`; None if these axes are equal


@dataclass(frozen=True)
class Recording:
    """A movement as a file stores it; the y axis points up."""

    bones: Sequence[Bone]
    values: np.ndarray  # (F, C) float64, finite: the C numbers of each frame; see `Bone.places` and `Bone.turns`
    fps: float  # frames per second
    unit: float | None  # the file's unit of length in mm; None if the file does not state a unit


def read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError if the file is missing or unreadable, or has more than MOST_BYTES bytes."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path} has {size_in_words(size)}, which is too large for a movement; check the path.")
        return decode_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); correct [mocap] source.") from None


def numbers(words: Sequence[str], count: int, what: str) -> list[float]:
    """Return `words` as numbers; what: their name in messages. Raises ValueError unless they are `count` finite numbers."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ValueError(f"{what} should be {count} finite numbers, and is {' '.join(words)[:80]!r}")
    return found


def find_joints(names: Sequence[str]) -> dict[str, int]:
    """Return joint -> number of the bone that begins at the joint, for the 13 joints of Penn Action.

    names: names of the bones, such as LeftUpLeg, mixamorig:LeftUpLeg, lfemur or thigh_l. Raises DataError for a missing joint.
    """
    begin = len(os.path.commonprefix(list(names))) if len(names) > 1 else 0  # length of a common prefix, such as Bip01
    plain: dict[str, int] = {}
    for number, name in enumerate(names):
        for text in (name, name[begin:], name.rpartition(":")[2]):
            plain.setdefault(re.sub(r"[^a-z0-9]", "", text.lower()), number)
    found = {joint: next((plain[name] for name in known if name in plain), None) for joint, known in NAMES.items()}
    missing = [joint for joint, number in found.items() if number is None]
    if missing:
        raise DataError(
            f"no bone has a known name of {', '.join(missing)}, such as {NAMES[missing[0]][0]}; the bones are "
            f"{', '.join(names)[:500]}. Rename the bones."
        )
    return {joint: number for joint, number in found.items() if number is not None}


def positions(recording: Recording, wanted: Sequence[int]) -> np.ndarray:
    """Return the positions (F, len(wanted), 3) float64 at which the wanted bones begin.

    wanted: numbers of the bones. The positions are in the file's unit of length and world frame.
    """
    bones, values = recording.bones, recording.values
    needed = set()
    for number in wanted:
        while number >= 0 and number not in needed:
            needed.add(number)
            number = bones[number].parent
    parts = [_positions(bones, values[at : at + _AT_ONCE], sorted(needed), wanted) for at in range(0, len(values), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, len(wanted), 3))


def _positions(bones: Sequence[Bone], values: np.ndarray, needed: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    place, turned = {-1: np.zeros((len(values), 3))}, {-1: Rotation.identity()}
    for number in needed:
        bone = bones[number]
        offset = values[:, bone.places] if bone.places else bone.offset
        place[number] = place[bone.parent] + turned[bone.parent].apply(offset)
        turn = Rotation.identity()
        if bone.turns:
            turn = Rotation.from_euler(bone.order, values[:, bone.turns], degrees=True)
            turn = turn if bone.axes is None else bone.axes * turn * bone.axes.inv()
        turned[number] = turned[bone.parent] * turn
    return np.stack([place[number] for number in wanted], axis=1)
