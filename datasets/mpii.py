"""MPII Human Pose as distributed: the people of `mpii_human_pose_v1_u12_1.mat`, and who of them validates.

The struct RELEASE is described by MPII's annotation description. Its coordinates count from 1 (MATLAB) and are
converted here. Box, head size and torso angle are made as in the annotation files published with pose-hg-train.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.formats.annotations import LARGEST, Annotations, h5_field, hold_out, open_h5, person_box, read_numbers
from datasets.formats.matlab import read_mat
from datasets.formats.matlab_values import Record, Value
from datasets.progress import Report, silent
from datasets.skeletons import MPII
from datasets.text import decode

MOST_JSON = 1 << 27  # bytes of mpii_annotations.json, unpacked; the published one has 33e6
MAT_NAME = "mpii_human_pose_v1_u12_1.mat"
JOINTS = len(MPII.joints)
PELVIS, THORAX = MPII.joints.index("pelvis"), MPII.joints.index("thorax")


@dataclass(frozen=True)
class Release:
    """The usable people of the distribution's file, and all its images."""

    people: Annotations  # in file order: index is the image's place in annolist, person its place in annorect, from 0
    training: np.ndarray  # (N,) bool: the person stands on a training image; test people have no labelled joints
    images: list[str]  # names of all images in the order of annolist
    training_images: np.ndarray  # (number of images,) bool


