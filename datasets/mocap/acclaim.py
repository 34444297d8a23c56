"""Read movements in Acclaim's format, in which CMU's motion capture is published: .amc and .asf files.

A .asf file describes a body in its rest pose: for each bone, the direction and the length in the world frame, and the axes
about which the bone turns. A .amc file contains a movement: the angles about these axes in each frame. The unit of length is 1
inch divided by the number `length` in the section :units. CMU's files have the number 0.45, so the unit is 56.44 mm. The y axis
points up.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from datasets.errors import DataError
from datasets.mocap.bones import MOST_BONES, Bone, Recording, numbers, read_text

INCH = 25.4  # mm
FPS = 120.0  # frames per second of CMU's recordings; the files do not contain this number
ROOT = "root"


def body_of(path: Path) -> Path:
    """Return the path of the .asf file with the body of a .amc file.

    Both files are in one folder, and the .amc file's name begins with the name of the .asf file: 02_01.amc belongs to 02.asf.
    If no name fits, but the folder has only one .asf file, this file is returned. Raises DataError if no .asf file fits.
    """
    found = sorted(file for file in path.parent.glob("*") if file.suffix.lower() == ".asf")
    fitting = [file for file in found if path.stem.startswith(file.stem)]
    if not fitting and len(found) != 1:
        raise DataError(f"{path} needs the .asf file of its body in its folder, such as {path.stem.partition('_')[0]}.asf.")
    return max(fitting or found, key=lambda file: len(file.stem))


def read(path: Path) -> Recording:
    """Return the movement in a .amc file with the body in the .asf file next to it.

    Raises DataError, with the path in its message, for a missing or invalid file.
    """
    body = body_of(path)
    try:
        bones, unit = _body(read_text(body))
    except ValueError as error:
        raise DataError(f"{body}: {error}; the file is damaged: copy it again.") from None
    try:
        return Recording(bones, _frames(read_text(path), bones), FPS, unit)
    except ValueError as error:
        raise DataError(f"{path}: {error}; it is damaged, cut short or of another body than {body.name}.") from None


def _body(text: str) -> tuple[list[Bone], float]:
    """Return the bones that a .asf file describes, parents before children, and the file's unit of length in mm.

    text: the contents of the file. A frame of a .amc file is read as one row of numbers: bone after bone, and for each bone in
    the order of the bone's field `dof`. Raises ValueError for an invalid file.
    """
    parts = {words[0].lower(): words[1:] for words in _parts(text)}
    missing = [name for name in ("units", ROOT, "bonedata", "hierarchy") if name not in parts]
    if missing:
        raise ValueError(f"it has no part :{missing[0]}")
    units = _fields(parts["units"])
    (length,) = numbers(units.get("length", ["1"]), 1, "the length in :units")
    if length <= 0 or " ".join(units.get("angle", ["deg"]))[:3].lower() != "deg":
        raise ValueError("the unit of length should be above 0, and the angles in degrees")
    given = {fields["name"][0]: fields for fields in map(_fields, _blocks(parts["bonedata"])) if fields.get("name")}
    bones = [_root(_fields(parts[ROOT]))]
    ends, column = {ROOT: np.zeros(3)}, len(bones[0].places) + len(bones[0].turns)
    numbers_of = {ROOT: 0}
    for parent, name in _pairs(parts["hierarchy"]):
        if parent not in numbers_of or name in numbers_of or name not in given or len(bones) == MOST_BONES:
            raise ValueError(f"the bone {name} of {parent} in :hierarchy is unknown or listed twice")
        fields = given[name]
        ends[name] = np.array(numbers(fields.get("direction", []), 3, f"the direction of {name}"))
        ends[name] *= numbers(fields.get("length", []), 1, f"the length of {name}")
        turns = [word.lower() for word in fields.get("dof", [])]
        if len(set(turns)) < len(turns) or not set(turns) <= {"rx", "ry", "rz"}:
            raise ValueError(f"the bone {name} has a dof other than rx, ry and rz")
        own, own_axes = tuple(range(column, column + len(turns))), _axes(fields.get("axis", []), name)
        bones.append(Bone(name, numbers_of[parent], ends[parent], (), _letters(turns), own, own_axes))
        numbers_of[name], column = len(bones) - 1, column + len(turns)
    return bones, INCH / length


def _root(fields: dict[str, list[str]]) -> Bone:
    """Return the root bone from the fields of :root; the first six columns of a frame are the root's position and angles."""
    order = [word.lower() for word in fields.get("order", [])]
    if sorted(order) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise ValueError("the order of :root should list TX TY TZ RX RY RZ in any order")
    turns = [name for name in order if name[0] == "r"]
    places = tuple(order.index(f"t{axis}") for axis in "xyz")
    axes = _axes(fields.get("orientation", ["0", "0", "0"]), ROOT)
    return Bone(ROOT, -1, np.zeros(3), places, _letters(turns), tuple(order.index(name) for name in turns), axes)


