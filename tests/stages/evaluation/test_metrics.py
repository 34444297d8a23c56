import math

import numpy as np
import pytest
import torch

from datasets.imaging.heatmaps import draw
from datasets.measures import joint_distance
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.evaluation import metrics
from tests.other_device import OnOtherDevice, OtherDevice, to_other_device
from tests.shared import SHARED

EVALUATION = SHARED / "mpii_eval" / "detections_our_format.mat"

IN_MEAN = [joint for joint in range(16) if joint not in (6, 7)]  # all but pelvis and thorax


def slow_accuracy(predicted, target, scoring):
    """Return the published accuracy of a batch, computed by loops in 1-based pixels; None if no joint counts."""
    people, _, height, width = target.shape

    def largest(plane):
        best, place = -math.inf, (1, 1)
        for y in range(1, height + 1):
            for x in range(1, width + 1):
                if plane[y - 1, x - 1] > best:
                    best, place = plane[y - 1, x - 1], (x, y)
        return place

    rates = []
    for joint in scoring:
        hits = counted = 0
        for person in range(people):
            true, found = largest(target[person, joint]), largest(predicted[person, joint])
            if true[0] > 1 and true[1] > 1:
                counted += 1
                hits += math.dist(true, found) / (width / 10) <= 0.5
        if counted:
            rates.append(hits / counted)
    return sum(rates) / len(rates) if rates else None


def random_maps(rng, people):
    """Return random heatmaps of 20 x 20 px: absent joints, joints in the first row or column, equal peaks, negative values."""
    true = rng.uniform(0, 20, (people, 13, 2))
    true[rng.random((people, 13)) < 0.25] = np.nan
    true[rng.random((people, 13)) < 0.1, rng.integers(2)] = 0
    found = np.where(np.isnan(true), 10, true) + rng.integers(-1, 2, true.shape)
    target = np.stack([draw(p, (20, 20), 1.75, 3) for p in true])
    predicted = np.stack([draw(p, (20, 20), 1.75, 3) for p in found])
    predicted = np.where(rng.random((people, 13, 1, 1)) < 0.2, np.round(3 * predicted) / 3, predicted)
    return predicted - 0.5 * (rng.random((people, 13, 1, 1)) < 0.2), target


@pytest.mark.parametrize("people", [1, 6])
def test_training_accuracy_equals_the_published_rule(people):
    rng = np.random.default_rng(people)
    accuracy = metrics.TrainingAccuracy(PENN_ACTION.skeleton.scoring)
    batches = []
    for _ in range(12):
        predicted, target = random_maps(rng, people)
        expected = slow_accuracy(predicted, target, PENN_ACTION.skeleton.scoring)
        assert accuracy.update(predicted, target) == pytest.approx(expected)
        batches.append(expected)
    assert len(set(batches)) > 5 and 0.2 < sum(batches) / len(batches) < 0.8
    assert accuracy.result() == pytest.approx(sum(batches) / len(batches))


def point_maps(*points, size=64):
    """Return heatmaps (1, J, size, size) with one bright pixel each; None gives an empty heatmap."""
    maps = np.zeros((1, len(points), size, size), np.float32)
    for j, point in enumerate(points):
        if point is not None:
            maps[0, j, point[1], point[0]] = 1
    return maps


def test_training_accuracy_by_hand():
    target = point_maps((10, 10), (10, 10), (0, 30), (30, 0), None, (1, 1))
    predicted = point_maps((13, 11), (13, 12), (0, 30), (30, 0), (0, 0), (1, 1))
    # In heatmaps of 64 px, an error of 3.16 px is a hit, but an error of 3.6 px is not. Joints in the first column or row, and
    # absent joints, do not count.
    assert metrics.training_accuracy(predicted, target, range(6)) == pytest.approx(2 / 3)
    assert metrics.training_accuracy(predicted, target, [1, 2]) == 0
    # At 40 px the limit is exactly 2 px, and an error of 2 px is a hit.
    at_limit = point_maps((12, 10), size=40), point_maps((10, 10), size=40)
    assert metrics.training_accuracy(*at_limit, [0]) == 1


