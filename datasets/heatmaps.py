"""Heatmaps: drawing the target of each joint and reading joints back, side by side so that one undoes the other.

Arrays are (..., joints, height, width); points are (x, y) in 0-based heatmap px with pixel centres at integers.
A heatmap that is the same everywhere, an absent joint's for example, decodes to (0, 0): the confidence tells.
"""

import numpy as np

_WINDOW = 2  # sub-pixel decoding looks at this many pixels on each side of the largest one
_FLOOR = 1e-3  # smaller values, as a part of the maximum, hold no information about the shape of the peak
_CHUNK = 8192  # heatmaps decoded at a time, so that the temporary arrays stay small


def draw(points: np.ndarray, size: tuple[int, int], sigma: float, radius: int, outside: bool = False) -> np.ndarray:
    """Draw a Gaussian of amplitude 1 for each joint, centred on the joint itself and not on the nearest pixel.

    points: (J, 2) heatmap px, NaN where absent; size: (height, width); sigma: standard deviation in px. Only the patch
    of 2 * radius + 1 px a side around the nearest pixel is drawn; the published targets have a 13 px patch with
    sigma 3.25 or a 7 px patch with sigma 1.75 (pose-hg-train, branch image-play). Absent joints and joints outside the
    map, which covers [-0.5, width - 0.5) x [-0.5, height - 0.5), stay zero; with `outside`, what of the latter's patches
    lies inside is drawn. Returns (J, height, width) float32.
    """
    points = np.asarray(points, dtype=np.float64)
    height, width = size
    columns = _profile(points[:, 0], width, sigma, radius, outside)
    rows = _profile(points[:, 1], height, sigma, radius, outside)
    return rows[:, :, None] * columns[:, None, :]


def _profile(centers: np.ndarray, length: int, sigma: float, radius: int, outside: bool) -> np.ndarray:
    """One axis of `draw`: (J,) px to (J, length) float32; all zero for a joint absent or outside on this axis."""
    pixels = np.arange(length)
    nearest = np.floor(centers + 0.5)
    drawn = np.abs(pixels - nearest[:, None]) <= radius  # False for NaN
    if not outside:
        drawn &= ((nearest >= 0) & (nearest < length))[:, None]
    distance = np.where(drawn, pixels - centers[:, None], 0.0)
    values = np.where(drawn, np.exp(distance**2 * (-0.5 / sigma**2)), 0.0)
    return values.astype(np.float32)


def decode_argmax(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest pixel of each heatmap; of equal ones the first in reading order.

    heatmaps: (..., h, w). Returns points (..., 2) float64 in whole heatmap px and the values there, (...) float.
    """
    flat = heatmaps.reshape(*heatmaps.shape[:-2], -1)
    best = flat.argmax(axis=-1)
    confidence = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    y, x = np.divmod(best, heatmaps.shape[-1])
    return np.stack((x, y), axis=-1).astype(np.float64), confidence


def decode_quarter(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest pixel, moved on each axis by 0.25 px towards the larger of its two neighbours.

    The rule of the published hourglass predictions. Where the neighbours are equal, or one lies outside the map, the
    point stays. heatmaps: (..., h, w). Returns points (..., 2) float64 in heatmap px and the maxima (...).
    """
    points, confidence = decode_argmax(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.reshape(-1, height, width)
    at = np.arange(len(flat))
    x, y = points.reshape(-1, 2).astype(np.int64).T
    left, right = flat[at, y, np.maximum(x - 1, 0)], flat[at, y, np.minimum(x + 1, width - 1)]
    up, down = flat[at, np.maximum(y - 1, 0), x], flat[at, np.minimum(y + 1, height - 1), x]
    move_x = np.where((x > 0) & (x < width - 1), np.sign(right - left), 0)
    move_y = np.where((y > 0) & (y < height - 1), np.sign(down - up), 0)
    return points + 0.25 * np.stack((move_x, move_y), axis=-1).reshape(points.shape), confidence


def decode_subpixel(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre of the Gaussian that fits the pixels around the largest one best, at most 1 px away from it.

    The logarithm of a Gaussian is a paraboloid; it is fitted by least squares to the 5 x 5 pixels around the maximum
    (moved inward at the border), weighted by the squared values as in Guo, "A Simple Algorithm for Fitting a Gaussian
    Function" (2011). What `draw` has drawn comes out exactly, at the border too; with noise the 25 pixels are about
    twice as accurate as one Newton step on finite differences. Where no peak can be fitted the largest pixel is
    returned. heatmaps: (..., h, w), h and w at least 5. Returns points (..., 2) float64 in heatmap px and the maxima.
    """
    points, confidence = decode_argmax(heatmaps)
    flat, corner = heatmaps.reshape(-1, *heatmaps.shape[-2:]), points.reshape(-1, 2)
    moved = np.empty_like(corner)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        moved[part] = _fit_peaks(flat[part], corner[part])
    return moved.reshape(points.shape), confidence


def _fit_peaks(heatmaps: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Sub-pixel peaks (M, 2) px of heatmaps (M, h, w) whose largest pixels are maxima (M, 2)."""
    height, width = heatmaps.shape[1:]
    middle = np.clip(maxima, _WINDOW, (width - 1 - _WINDOW, height - 1 - _WINDOW))
    x, y = middle.astype(np.int64).T
    offsets = np.arange(-_WINDOW, _WINDOW + 1)
    at = np.arange(len(heatmaps))[:, None, None]
    window = heatmaps[at, (y[:, None] + offsets)[:, :, None], (x[:, None] + offsets)[:, None, :]]
    values = window.reshape(len(heatmaps), -1).astype(np.float64)
    largest = values.max(axis=1, keepdims=True)
    values /= np.where(largest > 0, largest, 1.0)
    slope_x, slope_y, xx, xy, yy = _fit_paraboloids(values)
    determinant = xx * yy - xy * xy
    peak = (xx < 0) & (determinant > 1e-12)
    divisor = np.where(peak, determinant, 1.0)
    step = np.stack((xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y), axis=1) / divisor[:, None]
    move = np.clip(middle + step - maxima, -1.0, 1.0)
    return np.where(peak[:, None], maxima + move, maxima)


def _fit_paraboloids(values: np.ndarray) -> np.ndarray:
    """Fit a + b x + c y + d x^2 / 2 + e x y + f y^2 / 2 to the logarithm of windows (M, 25); returns (b..f), (5, M)."""
    y, x = (axis.ravel() for axis in np.mgrid[-_WINDOW : _WINDOW + 1, -_WINDOW : _WINDOW + 1].astype(np.float64))
    terms = np.stack((np.ones_like(x), x, y, x * x / 2, x * y, y * y / 2), axis=1)
    count = terms.shape[1]
    products = (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), -1)
    weights = np.where(values > _FLOOR, values, 0.0) ** 2
    # The small diagonal keeps windows with too few positive pixels solvable; they come out flat, which is no peak.
    normal = (weights @ products).reshape(-1, count, count) + 1e-9 * np.eye(count)
    right = (weights * np.log(np.maximum(values, _FLOOR))) @ terms
    return np.linalg.solve(normal, right[:, :, None])[:, 1:, 0].T
