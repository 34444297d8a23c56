"""Read boxes around people in images and frames of videos from .csv tables and COCO files.

A table has the columns `image`, and `left`, `top`, `right` and `bottom` in 0-based px; for videos also `frame`, counted from 0.
A COCO file (.json) is an object with `images` and `annotations`, or a list of detection results; in both, the field `bbox` has
left, top, width and height of a box.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.files import decode_text

COLUMNS = ("image", "left", "top", "right", "bottom")
_HEADER = f"{','.join(COLUMNS)} or image,frame,{','.join(COLUMNS[1:])}"
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Box:
    """The box of one person, as read from a file."""

    where: str  # names of the file and the record, for messages
    image: str  # name or path of the image or video; in COCO results the `image_id`
    frame: int | None  # number of the frame in a video, from 0
    corners: Corners  # left, top, right, bottom in 0-based px


def read_boxes(path: Path, score: float = 0.0, label: int | None = None) -> list[Box]:
    """Return the boxes in a file, in the order of the file.

    score: boxes with a lower score in COCO results are left out. label: the `category_id` of people in a COCO file; None means
    the category called person or, if no category has this name, the only category. Crowds (`iscrowd`) are left out.

    Raises DataError, whose text states the record, for a file or a record that cannot be read, a box without an extent, and a
    file without boxes.
    """
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a .csv or COCO .json file of boxes.") from None
    is_json = path.suffix.lower() == ".json"
    boxes = list(_of_json(text, path, score, label) if is_json else _of_table(text, path))
    if not boxes:
        left_out = f" (crowds, other categories and scores below {score:g} are left out)" if is_json else ""
        raise DataError(f"{path} has no boxes of people{left_out}; give one box for each person.")
    return boxes


def _of_table(text: str, path: Path) -> Iterator[Box]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise DataError(f"{path} has no column {', '.join(missing)}; its first line should be {_HEADER}.")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            try:
                frame = _frame(row["frame"]) if row.get("frame") else None
                left, top, right, bottom = (float(row[name]) for name in COLUMNS[1:])
            except (TypeError, ValueError):
                raise DataError(
                    f"{where}: the numbers of the box cannot be read: {', '.join(map(str, row.values()))}; correct this line."
                ) from None
            if not row["image"]:
                raise DataError(f"{where} names no image; fill in the column image.")
            yield Box(where, row["image"], frame, _checked(where, (left, top, right, bottom)))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table after line {rows.line_num} ({error}); write it again.") from None


def _frame(text: str) -> int:
    """Return the number of a frame from text such as 3 or 3.0 (as pandas may write it). Raises ValueError for other text."""
    number = float(text)
    if not number.is_integer() or number < 0:
        raise ValueError(text)
    return int(number)


def _checked(where: str, corners: Corners) -> Corners:
    shown = ", ".join(f"{value:g}" for value in corners)
    if not all(map(math.isfinite, corners)):
        raise DataError(f"{where}: the box ({shown}) has NaN or infinite numbers; correct or remove it.")
    left, top, right, bottom = corners
    if not (left < right and top < bottom):
        raise DataError(f"{where}: the box ({shown}) is empty; give left < right and top < bottom in px.")
    return corners


def _of_json(text: str, path: Path, score: float, label: int | None) -> Iterator[Box]:
    try:
        content: Any = json.loads(text)
        results = isinstance(content, list)
        people = content if results else list(content["annotations"])
        names = {} if results else {image["id"]: str(image["file_name"]) for image in content["images"]}
        categories = [] if results else [(kind["id"], kind.get("name")) for kind in content.get("categories", ())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{path} is not a COCO file: neither an object with `images` and `annotations` nor a list of results; "
            "export the boxes again."
        ) from None
    kind = "result" if results else "annotation"
    records = [(f"{path}, {kind} {_number(person, place, results)}", person) for place, person in enumerate(people)]
    if wrong := [where for where, person in records if not isinstance(person, dict)]:
        raise DataError(f"{wrong[0]} is not an object with `image_id` and `bbox`; export the boxes again.")
    chosen = _category(path, categories, [person.get("category_id") for _, person in records], label)
    for where, person in records:
        if person.get("iscrowd") or (chosen is not None and person.get("category_id") != chosen):
            continue
        try:
            image = str(person["image_id"]) if results else names[person["image_id"]]
            left, top, width, height = map(float, person["bbox"])
            sure = float(person["score"]) if results else math.inf
        except (KeyError, TypeError, ValueError):
            needed = "`image_id`, `score` and" if results else "an `image_id` of the list `images` and"
            raise DataError(f"{where} should have {needed} a `bbox` of four numbers; correct it.") from None
        if not sure < score:  # a box whose score is NaN is kept, because it should not be lost unnoticed
            yield Box(where, image, None, _checked(where, (left, top, left + width, top + height)))


def _number(person: Any, place: int, results: bool) -> Any:
    """Return the number that messages use for a record: its id, or else its position in the list, from 1."""
    return place + 1 if results or not isinstance(person, dict) else person.get("id", place + 1)


def _category(path: Path, categories: list[tuple[Any, Any]], used: list[Any], label: int | None) -> Any:
    """Return the `category_id` of people: `label` or, if it is None, that of the category called person.

    If no category is called person, return None, which means all boxes. Raises DataError if these have several categories.
    """
    if label is not None:
        return label
    if named := [number for number, name in categories if name == "person"]:
        return named[0]
    kinds = sorted(set(map(str, used)))
    if len(kinds) > 1:
        raise DataError(
            f"{path} has boxes of several categories (category_id {', '.join(kinds[:5])}), none of them called person; name "
            "the category of people: --detector-label NUMBER."
        )
    return None
