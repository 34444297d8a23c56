import math
from dataclasses import astuple, replace

import h5py
import numpy as np
import pytest

from datasets.formats import annotations
from datasets.imaging import geometry, heatmaps
from datasets.imaging.samples import Augmentation, CropSpec, Person, SampledAugmentation, make_sample
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from tests.shared import SHARED as DATA

SHARED = DATA / "mpii_real_annotations"
MIRRORED = PENN_ACTION.skeleton.mirrored()
HEAD, RIGHT_WRIST, LEFT_WRIST = 0, 5, 6
AUGMENTATION = Augmentation(scale_std=0.25, rotation_std=30, rotation_probability=0.4, colour_jitter=0.2, flip_probability=0.5)
PLAIN = SampledAugmentation()
NOWHERE = np.full((13, 2), np.nan)


def dot_image(x, y, size=(480, 640), sigma=4.0):
    """Return a black image with a soft white dot at a sub-pixel position."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    values = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=2)


def centroid(plane):
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    return np.array([(plane * columns).sum(), (plane * rows).sum()]) / plane.sum()


def joints_at(joint, point):
    part = NOWHERE.copy()
    part[joint] = point
    return part


def sample_of(image, part, center=(320.0, 240.0), scale=1.6, variation=PLAIN, res=128, **how):
    target = CropSpec(res, res // 4, 1.75, 3, **how)
    return make_sample(image, Person(np.array(center), scale, part), MIRRORED, target, variation)


def drawn(augmentation, seed):
    return augmentation.draw(np.random.default_rng(seed))


# Box sides of 141 to 1270 px for a crop of 128 px: images are sampled directly or averaged over blocks of up to 7 px.
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale, sigma", [(0.707, 2.0), (1.3, 4.0), (2.21, 6.0), (3.17, 9.0), (6.35, 20.0)])
def test_the_label_lies_on_the_bright_dot(scale, sigma, flip):
    turned = Augmentation(scale_std=0.25, rotation_std=30, rotation_probability=1, rotate180_probability=0.5)
    for i, variation in enumerate([PLAIN, *(drawn(turned, seed) for seed in (1, 2, 3))]):
        dot = np.array([309.3, 248.6]) + 7 * scale * np.array([i - 1, 1.5 - i])
        sample = sample_of(dot_image(*dot, sigma=sigma), joints_at(RIGHT_WRIST, dot), (311.2, 237.7), scale,
                           replace(variation, flip=flip))  # fmt: skip
        seen = centroid(sample.input[1])
        label = LEFT_WRIST if flip else RIGHT_WRIST  # in a mirrored image, the right wrist is labelled as the left wrist
        expected = (seen + 0.5) / 4 - 0.5
        assert np.abs(sample.joints[label] - expected).max() < 0.02 / 4
        assert np.abs(geometry.apply(sample.image_to_crop, dot) - seen).max() < 0.02
        # The joint's blob lies on the dot, too, and the heatmaps of all other joints are empty.
        decoded, _ = heatmaps.decode_subpixel(sample.heatmaps)
        assert np.abs(decoded[label] - expected).max() < 0.02 / 4
        assert np.isnan(np.delete(sample.joints, label, axis=0)).all()
        assert not np.delete(sample.heatmaps, label, axis=0).any()


def test_a_box_of_the_crops_size_copies_pixels():
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    sample = sample_of(image, joints_at(HEAD, (40, 30)), (41.5, 33.5), 64 / 200, res=64)
    assert sample.input.shape == (3, 64, 64) and sample.input.dtype == np.float32
    np.testing.assert_allclose(sample.input, image[2:66, 10:74].transpose(2, 0, 1) / 255, atol=1e-6)
    mirrored = sample_of(image, joints_at(HEAD, (40, 30)), (41.5, 33.5), 64 / 200, SampledAugmentation(flip=True), res=64)
    np.testing.assert_array_equal(mirrored.input, sample.input[:, :, ::-1])


def test_outside_the_image_is_zero_and_inside_is_not():
    image = np.full((40, 30, 3), 200, np.uint8)
    # The box spans x from -34.5 to 93.5 and y from -44.5 to 83.5: the image fills columns 34 to 63, rows 44 to 83.
    sample = sample_of(image, NOWHERE, (29.5, 19.5), 128 / 200)
    expected = np.zeros((128, 128))
    expected[44:84, 34:64] = 200 / 255
    np.testing.assert_allclose(sample.input[0], expected, atol=1e-6)
    beside = sample_of(image, NOWHERE, (5000, 19.5), 1)
    assert not beside.input.any()


@pytest.mark.parametrize("scale", [900.0, 1e5])
def test_a_box_much_larger_than_the_image_takes_no_memory(scale):
    sample = sample_of(np.full((40, 30, 3), 200, np.uint8), NOWHERE, (15, 20), scale)
    assert sample.input.max() < 0.8


def test_large_boxes_are_averaged_not_picked():
    # If each output pixel is the mean of r x r pixels, noise keeps 1 / r of its standard deviation. If only 2 x 2 pixels were
    # read, noise would keep 0.4 to 1 of its standard deviation.
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    for reduction in (2.6, 3.4, 4, 6, 8):
        sample = sample_of(image, NOWHERE, (511.9, 511.2), 128 * reduction / 200)
        assert sample.input.std() / np.std(image / 255) < 1.15 / reduction
        assert sample.input.mean() == pytest.approx(0.5, abs=0.01)


def test_a_joint_outside_the_crop_keeps_its_place_and_has_no_heatmap():
    part = joints_at(HEAD, (10.0, 240.0))
    sample = sample_of(np.zeros((480, 640, 3), np.uint8), part)
    # The box with side 320 px begins at x = 160; one heatmap pixel is 10 image px wide.
    np.testing.assert_allclose(sample.joints[HEAD], [-15.5, 15.5])
    assert not sample.heatmaps.any()


def test_colour_multiplies_channels_and_clamps():
    image = np.full((64, 64, 3), (100, 250, 30), np.uint8)
    augmentation = Augmentation(colour_jitter=0.2)
    seen = []
    for seed in range(20):
        sample = sample_of(image, NOWHERE, (31.5, 31.5), 0.32, drawn(augmentation, seed), res=64)
        assert np.ptp(sample.input, axis=(1, 2)).max() == 0
        seen.append(sample.input[:, 0, 0])
    factors = np.array(seen) / (np.array([100, 250, 30]) / 255)
    assert np.array(seen)[:, 1].max() == 1  # 250 x 1.2 would be 300
    free = factors[:, [0, 2]]
    assert 0.8 <= free.min() < 0.85 and 1.15 < free.max() <= 1.2
    assert np.abs(free[:, 0] - free[:, 1]).min() > 0


def test_rotation_by_180_degrees_turns_the_crop_upside_down():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain, turned = (
        sample_of(
            image, joints_at(HEAD, (20, 30)), (31.5, 31.5), 0.32, drawn(Augmentation(rotate180_probability=half), 1), res=64
        )
        for half in (0, 1)
    )
    np.testing.assert_allclose(turned.input, plain.input[:, ::-1, ::-1], atol=1 / 255)
    np.testing.assert_allclose(turned.joints[HEAD], 15 - plain.joints[HEAD], atol=1e-9)


def test_cutout_erases_a_square_and_leaves_the_heatmaps():
    image, places = np.full((64, 64, 3), 200, np.uint8), []
    for seed in range(30):
        variation = drawn(Augmentation(cutout_probability=1, cutout_size=0.25), seed)
        sample = sample_of(image, joints_at(HEAD, (31, 31)), (31.5, 31.5), 0.32, variation, res=64)
        rows, columns = np.nonzero(sample.input[0] == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width and (sample.input == 0).sum() == 3 * len(rows)
        inner = rows.min() > 0 and rows.max() < 63 and columns.min() > 0 and columns.max() < 63
        assert (height, width) == (16, 16) if inner else max(height, width) <= 16
        assert sample.heatmaps[HEAD].max() > 0.9
        places.append((rows.mean(), columns.mean()))
    assert np.ptp(places, axis=0).min() > 40


def test_the_draws_have_the_published_distribution():
    rng = np.random.default_rng(5)
    variations = [AUGMENTATION.draw(rng) for _ in range(3000)]
    sizes, angles = (np.array([getattr(v, name) for v in variations]) for name in ("scale", "rotation"))
    # The limit of the scale factors is one standard deviation, so 0.317 of them lie on a limit; that of the rotations is two
    # standard deviations, so 0.0455 of the rotations lie on a limit.
    assert sizes.min() == pytest.approx(0.75) and sizes.max() == pytest.approx(1.25)
    assert np.mean(np.abs(sizes - 1) > 0.2499) == pytest.approx(0.317, abs=0.03)
    turned = angles[np.abs(angles) > 1e-9]
    assert len(turned) / len(angles) == pytest.approx(0.4, abs=0.03)
    assert np.abs(turned).max() == pytest.approx(60)
    # The angles have a normal distribution, limited at two standard deviations of 30 degrees.
    assert np.std(turned[np.abs(turned) < 59.9]) == pytest.approx(26.4, abs=1.5)
    assert np.mean(turned) == pytest.approx(0, abs=3)
    assert np.mean([v.flip for v in variations]) == pytest.approx(0.5, abs=0.03)


def test_a_sampled_augmentation_is_applied():
    sample = sample_of(np.zeros((8, 8, 3), np.uint8), NOWHERE, (0, 0), 1, SampledAugmentation(scale=1.2, rotation=30), res=8)
    linear = sample.image_to_crop[:, :2] * 200 * 1.2 / 8  # a point right of the centre moves up: its y decreases
    np.testing.assert_allclose(linear, [[math.sqrt(0.75), 0.5], [-0.5, math.sqrt(0.75)]], atol=1e-9)


def test_every_draw_takes_the_same_number_of_random_numbers():
    for augmentation in (AUGMENTATION, Augmentation(), Augmentation(cutout_probability=1, rotate180_probability=1)):
        rng, expected = np.random.default_rng(9), np.random.default_rng(9)
        augmentation.draw(rng)
        expected.standard_normal(2), expected.random(9)
        assert rng.random() == expected.random()


def test_the_same_seed_gives_the_same_sample():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    before = image.copy()
    a, b, c = (sample_of(image, joints_at(HEAD, (50, 50)), (60, 50), 0.5, drawn(AUGMENTATION, seed)) for seed in (4, 4, 5))
    for x, y in zip(astuple(a), astuple(b), strict=True):
        np.testing.assert_array_equal(x, y)
    assert np.abs(a.input - c.input).max() > 0
    np.testing.assert_array_equal(image, before)


def test_no_augmentation_changes_nothing():
    assert drawn(Augmentation(), 3) == SampledAugmentation()


# The next functions compute published samples from the description of the published system, independently of the code that
# is tested: pixel by pixel, in the coordinates of the published system, which count from 1.


def published_point(point, center, scale, res):
    """Return the pixel of a res x res heatmap, counted from 0, at the centre of a joint's blob."""
    side = 200 * scale
    return [math.trunc(res * (p - c) / side + res / 2 + 1e-4) for p, c in zip(point, center, strict=True)]


