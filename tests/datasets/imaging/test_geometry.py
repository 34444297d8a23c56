import numpy as np
import pytest

from datasets.errors import DataError
from datasets.imaging import geometry


def test_box_edges_land_on_the_edges_of_the_crop():
    # A box of side 200 * 2 around (300, 100) spans x from 100 to 500 and y from -100 to 300.
    affine = geometry.image_to_crop((300.0, 100.0), 2.0, 256)
    points = geometry.apply(affine, [[300, 100], [100, -100], [500, 300], [500, 100]])
    expected = [[127.5, 127.5], [-0.5, -0.5], [255.5, 255.5], [255.5, 127.5]]
    np.testing.assert_allclose(points, expected, atol=1e-9)


def test_a_box_of_the_crops_own_size_only_shifts():
    affine = geometry.image_to_crop((31.5, 31.5), 64 / 200, 64)
    np.testing.assert_allclose(affine, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_a_whole_pixel_crop_has_its_edges_between_pixels():
    # Measured from the image's edge, which is half a pixel before the first pixel's centre, a box of 20 px around (9.6, 20)
    # spans x from 0.1 to 20.1 and y from 10.5 to 30.5. These edges plus half a pixel, truncated to whole numbers, give
    # columns 0 to 19 and rows 11 to 30.
    affine = geometry.whole_pixel_crop((9.6, 20.0), 0.1, 40)
    points = geometry.apply(affine, [[-0.5, 10.5], [19.5, 30.5]])
    np.testing.assert_allclose(points, [[-0.5, -0.5], [39.5, 39.5]], atol=1e-9)
    # Negative numbers are truncated towards zero: -4.9999 gives column -4, so this box is only 19 px wide.
    points = geometry.apply(geometry.whole_pixel_crop((4.0, 20.0), 0.1, 40), [[-4.5, 10.5], [14.5, 30.5]])
    np.testing.assert_allclose(points, [[-0.5, -0.5], [39.5, 39.5]], atol=1e-9)


def test_rotation_turns_the_content_counter_clockwise_on_the_screen():
    affine = geometry.image_to_crop((10.0, 20.0), 100 / 200, 100, rotation=90)
    # A point right of the centre moves above it (smaller y); a point below the centre moves to the right.
    points = geometry.apply(affine, [[10, 20], [15, 20], [10, 27]])
    np.testing.assert_allclose(points, [[49.5, 49.5], [49.5, 44.5], [56.5, 49.5]], atol=1e-9)


def test_rotation_keeps_distances_up_to_the_scale():
    affine = geometry.image_to_crop((33.0, -7.0), 3.0, 256, rotation=-37)
    a, b = geometry.apply(affine, [[0, 0], [30, 40]])
    assert np.linalg.norm(a - b) == pytest.approx(50 * 256 / 600)
    assert np.linalg.det(affine[:, :2]) > 0


def test_crop_to_heatmap_joins_edges_with_edges():
    affine = geometry.crop_to_heatmap(256, 64)
    points = geometry.apply(affine, [[-0.5, 255.5], [1.5, 0.0], [127.5, 129.5]])
    np.testing.assert_allclose(points, [[-0.5, 63.5], [0.0, -0.375], [31.5, 32.0]], atol=1e-12)


def test_compose_applies_the_first_map_first():
    doubled_then_shifted = geometry.compose(np.array([[2.0, 0, 0], [0, 2, 0]]), geometry.shift(10, 20))
    np.testing.assert_allclose(geometry.apply(doubled_then_shifted, [1, 1]), [12, 22])
    np.testing.assert_allclose(geometry.compose(), np.eye(2, 3))


def test_compose_equals_maps_in_turn_and_invert_undoes_them():
    rng = np.random.default_rng(0)
    points = rng.uniform(-100, 900, (5, 7, 2))
    first, second = geometry.image_to_crop((200.0, 311.0), 1.7, 256, 23.0), geometry.mirror(256)
    third = geometry.crop_to_heatmap(256, 64)
    in_turn = geometry.apply(third, geometry.apply(second, geometry.apply(first, points)))
    at_once = geometry.compose(first, second, third)
    np.testing.assert_allclose(geometry.apply(at_once, points), in_turn, atol=1e-9)
    np.testing.assert_allclose(geometry.apply(geometry.invert(at_once), in_turn), points, atol=1e-8)


def test_maps_without_an_inverse_are_refused():
    with pytest.raises(ValueError, match="no inverse"):
        geometry.invert(np.array([[1.0, 2, 0], [2, 4, 0]]))


@pytest.mark.filterwarnings("error")
def test_a_missing_coordinate_makes_the_point_missing_and_touches_no_other():
    points = geometry.apply(geometry.mirror(10), [[np.nan, 1], [2, np.nan], [3, 4]])
    np.testing.assert_array_equal(points, [[np.nan, np.nan], [np.nan, np.nan], [6, 4]])


def test_mirror_exchanges_the_first_and_the_last_column():
    np.testing.assert_array_equal(geometry.apply(geometry.mirror(100), [[0, 3], [99, 7]]), [[99, 3], [0, 7]])


NOWHERE = [((0, 0), 0), ((0, 0), -1), ((np.nan, 0), 1), ((0, np.inf), 1), ((0, 0), np.nan), ((0, 0), 1e300)]


@pytest.mark.parametrize("center, scale", NOWHERE)
def test_a_box_without_position_or_size_is_refused(center, scale):
    for crop in (geometry.image_to_crop, geometry.whole_pixel_crop):
        with pytest.raises(DataError, match="center"):
            crop(center, scale, 256)
