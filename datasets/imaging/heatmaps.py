"""Draw target heatmaps of joints, and decode joints from heatmaps; decoding is the inverse of drawing.

Arrays are (..., joints, height, width); points are (x, y) in 0-based heatmap px with pixel centres at integers. A constant
heatmap, such as that of an absent joint, decodes to (0, 0); its low confidence shows that the joint is absent.
"""

import math
from functools import cache

import numpy as np

_CHUNK = 1024  # largest number of heatmaps that are decoded at a time; limits the memory of temporary arrays


def draw(points: np.ndarray, size: tuple[int, int], sigma: float, radius: int, outside: bool = False) -> np.ndarray:
    """Return heatmaps (J, height, width) float32, each with a Gaussian of amplitude 1 at the joint's exact position.

    points: (J, 2) heatmap px, NaN for absent joints; size: (height, width); sigma: standard deviation in px; radius: only the
    patch of 2 * radius + 1 px per side around the nearest pixel is drawn. The published targets have patches of 13 px with
    sigma 3.25, or of 7 px with sigma 1.75 (pose-hg-train, branch image-play).
    The heatmap of an absent joint is 0. The heatmap of a joint outside the map, which covers [-0.5, width - 0.5) x
    [-0.5, height - 0.5), is 0 too; with `outside`, the part of its patch that lies inside the map is drawn.
    """
    points = np.asarray(points, dtype=np.float64)
    height, width = size
    columns = _profile(points[:, 0], width, sigma, radius, outside)
    rows = _profile(points[:, 1], height, sigma, radius, outside)
    return rows[:, :, None] * columns[:, None, :]


def _profile(centers: np.ndarray, length: int, sigma: float, radius: int, outside: bool) -> np.ndarray:
    """Return the Gaussians of `draw` along one axis, (J, length) float32, for centers (J,) px; 0 for absent joints.

    Unless `outside` is true, the values are 0 also for a joint that lies outside the map on this axis.
    """
    pixels = np.arange(length)
    nearest = np.floor(centers + 0.5)
    drawn = np.abs(pixels - nearest[:, None]) <= radius  # this condition is false for NaN
    if not outside:
        drawn &= ((nearest >= 0) & (nearest < length))[:, None]
    distance = np.where(drawn, pixels - centers[:, None], 0.0)
    values = np.where(drawn, np.exp(distance**2 * (-0.5 / sigma**2)), 0.0)
    return values.astype(np.float32)


