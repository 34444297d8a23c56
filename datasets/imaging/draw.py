"""Draw skeletons on images: the person's right side in orange, the left side in blue, the middle in grey."""

from pathlib import Path

import cv2
import numpy as np

from datasets.dataset import DatasetFiles
from datasets.formats.annotations import Annotations
from datasets.imaging import geometry
from datasets.imaging.images import read_image
from datasets.skeletons import Skeleton

# Colours of people's boxes, RGB, distinguishable with all common kinds of colour blindness (after Okabe and Ito).
PEOPLE = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (86, 180, 233), (213, 94, 0))
COLOURS = {"right": (255, 140, 30), "left": (40, 150, 255), "": (235, 235, 235)}  # RGB


def draw_box(image: np.ndarray, box: np.ndarray, number: int) -> np.ndarray:
    """Return a copy of an RGB uint8 image (H, W, 3) with a person's box and number, in the colour of this number.

    box: left, top, right, bottom in 0-based px. The number stays inside the image, even if the box extends beyond the image.
    """
    image = image.copy()
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in box)
    line, colour = max(1, round(max(height, width) / 256)), PEOPLE[number % len(PEOPLE)]
    for shade, thickness in (((0, 0, 0), line + 2), (colour, line)):  # black edges, which are visible on any background
        cv2.rectangle(image, (left, top), (right, bottom), shade, thickness)
    size, text = max(0.4, max(height, width) / 1200), str(number)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
    x = max(0, min(max(left, 0), width - wide - 2 * line))
    y = max(0, min(max(top, 0), height - high - 4 * line))
    cv2.rectangle(image, (x, y), (x + wide + 2 * line, y + high + 4 * line), (0, 0, 0), -1)
    cv2.putText(image, text, (x + line, y + high + 2 * line), cv2.FONT_HERSHEY_SIMPLEX, size, colour, line, cv2.LINE_AA)
    return image


def draw_person(image: np.ndarray, joints: np.ndarray, skeleton: Skeleton, visible: np.ndarray | None = None) -> np.ndarray:
    """Return a copy of an RGB uint8 image (H, W, 3) with limbs and joints drawn on it.

    joints: (J, 2) in 0-based px of the image; NaN joints are not drawn. visible: (J,) bool; joints that are not visible are
    drawn as rings. Limbs are drawn in the order of `skeleton.limbs`, so that each limb covers the limbs before it.
    """
    image = image.copy()
    line = max(1, round(max(image.shape[:2]) / 128))
    points = [None if np.isnan(p).any() else (round(float(p[0])), round(float(p[1]))) for p in joints]
    for a, b in skeleton.limbs:
        start, end = points[a], points[b]
        if start and end:
            colour = COLOURS[limb_side(skeleton, (a, b))]
            cv2.line(image, start, end, (0, 0, 0), line + 2, cv2.LINE_AA)
            cv2.line(image, start, end, colour, line, cv2.LINE_AA)
    for j, (point, name) in enumerate(zip(points, skeleton.joints, strict=True)):
        if point:
            cv2.circle(image, point, line + 2, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(image, point, line + 1, COLOURS[_side(name)], -1, cv2.LINE_AA)
            if visible is not None and not visible[j]:
                cv2.circle(image, point, max(1, line - 1), (0, 0, 0), -1, cv2.LINE_AA)
    return image


def person(data: DatasetFiles, rows: Annotations, row: int, joints: np.ndarray, side: int = 224) -> np.ndarray:
    """Return the crop (side, side, 3) uint8 RGB of a person's box, with the skeleton drawn on it.

    row: the person's row in `rows`; joints: (J, 2) in 0-based px of the image.
    """
    image = read_image(data.images / rows.images[row])
    affine = geometry.image_to_crop(rows.center[row], rows.scale[row], side)
    crop = cv2.warpAffine(image, affine, (side, side))
    return draw_person(crop, geometry.apply(affine, joints), data.skeleton)


def limb_side(skeleton: Skeleton, limb: tuple[int, int]) -> str:
    """Return the side of the body that a limb, a pair of joints, belongs to: right, left, or an empty text for the middle."""
    sides = {side for joint in limb if (side := _side(skeleton.joints[joint]))}
    return sides.pop() if len(sides) == 1 else ""


def _side(joint: str) -> str:
    side = joint.partition("_")[0]
    return side if side in COLOURS else ""


def contact_sheet(rows: list[list[np.ndarray]], titles: list[str], side: int = 224) -> np.ndarray:
    """Return a sheet of RGB images in rows, each image scaled to fit in side x side px, with a title above each row."""
    bar, gap = 26, 6
    width = max(len(row) for row in rows) * (side + gap) + gap
    sheet = np.full((len(rows) * (side + bar + gap), width, 3), 255, np.uint8)
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = i * (side + bar + gap)
        cv2.putText(sheet, title, (gap, top + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
        for k, image in enumerate(row):
            factor = side / max(image.shape[:2])
            size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
            y = top + bar + (side - size[1]) // 2
            x = gap + k * (side + gap) + (side - size[0]) // 2
            sheet[y : y + size[1], x : x + size[0]] = small
    return sheet


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB uint8 image (H, W, 3) as PNG."""
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))[1].tobytes())
