from dataclasses import astuple, replace

import numpy as np
import pytest

from datasets import geometry, heatmaps
from datasets.errors import DataError
from datasets.samples import Augmentation, make_sample
from datasets.skeletons import PENN_ACTION

MIRRORED = PENN_ACTION.mirrored()
HEAD, RIGHT_WRIST, LEFT_WRIST = 0, 5, 6
STILL = Augmentation.none()


def dot_image(x, y, size=(480, 640), sigma=4.0):
    """A black image with one soft white dot at a sub-pixel place."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    values = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=2)


def centroid(plane):
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    return np.array([(plane * columns).sum(), (plane * rows).sum()]) / plane.sum()


def joints_at(joint, point):
    part = np.full((13, 2), np.nan)
    part[joint] = point
    return part


def sample_of(image, part, center=(320.0, 240.0), scale=1.6, augmentation=None, seed=0, flip=None, res=128):
    rng = np.random.default_rng(seed)
    return make_sample(image, np.array(center), scale, part, MIRRORED, res, res // 4, 1.75, 3, augmentation, rng, flip)


# Box sides of 141 to 1270 px for a crop of 128 px: enlarged never, reduced by plain sampling and by blocks of 1 to 7.
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale, sigma", [(0.707, 2.0), (1.3, 4.0), (2.21, 6.0), (3.17, 9.0), (6.35, 20.0)])
def test_the_label_lies_on_the_bright_dot(scale, sigma, flip):
    turned = replace(Augmentation(), rotation_probability=1, colour=0, flip_probability=0)
    for augmentation, seed in [(None, 0), (turned, 1), (turned, 2), (turned, 3)]:
        dot = np.array([309.3, 248.6]) + 7 * scale * np.array([seed - 1, 1.5 - seed])
        sample = sample_of(dot_image(*dot, sigma=sigma), joints_at(RIGHT_WRIST, dot), (311.2, 237.7), scale,
                           augmentation, seed, flip)  # fmt: skip
        seen = centroid(sample.input[1])
        label = LEFT_WRIST if flip else RIGHT_WRIST  # in a mirrored image the right wrist is a left one
        expected = (seen + 0.5) / 4 - 0.5
        assert np.abs(sample.joints[label] - expected).max() < 0.02 / 4
        assert np.abs(geometry.apply(sample.image_to_crop, dot) - seen).max() < 0.02
        # The heatmap's own centre, too, and no other joint has one.
        decoded, _ = heatmaps.decode_subpixel(sample.heatmaps)
        assert np.abs(decoded[label] - expected).max() < 0.02 / 4
        assert np.isnan(np.delete(sample.joints, label, axis=0)).all()
        assert not np.delete(sample.heatmaps, label, axis=0).any()


def test_a_box_of_the_crops_size_copies_pixels():
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    sample = sample_of(image, joints_at(HEAD, (40, 30)), (41.5, 33.5), 64 / 200, res=64)
    assert sample.input.shape == (3, 64, 64) and sample.input.dtype == np.float32
    np.testing.assert_allclose(sample.input, image[2:66, 10:74].transpose(2, 0, 1) / 255, atol=1e-6)
    mirrored = sample_of(image, joints_at(HEAD, (40, 30)), (41.5, 33.5), 64 / 200, res=64, flip=True)
    np.testing.assert_array_equal(mirrored.input, sample.input[:, :, ::-1])


def test_outside_the_image_is_zero_and_inside_is_not():
    image = np.full((40, 30, 3), 200, np.uint8)
    # The box spans x from -34.5 to 93.5 and y from -44.5 to 83.5: the image fills columns 34 to 63, rows 44 to 83.
    sample = sample_of(image, np.full((13, 2), np.nan), (29.5, 19.5), 128 / 200)
    expected = np.zeros((128, 128))
    expected[44:84, 34:64] = 200 / 255
    np.testing.assert_allclose(sample.input[0], expected, atol=1e-6)
    beside = sample_of(image, np.full((13, 2), np.nan), (5000, 19.5), 1)
    assert not beside.input.any()


@pytest.mark.parametrize("scale", [900.0, 1e5])
def test_a_box_enormously_larger_than_the_image_costs_nothing_and_works(scale):
    sample = sample_of(np.full((40, 30, 3), 200, np.uint8), np.full((13, 2), np.nan), (15, 20), scale)
    assert sample.input.max() < 0.8


def test_large_boxes_are_averaged_not_picked():
    # Noise reduced by r keeps 1 / r of its deviation when each output pixel is the mean of r x r; picking 2 x 2 pixels
    # keeps 0.4 to 1.
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    for reduction in (2.6, 3.4, 4, 6, 8):
        sample = sample_of(image, np.full((13, 2), np.nan), (511.9, 511.2), 128 * reduction / 200)
        assert sample.input.std() / np.std(image / 255) < 1.15 / reduction
        assert sample.input.mean() == pytest.approx(0.5, abs=0.01)


def test_a_joint_outside_the_crop_keeps_its_place_and_has_no_heatmap():
    part = joints_at(HEAD, (10.0, 240.0))
    sample = sample_of(np.zeros((480, 640, 3), np.uint8), part)
    # The box of side 320 begins at x = 160; one heatmap pixel is 10 image px.
    np.testing.assert_allclose(sample.joints[HEAD], [-15.5, 15.5])
    assert not sample.heatmaps.any()


def test_colour_multiplies_channels_and_clamps():
    image = np.full((64, 64, 3), (100, 250, 30), np.uint8)
    augmentation = replace(STILL, colour=0.2)
    seen = []
    for seed in range(20):
        sample = sample_of(image, np.full((13, 2), np.nan), (31.5, 31.5), 0.32, augmentation, seed, res=64)
        assert np.ptp(sample.input, axis=(1, 2)).max() == 0
        seen.append(sample.input[:, 0, 0])
    factors = np.array(seen) / (np.array([100, 250, 30]) / 255)
    assert np.array(seen)[:, 1].max() == 1  # 250 x 1.2 would be 300
    free = factors[:, [0, 2]]
    assert 0.8 <= free.min() < 0.85 and 1.15 < free.max() <= 1.2
    assert np.abs(free[:, 0] - free[:, 1]).min() > 0


def test_the_draws_have_the_published_distribution():
    image, part = np.zeros((8, 8, 3), np.uint8), np.full((13, 2), np.nan)
    augmentation, rng = Augmentation(), np.random.default_rng(5)
    sizes, angles, flips = [], [], []
    for _ in range(3000):
        sample = make_sample(image, np.zeros(2), 1.0, part, MIRRORED, 8, 4, 1, 2, augmentation, rng)
        linear = sample.image_to_crop[:, :2] * 200 / 8
        flips.append(np.linalg.det(linear) < 0)
        sizes.append(1 / np.sqrt(abs(np.linalg.det(linear))))
        angles.append(np.degrees(np.arctan2(linear[0, 1] * (-1 if flips[-1] else 1), linear[1, 1])))
    sizes, angles = np.array(sizes), np.array(angles)
    # P(|N| > 1) = 0.317 of the factors and P(|N| > 2) = 0.0455 of the turns lie on the limits.
    assert sizes.min() == pytest.approx(0.75) and sizes.max() == pytest.approx(1.25)
    assert np.mean(np.abs(sizes - 1) > 0.2499) == pytest.approx(0.317, abs=0.03)
    turned = angles[np.abs(angles) > 1e-9]
    assert len(turned) / len(angles) == pytest.approx(0.4, abs=0.03)
    assert np.abs(turned).max() == pytest.approx(60)
    assert np.std(turned[np.abs(turned) < 59.9]) == pytest.approx(26.4, abs=1.5)  # a normal cut at two deviations
    assert np.mean(turned) == pytest.approx(0, abs=3)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.03)


def test_a_sample_takes_the_same_random_numbers_whatever_comes_of_them():
    image, part = np.zeros((8, 8, 3), np.uint8), np.full((13, 2), np.nan)
    for augmentation in (Augmentation(), STILL):
        for flip in (None, True, False):
            rng, expected = np.random.default_rng(9), np.random.default_rng(9)
            make_sample(image, np.zeros(2), 1.0, part, MIRRORED, 8, 4, 1, 2, augmentation, rng, flip)
            expected.standard_normal(2), expected.random(5)
            assert rng.random() == expected.random()
    rng = np.random.default_rng(9)
    make_sample(image, np.zeros(2), 1.0, part, MIRRORED, 8, 4, 1, 2, None, rng)
    assert rng.random() == np.random.default_rng(9).random()


def test_the_same_seed_gives_the_same_sample():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    before = image.copy()
    a, b, c = (sample_of(image, joints_at(HEAD, (50, 50)), (60, 50), 0.5, Augmentation(), seed) for seed in (4, 4, 5))
    for x, y in zip(astuple(a), astuple(b), strict=True):
        np.testing.assert_array_equal(x, y)
    assert np.abs(a.input - c.input).max() > 0
    np.testing.assert_array_equal(image, before)


def test_no_augmentation_and_augmentation_none_agree():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    a, b = (sample_of(image, joints_at(HEAD, (50, 50)), (60, 50), 0.5, augmentation) for augmentation in (None, STILL))
    for x, y in zip(astuple(a), astuple(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("wrong", [
    {"scale_limit": 1.0}, {"scale_deviation": -0.1}, {"rotation_limit": 181}, {"rotation_probability": 1.5},
    {"colour": np.nan}, {"flip_probability": -0.5},
])  # fmt: skip
def test_augmentation_refuses_what_makes_no_sense(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        Augmentation(**wrong)
