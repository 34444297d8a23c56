"""The baselines, which forecast without a network, are compared with a plain computation of each rule, pose by pose."""

import numpy as np
import pytest

from stages.forecast_comparison import baselines
from stages.forecast_comparison.baselines import linear_map, nearest_mean, nearest_neighbour, zero_velocity
from stages.forecasting.movements import published_starts
from tests.stages.forecasting.made import movements

TRAIN = movements({1: 12, 2: 20, 4: 9}, hidden=0.2)


def gathered(forecasts, count):
    found = np.full((count, 16, 13, 2), np.inf)
    for numbers, joints in forecasts:
        found[numbers] = joints
    return found


def test_zero_velocity_stays():
    query = TRAIN.joints[:3]
    found = gathered(zero_velocity(query), 3)
    np.testing.assert_array_equal(found, np.repeat(query[:, None], 16, axis=1))


def test_the_nearest_neighbour_is_that_of_a_plain_search(monkeypatch):
    monkeypatch.setattr(baselines, "CHUNK", 3)
    query, starts = movements({9: 7}, seed=1).joints, published_starts(TRAIN)
    found = gathered(nearest_neighbour(TRAIN, query), 7)
    for pose, forecast in zip(query, found, strict=True):
        best, expected = np.inf, None
        for rows in starts.rows:
            theirs = TRAIN.joints[rows[0]]
            shown = ~np.isnan(theirs).any(axis=1)
            if shown.sum() < 9:
                continue
            parts = []
            for joints in (pose, theirs):
                mean = joints[shown].mean(axis=0)
                size = np.linalg.norm(joints[shown] - mean, axis=1).max()
                parts.append((mean, size, (joints[shown] - mean) / size))
            distance = ((parts[0][2] - parts[1][2]) ** 2).sum() / shown.sum()
            if distance < best:
                (mean, size, _), (their_mean, their_size, _) = parts
                best, expected = distance, (TRAIN.joints[rows] - their_mean) / their_size * size + mean
        np.testing.assert_allclose(forecast, expected, rtol=1e-5)


def test_the_oracle_takes_neighbours_of_the_same_action_only():
    query = TRAIN.joints[[0, 30]]
    found = gathered(nearest_neighbour(TRAIN, query, np.array(["squat", "bowl"])), 2)
    assert np.isfinite(found[0]).any() and np.isnan(found[1]).all()  # no training sequence shows bowling


def test_the_mean_of_the_nearest_is_that_of_a_plain_search(monkeypatch):
    monkeypatch.setattr(baselines, "NEAREST", 4)
    train, query = movements({1: 12, 2: 20}), movements({9: 6}, seed=1, hidden=0.2).joints
    starts = published_starts(train)
    found = gathered(nearest_mean(train, query, np.full(6, 30.0)), 6)
    for pose, forecast in zip(query, found, strict=True):
        shown = ~np.isnan(pose).any(axis=1)

        def centred(joints, side, shown=shown):
            return (joints[shown] - joints[shown].mean(axis=0)) / side

        distance = [((centred(pose, 30) - centred(train.joints[rows[0]], 60)) ** 2).sum() for rows in starts.rows]
        nearest = np.argsort(distance)[:4]
        moved = [(train.joints[starts.rows[i]] - train.joints[starts.rows[i][:1]]) / 60 for i in nearest]
        np.testing.assert_allclose(forecast, pose + 30 * np.mean(moved, axis=0), rtol=1e-9)


def test_a_linear_movement_is_found_by_the_linear_map(monkeypatch):
    """In each training frame, joints move away from the pose's middle, by a tenth of their first distance from this middle."""
    monkeypatch.setattr(baselines, "RIDGE", 1e-12)
    train = movements({i: 16 for i in range(1, 60)})
    first = train.joints[train.first[:-1]]
    middle = first.mean(axis=1, keepdims=True)
    for frame in range(16):
        train.joints[train.first[:-1] + frame] = middle + (first - middle) * (1 + 0.1 * frame)
    query = movements({9: 5}, seed=1).joints
    found = gathered(linear_map(train, query, np.full(5, 20.0)), 5)
    np.testing.assert_allclose(found[:, 0], query, atol=1e-6)  # the first step is the query pose
    sizes = np.linalg.norm(found - query.mean(axis=1)[:, None, None], axis=-1).mean(axis=-1)
    assert (sizes[:, 4] > 1.1 * sizes[:, 0]).all()  # in training, 1.19 to 1.4 times larger, or less near a sequence's end


@pytest.mark.parametrize("forecast", [nearest_mean, linear_map])
def test_without_training_frames_that_show_all_joints_the_pose_stays(forecast):
    train, query = movements({1: 12}, hidden=0.9), movements({9: 3}, seed=1).joints
    found = gathered(forecast(train, query, np.full(3, 30.0)), 3)
    np.testing.assert_allclose(found, np.repeat(query[:, None], 16, axis=1))
