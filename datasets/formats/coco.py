"""COCO keypoints: labelled or predicted people in one .json file, as mmpose, SLEAP and labelling programs read them.

Layouts: https://cocodataset.org/#format-data and #format-results. Joints are 0-based px with pixel centres at integers, as
everywhere in this workspace; flag 2 is a visible joint, 1 an occluded one, 0 one without a label.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.files import write_atomically
from datasets.formats.annotations import ENLARGED, Annotations


def write_coco(path: Path, rows: Annotations, joints: Sequence[str], limbs: Sequence[tuple[int, int]],
               sizes: Mapping[str, tuple[int, int]], about: str) -> None:  # fmt: skip
    """Write the people of a split as COCO keypoints.

    joints: names; limbs: pairs of joints, from 0; sizes: image -> (width, height) px; about: the file's description. A
    person's `bbox` is the square that the network sees, over 1.25: programs that enlarge boxes 1.25 times, such as mmpose, see
    the same square. `area` is that of `bbox`, since no outline is known. OSError (a full disk) passes.
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
    """Write predictions for the people of a split as COCO results, whose images are numbered as by `write_coco`.

    preds: (N, J, 2) in 0-based px of the images, NaN for joints without a prediction; confidence: (N, J). Joints without a
    prediction are written as 0, 0 with confidence 0. A person's score is the mean confidence of the predicted joints. OSError
    (a full disk) passes.
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
    """Return the number of each image in the file, from 1, in the order of the rows."""
    return {image: number for number, image in enumerate(dict.fromkeys(rows.images), 1)}


def _person(rows: Annotations, row: int, image: int) -> dict[str, Any]:
    labelled = ~np.isnan(rows.part[row]).any(axis=1)
    points = np.where(labelled[:, None], rows.part[row], 0.0)
    flags = labelled.astype(int) + (labelled & rows.visible[row])
    side = 200 * float(rows.scale[row]) / ENLARGED
    left, top = (rows.center[row] - side / 2).tolist()
    return {
        "id": row + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": int(labelled.sum()),
        "keypoints": np.column_stack([points, flags]).ravel().tolist(), "bbox": [left, top, side, side], "area": side**2,
    }  # fmt: skip
