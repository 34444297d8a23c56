"""Affine maps between the original image, the network's input crop and the heatmap.

Every coordinate is an (x, y) pair in 0-based pixels with pixel centres at integers, so an image of width w covers
[-0.5, w - 0.5]. An affine is a (2, 3) float64 array [A | t] that takes p to A p + t. Maps are composed first and
applied once: one map leads from the original image to the network's input, whatever the augmentation.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from datasets.errors import DataError

PIXELS_PER_SCALE = 200.0  # MPII's annotation gives the size of a person as a multiple of 200 px
_FAR = 1e6  # no image is that large: such a number is a mistake


def image_to_crop(center: ArrayLike, scale: float, res: int, rotation: float = 0.0) -> np.ndarray:
    """Map from the original image to a crop of res x res px that shows a square box around a person.

    center: (2,) image px; scale: side of the box / 200 px; rotation: degrees by which the crop's content is turned
    counter-clockwise as seen on the screen. The box's centre lands on (res - 1) / 2 and, without rotation, its edges
    on -0.5 and res - 0.5. Returns (2, 3) float64. Raises DataError for a box without a position or a size.
    """
    x, y = _checked_center(center, scale)
    factor = res / (PIXELS_PER_SCALE * scale)
    angle = math.radians(rotation)
    # y points down, so a turn that looks counter-clockwise takes (1, 0) to (cos, -sin).
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    middle = (res - 1) / 2
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])


def whole_pixel_crop(center: ArrayLike, scale: float, res: int) -> np.ndarray:
    """Map to a crop of res x res px whose box is cut along whole pixels of the image, as published.

    Like `image_to_crop`, but the box's edges, counted from 1 like its centre, are truncated (towards zero, after adding
    1e-4) to numbers of whole pixels left of and above them; so the box may be a pixel wider than high (pose-hg-train,
    branch image-play). Returns (2, 3) float64; raises DataError as `image_to_crop`.
    """
    half = scale * PIXELS_PER_SCALE / 2
    corners = [(value + 1 + sign * half + 1e-4) for value in _checked_center(center, scale) for sign in (-1, 1)]
    left, right, top, bottom = np.trunc(corners).tolist()
    wide, high = res / max(right - left, 1), res / max(bottom - top, 1)
    # The edge left of pixel 0 lies at -0.5.
    return np.array([[wide, 0.0, wide * (0.5 - left) - 0.5], [0.0, high, high * (0.5 - top) - 0.5]])


def _checked_center(center: ArrayLike, scale: float) -> tuple[float, float]:
    """x and y; DataError for a box without a position or a size."""
    x, y = (float(value) for value in np.asarray(center, dtype=np.float64).reshape(2))
    if not (abs(x) < _FAR and abs(y) < _FAR and 1 / _FAR < scale < _FAR):  # False for NaN too
        raise DataError(
            f"a person's box has center ({x}, {y}) px and scale {scale}; expected a position within {_FAR:g} px and a "
            "scale above 0: correct this person's annotation or leave it out."
        )
    return x, y


def crop_to_heatmap(crop_res: int, heatmap_res: int) -> np.ndarray:
    """Map from crop px to heatmap px: (x + 0.5) * heatmap_res / crop_res - 0.5, so that the outer edges coincide.

    Returns (2, 3) float64. `crop_to_heatmap(f, 1)` is also the map of a reduction by the whole factor f.
    """
    factor = heatmap_res / crop_res
    shift = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, shift], [0.0, factor, shift]])


def mirror(width: int) -> np.ndarray:
    """Left-right mirroring of an image of this width in px: x -> width - 1 - x. Returns (2, 3) float64."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def shift(x: float, y: float) -> np.ndarray:
    """Map that adds (x, y) px. Returns (2, 3) float64."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def compose(*affines: np.ndarray) -> np.ndarray:
    """One map that does what these (2, 3) maps do one after another, the first one first. Returns (2, 3) float64."""
    result = np.eye(2, 3)
    for affine in affines:
        result = affine[:, :2] @ result
        result[:, 2] += affine[:, 2]
    return result


def invert(affine: np.ndarray) -> np.ndarray:
    """The map back. Takes and returns (2, 3) float64; raises ValueError for a map that cannot be undone."""
    (a, b, x), (c, d, y) = affine.tolist()
    determinant = a * d - b * c
    if determinant == 0 or not math.isfinite(determinant):
        raise ValueError(f"this affine map has no inverse: {affine.tolist()}")
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def apply(affine: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Map points (..., 2) px. A point with a NaN coordinate comes out as (NaN, NaN). Returns (..., 2) float64."""
    points = np.asarray(points, dtype=np.float64)
    x, y = points[..., 0], points[..., 1]
    (a, b, u), (c, d, v) = affine.tolist()
    return np.stack((a * x + b * y + u, c * x + d * y + v), axis=-1)
