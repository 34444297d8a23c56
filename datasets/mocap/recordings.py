"""Read the movements in a .bvh or .amc file, or in all .bvh and .amc files in a folder and its subfolders.

The clips have the 13 joints of Penn Action, and contain all frames of the files. A clip's name is the path of its file within
the folder, without the suffix.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.mocap import acclaim, bvh
from datasets.mocap.bones import Recording, find_joints, positions
from datasets.mocap.clips import Clips, checked

# Suffix of a file, in lower case -> the function that reads the file.
READERS: dict[str, Callable[[Path], Recording]] = {".bvh": bvh.read, ".amc": acclaim.read}
# Usual units of length in .bvh files, in mm. A unit of CMU's files is 1/0.45 inch.
UNITS = {"mm": 1.0, "cm": 10.0, "inches": 25.4, "units of CMU": 25.4 / 0.45, "m": 1000.0}
LEG = 835.0  # mm, length of the leg from hip to ankle of a person who is 1.70 m tall
_FARTHEST = 1.6  # plausible legs, measured in the unit that fits best, are longer or shorter than LEG by at most this factor


def files(path: Path) -> list[Path]:
    """Return the .bvh, .amc and .asf files that `read` reads for a path; [] if the path has no .bvh or .amc file."""
    found = _movements(path)
    bodies = {acclaim.body_of(file) for file in found if file.suffix.lower() == ".amc"}
    return sorted({*found, *bodies})


def read(path: Path) -> Clips:
    """Return the clips at a path, with the 13 joints of Penn Action, in mm with the z axis up.

    Raises DataError, with the file in its message, for invalid files, for missing joints, and if no unit of length is
    plausible.
    """
    found = _movements(path)
    names = tuple((file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("").as_posix() for file in found)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} has two files of the name {twice}; leave one of them out.")
    joints: tuple[str, ...] = ()
    poses, fps = [], []
    for file in found:
        recording = READERS[file.suffix.lower()](file)
        try:
            joints, pose = _poses(recording)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        poses.append(pose)
        fps.append(recording.fps)
    first = np.r_[0, np.cumsum([len(pose) for pose in poses])].astype(np.int64)
    return checked(Clips(joints, np.concatenate(poses), first, names, np.array(fps, np.float32)), path)


def _movements(path: Path) -> list[Path]:
    every = path.rglob("*") if path.is_dir() else [path]
    # Names with ._ are metadata that macOS writes beside each file on other disks.
    return sorted(file for file in every if file.suffix.lower() in READERS and not file.name.startswith("._"))


def _poses(recording: Recording) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the joints and the poses (F, 13, 3) float32 in mm, z up. Raises DataError if no unit is plausible."""
    found = find_joints([bone.name for bone in recording.bones])
    with np.errstate(over="ignore", invalid="ignore"):  # `checked` refuses values that become infinite or NaN
        points = positions(recording, list(found.values()))
        points *= recording.unit or _unit(dict(zip(found, points.transpose(1, 0, 2), strict=True)))
        return tuple(found), np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1).astype(np.float32)


def _unit(places: dict[str, np.ndarray]) -> float:
    """Return the unit of length of a movement in mm: the unit in UNITS in which the length of the legs is closest to LEG.

    places: joint -> positions (F, 3). Raises DataError if the legs are too long or too short in all units.
    """
    parts = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))]
    leg = sum(float(np.median(np.linalg.norm(places[a] - places[b], axis=-1))) for a, b in parts) / 2
    factors = {unit: abs(np.log(leg * unit / LEG)) if leg > 0 else np.inf for unit in UNITS.values()}
    best = min(factors, key=factors.__getitem__)
    if not factors[best] <= np.log(_FARTHEST):
        raise DataError(
            f"the legs are {leg:.4g} units long, too long or too short for a person in {', '.join(UNITS)}; scale the movement."
        )
    return best