def read(path: Path, report: Report = silent) -> Release:
    """Read every usable person of the RELEASE file at `path`; `report(images done, images)` now and then.

    A person is usable with scale and objpos and, on a training image, with at least one joint. Absent or empty
    annorect, annopoints, scale and objpos only make people unusable. `is_visible` may be absent or empty (visible), a
    number or the text '0' or '1'. Fields are taken by name, joints by id, and whatever else is there is ignored. A
    person without head box has normalize -1. Raises DataError, naming image, person and field, for anything else that
    does not fit.
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


def split(release: Release, split_file: Path | None, fraction: float, seed: int) -> dict[str, Annotations]:
    """People of `train`, `valid` and `test`, each in file order.

    `test`: all people of test images. `valid`: those that `split_file` tells, which is one of
    - `*.h5`: published annotations of the validation people (index and person, counted from 0);
    - `*.json`, `*.json.gz`: mpii_annotations.json (isValidation; annolist_index and people_index, counted from 1), or the
      validation people of HRNet (valid.json) and mmpose (mpii_val.json), found by image, center and scale;
    - `*.txt`: names of images, one a line; everybody on them validates;
    and with None everybody on a share `fraction` of the training images that hold usable people, drawn by
    `numpy.random.default_rng(seed)` (Tompson et al. hold out 2,958 of 25,204 people, a share of 0.12). `train`:
    everybody on other training images. People on a validation image whom a published split leaves out belong nowhere.
    Raises DataError where the split file is damaged or fits another release.
    """
    people, training = release.people, release.training
    if split_file is None:
        valid = np.zeros(len(people), bool)
        valid[training] = hold_out(people.index[training], fraction, seed)
    elif split_file.suffix == ".txt":
        valid = training & np.isin(people.index, _listed_images(release, split_file))
    elif split_file.suffix == ".h5":
        valid = _find_people(release, _people_of_h5(split_file), split_file)
    elif split_file.name.endswith((".json", ".json.gz")):
        valid = _find_people_of_json(release, split_file)
    else:
        raise DataError(f"{split_file} is not a split file: expected .h5, .json, .json.gz or .txt.")
    train = training & ~np.isin(people.index, people.index[valid])
    return {"train": people.select(train), "valid": people.select(valid), "test": people.select(~training)}


def _record(value: Value | None, path: Path, name: str) -> Record:
    if not isinstance(value, list) or len(value) != 1:
        raise DataError(f"{path}: {name} is not a single struct; this is not MPII's annotation file.")
    return value[0]


def _image_name(image: Value | None, where: str) -> str:
    """The name in a record `image`, which has to be that of a file in the images folder itself."""
    name = image[0].get("name") if isinstance(image, list) and len(image) == 1 else None
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise DataError(f"{where}.image has no field 'name' with a file's name; this is not MPII's annotation file.")
    return name


def _read_person(person: Record, training: bool, where: str) -> tuple[Any, ...] | None:
    """Position (2,), scale, joints (16, 2), visible (16,) and head size, pixels from 1; None for an unusable person."""
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
    """Joints (16, 2) float64, pixels from 1 and NaN where absent or at (0, 0), and visible (16,) bool."""
    joints, visible = np.full((JOINTS, 2), np.nan), np.zeros(JOINTS, bool)
    annopoints = _part(person, "annopoints")
    points = annopoints.get("point") if annopoints is not None else None
    for point in points if isinstance(points, list) else ():
        x, y, joint = (_number(point, name, where) for name in ("x", "y", "id"))
        seen = _visibility(point.get("is_visible"))
        if x is None or y is None or joint is None or joint not in range(JOINTS) or seen is None:
            raise DataError(
                f"{where}: annopoints.point lacks x or y, or has an id beyond 0..15 or an is_visible beyond 0 and 1."
            )
        if x or y:  # annotation files say (0, 0) of a joint without a label
            joints[int(joint)], visible[int(joint)] = (x, y), seen
    return joints, visible


def _visibility(value: Value | None) -> bool | None:
    """What `is_visible` says: the number or the text 0 or 1; absent or empty means visible. None for anything else."""
    if _is_empty(value):
        return True
    return {0.0: False, 1.0: True, "0": False, "1": True}.get(value) if isinstance(value, float | str) else None


def _is_empty(value: Value | None) -> bool:
    return value is None or (value.size == 0 if isinstance(value, np.ndarray) else value in ("", []))


def _part(record: Record, name: str) -> Record | None:
    """The struct in field `name`, None where it is absent or empty."""
    value = record.get(name)
    return value[0] if isinstance(value, list) and value else None


def _number(record: Record, name: str, where: str) -> float | None:
    """The number in field `name`, None where it is absent or empty."""
    value = record.get(name)
    if isinstance(value, float) and abs(value) < LARGEST:
        return value
    if _is_empty(value):
        return None
    raise DataError(f"{where}: field {name!r} is {value!r:.60}, expected one number of a possible size.")


def _to_annotations(rows: list[tuple[Any, ...]], images: list[str]) -> Annotations:
    """Rows of (index, person, position, scale, joints, visible, head size), pixels from 1, as Annotations."""
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
    """Degrees (N,) that the torso of joints (N, 16, 2), px from 1, leans to the right of upright, -90 to 270; 0 if unknown.

    The angle of the way from pelvis to thorax, plus 90, as in the annotation files published with pose-hg-train, which
    take a joint at x = 0 for one without a label.
    """
    way = joints[:, THORAX] - joints[:, PELVIS]
    angle = 90 + np.degrees(np.arctan2(way[:, 1], way[:, 0]))
    at_edge = (joints[:, [PELVIS, THORAX], 0] == 0).any(axis=1)
    return np.where(np.isnan(angle) | at_edge, 0.0, angle)


def _listed_images(release: Release, path: Path) -> list[int]:
    """Places in annolist of the images that the text file at `path` names; all have to be training images."""
    try:
        names = {line.strip() for line in decode(path.read_bytes()).splitlines()} - {""}
    except OSError as error:
        raise DataError(f"{path} cannot be read as a list of image names ({error.strerror}).") from None
    places = {name: i for i, name in enumerate(release.images) if release.training_images[i]}
    unknown = sorted(names - places.keys())
    if unknown or not names:
        example = f", such as {unknown[0]}" if unknown else ""
        raise DataError(
            f"{path} names {len(names)} images, of which {len(unknown)} are no training images of the release{example};"
            " expected names as in the images folder, one a line."
        )
    return [places[name] for name in names]


def _people_of_h5(path: Path) -> list[tuple[int, int, str]]:
    """(index, person, image name) of every row of published annotations, counted from 0."""
    with open_h5(path) as file:
        names = h5_field(file, path, "imgname")
        if names.dtype.kind != "S" or len(names.shape) != 1 or names.nbytes > path.stat().st_size:
            raise DataError(f"{path}: field 'imgname' is not one text a row; it is not a published annotation file.")
        count = names.shape[0]
        index, person = (read_numbers(file, path, name, count).tolist() for name in ("index", "person"))
        return list(zip(index, person, [name.decode("latin-1") for name in names[()]], strict=True))


def _find_people_of_json(release: Release, path: Path) -> np.ndarray:
    """Return (N,) bool: the validation people of a .json or .json.gz in one of the two layouts that `split` names."""
    with open_json(path) as entries:
        if "isValidation" in entries[0]:
            wanted = [
                (int(entry["annolist_index"]) - 1, int(entry["people_index"]) - 1, str(entry["img_paths"]))
                for entry in entries
                if entry["isValidation"]
            ]
            return _find_people(release, wanted, path)
        return _find_places(release, [_place(entry) for entry in entries], path)


@contextmanager
def open_json(path: Path) -> Iterator[Any]:
    """The people of a .json or .json.gz; DataError where it is damaged, also for what the block stumbles over."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ValueError(f"more than {MOST_JSON} bytes")
        yield json.loads(decode(content))
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} is not a readable split file ({type(error).__name__}: {error}); expected a list of people, each with"
            " annolist_index, people_index, img_paths and isValidation (mpii_annotations.json), or each with image, center and"
            " scale (valid.json of HRNet, mpii_val.json of mmpose)."
        ) from None


