"""Read the predictions that other programs made for MPII's people, in the layouts that are common in the field.

An array has one axis for the N people, one for the 16 joints, and one for x and y (or x, y and confidence), in any order:
N x 16 x 2 (most PyTorch programs), 16 x 2 x N (detections_our_format.mat), 2 x 16 x N (MATLAB, including its .h5 files). MPII's
own toolkit uses a struct annolist(i).annorect(k).annopoints.point(j) with x, y and id. People are in the order of the labels.
"""

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.files import decode_text
from datasets.formats.hdf5 import h5_field, open_h5
from datasets.formats.matlab import read_mat
from datasets.formats.matlab_values import Record
from datasets.mpii import MPII

NAMES = ("preds", "pred", "predictions", "keypoints", "pos_pred_src", "annolist")  # names under which a file may hold the array
MOST = 1 << 28  # largest accepted size of a file in bytes; for MPII's 2,958 people, a file has 0.4e6 bytes (.json: 5e6)
JOINTS = len(MPII.skeleton.joints)
# Possible orders of the axes: N people, J joints, C coordinates. The usual orders come first, because the first order that fits
# an array is used.
_ORDERS = ("N J C", "J C N", "C J N", "N C J", "J N C", "C N J")


def read_predictions(path: Path, people: int) -> tuple[np.ndarray, str]:
    """Return predictions (N, 16, 2) float64 in 1-based px, NaN if missing, and a description of the layout of the file.

    Raises DataError for an unreadable file, or a file without an array of predictions for `people` people.
    """
    reader = _READERS.get("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix)
    if reader is None:
        raise DataError(f"{path} is not a file of predictions; give a file of type {', '.join(_READERS)}.")
    if not path.is_file():
        raise DataError(f"{path} is missing; check the path.")
    if path.stat().st_size > MOST:
        raise DataError(f"{path} has more than {MOST} bytes, too many for a file of predictions; check the path.")
    name, values, first = reader(path)
    return arranged(path, name, values, people, first)


def arranged(path: Path, name: str, values: Any, people: int, first: int = 1) -> tuple[np.ndarray, str]:
    """Return `values`, predictions in any layout, as (N, 16, 2) float64 in 1-based px, and a description of their layout.

    first: coordinate of the first pixel in the array, 0 or 1. Raises DataError for an unknown layout.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} does not hold numbers; give a file of predictions.")
    shape, found = values.shape, values
    if shape in ((people, 2 * JOINTS), (people, 3 * JOINTS)):
        found = found.reshape(people, JOINTS, -1)
    for order, count in itertools.product(_ORDERS, (2, 3)):
        sizes = {"N": people, "J": JOINTS, "C": count}
        axes = order.split()
        if found.shape == tuple(sizes[axis] for axis in axes):
            points = found.transpose([axes.index(axis) for axis in "NJC"])[..., :2].astype(np.float64)
            words = {"N": "people", "J": "joints", "C": "x and y" if count == 2 else "x, y and confidence"}
            meaning = f"people, joints with {words['C']}" if len(shape) == 2 else ", ".join(words[axis] for axis in axes)
            return points + 1 - first, f"{name}, {' x '.join(map(str, shape))} ({meaning}), px counted from {first}"
    raise DataError(
        f"{path}: {name} is of shape {' x '.join(map(str, shape))}, expected {people} x {JOINTS} x 2 in any order: the labelled"
        " people, their joints, x and y."
    )


def _of_mat(path: Path) -> tuple[str, Any, int]:
    failures = []
    for name in NAMES:
        try:
            value = read_mat(path, name)[name]
        except DataError as error:
            failures.append(error)
            continue
        return (name, _of_structs(value), 1) if isinstance(value, list) else (name, value, 1)
    raise failures[0]


def _of_structs(annolist: list[Record]) -> np.ndarray:
    """Return the joints (N, 16, 2) of all people with annopoints in a struct of MPII's toolkit, in the struct's order."""
    people = []
    for entry in annolist:
        annorect = entry.get("annorect")
        for person in annorect if isinstance(annorect, list) else ():
            points = person.get("annopoints")
            points = points[0].get("point") if isinstance(points, list) and points else None
            if isinstance(points, list):
                people.append(np.full((JOINTS, 2), np.nan))
                for point in points:
                    x, y, joint = (point.get(name) for name in ("x", "y", "id"))
                    if isinstance(x, float) and isinstance(y, float) and isinstance(joint, float) and joint in range(JOINTS):
                        people[-1][int(joint)] = x, y
    return np.array(people).reshape(-1, JOINTS, 2)


def _of_h5(path: Path) -> tuple[str, Any, int]:
    with open_h5(path) as file:
        name = next((name for name in NAMES if name in file), next(iter(file)) if len(file) == 1 else NAMES[0])
        dataset = h5_field(file, path, name)
        if dataset.nbytes > path.stat().st_size:
            raise DataError(f"{path}: {name} should have more bytes than the file has; the file is damaged. Write it again.")
        return name, dataset[()], 1


def _of_npy(path: Path) -> tuple[str, Any, int]:
    try:
        return "the array", np.array(np.load(path, mmap_mode="r", allow_pickle=False)), 1
    except Exception as error:  # numpy parses the header as Python code, which can raise many kinds of exceptions
        raise DataError(f"{path} cannot be read as an array of numbers ({error}); write it again with numpy.save.") from None


def _of_json(path: Path) -> tuple[str, Any, int]:
    """Read a .json file: nested lists, perhaps under a key listed in NAMES, or a list of people; `keypoints` are 0-based."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"more than {MOST} bytes")
        found, name, first = json.loads(decode_text(content)), "the list", 1
        if isinstance(found, dict):
            name = next((name for name in NAMES if name in found), NAMES[0])
            found, first = found[name], 0 if name == "keypoints" else 1
        if isinstance(found[0], dict):
            name, first = "keypoints", 0
            if all("bbox_id" in person for person in found):
                found = sorted(found, key=lambda person: person["bbox_id"])
            found = [person[name] for person in found]
        return name, np.array(found, dtype=np.float64), first  # null becomes NaN
    except (OSError, EOFError, ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{path} cannot be read as predictions ({type(error).__name__}: {error}); expected nested lists of numbers, alone"
            f" or as {NAMES[0]}, or a list of people with keypoints."
        ) from None


_READERS: dict[str, Callable[[Path], tuple[str, Any, int]]] = {
    ".mat": _of_mat, ".h5": _of_h5, ".hdf5": _of_h5, ".npy": _of_npy, ".json": _of_json, ".json.gz": _of_json,
}  # fmt: skip
