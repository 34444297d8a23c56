"""Tracking people by their boxes, and smoothing joints."""

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


def test_a_pair_with_too_little_overlap_takes_no_box_away():
    """Two people have boxes of 10 x 10 px.

    Exchanging their boxes would increase the sum of the overlaps, but one of the overlaps is too small to count.
    """
    before = np.array([[0, 0, 10, 10], [10.2, 0, 20.2, 10.0]])
    now = np.array([[5.0, 0, 15, 10], [-5.6, 0, 4.4, 10]])
    # Overlaps: person 0 and box 0: 5 / 15 = 0.333; person 0 and box 1: 4.4 / 15.6 = 0.282; person 1 and box 0: 4.8 / 15.2 =
    # 0.316.
    np.testing.assert_allclose(overlaps(before, now), [[50 / 150, 44 / 156], [48 / 152, 0]])
    tracker = Tracker()
    assert tracker.update(before) == [0, 1]
    assert tracker.update(now) == [0, 2]  # not [1, 2]


def test_only_people_of_the_last_frames_are_remembered():
    tracker = Tracker()
    for frame in range(500):
        tracker.update(np.array([box(100.0 * frame, 0)]))
    assert tracker.known() == set(range(499 - KEPT, 500))


def test_jitter_is_smoothed_and_fast_movements_do_not_lag():
    noise = np.random.default_rng(0).normal(0, 2, (300, 3, 2))
    smoother, still = Smoother(30.0), np.array([[10, 20], [30, 40], [50, 60.0]])
    found = np.array([smoother.smooth(0, still + noise[frame], frame / 30, 240) for frame in range(300)])
    assert found[30:].std(axis=0).max() < 0.6 * noise.std() and np.abs(found[30:].mean(axis=0) - still).max() < 0.5
    fast = np.arange(60)[:, None, None] * 20.0 + still  # 600 px/s
    found = np.array([smoother.smooth(1, joints, frame / 30, 240) for frame, joints in enumerate(fast)])
    assert np.abs(found[20:] - fast[20:]).max() < 8  # the delay is less than half a frame


def test_the_filter_is_that_of_its_authors():
    """Computed by hand: x is 0, and 0.1 s later 10 px; the box has 120 px, so beta = 12 / 120.

    alpha(f) = 1 / (1 + 1 / (2 pi f 0.1)). The speed is 10 / 0.1 = 100 px/s; a filter that starts at 0 and has a cutoff of
    1 Hz smooths it to 100 alpha(1) = 38.587. So the joint's filter has a cutoff of 1 + 0.1 * 38.587 = 4.8587 Hz, and moves
    the joint to 10 alpha(4.8587) = 7.5325.
    """
    smoother = Smoother(25.0)  # the time step is computed from the times, not from the frame rate
    assert smoother.smooth(0, np.zeros((1, 2)), 0.0, 120) == pytest.approx(np.zeros((1, 2)))
    assert smoother.smooth(0, np.full((1, 2), 10.0), 0.1, 120) == pytest.approx(np.full((1, 2), 7.5325), abs=1e-3)


def test_a_video_of_four_times_the_resolution_is_smoothed_alike():
    joints = np.cumsum(np.random.default_rng(1).normal(0, 3, (50, 4, 2)), axis=0)
    small, large = Smoother(30.0), Smoother(30.0)
    for frame, points in enumerate(joints):
        expected = 4 * small.smooth(0, points, frame / 30, 90)
        np.testing.assert_allclose(large.smooth(0, 4 * points, frame / 30, 360), expected)


def test_people_are_smoothed_apart_and_forgotten():
    smoother = Smoother(30.0)
    for frame in range(5):
        for person in (0, 1):
            found = smoother.smooth(person, np.full((1, 2), 100.0 * person), frame / 30, 100)
            assert found == pytest.approx(np.full((1, 2), 100.0 * person))
    smoother.keep({0})
    moved = np.full((1, 2), 300.0)
    assert smoother.smooth(1, moved, 1.0, 100) == pytest.approx(moved)  # a forgotten person starts without history
    assert np.abs(smoother.smooth(0, moved, 5 / 30, 100) - moved).max() > 5  # a person who was kept has a history
