"""Read MPII's annotation file, `mpii_human_pose_v1_u12_1.mat`, and write predictions in its layout.

The file contains one MATLAB struct, RELEASE; MPII's annotation description explains its fields. Coordinates in the file count
from 1 (MATLAB) and are converted here. Box, head size and torso angle are computed as in the annotation files published with
pose-hg-train.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.formats.annotations import Annotations, person_box
from datasets.formats.hdf5 import LARGEST
from datasets.formats.matlab import read_mat, structs, write_mat
from datasets.formats.matlab_values import Record, Value
from datasets.progress import Report, silent

MAT_NAME = "mpii_human_pose_v1_u12_1.mat"
JOINTS = 16  # number of joints; their order is that of `datasets.mpii.SKELETON`
PELVIS, THORAX = 6, 7


@dataclass(frozen=True)
class Release:
    """The contents of MPII's annotation file: the usable people, and all images."""

    people: Annotations  # in file order; `index` and `person` are the indices in annolist and annorect, from 0
    training: np.ndarray  # (N,) bool: whether the person is on a training image; test people have no labelled joints
    images: list[str]  # names of all images in the order of annolist
    training_images: np.ndarray  # (number of images,) bool: whether the image is a training image


def read(path: Path, report: Report = silent) -> Release:
    """Read all usable people of MPII's annotation file; calls `report(images done, images)` from time to time.

    A person is usable if scale and objpos are known and, on a training image, at least one joint is labelled. A missing or
    empty field annorect, annopoints, scale or objpos is not an error. `is_visible` is a number or the text '0' or '1'; if it is
    missing or empty, the joint counts as visible. Fields are found by name, joints by id, and further fields are ignored. A
    person without a head box gets -1 as head size (`normalize`). Raises DataError, whose text states image, person and field,
    for any other deviation from MPII's layout.
    """
    release = _record(read_mat(path, "RELEASE")["RELEASE"], path, "RELEASE")
    annolist = release.get("annolist")
    img_train = release.get("img_train")
    training = np.ravel(img_train) if isinstance(img_train, float | np.ndarray) else np.zeros(0)
    if not isinstance(annolist, list) or len(training) != len(annolist):
        raise DataError(
            f"{path}: RELEASE.annolist is no struct array, or RELEASE.img_train has no number for each of its images; this"
            " is not MPII's annotation file."
        )
    images, rows = [], []
    for i, entry in enumerate(annolist):
        images.append(_image_name(entry.get("image"), f"{path}: RELEASE.annolist({i + 1})"))
        people = entry.get("annorect")
        for j, person in enumerate(people if isinstance(people, list) else ()):
            row = _read_person(person, training[i] == 1, f"{path}: image {images[i]}, person {j + 1}")
            if row is not None:
                rows.append((i, j, *row))
        if i % 500 == 0:
            report(i, len(annolist))
    report(len(annolist), len(annolist))
    return Release(_to_annotations(rows, images), training[[row[0] for row in rows]] == 1, images, training == 1)


def _record(value: Value | None, path: Path, name: str) -> Record:
    if not isinstance(value, list) or len(value) != 1:
        raise DataError(f"{path}: {name} is not a single struct; this is not MPII's annotation file.")
    return value[0]


def _image_name(image: Value | None, where: str) -> str:
    """Return the file name in a field `image`. Raises DataError if the name is missing or a path. where: the record's name."""
    name = image[0].get("name") if isinstance(image, list) and len(image) == 1 else None
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise DataError(f"{where}.image has no field 'name' with a file's name; this is not MPII's annotation file.")
    return name


def _read_person(person: Record, training: bool, where: str) -> tuple[Any, ...] | None:
    """Return position (2,), scale, joints (16, 2), visible (16,) and head size of a person, or None for an unusable person.

    Pixels count from 1. training: whether the image is a training image; where: the person, for error messages.
    """
    scale = _number(person, "scale", where)
    objpos = _part(person, "objpos")
    if scale is None or objpos is None:
        return None
    x, y = _number(objpos, "x", where), _number(objpos, "y", where)
    if x is None or y is None:
        return None
    if scale <= 0:
        raise DataError(f"{where}: field 'scale' is {scale:g}, expected a positive number.")
    joints, visible = _read_joints(person, where)
    if training and np.isnan(joints).all():
        return None
    corners = [_number(person, name, where) for name in ("x1", "y1", "x2", "y2")]
    box = [corner for corner in corners if corner is not None]
    diagonal = math.hypot(box[2] - box[0], box[3] - box[1]) if training and len(box) == 4 else 0
    return (x, y), scale, joints, visible, 0.6 * diagonal if diagonal else -1.0


