"""COCO keypoints: read and write labelled or predicted people in one .json file, for mmpose, SLEAP and labelling programs.

The layouts are defined in https://cocodataset.org/#format-data and #format-results. Joints are in 0-based px with pixel centres
at integers, as everywhere in this workspace. The flag of a joint is 2 if visible, 1 if occluded, 0 if not labelled.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.files import decode_text, write_atomically
from datasets.formats.annotations import ENLARGED, MOVED_DOWN, Annotations, framed_by_joints, person_box
from datasets.formats.hdf5 import LARGEST
from datasets.skeletons import Skeleton


@dataclass(frozen=True)
class CocoPeople:
    """The people of a COCO file, in the file's order, with joints named as in the file."""

    rows: Annotations  # `normalize` and `torsoangle` are -1
    skeleton: Skeleton
    sizes: dict[str, tuple[int, int]]  # image -> (width, height) px, for the images whose size the file states
    left_out: int  # number of people with labelled joints but without a box
    # Left-right pairs of joints, read from `flip_pairs`, a field that this workspace adds to COCO's format.
    pairs: list[tuple[int, int]]


def read_coco(path: Path, category: str = "") -> CocoPeople:
    """Read the people of one category from a file of COCO keypoints.

    category: name of the category; empty: the only category with joints. A person's box is made by `person_box` from `bbox` or,
    if `bbox` is missing or has no extent, from the bounding box of the joints. Crowds (`iscrowd`), people without a labelled
    joint and people without a box are left out. Raises DataError, whose text states file, record and remedy, for a file that is
    damaged or not of COCO keypoints, and for invalid coordinates, flags and numbers.
    """
    content = _content(path)
    chosen = _category(content["categories"], category, path)
    joints = tuple(map(str, chosen["keypoints"]))
    names = dict[int | str, str]()
    for record in content["images"]:
        name = _image_name(record, path)
        if not isinstance(record.get("id"), int | str):
            raise DataError(f"{path}: the image {name} has no number as its id; export the labels again.")
        if names.setdefault(record["id"], name) != name:
            raise DataError(
                f"{path} has two images with id {record['id']}, {names[record['id']]} and {name}; give them different ids."
            )
    sizes = {names[record["id"]]: size for record in content["images"] if (size := _size(record))}
    records = [r for r in content["annotations"] if r.get("category_id") == chosen.get("id") and not r.get("iscrowd")]
    people = [person for record in records if (person := _read_person(record, len(joints), names, path))]
    rows = _rows(people)
    if not len(rows):
        raise DataError(
            f"{path} has no person with labelled joints (visibility 1 or 2) and a box in the category {chosen.get('name')}; "
            "label joints, and give each person a `bbox` or at least two joints at different places."
        )
    limbs, pairs = (_joint_pairs(chosen, key, len(joints), path) for key in ("skeleton", "flip_pairs"))
    skeleton = Skeleton(joints, tuple(range(len(joints))), tuple(limbs))
    return CocoPeople(rows, skeleton, sizes, len(people) - len(rows), pairs)


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    """Return the width and height in an image's record; None if the record does not state them."""
    width, height = (side if isinstance(side, int | float) else 0 for side in (record.get("width"), record.get("height")))
    if not (width > 0 and height > 0 and float(width).is_integer() and float(height).is_integer()):
        return None
    return int(width), int(height)  # pandas writes whole numbers as 640.0


