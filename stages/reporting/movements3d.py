"""Show movements in 3D: a web page with skeletons that the mouse turns, and strips of still views for print.

Camera frame: x right, y down, z forward, mm. The page and the strips show each pose with the mean of its joints at the centre.
The page can also show how this mean moves through space.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from PIL import Image

from datasets.files import write_atomically
from datasets.imaging import draw
from datasets.skeletons import Skeleton

SHOWN = (0, 1, 3, 5, 7, 9, 11, 13, 15)  # steps drawn in a strip, counted from 0
SECONDS = 0.15  # duration of a step in an animation
SIDE = 176  # px, longer side of a picture in a strip
MIDDLE = (139, 144, 153)  # RGB, colour of limbs in the middle of the body, visible on light and on dark backgrounds
TRUTH = (0, 158, 115)  # RGB, colour of the true pose where true pose and forecast are drawn in the same place
PICTURE = 360  # px, longer side of a picture in the page
Axis = tuple[int, int, int]
# Name of a view -> its horizontal and vertical axis in the camera frame, and the axis that points away from the viewer.
VIEWS: dict[str, tuple[Axis, Axis, Axis]] = {
    "seen by the camera": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "seen from the side": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "seen from above": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}


@dataclass(frozen=True)
class Movement3D:
    """A movement in 3D, with the image from which the movement was forecast."""

    title: str
    poses: np.ndarray  # (T, J, 3) mm, camera frame; NaN for a missing joint
    truth: np.ndarray | None = None  # (T, J, 3) mm, camera frame: the true pose at each step
    picture: np.ndarray | None = None  # (H, W, 3) uint8 RGB: the image of the first step
    joints: np.ndarray | None = None  # (T, J, 2) px of the picture, pixel centres at integers: the 2D poses


def write_page(path: Path, title: str, movements: Sequence[Movement3D], skeleton: Skeleton) -> None:
    """Write an .html file in which the user turns the skeletons of all movements; the file works alone and offline.

    skeleton: the joints, and the limbs to draw. Raises OSError, for example for a full disk.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    colours = {"": _css(MIDDLE), "truth": _css(TRUTH)} | {side: _css(draw.COLOURS[side]) for side in ("right", "left")}
    limbs = [(*limb, draw.limb_side(skeleton, limb)) for limb in skeleton.limbs]
    data = {
        "movements": [_numbers(movement) for movement in movements],
        "limbs": limbs, "colours": colours, "milliseconds": round(1000 * SECONDS),
    }  # fmt: skip
    # "<" is escaped, so that no text in the data can end the page's script element.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = environment.get_template("movements3d.html").render(
        title=title, movements=movements, pictures=[_data_uri(movement.picture) for movement in movements], data=text,
        steps=max((len(movement.poses) for movement in movements), default=1), colours=colours,
        truth=any(movement.truth is not None for movement in movements),
    )  # fmt: skip
    write_atomically(path, page.encode())


def strips(movements: Sequence[Movement3D], skeleton: Skeleton, side: int = SIDE) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 RGB with three rows of still views for each movement: front, side and above.

    A row has steps 1, 2, 4 ... 16 in squares of `side` px; a movement's first row begins with its picture, if there is one.
    True poses are thin and green. All squares of a movement have the same scale.
    """
    rows, titles = [], []
    empty = np.full((side, side, 3), 255, np.uint8)
    for movement in movements:
        steps = [step for step in SHOWN if step < len(movement.poses)]
        poses, truth = _centred(movement.poses), None if movement.truth is None else _centred(movement.truth)
        reach = [float(np.nanmax(np.abs(values), initial=1.0)) for values in (poses, truth) if values is not None]
        scale = 0.44 * side / max(reach)
        picture = movement.picture
        if picture is not None and movement.joints is not None:
            picture = draw.draw_person(picture, movement.joints[0], skeleton)
        for name, axes in VIEWS.items():
            row = [] if picture is None else [picture if name == next(iter(VIEWS)) else empty]
            row += [_still(empty, poses[step], None if truth is None else truth[step], axes, scale, skeleton) for step in steps]
            rows.append(row)
            titles.append(f"{movement.title}: {name}, steps {', '.join(str(step + 1) for step in steps)}")
    return draw.contact_sheet(rows, titles, side)


def _centred(poses: np.ndarray) -> np.ndarray:
    """Return poses (T, J, 3) minus the mean of the joints of each pose; missing joints stay NaN."""
    known = np.isfinite(poses).all(axis=-1, keepdims=True)
    poses = np.where(known, poses, 0.0)
    means = poses.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, poses - means, np.nan)


def _still(
    canvas: np.ndarray,
    pose: np.ndarray,
    truth: np.ndarray | None,
    axes: tuple[Axis, Axis, Axis],
    scale: float,
    skeleton: Skeleton,
) -> np.ndarray:
    """Return a copy of the canvas (S, S, 3) with the forecast pose, drawn over the true pose if there is one.

    pose, truth: (J, 3) mm; axes: a value of VIEWS; scale: px per mm. A limb is drawn over the limbs that are farther away.
    """
    canvas, (right, down, away) = canvas.copy(), np.array(axes, dtype=np.float64)
    sides = [MIDDLE if not side else draw.COLOURS[side] for side in (draw.limb_side(skeleton, limb) for limb in skeleton.limbs)]
    parts = [(pose, sides, 3)] if truth is None else [(truth, [TRUTH] * len(sides), 1), (pose, sides, 3)]
    middle = (len(canvas) - 1) / 2
    for points, colours, width in parts:
        places = np.stack([points @ right, points @ down], axis=-1) * scale + middle
        depth = [float(points[list(limb)].sum(axis=0) @ away) for limb in skeleton.limbs]  # NaN where a joint is missing
        for number in sorted(np.flatnonzero(np.isfinite(depth)).tolist(), key=lambda number: -depth[number]):
            start, end = np.rint(places[list(skeleton.limbs[number])] * 16).astype(int).tolist()  # in 1/16 px
            for colour, thickness in (((255, 255, 255), width + 2), (colours[number], width)):
                cv2.line(canvas, start, end, colour, thickness, cv2.LINE_AA, 4)
    return canvas


def _numbers(movement: Movement3D) -> dict[str, Any]:
    """Return a movement's values for the page's script: coordinates in whole mm and px, None for a missing joint."""
    picture = movement.picture
    return {
        "title": movement.title,
        "poses": _rounded(movement.poses),
        "truth": None if movement.truth is None else _rounded(movement.truth),
        "joints": None if movement.joints is None else _rounded(movement.joints),
        "size": None if picture is None else picture.shape[1::-1],  # width, height of the picture to which `joints` refer
    }


def _rounded(points: np.ndarray) -> list[list[list[int] | None]]:
    return [
        [[round(value) for value in point] if np.isfinite(point).all() else None for point in step.tolist()] for step in points
    ]


def _data_uri(picture: np.ndarray | None) -> str:
    """Return a picture (H, W, 3) uint8 RGB as a data URI, a JPEG of at most PICTURE px; "" if the picture is None."""
    if picture is None:
        return ""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((PICTURE, PICTURE))
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _css(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()
