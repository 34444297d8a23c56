"""Draw the backgrounds of the built-in sample data (rooms, open air, furniture), and add blur, tint and grain to pictures."""

from functools import cache

import cv2
import numpy as np
from numpy.random import Generator

from datasets.sample.people import OBJECT, Colour, hsv

_LARGEST = 1024  # px; largest height and width of an image


def draw_place(rng: Generator, height: int, width: int, sporty: bool) -> np.ndarray:
    """Return a background without people, (height, width, 3) uint8 BGR: an everyday room, or a sports hall or field."""
    horizon = int(height * rng.uniform(0.45, 0.72))
    if sporty:
        wall = hsv(*((100, 60, 190) if rng.random() < 0.5 else (rng.uniform(0, 40), 45, 150)))
        floor = hsv(*((50, 120, 120) if rng.random() < 0.5 else (14, 110, 165)))
    else:
        wall = hsv(rng.uniform(0, 180), rng.uniform(5, 90), rng.uniform(70, 235))
        floor = hsv(rng.uniform(0, 60), rng.uniform(10, 110), rng.uniform(50, 200))
    image = np.empty((height, width, 3), np.float32)
    image[:horizon] = (
        np.array(wall, np.float32) * np.linspace(rng.uniform(0.7, 1.2), 1, horizon, dtype=np.float32)[:, None, None]
    )
    image[horizon:] = np.array(floor, np.float32) * np.linspace(0.75, 1.1, height - horizon, dtype=np.float32)[:, None, None]
    image += _blotches(rng, height, width, 5 if sporty else 9)
    image = np.clip(image, 0, 255).astype(np.uint8)
    (_sports_marks if sporty else _wall_pattern)(rng, image, horizon, wall, floor)
    for _ in range(int(rng.integers(1, 3) if sporty else rng.integers(2, 6))):
        _draw_furniture(rng, image, horizon)
    return image