def published_target(part, center, scale, res, patch):
    maps = np.zeros((len(part), res, res))
    for heatmap, joint in zip(maps, part, strict=True):
        if not joint[0] > 0:
            continue
        column, row = published_point(joint, center, scale, res)
        for y in range(max(0, row - patch // 2), min(res, row + patch // 2 + 1)):
            for x in range(max(0, column - patch // 2), min(res, column + patch // 2 + 1)):
                heatmap[y, x] = math.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * (0.25 * patch) ** 2))
    return maps


def published_crop(picture, center, scale, rotation, res):
    """Return the crop (res, res) of a picture (h, w): a box of whole pixels, turned about its middle and resized bilinearly."""
    side = 200 * scale
    first = [math.trunc(c - side / 2 + 1e-4) for c in center]  # column and row of the box's first pixel, counted from 0
    sides = [math.trunc(c + side / 2 + 1e-4) - f for c, f in zip(center, first, strict=True)]
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    crop = np.zeros((res, res))
    for row in range(res):
        for column in range(res):
            right, down = (column + 0.5) / res - 0.5, (row + 0.5) / res - 0.5
            x = first[0] + (cos * right - sin * down + 0.5) * sides[0] - 0.5
            y = first[1] + (sin * right + cos * down + 0.5) * sides[1] - 0.5
            left, top = math.floor(x), math.floor(y)
            for u, v in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
                if 0 <= v < picture.shape[0] and 0 <= u < picture.shape[1]:
                    crop[row, column] += picture[v, u] * (1 - abs(x - u)) * (1 - abs(y - v))
    return crop


def smooth_image(height, width):
    """Return an image of long waves, for which methods of interpolation hardly differ.

    The image is dark at its edges, because the methods differ there.
    """
    y, x = np.mgrid[:height, :width] / 12
    window = np.outer(np.hanning(height), np.hanning(width))
    return np.rint(window * 127 * (1 + np.sin(x) * np.cos(y + 0.3 * x))).astype(np.uint8)


def person_of(seed, res):
    """Return center, scale and joints in 1-based px: joints in the box, next to it, left of the image, and absent."""
    rng = np.random.default_rng(seed)
    center, scale = rng.uniform(40, 80, 2), rng.uniform(0.25, 0.45)
    part = center + rng.uniform(-0.6, 0.6, (13, 2)) * 200 * scale
    part[0], part[1], part[2] = (np.nan, np.nan), (-0.5, 50.0), center - 100 * scale * (1 + 1 / res)
    return center, scale, part


@pytest.mark.parametrize("patch", [13, 7])
@pytest.mark.parametrize("seed", range(4))
def test_the_published_target_to_the_pixel(seed, patch):
    center, scale, part = person_of(seed, 64)
    for flip in (False, True):
        target = CropSpec(256, 64, 0.25 * patch, patch // 2, truncated=True, twice=True)
        person = Person(center - 1, scale, part - 1)
        sample = make_sample(
            smooth_image(120, 110)[..., None].repeat(3, 2), person, MIRRORED, target, SampledAugmentation(flip=flip)
        )
        expected = published_target(part, center, scale, 64, patch)
        np.testing.assert_allclose(sample.heatmaps, expected[MIRRORED, :, ::-1] if flip else expected, atol=1e-6)
        assert not expected[1].any() and expected[2].any() == (part[2, 0] > 0)


# In 1-based px, a box of 200 px around (101.5, 101.5) shown at 64 px maps p to pixel trunc(0.32 (p - 101.5) + 32 + 0.0001).
BY_HAND = [
    ((50, 120), (15, 37), 1),  # 15.52, 37.92
    ((101.5, 110.8749), (32, 35), 1),  # 32 and 34.99997, to which 0.0001 is added
    ((1, 100), (0, 31), 1),  # -0.16 is truncated towards zero, so the joint is inside
    ((0.5, 100), (0, 31), 1),  # x > 0
    ((-0.1, 100), (0, 0), 0),  # absent, because x is not > 0, although -0.512 would be truncated to 0
    # 66.08: the blob's centre is 3 px beyond the last pixel, but its patch reaches into the heatmap.
    ((208, 100), (63, 31), math.exp(-(3**2) / (2 * 3.25**2))),
    ((301, 100), (0, 0), 0),  # 95.84
]


@pytest.mark.parametrize("twice", [False, True])
def test_published_joints_by_hand(twice):
    part = NOWHERE.copy()
    part[: len(BY_HAND)] = [joint for joint, _, _ in BY_HAND]
    target = CropSpec(256, 64, 3.25, 6, truncated=True, twice=twice)
    person = Person(np.array([100.5, 100.5]), 1.0, part - 1)
    sample = make_sample(np.zeros((9, 9, 3), np.uint8), person, MIRRORED, target)
    points, heights = heatmaps.decode_argmax(sample.heatmaps[: len(BY_HAND)])
    np.testing.assert_array_equal(points, [pixel for _, pixel, _ in BY_HAND])
    np.testing.assert_allclose(heights, [height for _, _, height in BY_HAND])


@pytest.mark.skipif(not SHARED.is_dir(), reason="MPII's annotations (shared/data) are not here")
def test_the_published_target_of_real_people_to_the_pixel():
    with h5py.File(SHARED / "valid.h5") as file:
        published = [file[name][::60] for name in ("part", "center", "scale")]
    rows = annotations.read(SHARED, "valid").select(np.arange(0, 2958, 60))
    target = CropSpec(256, 64, 3.25, 6, truncated=True, twice=True)
    for i, (part, center, scale) in enumerate(zip(*published, strict=True)):
        person = Person(rows.center[i], rows.scale[i], rows.part[i])
        sample = make_sample(np.zeros((9, 9, 3), np.uint8), person, MPII.skeleton.mirrored(), target)
        np.testing.assert_allclose(sample.heatmaps, published_target(part, center, scale, 64, 13), atol=1e-6)


@pytest.mark.parametrize("scale, rotation, flip", [(1, 0, False), (0.77, 0, True), (1.21, -23, False), (1, 60, True)])
def test_the_published_double_crop(scale, rotation, flip):
    res = 64
    for seed in (0, 1):
        center, box, part = person_of(seed, res // 4)
        image = smooth_image(120, 110)
        target = CropSpec(res, res // 4, 1.75, 3, truncated=True, twice=True)
        variation = SampledAugmentation(scale=scale, rotation=rotation, flip=flip)
        person = Person(center - 1, box, part - 1)
        sample = make_sample(image[..., None].repeat(3, axis=2), person, MIRRORED, target, variation)

        def vary(plain, side):
            varied = published_crop(plain, [(side + 1) / 2] * 2, side * scale / 200, rotation, side)
            return varied[:, ::-1] if flip else varied

        crop = vary(published_crop(image / 255.0, center, box, 0, res), res)
        assert crop.max() > 0.3
        assert np.abs(sample.input[0] - crop).max() < 0.02
        maps = np.stack([vary(each, res // 4) for each in published_target(part, center, box, res // 4, 7)])
        assert np.abs(sample.heatmaps - (maps[MIRRORED] if flip else maps)).max() < 0.02


def test_the_double_crop_cuts_away_what_a_larger_box_shows():
    image, smaller = np.full((400, 400, 3), 255, np.uint8), SampledAugmentation(scale=1.25)
    once, twice = (sample_of(image, NOWHERE, (200, 200), 0.64, smaller, twice=each) for each in (False, True))
    assert once.input.min() == 1
    assert not twice.input[:, :12].any() and not twice.input[:, :, -12:].any()  # the box before scaling fills 128 / 1.25 px
