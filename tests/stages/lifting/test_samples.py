"""Synthetic samples: cameras of the published distribution, exact projection, and heatmaps with and without noise."""

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.lifting import cameras
from stages.lifting.bodies import JOINTS, limb_lengths, scale_limbs
from stages.lifting.samples import Noise, PoseSamples, Scenes, draw_heatmaps, observed, synthesise, validation_scenes
from stages.loading import augment
from stages.settings.lifting import Converter, ConverterTraining
from tests.stages.lifting.made import standing

SIDE = 64
TRAINING = ConverterTraining(targets="subpixel", flip_probability=0.5, batch=32)


def reprojected(scenes: Scenes) -> np.ndarray:
    """Return u and v of all joints by the formula of projection, in float32, the dtype of training samples."""
    points = (scenes.repos + scenes.trans[:, None]).astype(np.float32)
    focal = scenes.focal.astype(np.float32)[:, None]
    return np.stack([focal * points[..., i] / points[..., 2] + np.float32(scenes.center) for i in (0, 1)], axis=-1)


@pytest.mark.parametrize("published", [False, True])
def test_a_sample_and_its_mirror_image_reproject_to_their_points(published: bool) -> None:
    scenes = synthesise(standing(200)[:, None], SIDE, np.random.default_rng(1), published)
    assert np.abs(reprojected(scenes) - scenes.points).max() < 0.01
    np.testing.assert_allclose(scenes.repos.mean(axis=1), 0, atol=1e-6)
    mirrored = scenes.mirrored(np.ones(200, bool))
    assert np.abs(reprojected(mirrored) - mirrored.points).max() < 0.01
    wrists = [JOINTS.index(f"{side}_wrist") for side in ("left", "right")]
    np.testing.assert_allclose(mirrored.points[:, wrists, 0], 2 * scenes.center - scenes.points[:, wrists[::-1], 0])
    twice = mirrored.mirrored(np.ones(200, bool))
    np.testing.assert_allclose(twice.points, scenes.points, atol=1e-9)


def test_the_centre_is_the_middle_of_the_image() -> None:
    assert cameras.principal_point(64, published=False) == 31.5  # the point between the two middle pixels of 64
    assert cameras.principal_point(64, published=True) == 31  # pixel 32 if pixels are counted from 1