def test_joints_have_equal_weights_for_any_number_of_samples():
    target = np.concatenate([point_maps((9, 9), (9, 9)), point_maps((9, 9), None), point_maps((9, 9), None)])
    predicted = np.concatenate([point_maps((9, 9), (40, 9)), point_maps((9, 9), None), point_maps((9, 9), None)])
    assert metrics.training_accuracy(predicted, target, [0, 1]) == 0.5  # the mean of the joints' rates, not 3 of 4 hits


@pytest.mark.filterwarnings("error")
def test_a_batch_without_any_counted_joint_is_left_out():
    accuracy = metrics.TrainingAccuracy([0, 1])
    assert math.isnan(accuracy.result())
    assert math.isnan(accuracy.update(point_maps(None, None), point_maps(None, None)))
    accuracy.update(point_maps((5, 5), (50, 50)), point_maps((5, 5), (5, 5)))
    assert accuracy.result() == 0.5


@pytest.mark.filterwarnings("error")
def test_pck_by_hand():
    nan = np.nan
    target = np.array([[[0, 0], [10, 10], [nan, nan]], [[0, 0], [10, nan], [5, 5]], [[1, 1], [1, 1], [1, 1]]], float)
    found = np.array([[[3, 4], [10, 10], [1, 1]], [[0, 10.5], [10, 10], [nan, nan]], [[1, 1], [1, 1], [1, 1]]], float)
    pck = metrics.Pck([0.25, 0.5, 0.625], joints=3)
    pck.update(found[:1], target[:1], np.array([10.0]))  # relative distances 0.5 and 0; the third joint has no label
    # The second person's joints: relative distance 0.625, no label, no prediction. The third person has no reference length.
    pck.update(found[1:], target[1:], np.array([16.8, -1.0]))
    result = pck.result()
    np.testing.assert_array_equal(result.counts, [2, 1, 1])
    np.testing.assert_allclose(result.joints, [[0, 1, 0], [0.5, 1, 0], [1, 1, 0]])
    np.testing.assert_allclose(result.mean, [1 / 3, 1.5 / 3, 2 / 3])
    np.testing.assert_allclose(result.total, [1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(result.pixels, [7.75, 0, nan])
    assert result.mean_pixels == pytest.approx(15.5 / 3)
    # The area under the curve of `result.total`: trapezoids of widths 0.25 and 0.125, divided by the thresholds' range 0.375.
    assert result.auc() == pytest.approx((0.25 * 3 / 8 + 0.125 * 5 / 8) / 0.375)


@pytest.mark.filterwarnings("error")
def test_pck_of_nothing_is_nan():
    result = metrics.Pck([0.5], joints=2).result()
    assert np.isnan(result.joints).all() and np.isnan(result.mean).all() and np.isnan(result.total).all()
    assert math.isnan(result.mean_pixels)


def test_joints_out_of_the_mean_still_have_their_own_rate():
    pck = metrics.Pck([0.5], joints=16, in_mean=IN_MEAN)
    target = np.zeros((1, 16, 2))
    found = target.copy()
    found[0, [6, 7]] = 100
    pck.update(found, target, np.ones(1))
    result = pck.result()
    assert result.mean[0] == result.total[0] == 1
    np.testing.assert_array_equal(np.nonzero(result.joints[0] == 0)[0], [6, 7])


def test_pck_does_not_depend_on_the_batches():
    rng = np.random.default_rng(0)
    target, reference = rng.uniform(0, 100, (50, 16, 2)), rng.uniform(5, 20, 50)
    target[rng.random((50, 16)) < 0.2] = np.nan
    found = target + rng.normal(0, 6, target.shape)
    whole, streamed = (metrics.Pck([0.1, 0.5], 16) for _ in range(2))
    whole.update(found, target, reference)
    for part in (slice(0, 1), slice(1, 30), slice(30, 50)):
        streamed.update(found[part], target[part], reference[part])
    np.testing.assert_array_equal(whole.result().joints, streamed.result().joints)
    np.testing.assert_allclose(whole.result().pixels, streamed.result().pixels)


@pytest.mark.parametrize("side", [20, 64])  # at 20 px the limit is 1 px, so some errors equal the limit exactly
def test_hits_counted_in_torch_are_the_training_accuracy(side):
    rng = np.random.default_rng(3)
    # Some joints are in the first row or column, some outside the heatmap.
    points = rng.integers(-1, 12, (40, 13, 2)).astype(float)
    target = np.stack([draw(p, (side, side), 1.5, 3) for p in points])
    predicted = np.stack([draw(p + rng.integers(-4, 5, p.shape), (side, side), 1.5, 3) for p in points])
    hits, seen = metrics.training_hits(
        torch.from_numpy(predicted), torch.from_numpy(target), torch.tensor(PENN_ACTION.skeleton.scoring)
    )
    expected = slow_accuracy(predicted, target, PENN_ACTION.skeleton.scoring)
    assert 0.05 < expected < 0.9
    assert metrics.mean_rate(hits.sum(dim=0), seen.sum(dim=0)) == pytest.approx(expected)
    each = [slow_accuracy(p[None], t[None], PENN_ACTION.skeleton.scoring) for p, t in zip(predicted, target, strict=True)]
    np.testing.assert_allclose((hits.sum(dim=1) / seen.sum(dim=1)).numpy(), [math.nan if e is None else e for e in each], 1e-6)
    assert math.isnan(metrics.mean_rate(torch.zeros(10), torch.zeros(10)))


@pytest.mark.filterwarnings("error")
def test_distance_between_joints():
    nan = np.nan
    points = np.array([[[1, 2], [4, 6], [nan, 100]], [[nan, nan]] * 3, [[nan, 1], [7, 7], [2, 19]]], float)
    np.testing.assert_array_equal(joint_distance(points, 0, 1), [5, nan, nan])


def test_parts_are_the_mean_of_left_and_right():
    rates = np.stack([np.arange(13.0), np.zeros(13)])
    parts = metrics.by_part(rates, PENN_ACTION.skeleton.joints)
    assert list(parts) == ["head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    np.testing.assert_array_equal(parts["shoulder"], [1.5, 0])
    np.testing.assert_array_equal(parts["ankle"], [11.5, 0])


def mpii_evaluation():
    """Return labels and published predictions (2958, 16, 2), and head sizes (2958,), of MPII's validation people."""
    if not EVALUATION.exists():
        pytest.skip(f"{EVALUATION} is missing: it contains published detections for MPII's validation people")
    from scipy.io import loadmat

    data = loadmat(EVALUATION)
    truth = data["pos_gt_src"].transpose(2, 0, 1).copy()
    truth[data["jnt_missing"].T.astype(bool)] = np.nan
    corner, opposite = data["headboxes_src"].transpose(2, 0, 1).swapaxes(0, 1)
    return truth, data["pos_pred_src"].transpose(2, 0, 1), 0.6 * np.linalg.norm(opposite - corner, axis=-1)


def test_the_published_table_of_mpii_is_reproduced():
    truth, found, head = mpii_evaluation()
    pck = metrics.Pck(metrics.PCKH_THRESHOLDS, 16, IN_MEAN)
    for start in range(0, len(truth), 500):
        part = slice(start, start + 500)
        pck.update(found[part], truth[part], head[part])
    result = pck.result()
    assert [f"{100 * mean:.2f}" for mean in result.mean] == ["28.40", "57.45", "71.00", "77.63", "81.46"]
    published = {"head_top": "95.60", "shoulder": "92.71", "elbow": "83.36", "wrist": "76.74", "hip": "81.93",
                 "knee": "73.36", "ankle": "65.45"}  # fmt: skip
    parts = metrics.by_part(result.joints[-1], MPII.skeleton.joints)
    assert {name: f"{100 * parts[name]:.2f}" for name in published} == published


def test_ground_truth_as_prediction_gives_100_percent():
    truth, _, head = mpii_evaluation()
    pck = metrics.Pck(metrics.PCKH_THRESHOLDS, 16, IN_MEAN)
    pck.update(truth, truth, head)
    assert (pck.result().joints == 1).all() and (pck.result().mean == 1).all()


def test_hits_are_counted_where_the_heatmaps_are():
    maps, target = to_other_device(torch.rand(2, 3, 8, 8)), to_other_device(torch.rand(2, 3, 8, 8))
    with OtherDevice():
        hits, seen = metrics.training_hits(maps, target, to_other_device(torch.tensor([0, 2])))
        with pytest.raises(RuntimeError, match="same device"):
            metrics.training_hits(maps, target, torch.tensor([0, 2]))
    assert isinstance(hits, OnOtherDevice) and isinstance(seen, OnOtherDevice) and hits.shape == (2, 2)