def _frames(text: str, bones: list[Bone]) -> np.ndarray:
    """Return the numbers (F, C) in the F frames of a .amc file. Raises ValueError for an invalid file."""
    rows: dict[str, list[list[float]]] = {bone.name: [] for bone in bones if bone.places or bone.turns}
    widths = {bone.name: len(bone.places) + len(bone.turns) for bone in bones}
    count = 0
    for line in text.split("\n"):
        words = line.split()
        if not words or words[0][0] in "#:":
            if words and words[0].lower() == ":radians":
                raise ValueError("the angles are in radians, and should be in degrees")
        elif len(words) == 1 and words[0].isdecimal():
            count += 1
        elif words[0] in rows and len(rows[words[0]]) == count - 1:
            rows[words[0]].append(numbers(words[1:], widths[words[0]], f"{words[0]} of frame {count}"))
        else:
            raise ValueError(f"the line {line.strip()[:80]!r} of frame {count} is unexpected")
    short = next((name for name, values in rows.items() if len(values) != count), None)
    if short or not count:
        raise ValueError(f"it has no values of {short or 'any bone'} in one of its {count} frames")
    return np.concatenate([np.array(values, dtype=np.float64) for values in rows.values()], axis=1)


def _parts(text: str) -> Iterator[list[str]]:
    """Yield each section of a .asf file: its name, then its lines. Text after the name, on the same line, counts as a line."""
    for part in re.split(r"^:(?=\w)", text, flags=re.MULTILINE)[1:]:
        first, *lines = part.split("\n")
        name, *rest = first.split(None, 1)
        yield [name, *rest, *(line for line in lines if not line.lstrip().startswith("#"))]


def _fields(lines: list[str]) -> dict[str, list[str]]:
    """Return a dictionary: first word of each line, in lower case -> the line's other words."""
    return {words[0].lower(): words[1:] for words in map(str.split, lines) if words}


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield the blocks of a section; a block is the list of lines between `begin` and `end`."""
    block: list[str] = []
    for line in lines:
        match line.split():
            case ["begin"]:
                block = []
            case ["end"]:
                yield block
            case _:
                block.append(line)


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (parent, child) for the bones in the section :hierarchy. Each line lists a parent and then its children."""
    for words in (line.split() for block in _blocks(lines) for line in block):
        for name in words[1:]:
            yield words[0], name


def _axes(words: list[str], bone: str) -> Rotation:
    """Return the rotation of a bone's axes; words: its field `axis`, three angles in degrees and perhaps the word XYZ."""
    if [word.upper() for word in words[3:]] not in (["XYZ"], []):
        raise ValueError(f"the axes of {bone} should be three angles and XYZ, and are {' '.join(words)[:80]!r}")
    return Rotation.from_euler("xyz", numbers(words[:3], 3, f"the axes of {bone}"), degrees=True)


def _letters(turns: list[str]) -> str:
    return "".join(name[1] for name in turns)
