"""Measures that find frames on which a network is probably wrong, tested on predictions with known faults."""

import numpy as np

from stages.inference import outliers

SIZE = np.full(30, 100.0)


def steady():
    """Return joints (30, 3, 2) that move evenly."""
    return np.array([[10, 20], [50, 20], [30, 60]], float) + np.arange(30)[:, None, None] * 0.5


def test_a_jump_flickers():
    joints = steady()
    joints[12, 1] += (30, 40)
    found = outliers.flicker(joints, SIZE)
    assert np.isnan(found[[0, -1]]).all() and found[12] == 0.5
    assert found[11] == found[13] == 0.25  # in the neighbouring frames, half of the value at the jump
    np.testing.assert_allclose(np.delete(found, [0, 11, 12, 13, 29]), 0, atol=1e-12)
    assert np.isnan(outliers.flicker(joints[:2], SIZE[:2])).all()


def test_the_mirror_image_is_mirrored_back_with_sides_exchanged():
    joints = steady()
    width = np.full(30, 120.0)
    seen = joints[:, [1, 0, 2]].copy()  # the predictions of a perfect network on the mirror image: left and right are exchanged
    seen[..., 0] = 119 - seen[..., 0]
    np.testing.assert_allclose(outliers.mirrored_back(seen, width, [1, 0, 2]), joints)
    swapped = joints.copy()
    swapped[4] = swapped[4][[1, 0, 2]]
    found = outliers.disagreement(joints, swapped, SIZE)
    assert found[4] == 0.4 and (np.delete(found, 4) == 0).all()


def test_joints_are_compared_by_name():
    assert outliers.common(("nose", "left_ear", "tail"), ("tail", "paw", "nose")) == ([0, 2], [2, 0])
    assert outliers.common(("nose",), ("tail",)) == ([], [])


def test_measures_choose_in_turns_and_keep_apart():
    first, second = np.zeros(30), np.full(30, np.nan)
    first[[3, 4, 20]] = 9, 8, 7
    second[[5, 25]] = 1, 2
    measures = {"a": first, "b": second}
    assert outliers.choose(measures, 10, 1) == [(3, "a"), (25, "b"), (4, "a"), (5, "b"), (20, "a")]
    assert outliers.choose(measures, 10, 3) == [(3, "a"), (25, "b"), (20, "a")]
    assert outliers.choose(measures, 2, 1) == [(3, "a"), (25, "b")]
    assert outliers.choose({"a": np.zeros(5)}, 3, 1) == []
