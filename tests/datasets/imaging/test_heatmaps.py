import math

import numpy as np
import pytest

from datasets.imaging import heatmaps

BLOBS = [(3.25, 6), (2.0, 6), (1.75, 3), (1.0, 3)]


def slow_draw(points, size, sigma, radius):
    height, width = size
    maps = np.zeros((len(points), height, width))
    for j, (px, py) in enumerate(points):
        if math.isnan(px) or math.isnan(py):
            continue
        column, row = math.floor(px + 0.5), math.floor(py + 0.5)
        if not (0 <= column < width and 0 <= row < height):
            continue
        for y in range(max(0, row - radius), min(height, row + radius + 1)):
            for x in range(max(0, column - radius), min(width, column + radius + 1)):
                maps[j, y, x] = math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return maps


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sigma, radius", BLOBS)
def test_draw_equals_the_definition_pixel_by_pixel(sigma, radius):
    points = np.random.default_rng(0).uniform(-3, [43, 33], (60, 2))
    points[5], points[6, 0] = np.nan, np.nan
    drawn = heatmaps.draw(points, (30, 40), sigma, radius)
    assert drawn.dtype == np.float32 and drawn.shape == (60, 30, 40)
    np.testing.assert_allclose(drawn, slow_draw(points, (30, 40), sigma, radius), atol=1e-6)


def test_draw_has_the_published_patch():
    drawn = heatmaps.draw(np.array([[20.0, 10.0]]), (64, 64), 3.25, 6)[0]
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 16, 14, 26)
    assert len(rows) == 13 * 13 and drawn[10, 20] == 1
    assert drawn[10, 26] == pytest.approx(math.exp(-36 / 21.125))


def test_absent_and_outside_joints_are_all_zero():
    outside = [[-0.51, 5], [5, -0.51], [39.5, 5], [5, 29.5], [np.nan, 5], [5, np.nan]]
    inside = [[-0.5, 5], [39.49, 29.49]]
    drawn = heatmaps.draw(np.array(outside + inside), (30, 40), 1.75, 3)
    assert not drawn[:6].any()
    assert drawn[6:].max(axis=(1, 2)).min() > 0.9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sigma, radius", BLOBS)
def test_decoders_return_to_the_drawn_point(sigma, radius):
    # The points lie anywhere in a heatmap that is not square, up to its border.
    points = np.random.default_rng(1).uniform(-0.5, [47.5, 31.5], (4, 250, 2))
    maps = np.stack([heatmaps.draw(p, (32, 48), sigma, radius) for p in points])
    nearest, confidence = heatmaps.decode_argmax(maps)
    np.testing.assert_array_equal(nearest, np.floor(points + 0.5))
    np.testing.assert_array_equal(confidence, maps.max(axis=(2, 3)))
    quarter, _ = heatmaps.decode_quarter(maps)
    subpixel, same = heatmaps.decode_subpixel(maps)
    np.testing.assert_array_equal(same, confidence)
    # The decoding is exact, except for blobs that a small patch cuts off: the missing pixels change the smoothed values.
    assert np.abs(subpixel - points).max() < (0.1 if radius / sigma < 1.8 else 0.01)
    interior = (nearest > 0) & (nearest < (47, 31))
    assert np.abs(quarter - points)[interior].max() <= 0.25 + 1e-9
    assert np.abs(quarter - points).mean() < 0.6 * np.abs(nearest - points).mean()


def test_subpixel_beats_quarter_beats_argmax_under_noise():
    rng = np.random.default_rng(2)
    points = rng.uniform(8, 56, (1, 400, 2))
    maps = 0.7 * heatmaps.draw(points[0], (64, 64), 1.75, 3)[None] + rng.normal(0, 0.01, (1, 400, 64, 64))
    errors = [
        np.linalg.norm(decode(maps)[0] - points, axis=-1).mean()
        for decode in (heatmaps.decode_subpixel, heatmaps.decode_quarter, heatmaps.decode_argmax)
    ]
    assert errors[0] < 0.05 < errors[1] < errors[2]


def test_argmax_takes_the_first_of_equal_pixels_and_knows_x_from_y():
    maps = np.zeros((1, 2, 3, 5), np.float32)
    maps[0, 0, 1, 4] = maps[0, 0, 2, 0] = 2
    points, confidence = heatmaps.decode_argmax(maps)
    np.testing.assert_array_equal(points, [[[4, 1], [0, 0]]])
    np.testing.assert_array_equal(confidence, [[2, 0]])


def test_quarter_moves_to_the_larger_neighbour_and_stays_on_ties_and_at_borders():
    maps = np.zeros((1, 4, 4, 6))
    maps[0, 0, 1, 2], maps[0, 0, 1, 3], maps[0, 0, 0, 2] = 9, 5, 4  # the peak moves right and up
    # Equal neighbours in x, and no values above and below: the peak does not move.
    maps[0, 1, 2, 3], maps[0, 1, 2, 2], maps[0, 1, 2, 4] = 9, 5, 5
    maps[0, 2, 0, 5], maps[0, 2, 1, 5] = 9, 8  # in the corner
    maps[0, 3, 2, 1], maps[0, 3, 2, 0], maps[0, 3, 3, 1] = 9, 1, 1  # the peak moves left and down
    points, _ = heatmaps.decode_quarter(maps)
    np.testing.assert_array_equal(points[0], [[2.25, 0.75], [3, 2], [5, 0], [0.75, 2.25]])


@pytest.mark.filterwarnings("error")
def test_subpixel_returns_the_largest_pixel_if_there_is_no_peak():
    maps = np.zeros((1, 3, 7, 9), np.float32)
    maps[0, 1, 3, 4] = 1  # a single pixel
    maps[0, 2] = -5
    points, _ = heatmaps.decode_subpixel(maps)
    np.testing.assert_array_equal(points[0], [[0, 0], [4, 3], [0, 0]])


def test_subpixel_ignores_a_single_bright_pixel():
    # An output as networks produce it: a broad blob, and a single brighter pixel two pixels from the blob's centre.
    points = np.array([[30.3, 20.6]])
    maps = heatmaps.draw(points, (64, 64), 3.25, 12)
    maps[0, 22, 32] = 1.05
    assert (heatmaps.decode_argmax(maps)[0] == [[32, 22]]).all()
    assert np.abs(heatmaps.decode_subpixel(maps)[0] - points).max() < 0.25
    assert np.abs(heatmaps.decode_quarter(maps)[0] - points).min() > 1