def draw_box(image: np.ndarray, corner: np.ndarray, size: np.ndarray, colour: Colour, labels: np.ndarray | None = None) -> None:
    """Draw a shaded crate with its top side; corner: (x, y) px, top left of its front; size: (width, height) px."""
    x, y = (int(v) for v in np.rint(corner))
    w, h = (max(2, int(v)) for v in np.rint(size))
    lift = max(2, h // 6)
    top = np.array([[x, y], [x + w, y], [x + w - lift, y - lift], [x + lift, y - lift]])
    shades = [tuple(min(255.0, c * gain) for c in colour) for gain in (1.0, 1.25, 0.5)]
    cv2.rectangle(image, (x, y), (x + w, y + h), shades[0], -1)
    cv2.fillConvexPoly(image, top, shades[1], cv2.LINE_AA)
    cv2.rectangle(image, (x, y), (x + w, y + h), shades[2], 1)
    for share in (0.33, 0.66):
        cv2.line(image, (x, int(y + share * h)), (x + w, int(y + share * h)), shades[2], 1)
    if labels is not None:
        cv2.rectangle(labels, (x, y), (x + w, y + h), OBJECT, -1)
        cv2.fillConvexPoly(labels, top, OBJECT)


def draw_post(image: np.ndarray, labels: np.ndarray, x: float, width: float, colour: Colour) -> None:
    """Draw an upright post over the whole height of the image, in front of all people."""
    left, right = round(x - width / 2), round(x + width / 2)
    cv2.rectangle(image, (left, -1), (right, image.shape[0]), colour, -1)
    cv2.line(image, (left, 0), (left, image.shape[0]), tuple(c * 0.5 for c in colour), 1)
    cv2.line(image, (left + 2, 0), (left + 2, image.shape[0]), tuple(min(255.0, c * 1.3) for c in colour), 1)
    cv2.rectangle(labels, (left, -1), (right, labels.shape[0]), OBJECT, -1)


def finish(rng: Generator, image: np.ndarray, sharpness: float, grain: float, tint: Colour = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Return an image (H, W, 3) uint8, blurred by a Gaussian, tinted and with added grain.

    sharpness: standard deviation of the blur in px; grain: standard deviation of the noise; tint: factors of the channels.
    """
    height, width = image.shape[:2]
    bank = _grain_bank()
    y, x = rng.integers(0, bank.shape[0] - height + 1), rng.integers(0, bank.shape[1] - width + 1)
    noise = bank[y : y + height, x : x + width] * np.float32(grain)
    image = cv2.multiply(cv2.GaussianBlur(image, (0, 0), sharpness), np.array((*tint, 1.0)))
    return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


@cache
def _grain_bank() -> np.ndarray:
    """Return noise of standard deviation 1; each picture uses a random window of this array."""
    return np.random.default_rng(0).normal(size=(_LARGEST, _LARGEST)).astype(np.float32)


def _blotches(rng: Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Return smooth random variation of light and colour, (height, width, 3) float32 around 0."""
    coarse = rng.normal(size=(6, 8, 3)).astype(np.float32) * 0.15 + rng.normal(size=(6, 8, 1)).astype(np.float32)
    fine = rng.normal(size=(height // 6, width // 6, 1)).astype(np.float32) * 0.5
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return strength * (smooth + cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)[..., None])


def _wall_pattern(rng: Generator, image: np.ndarray, horizon: int, wall: Colour, floor: Colour) -> None:
    """Draw bricks, panels, a window or leaves on the wall, and boards on the floor."""
    height, width = image.shape[:2]
    line = tuple(c * rng.uniform(0.6, 0.9) for c in wall)
    kind = rng.choice(["bricks", "panels", "window", "leaves", "plain"])
    if kind == "bricks":
        step = int(rng.integers(9, 16))
        for row, y in enumerate(range(0, horizon, step)):
            cv2.line(image, (0, y), (width, y), line, 1)
            for x in range((row % 2) * step, width, 2 * step):
                cv2.line(image, (x, y), (x, min(horizon, y + step)), line, 1)
    elif kind == "panels":
        for x in range(int(rng.integers(5, 30)), width, int(rng.integers(16, 50))):
            cv2.line(image, (x, 0), (x, horizon), line, int(rng.integers(1, 4)))
    elif kind == "window":
        x, y = int(rng.integers(0, width // 2)), int(rng.integers(5, max(6, horizon // 4)))
        w, h = int(rng.integers(width // 5, width // 2)), int(horizon * 0.5)
        cv2.rectangle(image, (x, y), (x + w, y + h), (235, 215, 190), -1)
        for p, q in (((x, y), (x + w, y + h)), ((x, y), (x + w // 2, y + h)), ((x, y), (x + w, y + h // 2))):
            cv2.rectangle(image, p, q, line, 3)
    elif kind == "leaves":
        for x, y in rng.uniform((0, 0), (width, horizon), (70, 2)):
            colour = hsv(rng.uniform(35, 70), rng.uniform(60, 160), rng.uniform(50, 150))
            cv2.ellipse(
                image,
                (int(x), int(y)),
                (int(rng.integers(4, 13)), int(rng.integers(3, 8))),
                rng.uniform(0, 180),
                0,
                360,
                colour,
                -1,
            )
    for x in range(-width, 2 * width, int(rng.integers(25, 60))):
        cv2.line(
            image,
            (x, height),
            (int(width / 2 + (x - width / 2) * 0.45), horizon),
            tuple(c * 0.8 for c in floor),
            1,
            cv2.LINE_AA,
        )


def _sports_marks(rng: Generator, image: np.ndarray, horizon: int, wall: Colour, floor: Colour) -> None:
    """Draw what marks a sports ground: a band on the hall's wall or a row of trees, lines on the ground, and mown strips."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        cv2.rectangle(image, (0, int(horizon * 0.62)), (width, int(horizon * 0.76)), hsv(rng.uniform(0, 180), 150, 140), -1)
    else:
        for x in range(-10, width + 10, int(rng.integers(18, 34))):
            cv2.ellipse(
                image,
                (x, horizon),
                (int(rng.integers(12, 26)), int(rng.integers(20, 45))),
                0,
                180,
                360,
                hsv(rng.uniform(40, 65), 110, rng.uniform(50, 95)),
                -1,
            )
    edges = np.linspace(0, 1, 7) ** 1.6 * (height - horizon) + horizon
    for near, far in zip(edges[1::2], edges[2::2], strict=False):
        band = image[int(near) : int(far)]
        band[:] = np.clip(band * np.float32(0.88), 0, 255)
    for _ in range(2):
        (x0, x1), y0 = rng.integers(-width, 2 * width, 2), rng.integers(horizon, height)
        cv2.line(image, (int(x0), int(y0)), (int(x1), height), (225, 230, 230), 2, cv2.LINE_AA)


def _draw_furniture(rng: Generator, image: np.ndarray, horizon: int) -> None:
    """Draw one object behind the people: a crate, a picture, a lamp, a leaning board, a ball, or a distant column."""
    height, width = image.shape[:2]
    x, unit = rng.uniform(0, width), height * rng.uniform(0.08, 0.22)
    ground = rng.uniform(horizon, min(height, horizon + 0.25 * height))
    colour = hsv(rng.uniform(0, 180), rng.uniform(30, 180), rng.uniform(60, 220))
    kind = rng.integers(6)
    if kind == 0:
        draw_box(image, np.array([x, ground - unit]), np.array([unit * rng.uniform(0.7, 2.2), unit]), colour)
    elif kind == 1:
        p, q = (
            (int(x), int(horizon * rng.uniform(0.1, 0.4))),
            (int(x + unit * 1.4), int(horizon * rng.uniform(0.5, 0.7))),
        )
        cv2.rectangle(image, p, q, colour, -1)
        cv2.rectangle(image, p, q, (40, 50, 60), 2)
    elif kind == 2:
        foot, top = (int(x), int(ground)), (int(x), int(ground - 3.2 * unit))
        cv2.line(image, foot, top, (60, 60, 65), 2, cv2.LINE_AA)
        cv2.circle(image, top, max(3, int(unit * 0.35)), (170, 230, 245), -1, cv2.LINE_AA)
    elif kind == 3:
        end = (int(x + unit * rng.uniform(-1.2, 1.2)), int(ground - unit * rng.uniform(1.5, 3)))
        cv2.line(image, (int(x), int(ground)), end, colour, int(rng.integers(3, 9)), cv2.LINE_AA)
    elif kind == 4:
        r = max(3, int(unit * 0.4))
        cv2.circle(image, (int(x), int(ground - r)), r, colour, -1, cv2.LINE_AA)
        cv2.circle(
            image,
            (int(x - r * 0.3), int(ground - 1.3 * r)),
            r // 3,
            tuple(min(255.0, c * 1.3 + 15) for c in colour),
            -1,
            cv2.LINE_AA,
        )
    else:
        cv2.rectangle(image, (int(x), 0), (int(x + unit * 0.5), int(horizon)), tuple(c * 0.9 for c in colour), -1)