def _content(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lists `images`, `annotations` and `categories` of a COCO file by name. Raises DataError if one is missing."""
    try:
        content = json.loads(decode_text(path.read_bytes()))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its path in the settings.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON file, or is cut off ({error}); export the labels again.") from None
    for name in ("images", "annotations", "categories"):
        records = content.get(name) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise DataError(f"{path} has no list `{name}`, as COCO keypoints have; export the labels as COCO keypoints.")
    return content


def _category(categories: list[dict[str, Any]], wanted: str, path: Path) -> dict[str, Any]:
    with_joints = [found for found in categories if isinstance(found.get("keypoints"), list) and found["keypoints"]]
    named = [found for found in with_joints if not wanted or found.get("name") == wanted]
    if len(named) != 1:
        names = ", ".join(str(found.get("name")) for found in with_joints) or "none"
        raise DataError(f"{path}: the categories with joints are: {names}; choose one by `category`.")
    joints = [str(joint) for joint in named[0]["keypoints"]]
    if twice := [joint for joint, count in Counter(joints).items() if count > 1]:
        raise DataError(f"{path} names the joint {twice[0]} twice; give each joint a different name.")
    return named[0]


def _image_name(record: dict[str, Any], path: Path) -> str:
    """Return the path of an image relative to the folder of images. Raises DataError for a path outside this folder."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{path}: the image with id {record.get('id')} has no file_name; export the labels again.")
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts:
        raise DataError(f"{path}: file_name {name} leads out of the folder of images; write paths below that folder.")
    return str(place)


def _joint_pairs(category: dict[str, Any], key: str, joints: int, path: Path) -> list[tuple[int, int]]:
    """Return the pairs of joints in the category's list `key`, counted from 0; in the file, joints count from 1."""
    pairs = category.get(key) or []
    legal = range(1, joints + 1)
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(joint, int) and joint in legal for joint in p) for p in pairs
    ):
        raise DataError(
            f"{path}: `{key}` of the category {category.get('name')} should contain pairs of joint numbers from 1 to {joints}."
        )
    return [(first - 1, second - 1) for first, second in pairs]


@dataclass(frozen=True)
class _Labelled:
    """A labelled person as read from a file."""

    image: str
    points: np.ndarray  # (J, 2) px, NaN if not labelled
    flags: np.ndarray  # (J,): 2 visible, 1 occluded, 0 not labelled
    box: np.ndarray  # (4,) px: left, top, width, height


def _read_person(record: dict[str, Any], joints: int, images: Mapping[Any, str], path: Path) -> _Labelled | None:
    """Return the person of a record, or None if no joint is labelled. images: image id -> path."""
    what = f"{path}: the annotation with id {record.get('id')}"
    if not isinstance(record.get("image_id"), int | str) or record["image_id"] not in images:
        raise DataError(f"{what} is of image {record.get('image_id')}, which is not in the list of images; export again.")
    try:
        values = np.array(record.get("keypoints") or [], dtype=np.float64)
        box = np.array(record["bbox"], dtype=np.float64) if record.get("bbox") else None
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{what} has keypoints or a bbox that are no numbers; correct them.") from None
    if not values.any():
        return None
    if values.shape != (3 * joints,):
        raise DataError(
            f"{what} has keypoints of the shape {values.shape}, expected one list of {3 * joints} numbers: x, y and visibility "
            f"of {joints} joints; correct them."
        )
    points, flags = values.reshape(-1, 3)[:, :2].copy(), values[2::3]
    labelled = flags > 0
    if not labelled.any() and not (flags < 0).any():
        return None
    if not np.isin(flags, (0, 1, 2)).all() or not (np.abs(points[labelled]) < LARGEST).all():
        raise DataError(f"{what} has a visibility other than 0, 1 and 2, or a coordinate that is no legal number; correct it.")
    if box is not None and (box.shape != (4,) or not (np.abs(box) < LARGEST).all() or (box[2:] < 0).any()):
        raise DataError(f"{what} has the bbox {record['bbox']}, expected left, top, width and height; correct it.")
    if box is None or not box[2:].any():
        low, high = points[labelled].min(axis=0), points[labelled].max(axis=0)
        box = np.concatenate((low, high - low))
    points[~labelled] = np.nan
    return _Labelled(images[record["image_id"]], points, flags, box)