def test_rotations_are_those_of_angle2dcm() -> None:
    """By hand: after a rotation of the frame by 90 degrees about z, the new x axis is where the y axis was."""
    right, zero = np.radians([90.0]), np.zeros(1)
    np.testing.assert_allclose(cameras.frame_rotation(right, zero, zero)[0] @ [0, 1, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(cameras.frame_rotation(zero, right, zero)[0] @ [1, 0, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(cameras.frame_rotation(zero, zero, right)[0] @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    both = cameras.frame_rotation(right, right, zero)[0]
    np.testing.assert_allclose(both @ [0, 1, 0], [0, 0, 1], atol=1e-12)  # rotated first about z, then about y


def test_cameras_see_whole_people_the_right_way_up() -> None:
    poses = standing(500, spread=0)
    scenes = synthesise(poses[:, None], SIDE, np.random.default_rng(0))
    assert (scenes.points >= 0).all() and (scenes.points <= SIDE - 1).all() and (scenes.focal > 0).all()
    assert (np.ptp(scenes.points, axis=1).prod(axis=1) >= 0.1 * SIDE**2).all()
    assert ((scenes.repos + scenes.trans[:, None])[..., 2] >= cameras.NEAR).all()
    head, ankles = JOINTS.index("head"), [JOINTS.index("left_ankle"), JOINTS.index("right_ankle")]
    assert (scenes.points[:, head, 1] < scenes.points[:, ankles, 1].min(axis=1)).all()  # v points down
    # If a person's chest points at the camera, the left shoulder is to the right of the right shoulder in the image.
    left, right = (JOINTS.index(f"{side}_shoulder") for side in ("left", "right"))
    across = scenes.repos[:, left] - scenes.repos[:, right]
    up = scenes.repos[:, head] - scenes.repos[:, ankles].mean(axis=1)
    chest = np.cross(across, up)  # the cross product of left and up points forward
    facing = (chest * (scenes.repos[:, [left, right]].mean(axis=1) + scenes.trans)).sum(axis=1) < 0
    assert 50 < facing.sum() < 450
    np.testing.assert_array_equal(scenes.points[:, left, 0] > scenes.points[:, right, 0], facing)
    # With real poses, the published distribution has a focal length of 70 +- 24 px and a median depth of 2.4 m (FORECAST.md 4).
    assert 60 < scenes.focal.mean() < 85 and 2000 < np.median(scenes.trans[:, 2]) < 3200


def test_published_cameras_may_be_upside_down() -> None:
    """The published condition Z >= f allows a negative focal length f, which 0.13 % of the cameras have (FORECAST.md 4)."""
    poses = standing(6000)
    found = synthesise(poses[:, None], SIDE, np.random.default_rng(0), published=True)
    assert 0 < (found.focal < 0).mean() < 0.02
    assert (synthesise(poses[:, None], SIDE, np.random.default_rng(0)).focal > 0).all()


def test_equal_seeds_give_equal_bits_and_validation_cameras_are_fixed() -> None:
    poses = standing(50)
    options = Converter(preset="res-64-modern")
    for number in (0, 3):
        one, other = (next(PoseSamples(poses, SIDE, options, TRAINING).batches(number, number + 1)) for _ in range(2))
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    stream = list(PoseSamples(poses, SIDE, options, TRAINING).batches(0, 4))
    assert stream[3]["seen"].tobytes() == one["seen"].tobytes()  # a batch is equal whether or not earlier batches were made
    assert stream[0]["seen"].tobytes() != one["seen"].tobytes()
    first, second = validation_scenes(poses, SIDE), validation_scenes(poses, SIDE)
    assert first.points.tobytes() == second.points.tobytes() and len(first) == 50


def test_each_pose_occurs_once_in_a_pass() -> None:
    poses = standing(64)
    samples = PoseSamples(poses, SIDE, Converter(), TRAINING.model_copy(update={"flip_probability": 0.0}))
    sizes = np.concatenate([np.sort(limb_lengths(batch["repos"]).sum(axis=1)) for batch in samples.batches(0, 2)])
    np.testing.assert_allclose(np.sort(sizes), np.sort(limb_lengths(poses).sum(axis=1)), rtol=1e-4)


def test_one_camera_for_all_moments_of_a_person() -> None:
    poses = standing(5, spread=0)[:, None] + 30 * np.random.default_rng(0).normal(size=(5, 8, 13, 3))
    scenes = synthesise(poses, SIDE, np.random.default_rng(0))
    assert len(scenes) == 40 and (scenes.focal.reshape(5, 8) == scenes.focal.reshape(5, 8)[:, :1]).all()
    np.testing.assert_allclose(limb_lengths(scenes.repos), limb_lengths(poses.reshape(40, 13, 3)), rtol=1e-9)


def test_people_whom_no_camera_sees_as_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "MOST_DRAWS", 200)
    with pytest.raises(DataError, match="a pose is not completely visible to any of 256 random cameras"):
        synthesise(100 * standing(1)[:, None], SIDE, np.random.default_rng(0))


def test_limbs_are_scaled_and_directions_stay() -> None:
    poses = standing(3)
    np.testing.assert_allclose(scale_limbs(poses, np.ones((3, 8))), poses, atol=1e-3)
    factors = np.ones((3, 8))
    factors[:, 2] = 1.2  # thighs
    longer = scale_limbs(poses, factors)
    hip, knee, ankle = (JOINTS.index(f"left_{name}") for name in ("hip", "knee", "ankle"))
    np.testing.assert_allclose(longer[:, knee] - longer[:, hip], 1.2 * (poses[:, knee] - poses[:, hip]), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(longer[:, ankle] - longer[:, knee], poses[:, ankle] - poses[:, knee], rtol=1e-4, atol=1e-2)
    arms = [JOINTS.index(f"right_{name}") for name in ("shoulder", "elbow", "wrist")]
    np.testing.assert_allclose(longer[:, arms], poses[:, arms], atol=1e-3)
    doubled = scale_limbs(poses, np.full((3, 8), 2.0))
    np.testing.assert_allclose(limb_lengths(doubled), 2 * limb_lengths(poses), rtol=1e-5)


def blobs(training: ConverterTraining, noise: Noise, count: int = 40) -> tuple[Scenes, dict[str, np.ndarray], torch.Tensor]:
    scenes = validation_scenes(standing(count), SIDE)
    seen = observed(scenes, training, noise, np.random.default_rng(0))
    return scenes, seen, draw_heatmaps({name: torch.from_numpy(values) for name, values in seen.items()}, SIDE, training)


def test_clean_blobs_are_those_of_the_pose_network() -> None:
    scenes, seen, maps = blobs(TRAINING, Noise())
    np.testing.assert_allclose(seen["seen"], scenes.points, atol=1e-4)
    expected = augment.draw(
        torch.from_numpy(scenes.points.astype(np.float32)), SIDE, TRAINING.target_sigma, TRAINING.target_radius
    )
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert ((maps > 0).sum(dim=(2, 3)) <= 13 * 13).all() and ((maps > 0).sum(dim=(2, 3)) == 13 * 13).any()


def test_published_blobs_stand_on_whole_pixels() -> None:
    scenes, _, maps = blobs(TRAINING.model_copy(update={"targets": "truncated"}), Noise())
    assert (maps.amax(dim=(2, 3)) == 1).all()
    largest = maps.flatten(2).argmax(dim=2).numpy()
    # the published rule counts pixels from 1, so a blob is at floor(u + 1) - 1
    np.testing.assert_array_equal(np.stack([largest % SIDE, largest // SIDE], axis=-1), np.floor(scenes.points + 1) - 1)


def test_noise_lowers_blurs_moves_and_removes_blobs() -> None:
    noise = Noise(blur_std=2, lowest_peak=0.3, jitter_std=1, missing_probability=0.2)
    scenes, seen, maps = blobs(TRAINING, noise, 400)
    empty = np.isnan(seen["seen"]).any(axis=2)
    assert 0.17 < empty.mean() < 0.23 and (maps[torch.from_numpy(empty)] == 0).all()
    moved = (seen["seen"] - scenes.points)[~empty]
    assert 0.9 < moved.std() < 1.1 and abs(moved.mean()) < 0.05
    assert seen["peak"].min() >= 0.3 and seen["peak"].max() <= 1
    low, high = TRAINING.target_sigma, np.hypot(TRAINING.target_sigma, 2)
    assert low <= seen["std"].min() and seen["std"].max() <= high + 1e-6
