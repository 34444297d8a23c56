"""Draw forecasts as a strip of poses, and as an animation of the movement."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets.files import write_atomically
from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from stages.reporting.movements3d import SECONDS, SHOWN, SIDE


def strip(image: np.ndarray, joints: np.ndarray, labels: np.ndarray | None = None, side: int = SIDE) -> list[list[np.ndarray]]:
    """Return the rows of a contact sheet: the image with the forecast poses, and a second row with the labelled poses.

    image: (H, W, 3) uint8 RGB; joints, labels: (T, J, 2) in 0-based px of the image, NaN for a missing joint.
    """
    steps = [step for step in SHOWN if step < len(joints)]
    canvas, factor = fitted(image, side)
    rows = [[canvas, *(_posed(canvas, joints[step], factor) for step in steps)]]
    if labels is not None:
        rows.append([canvas, *(_posed(canvas, labels[step], factor) for step in steps)])
    return rows


def write_animation(path: Path, image: np.ndarray, joints: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write an endless GIF: the forecast movement on the image, and to its right the labelled movement if `labels` are given.

    Arguments as for `strip`. Raises OSError, for example for a full disk.
    """
    canvas, factor = fitted(image, 2 * SIDE)
    frames = []
    for step in range(len(joints)):
        parts = [_posed(canvas, joints[step], factor)]
        if labels is not None:
            parts.append(_posed(canvas, labels[step], factor))
        frames.append(Image.fromarray(_titled(np.hstack(parts), f"step {step + 1}")))
    colours = frames[0].quantize()  # one palette for all frames; computing one for each frame takes fifteen times as long
    frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    duration = [round(1000 * SECONDS)] * (len(frames) - 1) + [round(4000 * SECONDS)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    write_atomically(path, buffer.getvalue())


def sheet(rows: Sequence[list[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Return one picture (H, W, 3) uint8 RGB of the rows of strips below one another, each row with a title."""
    return draw.contact_sheet(list(rows), list(titles), SIDE)


def fitted(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """Return the image, scaled so that its longer side has `side` px, and the factor of the scaling."""
    factor = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), factor


def _posed(canvas: np.ndarray, joints: np.ndarray, factor: float) -> np.ndarray:
    """Return a darkened copy of the canvas with a pose on it; joints: (J, 2) in px of the image before scaling."""
    return draw.draw_person(canvas // 2, (joints + 0.5) * factor - 0.5, PENN_ACTION.skeleton)


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    bar = np.full((24, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])
