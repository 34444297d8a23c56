"""Affine maps between the original image, the network's input crop and the heatmap.

Every coordinate is an (x, y) pair in 0-based pixels with pixel centres at integers, so an image of width w covers [-0.5, w -
0.5]. An affine map is a (2, 3) float64 array [A | t] that maps p to A p + t. Maps are composed before they are applied, so that
pixels are sampled only once (twice with `samples.CropSpec.twice`).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from datasets.errors import DataError

PIXELS_PER_SCALE = 200.0  # MPII's annotation gives the size of a person as a multiple of 200 px
# Largest distance in px of a box from the image's origin. No image is that large, so a larger coordinate is a mistake.
_FAR = 1e6


def image_to_crop(center: ArrayLike, scale: float, res: int, rotation: float = 0.0) -> np.ndarray:
    """Return the map (2, 3) float64 from px of the original image to px of a crop: a square box around a person.

    res: side of the crop in px; center: (2,) image px, centre of the box; scale: side of the box / 200 px; rotation: degrees by
    which the crop's content is turned counter-clockwise as seen on the screen. The box's centre maps to (res - 1) / 2 and,
    without rotation, its edges to -0.5 and res - 0.5. Raises DataError for a box without a valid position or size.
    """
    x, y = _checked_center(center, scale)
    factor = res / (PIXELS_PER_SCALE * scale)
    angle = math.radians(rotation)
    # y points down, so a rotation that looks counter-clockwise maps (1, 0) to (cos, -sin).
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    middle = (res - 1) / 2
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])


def whole_pixel_crop(center: ArrayLike, scale: float, res: int) -> np.ndarray:
    """Return the map (2, 3) float64 from image px to px of a res x res crop; as published, the box consists of whole pixels.

    Unlike in `image_to_crop`, and as in pose-hg-train (branch image-play), the box's edges, in 1-based coordinates, are
    truncated towards zero after adding 1e-4, so the box may not be exactly square. Raises DataError as `image_to_crop`.
    """
    half = scale * PIXELS_PER_SCALE / 2
    corners = [(value + 1 + sign * half + 1e-4) for value in _checked_center(center, scale) for sign in (-1, 1)]
    left, right, top, bottom = np.trunc(corners).tolist()
    wide, high = res / max(right - left, 1), res / max(bottom - top, 1)
    # The left edge of pixel 0 lies at -0.5.
    return np.array([[wide, 0.0, wide * (0.5 - left) - 0.5], [0.0, high, high * (0.5 - top) - 0.5]])


def _checked_center(center: ArrayLike, scale: float) -> tuple[float, float]:
    """Return x and y of a box's centre. Raises DataError for a box without a valid position or size."""
    x, y = (float(value) for value in np.asarray(center, dtype=np.float64).reshape(2))
    if not (abs(x) < _FAR and abs(y) < _FAR and 1 / _FAR < scale < _FAR):  # this condition is false for NaN
        raise DataError(
            f"a person's box has center ({x}, {y}) px and scale {scale}; expected a position within {_FAR:g} px and a "
            "scale above 0: correct this person's annotation or leave it out."
        )
    return x, y


def crop_to_heatmap(crop_res: int, heatmap_res: int) -> np.ndarray:
    """Return the map (2, 3) float64 from crop px to heatmap px: (x + 0.5) * heatmap_res / crop_res - 0.5.

    The outer edges of crop and heatmap coincide. `crop_to_heatmap(f, 1)` maps px of an image to px of the image
    reduced by the integer factor f.
    """
    factor = heatmap_res / crop_res
    shift = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, shift], [0.0, factor, shift]])


def mirror(width: int) -> np.ndarray:
    """Return the map (2, 3) float64 that mirrors an image of `width` px left-right: x -> width - 1 - x."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def shift(x: float, y: float) -> np.ndarray:
    """Return the map (2, 3) float64 that adds (x, y) px."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def compose(*affines: np.ndarray) -> np.ndarray:
    """Return the composition (2, 3) float64 of maps (2, 3); the first argument is applied first."""
    result = np.eye(2, 3)
    for affine in affines:
        result = affine[:, :2] @ result
        result[:, 2] += affine[:, 2]
    return result


def invert(affine: np.ndarray) -> np.ndarray:
    """Return the inverse map (2, 3) float64. Raises ValueError for a map without an inverse."""
    (a, b, x), (c, d, y) = affine.tolist()
    determinant = a * d - b * c
    if determinant == 0 or not math.isfinite(determinant):
        raise ValueError(f"this affine map has no inverse: {affine.tolist()}")
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def apply(affine: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Return the mapped points (..., 2) float64 of points (..., 2) px. A point with a NaN coordinate becomes (NaN, NaN)."""
    points = np.asarray(points, dtype=np.float64)
    x, y = points[..., 0], points[..., 1]
    (a, b, u), (c, d, v) = affine.tolist()
    return np.stack((a * x + b * y + u, c * x + d * y + v), axis=-1)
