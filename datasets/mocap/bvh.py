"""Read Biovision's .bvh files: a tree of joints with offsets, and the angles of all joints in each frame.

Angles are in degrees about the joint's local axes, in the order of the joint's channels. If a joint has channels for its
position, the position in each frame replaces the joint's offset. The y axis points up by convention; the file does not state
the unit of length.

No published reader is used, because bvhio never returns from a file that is cut short, and pybvh refuses files in which joints
other than the root have channels for their positions.
"""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.mocap.bones import MOST_BONES, Bone, Recording, numbers, read_text

_END = -1  # marks the open block of an End Site, which is not a joint


def read(path: Path) -> Recording:
    """Return the movement in a .bvh file. Raises DataError, with the path in its message, for a missing or invalid file."""
    parts = re.split(r"^[ \t]*MOTION[ \t]*$", read_text(path), maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
    if len(parts) < 2:
        raise DataError(f"{path} has no line MOTION; it is cut short or no .bvh file: copy or make it again.")
    bones = _hierarchy(parts[0], path)
    header = re.match(r"\s*Frames:\s*(\d{1,9})\s+Frame\s+Time:\s*(\S{1,40})", parts[1], re.IGNORECASE)
    if not header:
        raise DataError(f"{path}: Frames: and Frame Time: should follow MOTION; the file is damaged: make it again.")
    try:
        count, seconds = int(header[1]), float(header[2])
        rows = parts[1][header.end() :]
        values = np.loadtxt(io.StringIO(rows), comments=None, ndmin=2) if rows.strip() else np.empty((0, 0))
    except ValueError as error:
        raise DataError(f"{path}: the frames cannot be read ({error}); the file is damaged: copy or make it again.") from None
    columns = sum(len(bone.places) + len(bone.turns) for bone in bones)
    if not count or values.shape != (count, columns):
        raise DataError(
            f"{path} announces {count} frames of {columns} numbers, but has {len(values)} frames of {values.shape[1]} numbers; "
            "it is cut short or damaged: copy or make it again."
        )
    if not np.isfinite(values).all() or not 1e-4 <= seconds <= 10:
        raise DataError(f"{path} has a frame with a number that is not finite, or frames of {seconds} s; make it again.")
    return Recording(bones, values, 1 / seconds, None)


def _hierarchy(text: str, path: Path) -> list[Bone]:
    """Return the joints in the section HIERARCHY. The channels of all joints are numbered in the order of the file."""
    bones: list[Bone] = []
    opened: list[int] = []  # numbers of the joints whose blocks are open, the innermost last
    found, columns = _END, 0
    for number, line in enumerate(text.split("\n"), 1):
        words = line.replace("{", " { ").split()
        try:
            match words:
                case ["ROOT" | "JOINT" as kind, *name]:
                    inside = bool(opened) and opened[-1] != _END
                    if inside != (kind == "JOINT") or (bones and kind == "ROOT") or len(bones) == MOST_BONES:
                        raise ValueError(f"expected one ROOT with at most {MOST_BONES} joints")
                    found = len(bones)
                    bones.append(Bone(" ".join(name).rstrip(" {"), opened[-1] if opened else -1, np.zeros(3)))
                case ["End", *_]:
                    found = _END
                case ["OFFSET", *values] if opened and opened[-1] != _END:
                    bones[opened[-1]] = replace(bones[opened[-1]], offset=np.array(numbers(values, 3, "OFFSET")))
                case ["CHANNELS", count, *names] if opened and opened[-1] != _END:
                    if not count.isdecimal() or int(count) != len(names):
                        raise ValueError(f"expected {count} channels")
                    bones[opened[-1]] = _with_channels(bones[opened[-1]], names, columns)
                    columns += len(names)
                case ["}"]:
                    if not opened:
                        raise ValueError("no block is open")
                    opened.pop()
            if "{" in words:
                opened.append(found)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: {line.strip()[:80]!r} ({error}); the file is damaged: make it again."
            ) from None
    if not bones or opened:
        raise DataError(f"{path}: HIERARCHY has no joint, or a block without an end; the file is damaged: make it again.")
    return bones


def _with_channels(bone: Bone, names: list[str], first: int) -> Bone:
    """Return `bone` with the channels `names`; first: column of the first channel. Raises ValueError for invalid channels."""
    columns = {name.lower(): column for column, name in enumerate(names, first)}
    places: tuple[int, ...] = tuple(columns.pop(f"{axis}position", -1) for axis in "xyz")  # -1 for a channel that is missing
    order = "".join(name[0] for name in columns)
    places = () if max(places) < 0 else places
    known = all(re.fullmatch("[xyz]rotation", name) for name in columns) and min(places, default=0) >= 0
    if bone.turns or bone.places or not known or len(columns) + len(places) != len(names):
        raise ValueError("expected the rotation about each axis at most once, and all three positions or none")
    return replace(bone, places=places, order=order.upper(), turns=tuple(columns.values()))
