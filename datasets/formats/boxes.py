"""Read boxes around people in images and frames of videos from .csv tables or COCO files.

A table has the columns image, left, top, right and bottom (0-based px), and for videos the column frame, counted from 0. A COCO
file (.json) has `images`, and `annotations` with a `bbox` each.
"""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.files import decode_text

Key = tuple[str, int | None]  # name of the image or video, and the frame
COLUMNS = ("image", "left", "top", "right", "bottom")


def read_boxes(path: Path) -> dict[Key, np.ndarray]:
    """Return the boxes (P, 4) of each image or frame: left, top, right, bottom in 0-based px.

    Raises DataError for a file that cannot be read or has no boxes, and for an invalid record, which the text names.
    """
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a .csv or COCO .json file of boxes.") from None
    found = defaultdict[Key, list[list[float]]](list)
    for where, key, box in _of_coco(text, path) if path.suffix.lower() == ".json" else _of_table(text, path):
        if not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
            raise DataError(f"{where}: the box {box} has no extent; give left < right and top < bottom in px.")
        found[key].append(box)
    if not found:
        raise DataError(f"{path} has no boxes; give a box for each person.")
    return {key: np.array(boxes) for key, boxes in found.items()}


def _of_table(text: str, path: Path) -> Iterator[tuple[str, Key, list[float]]]:
    rows = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; its first line should be {','.join(COLUMNS)} or with frame."
        )
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            frame = int(row["frame"]) if row.get("frame") else None
            yield where, (row["image"], frame), [float(row[name]) for name in COLUMNS[1:]]
        except (TypeError, ValueError):
            raise DataError(f"{where} has no legal numbers: {', '.join(map(str, row.values()))}; correct it.") from None


def _of_coco(text: str, path: Path) -> Iterator[tuple[str, Key, list[float]]]:
    try:
        content: Any = json.loads(text)
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        people = list(content["annotations"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path} is no COCO file with `images` and `annotations`; export the boxes again.") from None
    for person in people:
        where = f"{path}, annotation {person.get('id') if isinstance(person, dict) else person}"
        try:
            left, top, width, height = map(float, person["bbox"])
            yield where, (names[person["image_id"]], None), [left, top, left + width, top + height]
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{where} has no image of the list, or no bbox of four numbers; correct it.") from None
