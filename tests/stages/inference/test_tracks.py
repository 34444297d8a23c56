"""Numbers of people that stay with their boxes, and joints without jitter."""

import numpy as np
import pytest

from stages.inference.tracks import KEPT, Smoother, Tracker, overlaps


def box(x, y, side=40.0):
    return [x, y, x + side, y + side]


def test_overlap_is_intersection_over_union():
    found = overlaps(np.array([[0, 0, 10, 10], [0, 0, 4, 4.0]]), np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10.0]]))
    np.testing.assert_allclose(found, [[50 / 150, 0, 1], [0, 0, 16 / 100]])


def test_people_keep_their_numbers_whatever_the_order_of_the_boxes():
    tracker, found = Tracker(), []
    for frame in range(12):
        boxes = np.array([box(5 * frame, 0), box(200 - 5 * frame, 100), box(100, 200)])
        order = np.random.default_rng(frame).permutation(3)
        numbers = tracker.update(boxes[order])
        found.append([numbers[list(order).index(person)] for person in range(3)])
    assert len({tuple(numbers) for numbers in found}) == 1 and sorted(found[0]) == [0, 1, 2]


def test_a_person_who_is_not_seen_for_a_while_keeps_the_number_and_a_new_one_gets_a_new_one():
    tracker = Tracker()
    assert tracker.update(np.array([box(0, 0), box(300, 0)])) == [0, 1]
    for _ in range(KEPT - 1):
        assert tracker.update(np.array([box(0, 0)])) == [0]
    assert tracker.update(np.array([box(301, 0), box(0, 0), box(600, 0)])) == [1, 0, 2]
    for _ in range(KEPT):
        assert tracker.update(np.empty((0, 4))) == []
    assert tracker.update(np.array([box(0, 0)])) == [3]


def test_jitter_is_smoothed_and_fast_movements_do_not_lag():
    noise = np.random.default_rng(0).normal(0, 2, (300, 3, 2))
    smoother, still = Smoother(30.0), np.array([[10, 20], [30, 40], [50, 60.0]])
    found = np.array([smoother.smooth(0, still + noise[frame], frame / 30) for frame in range(300)])
    assert found[30:].std(axis=0).max() < 0.6 * noise.std() and np.abs(found[30:].mean(axis=0) - still).max() < 0.5
    fast = np.arange(60)[:, None, None] * 20.0 + still  # 600 px/s
    found = np.array([smoother.smooth(1, joints, frame / 30) for frame, joints in enumerate(fast)])
    assert np.abs(found[20:] - fast[20:]).max() < 8  # less than half a frame late


def test_people_are_smoothed_apart():
    smoother = Smoother(30.0)
    for frame in range(5):
        for person in (0, 1):
            found = smoother.smooth(person, np.full((1, 2), 100.0 * person), frame / 30)
            assert found == pytest.approx(np.full((1, 2), 100.0 * person))