def _rows(people: list[_Labelled]) -> Annotations:
    """Return people as annotations, without the people whose box has no extent."""
    people = [person for person in people if person.box[2:].any()]
    if not people:
        return framed_by_joints([], np.empty((0, 1, 2)), np.empty((0, 1), bool))
    images, points = [person.image for person in people], np.array([person.points for person in people])
    flags = np.array([person.flags for person in people])
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    corners = np.array([person.box for person in people])
    center, scale = person_box(corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:].max(axis=1) / 200)
    seen, within = Counter[str](), []
    for person in people:
        within.append(seen[person.image])
        seen[person.image] += 1
    return Annotations(
        images=images,
        index=np.array([numbers[image] for image in images], np.int64),
        person=np.array(within, np.int64),
        center=center,
        scale=scale,
        part=points,
        visible=flags == 2,
        normalize=np.full(len(people), -1.0),
        torsoangle=np.full(len(people), -1.0),
    )


def write_coco(path: Path, rows: Annotations, joints: Sequence[str], limbs: Sequence[tuple[int, int]],
               sizes: Mapping[str, tuple[int, int]], about: str) -> None:  # fmt: skip
    """Write the people of a split as COCO keypoints.

    joints: names; limbs: pairs of joints, from 0; sizes: image -> (width, height) px; about: the file's description. `bbox` is
    the square from which `person_box` makes the person's box, so that `read_coco` returns the box of `rows`. `area` is the area
    of `bbox`, because the person's outline is not known. Raises OSError, e.g. for a full disk.
    """
    numbers = _numbers(rows)
    content = {
        "info": {"description": about},
        "images": [
            {"id": number, "file_name": image, "width": sizes[image][0], "height": sizes[image][1]}
            for image, number in numbers.items()
        ],
        "annotations": [_person(rows, row, numbers[image]) for row, image in enumerate(rows.images)],
        "categories": [
            {
                "id": 1, "name": "person", "supercategory": "person", "keypoints": list(joints),
                "skeleton": [[a + 1, b + 1] for a, b in limbs],
            }
        ],
    }  # fmt: skip
    write_atomically(path, json.dumps(content, allow_nan=False).encode())


def write_coco_results(path: Path, rows: Annotations, preds: np.ndarray, confidence: np.ndarray) -> None:
    """Write predictions for the people of a split as COCO results, with the image numbers that `write_coco` uses.

    preds: (N, J, 2) in 0-based px of the images, NaN for joints without a prediction; confidence: (N, J). Joints without a
    prediction are written as 0, 0 with confidence 0. A person's score is the mean confidence of the predicted joints. Raises
    OSError, for example for a full disk.
    """
    numbers, known = _numbers(rows), ~np.isnan(preds).any(axis=2)
    values = np.where(known[:, :, None], np.concatenate((preds, confidence[:, :, None]), axis=2), 0.0)
    scores = (confidence * known).sum(axis=1) / known.sum(axis=1).clip(min=1)
    content = [
        {"image_id": numbers[image], "category_id": 1, "keypoints": values[row].ravel().tolist(), "score": float(scores[row])}
        for row, image in enumerate(rows.images)
    ]
    write_atomically(path, json.dumps(content, allow_nan=False).encode())


def _numbers(rows: Annotations) -> dict[str, int]:
    """Return image -> number in a COCO file, from 1 in the order in which the images first occur in `rows`."""
    return {image: number for number, image in enumerate(dict.fromkeys(rows.images), 1)}


def _person(rows: Annotations, row: int, image: int) -> dict[str, Any]:
    labelled = ~np.isnan(rows.part[row]).any(axis=1)
    points = np.where(labelled[:, None], rows.part[row], 0.0)
    flags = labelled.astype(int) + (labelled & rows.visible[row])
    side = 200 * float(rows.scale[row]) / ENLARGED
    left, top = (rows.center[row] - side / 2 - (0, MOVED_DOWN * side)).tolist()
    return {
        "id": row + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": int(labelled.sum()),
        "keypoints": np.column_stack([points, flags]).ravel().tolist(), "bbox": [left, top, side, side], "area": side**2,
    }  # fmt: skip