def decode_argmax(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of each heatmap's largest pixel, and its value; of equal pixels the first in row-major order.

    heatmaps: (..., h, w). Returns points (..., 2) float64 in integer heatmap px, and maxima (...) float.
    """
    flat = heatmaps.reshape(*heatmaps.shape[:-2], -1)
    best = flat.argmax(axis=-1)
    confidence = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    y, x = np.divmod(best, heatmaps.shape[-1])
    return np.stack((x, y), axis=-1).astype(np.float64), confidence


def decode_quarter(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each heatmap's largest pixel, moved on each axis by 0.25 px towards the larger of its two neighbours.

    This is the rule of the published hourglass predictions. The point does not move on an axis if its two neighbours on this
    axis are equal or one of these neighbours lies outside the map. heatmaps: (..., h, w). Returns points (..., 2) float64 in
    heatmap px, and maxima (...) float.
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
    """Return the sub-pixel peak of each smoothed heatmap; this decoder is the most accurate one for trained networks.

    heatmaps: (..., h, w). Returns points (..., 2) float64 in heatmap px, and the maxima (...) of the unsmoothed heatmaps.

    The heatmap is smoothed around its largest pixel by a Gaussian with a standard deviation of 1/32 of the heatmap's longer
    side: 2 px at 64 px, as in Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", 2020; in
    our measurements this standard deviation was the best one for blobs of any width. Near a border, the smoothing Gaussian is
    shortened equally on both sides, because otherwise a blob that the border cuts off would move inwards. Then a paraboloid is
    fitted by least squares to the logarithms of the 3 x 3 pixels around the largest smoothed pixel, because the logarithm of a
    Gaussian is a paraboloid. If the fit has no peak, the result is the largest pixel of the heatmap.
    """
    points, confidence = decode_argmax(heatmaps)
    flat, largest = heatmaps.reshape(-1, *heatmaps.shape[-2:]), points.reshape(-1, 2).astype(np.int64)
    peaks = np.empty(largest.shape)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        peaks[part] = _smooth_peaks(flat[part], largest[part])
    return peaks.reshape(points.shape), confidence


def _smooth_peaks(heatmaps: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return the sub-pixel peaks (M, 2) in px of heatmaps (M, h, w); largest: (M, 2), positions of the largest pixels."""
    (x, y), (height, width) = largest.T, heatmaps.shape[1:]
    if min(height, width) < 3:
        return largest.astype(np.float64)
    sigma = max(height, width) / 32
    (left, from_columns), (top, from_rows) = (_smoothing(length, sigma) for length in (width, height))
    at = np.arange(len(heatmaps))
    windows = np.lib.stride_tricks.sliding_window_view(heatmaps, (from_rows.shape[2], from_columns.shape[2]), axis=(1, 2))
    window = windows[at, top[y], left[x]]
    smooth = from_rows[y] @ window @ from_columns[x].swapaxes(1, 2)  # (M, 5, 5): smoothed values around the largest pixel
    # Candidates for the middle of the fitted 3 x 3 pixels, as offsets from the largest pixel. All 3 x 3 pixels must lie in the
    # heatmap.
    near = np.arange(-1, 2)
    inside = _inside(y[:, None] + near - 1, height - 2)[:, :, None] & _inside(x[:, None] + near - 1, width - 2)[:, None, :]
    middle = np.where(inside, smooth[:, 1:-1, 1:-1], -np.inf).reshape(len(heatmaps), 9)
    down, right = np.divmod(middle.argmax(axis=1), 3)
    threes = np.lib.stride_tricks.sliding_window_view(smooth, (3, 3), axis=(1, 2))
    step = _paraboloid_peaks(threes[at, down, right])
    peaks = largest + np.stack((right, down), axis=1) - 1 + step
    return np.where(np.isnan(step), largest, peaks)


@cache
def _smoothing(length: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the smoothing weights along one axis for every possible position of the largest pixel.

    Five smoothed values are computed: at the largest pixel, and at the two pixels on each side of it. Each smoothed value is a
    weighted sum of K pixels around the largest pixel. Returns, for each position of the largest pixel, the index (length,) of
    the first of these K pixels, and the weights (length, 5, K) float32 of the K pixels in each of the five smoothed values.
    """
    largest, reach = np.arange(length), math.ceil(2 * sigma)
    around = min(5 + 2 * reach, length)
    first = (largest - 2 - reach).clip(0, length - around)
    five, pixels = largest[:, None] + np.arange(-2, 3), first[:, None] + np.arange(around)
    distance = np.abs(five[:, :, None] - pixels[:, None, :])
    room = np.minimum(largest, length - 1 - largest) - 2
    counts = distance <= room.clip(0, reach)[:, None, None]
    return first, np.where(counts, np.exp(-0.5 * (distance / sigma) ** 2), 0).astype(np.float32)


def _inside(numbers: np.ndarray, length: int) -> np.ndarray:
    return (numbers >= 0) & (numbers < length)


def _paraboloid_peaks(values: np.ndarray) -> np.ndarray:
    """Return the peaks (M, 2) of paraboloids fitted to the logarithms of values (M, 3, 3), in px from the middle value.

    The paraboloid is a + b x + c y + d x^2 / 2 + e x y + f y^2 / 2. Coordinates are limited to +- 1.5 px. A peak is NaN if a
    value is not positive or the paraboloid has no maximum.
    """
    positive = (values > 0).all(axis=(1, 2), keepdims=True)
    logs = np.log(np.where(positive, values, 1.0), dtype=np.float64)
    columns, rows = logs.sum(axis=1).T, logs.sum(axis=2).T
    b, c = (columns[2] - columns[0]) / 6, (rows[2] - rows[0]) / 6
    d, f = ((ends[0] + ends[2] - 2 * ends[1]) / 3 for ends in (columns, rows))
    e = (logs[:, 2, 2] + logs[:, 0, 0] - logs[:, 0, 2] - logs[:, 2, 0]) / 4
    determinant = d * f - e * e
    peak = (d < 0) & (determinant > 1e-12)
    step = np.stack((e * c - f * b, e * b - d * c), axis=1) / np.where(peak, determinant, 1.0)[:, None]
    return np.where(peak[:, None], step.clip(-1.5, 1.5), np.nan)


DECODERS = {"subpixel": decode_subpixel, "quarter": decode_quarter, "argmax": decode_argmax}