def _read_joints(person: Record, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return joints (16, 2) float64 in pixels counted from 1, NaN if missing or at (0, 0), and visible (16,) bool."""
    joints, visible = np.full((JOINTS, 2), np.nan), np.zeros(JOINTS, bool)
    annopoints = _part(person, "annopoints")
    points = annopoints.get("point") if annopoints is not None else None
    for point in points if isinstance(points, list) else ():
        x, y, joint = (_number(point, name, where) for name in ("x", "y", "id"))
        seen = _visibility(point.get("is_visible"))
        if x is None or y is None or joint is None or joint not in range(JOINTS) or seen is None:
            raise DataError(
                f"{where}: annopoints.point lacks x or y, or its id is not in 0..15, or its is_visible is neither 0 nor 1."
            )
        if x or y:  # (0, 0) marks a joint without a label in published annotation files
            joints[int(joint)], visible[int(joint)] = (x, y), seen
    return joints, visible


def _visibility(value: Value | None) -> bool | None:
    """Return the meaning of a field `is_visible`: True for the number or text 1, False for 0, None for any other value.

    A missing or empty field means visible.
    """
    if _is_empty(value):
        return True
    return {0.0: False, 1.0: True, "0": False, "1": True}.get(value) if isinstance(value, float | str) else None


def _is_empty(value: Value | None) -> bool:
    return value is None or (value.size == 0 if isinstance(value, np.ndarray) else value in ("", []))


def _part(record: Record, name: str) -> Record | None:
    """Return the struct in the field `name` of a record, or None if the field is missing or empty."""
    value = record.get(name)
    return value[0] if isinstance(value, list) and value else None


def _number(record: Record, name: str, where: str) -> float | None:
    """Return the number in the field `name` of a record, or None if the field is missing or empty.

    Raises DataError for a value that is not one number; where: the record, for the error message.
    """
    value = record.get(name)
    if isinstance(value, float) and abs(value) < LARGEST:
        return value
    if _is_empty(value):
        return None
    raise DataError(f"{where}: field {name!r} is {value!r:.60}, expected one number of a possible size.")


def _to_annotations(rows: list[tuple[Any, ...]], images: list[str]) -> Annotations:
    """Return annotations of rows (index, person, position, scale, joints, visible, head size) in pixels counted from 1."""
    index, person, objpos, scale, part, visible, size = zip(*rows, strict=True) if rows else ((),) * 7
    joints = np.array(part, dtype=np.float64).reshape(-1, JOINTS, 2)
    center, side = person_box(np.array(objpos).reshape(-1, 2), np.array(scale, dtype=np.float64))
    return Annotations(
        images=[images[i] for i in index],
        index=np.array(index, dtype=np.int64),
        person=np.array(person, dtype=np.int64),
        center=center - 1,
        scale=side,
        part=joints - 1,
        visible=np.array(visible, dtype=bool).reshape(-1, JOINTS),
        normalize=np.array(size, dtype=np.float64),
        torsoangle=torso_angle(joints),
    )


def torso_angle(joints: np.ndarray) -> np.ndarray:
    """Return the clockwise tilt (N,) of torsos from upright in the image, in degrees from -90 to 270; 0 if unknown.

    joints: (N, 16, 2) px counted from 1. The angle is 90 plus the angle of the vector from pelvis to thorax, measured from the
    x axis with y pointing down. As in the annotation files published with pose-hg-train, a pelvis or thorax at x = 0 counts as
    unlabelled, so the angle is 0.
    """
    way = joints[:, THORAX] - joints[:, PELVIS]
    angle = 90 + np.degrees(np.arctan2(way[:, 1], way[:, 0]))
    at_edge = (joints[:, [PELVIS, THORAX], 0] == 0).any(axis=1)
    return np.where(np.isnan(angle) | at_edge, 0.0, angle)


def write_predictions(path: Path, release: Path, people: Annotations, preds: np.ndarray) -> None:
    """Write predictions in the layout of pred_keypoints_mpii.mat, which MPII's evaluation toolkit loads.

    release: MPII's annotation file; people: the test people; preds: (N, 16, 2), the predicted joints of the test people in
    0-based px. The variable RELEASE.annolist has an entry for every image, in the order of MPII's file. The entries of test
    images have the predictions in annorect(k).annopoints.point(j) with the fields x, y and id; k is the person's number in
    MPII's file, id counts from 0. People who have no position in MPII's file have no annopoints. The variable `pred` has the
    entries of the test images only. Raises DataError as `read` does.
    """
    images = read(release)
    found: dict[int, dict[int, np.ndarray]] = {}
    for number, person, joints in zip(people.index.tolist(), people.person.tolist(), preds, strict=True):
        found.setdefault(number, {})[person] = joints
    entries = [_entry(name, found.get(number, {})) for number, name in enumerate(images.images)]
    train = images.training_images.astype(np.uint8)
    test = [entries[number] for number in np.flatnonzero(train == 0)]
    write_mat(path, {"pred": structs(test), "RELEASE": {"annolist": structs(entries), "img_train": train}}, "predicted joints")


def _entry(image: str, found: dict[int, np.ndarray]) -> dict[str, Any]:
    empty = np.zeros((0, 0))
    rects = [{"annopoints": _points(found[k]) if k in found else empty} for k in range(max(found, default=-1) + 1)]
    return {"image": structs([{"name": image}]), "annorect": structs(rects) if rects else empty}


def _points(joints: np.ndarray) -> np.ndarray:
    points = [{"x": x + 1, "y": y + 1, "id": float(j)} for j, (x, y) in enumerate(joints.tolist()) if not np.isnan(x)]
    return structs([{"point": structs(points)}])
