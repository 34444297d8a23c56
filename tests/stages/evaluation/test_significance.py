"""Confidence intervals and tests, compared with the binomial distribution and with counting by hand."""

import numpy as np
import pytest
from scipy.stats import binom

from stages.evaluation.measures import distances_to_labels
from stages.evaluation.significance import Hits, difference, hits_by_group, interval


def single(hits):
    """Return hits of one joint, with one person per group."""
    hits = np.asarray(hits, dtype=float)[:, None]
    return Hits(hits, np.ones_like(hits), "total")


def test_hits_are_counted_in_groups():
    nan = np.nan
    distance = np.array([[1, 9], [2, nan], [3, 3], [0, 0]], float)
    found = hits_by_group(distance, np.array([10.0, 20, 10, -1]), 0.2, np.array([7, 7, 3, 3]), np.array([True, True]), "mean")
    np.testing.assert_array_equal(found.hits, [[0, 0], [2, 0]])  # first group 3, then group 7
    np.testing.assert_array_equal(found.counts, [[1, 1], [2, 1]])
    assert found.rate() == pytest.approx((2 / 3 + 0) / 2)
    assert Hits(found.hits, found.counts, "total").rate() == pytest.approx(2 / 5)
    assert found.only(np.array([True, False])).rate() == pytest.approx(2 / 3)


def test_a_labelled_joint_that_was_not_predicted_is_a_miss():
    """The first joint of three people is a hit, a miss, and unlabelled; the network does not know the second joint."""
    nan = np.nan
    labels = np.array([[[3, 4], [1, 1]], [[3, 4], [1, 1]], [[nan, nan], [1, 1]]])
    preds = np.array([[[0, 0], [nan, nan]], [[nan, nan], [nan, nan]], [[0, 0], [nan, nan]]])
    distance = distances_to_labels(preds, labels)
    np.testing.assert_array_equal(distance, [[5, nan], [np.inf, nan], [nan, nan]])
    found = hits_by_group(distance, np.full(3, 10.0), 0.5, np.arange(3), np.array([True, True]), "total")
    assert found.hits.tolist() == [[1, 0], [0, 0], [0, 0]] and found.counts.tolist() == [[1, 0], [1, 0], [0, 0]]


def test_interval_of_independent_people_is_the_binomial_one():
    low, high = interval(single([1] * 60 + [0] * 140))
    expected = binom.ppf([0.025, 0.975], 200, 0.3) / 200
    assert abs(low - expected[0]) <= 0.006 and abs(high - expected[1]) <= 0.006


def test_frames_of_one_sequence_are_not_taken_for_independent():
    counts = np.full((5, 1), 100.0)
    hits = np.array([[100.0], [100], [0], [100], [0]])
    low, high = interval(Hits(hits, counts, "total"))
    expected = binom.ppf([0.025, 0.975], 5, 0.6) / 5
    assert (low, high) == pytest.approx(expected)


def test_p_counts_the_ways_to_exchange_the_networks():
    worse, better = single([0] * 6), single([1] * 6)
    found = difference(worse, better)
    assert found.value == pytest.approx(1) and found.low == found.high == 1 and found.groups == 6
    assert found.p == pytest.approx(2 / 2**6)  # of 64 ways to exchange the networks' hits, 2 give a difference of 1 or -1
    assert difference(better, worse).value == pytest.approx(-1)


def test_one_group_proves_nothing():
    found = difference(single([0]), single([1]))
    assert (found.value, found.p, found.groups) == (1, 1, 1)


def test_equal_networks_differ_by_nothing():
    hits = single(np.arange(40) % 2)
    found = difference(hits, hits)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_small_difference_on_the_same_people_is_seen():
    # Of 1000 people, the second network is right for 20 more than the first network. This difference is smaller than the
    # confidence interval of either network's rate, but significant in a paired test.
    first = np.arange(1000) % 2
    second = first.copy()
    second[:40:2] = 1
    found = difference(single(first), single(second))
    assert found.value == pytest.approx(0.02) and 0.01 < found.low < found.high < 0.03 and found.p < 0.001
    low, high = interval(single(first))
    assert high - low > 0.05


def test_mean_weighs_joints_alike_in_the_test_as_in_the_rate():
    counts = np.array([[9.0, 1], [9, 1], [9, 1]])
    first = Hits(counts * [1, 0], counts, "mean")
    second = Hits(counts * [0, 1], counts, "mean")
    assert difference(first, second).value == 0
    total = difference(Hits(first.hits, counts, "total"), Hits(second.hits, counts, "total"))
    assert total.value == pytest.approx(-0.8)


def test_joints_that_nobody_has_do_not_count():
    hits = Hits(np.array([[1.0, 0], [1, 0]]), np.array([[1.0, 0], [1, 0]]), "mean")
    assert hits.rate() == 1 and interval(hits) == (1, 1)
    empty = Hits(np.zeros((2, 2)), np.zeros((2, 2)), "mean")
    assert np.isnan(empty.rate()) and np.isnan(interval(empty)).all()
