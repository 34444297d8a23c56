"""Errors in mm and px, compared with values computed by hand; baselines on their own training samples and on real motion."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datasets.mocap.sources import read_clips
from stages.lifting.baselines import Baselines
from stages.lifting.bodies import JOINTS, RIGID_LIMBS
from stages.lifting.samples import Scenes, validation_scenes
from stages.lifting.scoring import aligned, compare, errors, limb_unsteadiness, mean_with_interval
from tests.shared import SHARED
from tests.stages.lifting.made import standing

SIDE = 64


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return validation_scenes(standing(60), SIDE)


def outputs(scenes: Scenes) -> np.ndarray:
    """Return the outputs of a perfect method: the true poses and cameras."""
    return np.concatenate([scenes.repos.reshape(len(scenes), -1), scenes.trans, scenes.focal[:, None]], axis=1)


def test_a_perfect_method_has_no_errors(scenes: Scenes) -> None:
    found = errors(outputs(scenes), scenes)
    for name, values in vars(found).items():
        np.testing.assert_allclose(values, 0, atol=1e-4, err_msg=name)


def test_errors_are_those_that_were_made(scenes: Scenes) -> None:
    given = outputs(scenes)
    given[:, :39] += np.tile([30, 0, 40], 13)  # each joint is 50 mm off, all in one direction
    given[:, 41] += 100
    given[:, 42] -= 4
    found = errors(given, scenes)
    np.testing.assert_allclose(found.joints, 50)
    np.testing.assert_allclose(found.aligned, 0, atol=1e-6)
    np.testing.assert_allclose(found.depth, 100)
    np.testing.assert_allclose(found.focal, 4)
    f, z = scenes.focal, scenes.trans[:, 2]
    np.testing.assert_allclose(found.magnification, np.abs((f - 4) * z / ((z + 100) * f) - 1))
    x, y, depth = np.moveaxis(scenes.repos + scenes.trans[:, None] + [30, 0, 140], -1, 0)
    u, v = (f[:, None] - 4) * x / depth + 31.5, (f[:, None] - 4) * y / depth + 31.5
    np.testing.assert_allclose(found.reprojection, np.hypot(u - scenes.points[..., 0], v - scenes.points[..., 1]))


def test_focal_length_and_depth_that_grow_together_keep_the_magnification(scenes: Scenes) -> None:
    given = outputs(scenes)
    given[:, 41:] *= 1.3
    found = errors(given, scenes)
    np.testing.assert_allclose(found.magnification, 0, atol=1e-9)
    assert found.depth.min() > 200


def test_alignment_removes_rotation_scale_and_place_but_no_mirror_image() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 300, (20, 13, 3))
    turned = np.stack([0.7 * pose @ Rotation.random(rng=i).as_matrix() + rng.normal(0, 99, 3) for i, pose in enumerate(truth)])
    np.testing.assert_allclose(aligned(turned, truth), truth, atol=1e-6)
    assert np.linalg.norm(aligned(truth * [-1, 1, 1], truth) - truth, axis=-1).mean() > 50
    for pose, goal, found in zip(turned + rng.normal(0, 50, turned.shape), truth, aligned(turned, truth), strict=True):
        # The noisy pose must be aligned by the rotation that SciPy finds, and by the best scale.
        own = aligned(pose[None], goal[None])[0]
        centred, target = pose - pose.mean(axis=0), goal - goal.mean(axis=0)
        turn = Rotation.align_vectors(target, centred)[0].as_matrix()
        scale = (target * (centred @ turn.T)).sum() / (centred**2).sum()
        np.testing.assert_allclose(own - goal.mean(axis=0), scale * centred @ turn.T, atol=1e-6)
        assert found.shape == (13, 3)


def test_rigid_limbs_are_steady_and_one_that_grows_is_not() -> None:
    moving = np.repeat(standing(2)[:, None], 4, axis=1).astype(np.float64)
    moving += np.arange(4)[:, None, None] * 10
    np.testing.assert_allclose(limb_unsteadiness(moving), 0, atol=1e-6)
    shoulder, elbow = JOINTS.index("left_shoulder"), JOINTS.index("left_elbow")
    wrist = JOINTS.index("left_wrist")
    lengths = np.array([0.9, 1.1, 0.9, 1.1])  # mean 1, standard deviation 0.1
    way = moving[0, 0, elbow] - moving[0, 0, shoulder]
    forearm = moving[0, :, wrist] - moving[0, :, elbow]
    moving[0, :, elbow] = moving[0, :, shoulder] + lengths[:, None] * way
    moving[0, :, wrist] = moving[0, :, elbow] + forearm
    np.testing.assert_allclose(limb_unsteadiness(moving), [0.1 / len(RIGID_LIMBS), 0], atol=1e-6)


def test_intervals_and_tests_are_over_clips() -> None:
    """Ten clips have ten poses each. All errors within a clip are equal, so a clip counts as one independent sample."""
    clip = np.repeat(np.arange(10), 10)
    values = np.repeat(np.linspace(50, 140, 10), 10)[:, None] * np.ones(13)
    mean, low, high = mean_with_interval(values, clip)
    assert mean == pytest.approx(95)
    spread = 1.96 * np.linspace(50, 140, 10).std() / np.sqrt(10)
    assert low == pytest.approx(95 - spread, abs=3) and high == pytest.approx(95 + spread, abs=3)
    better = compare(values, values - 7, clip)
    assert better.value == pytest.approx(-7) and better.p < 0.01 and better.groups == 10


def test_baselines_find_what_they_have_seen(scenes: Scenes) -> None:
    learnt = Baselines.learn(scenes, SIDE)
    truth = outputs(scenes)
    np.testing.assert_allclose(learnt.nearest(0.5 * scenes.points + 3), truth)  # position and size of the 2D pose do not matter
    hidden = scenes.points.copy()
    hidden[:, [0, 5]] = np.nan
    assert (np.abs(learnt.nearest(hidden) - truth).max(axis=1) < 1e-6).mean() > 0.9
    np.testing.assert_allclose(learnt.mean_pose(scenes.points)[7], truth.mean(axis=0))


def test_the_linear_map_is_the_least_squares_fit(scenes: Scenes) -> None:
    learnt = Baselines.learn(scenes, SIDE)
    inputs = np.concatenate([learnt.features, np.ones((len(scenes), 1))], axis=1)
    weights = np.linalg.lstsq(np.vstack([inputs, np.eye(inputs.shape[1])]), np.vstack([outputs(scenes), np.zeros((43, 43))]))[0]
    np.testing.assert_allclose(learnt.linear_map(scenes.points), inputs @ weights, rtol=1e-6, atol=1e-3)
    assert np.isfinite(learnt.linear_map(np.full((2, 13, 2), np.nan))).all()


@pytest.mark.skipif(not (SHARED / "mocap").is_dir(), reason="needs the motion capture of ../shared/data/mocap")
def test_baselines_on_real_motion_capture_have_the_errors_that_others_measured() -> None:
    """The expected errors are in FORECAST.md 8, measured with 1,000 random training samples and 500 test samples:

    mean pose 242 mm, nearest 2D pose 142 mm, linear map 112 mm.
    """
    poses = read_clips(SHARED / "mocap/mocap17.npz").with_joints(JOINTS).poses
    chosen = poses[np.random.default_rng(0).permutation(len(poses))[:1500]]
    learnt = Baselines.learn(validation_scenes(chosen[:1000], SIDE), SIDE)
    scenes = validation_scenes(chosen[1000:], SIDE)
    found = {
        method: errors(getattr(learnt, method)(scenes.points), scenes).joints.mean()
        for method in ("mean_pose", "nearest", "linear_map")
    }
    assert found == pytest.approx({"mean_pose": 242, "nearest": 142, "linear_map": 112}, rel=0.06)
