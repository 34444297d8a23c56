"""Read MPII's people from files that other projects publish, with the split of Tompson et al.

The files are train.h5, valid.h5 and test.h5 of pose-hg-train, or mpii_annotations.json. mpii_annotations.json has no head
boxes, so PCKh cannot be computed from it.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.files import decode_text
from datasets.formats import annotations
from datasets.formats.annotations import Annotations, person_box
from datasets.formats.hdf5 import LARGEST
from datasets.formats.mpii_release import JOINTS, MAT_NAME, torso_angle

MOST_JSON = 1 << 27  # largest size in bytes of a decompressed .json; the published mpii_annotations.json has 33e6 bytes
JSON_NAMES = ("mpii_annotations.json", "mpii_annotations.json.gz")


def read(folder: Path) -> dict[str, Annotations]:
    """Return the people of `train`, `valid` and `test` in the published files of `folder`; `test` may be empty.

    Raises DataError if none of the files exists, or if a file is damaged or belongs to another dataset.
    """
    if (folder / "train.h5").is_file():
        return _read_h5(folder)
    for name in JSON_NAMES:
        if (folder / name).is_file():
            return _read_json(folder / name)
    raise DataError(f"{folder} has neither {MAT_NAME} nor train.h5 nor {JSON_NAMES[0]}; correct [mpii] annotations.")


def _read_h5(folder: Path) -> dict[str, Annotations]:
    splits = {
        s: annotations.read(folder, s) for s in ("train", "valid", "test") if s != "test" or (folder / "test.h5").is_file()
    }
    for split, people in splits.items():
        if people.part.shape[1] != JOINTS:
            raise DataError(
                f"{folder / split}.h5 has {people.part.shape[1]} joints, expected MPII's {JOINTS}; it is another dataset's "
                "annotation file."
            )
    return {"test": _nobody(splits["valid"])} | splits


def _read_json(path: Path) -> dict[str, Annotations]:
    with open_json(path) as entries:
        rows = [_row(entry, path, number) for number, entry in enumerate(entries, 1)]
        valid = np.array([bool(entry["isValidation"]) for entry in entries], dtype=bool)
        images = [_image(entry) for entry in entries]
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 5 + 3 * JOINTS)
    joints = numbers[:, 5:].reshape(-1, JOINTS, 3)
    unlabelled = (joints[:, :, :2] == 0).all(axis=2)
    part = np.where(unlabelled[:, :, None], np.nan, joints[:, :, :2])
    center, scale = person_box(numbers[:, 2:4], numbers[:, 4])
    people = Annotations(
        images=images,
        index=numbers[:, 0].astype(np.int64) - 1,
        person=numbers[:, 1].astype(np.int64) - 1,
        center=center - 1,
        scale=scale,
        part=part - 1,
        visible=(joints[:, :, 2] != 0) & ~unlabelled,
        normalize=np.full(len(images), -1.0),
        torsoangle=torso_angle(part),
    )
    return {"train": people.select(~valid), "valid": people.select(valid), "test": _nobody(people)}


@contextmanager
def open_json(path: Path) -> Iterator[Any]:
    """Provide the people in a .json or .json.gz file. Raises DataError for a damaged file and for errors in the with block."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ValueError(f"more than {MOST_JSON} bytes")
        yield json.loads(decode_text(content))
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} is not a readable split file ({type(error).__name__}: {error}); expected a list of people, each with"
            " annolist_index, people_index, img_paths and isValidation (mpii_annotations.json), or each with image, center and"
            " scale (valid.json of HRNet, mpii_val.json of mmpose)."
        ) from None


def _row(entry: dict[str, Any], path: Path, number: int) -> list[float]:
    """Return the numbers of image and person (from 1), the position, the size / 200 px, and x, y and visible of every joint.

    Pixels count from 1. Raises DataError for missing or invalid values; number: the person's number in the file, from 1.
    """
    joints = [float(value) for joint in entry["joint_self"] for value in joint]
    head = [float(entry[name]) for name in ("annolist_index", "people_index")]
    row = [*head, *(float(value) for value in entry["objpos"]), float(entry["scale_provided"]), *joints]
    if len(row) != 5 + 3 * JOINTS or not all(math.isfinite(value) and abs(value) < LARGEST for value in row):
        raise DataError(
            f"{path}: person {number} does not have {JOINTS} joints of three numbers each, two numbers in objpos, and a "
            "number in scale_provided."
        )
    if row[4] <= 0 or min(head) < 1:
        raise DataError(f"{path}: person {number} has a scale_provided or a number of image or person that is not positive.")
    return row


def _image(entry: dict[str, Any]) -> str:
    name = str(entry["img_paths"])
    if Path(name).name != name:
        raise ValueError(f"img_paths is {name!r}, expected a file's name")
    return name


def _nobody(people: Annotations) -> Annotations:
    return people.select(np.zeros(len(people), bool))