def _place(entry: dict[str, Any]) -> tuple[str, np.ndarray]:
    """Return the image of a person in HRNet's layout, and objpos (2,) px from 1 and scale / 200 px as one array (3,)."""
    x, y = entry["center"]
    return str(entry["image"]), np.array([float(x), float(y), float(entry["scale"])])


def _find_places(release: Release, wanted: Iterable[tuple[str, np.ndarray]], path: Path) -> np.ndarray:
    """Return (N,) bool: the people at the wanted places of `_place`. Each has to be a single training person.

    Places may differ by 1 px, as files that count pixels from 0 do, and scales by 1 %; no two people of MPII are that close.
    """
    people = release.people
    scale = people.scale / 1.25  # `person_box` undone
    places = np.column_stack([people.center + 1, scale])
    places[:, 1] -= 15 * scale
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(release.training).tolist():
        rows.setdefault(people.images[row], []).append(row)
    valid = np.zeros(len(people), bool)
    for image, place in wanted:
        near = [row for row in rows.get(image, []) if (np.abs(places[row] - place) <= (1.01, 1.01, 0.01 * place[2])).all()]
        if len(near) != 1:
            raise DataError(
                f"{path} puts a person at {place[:2].tolist()} of scale {place[2]:g} in image {image} into validation, where"
                f" the release has {len(near)} such training people; the split file belongs to another release."
            )
        valid[near] = True
    return valid


def _find_people(release: Release, wanted: Iterable[tuple[int, int, str]], path: Path) -> np.ndarray:
    """(N,) bool: the wanted people, every one of whom has to stand on a training image of the same name."""
    people = release.people
    rows = {
        key: row
        for row, key in enumerate(zip(people.index.tolist(), people.person.tolist(), people.images, strict=True))
        if release.training[row]
    }
    valid = np.zeros(len(people), bool)
    for key in wanted:
        if key not in rows:
            raise DataError(
                f"{path} puts person {key[1]} (from 0) of image {key[2]}, number {key[0]} (from 0), into validation,"
                " but the release has no such training person; the split file belongs to another release."
            )
        valid[rows[key]] = True
    return valid
