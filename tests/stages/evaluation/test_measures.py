"""The measures of each dataset, on people whose errors are known."""

import numpy as np
import pytest

from datasets import penn_action
from datasets.dataset import DatasetFiles
from datasets.formats import annotations, penn_labels
from datasets.formats.annotations import Annotations
from datasets.measures import People
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.evaluation.measures import score


def people(part, scale=1.0, normalize=-1.0, visible=None):
    """Return people with these joints (N, J, 2), each in an image of its own."""
    count = len(part)
    rows = Annotations(
        images=[f"{i}.jpg" for i in range(count)], index=np.arange(count), person=np.zeros(count, int),
        center=np.zeros((count, 2)), scale=np.full(count, scale), part=part,
        visible=~np.isnan(part).any(axis=2) if visible is None else visible,
        normalize=np.full(count, normalize), torsoangle=np.zeros(count),
    )  # fmt: skip
    return People(rows, np.arange(count), [""] * count, np.full(count, 100.0))


def test_pckh_is_the_mean_over_joints_without_pelvis_and_thorax():
    part = np.zeros((4, 16, 2))
    part[1:, 0] = np.nan  # only one right ankle is labelled, but four of each other joint
    preds = part.copy()
    preds[:, [6, 7]] = 1000  # pelvis and thorax, which the mean leaves out
    preds[0, 0, 0] = 6  # the error exceeds 0.5 x 10 px
    preds[:2, 1, 1] = 5  # the errors of two of four right knees lie exactly at the limit of PCKh@0.5
    visible = np.ones((4, 16), bool)
    visible[0, 0] = False
    found = score(people(part, normalize=10.0, visible=visible), preds, MPII)
    half, tenth = found["PCKh@0.5"], found["PCKh@0.1"]
    assert half.value == half.mean == pytest.approx(13 / 14) and len(half.in_mean) == 14
    assert half.total == pytest.approx(52 / 53) and half.visible == 1
    assert tenth.value == pytest.approx((12 + 0.5) / 14)
    assert half.by_joint["pelvis"] == 0 and half.by_joint["right_knee"] == 1
    # The total rate is 50/53 at all thresholds below 0.5 (0, 0.01 ...), and 52/53 at 0.5.
    assert len(half.curve) == 51 and half.curve[0] == pytest.approx(12.5 / 14)
    assert half.auc == pytest.approx((50 / 53) + 0.02 * 0.5 * 2 / 53)


def test_penn_action_has_three_reference_lengths_and_total_rates():
    part = np.full((2, 13, 2), np.nan)
    part[0, [2, 7]] = [[10, 10], [40, 50]]  # left shoulder and right hip, so that the torso has 50 px
    part[1, 0] = [5, 5]  # only the head is labelled, so there is no torso
    preds = np.nan_to_num(part) + [9, 0]
    # Limits: 0.05 of the image's longer side (200 / 1.25 = 160 px) is 8 px, 0.2 of the labelled box (100 px) 20 px, 0.2 of the
    # torso 10 px.
    found = score(people(part), preds, PENN_ACTION)
    assert [found[name].value for name in found] == [0, 1, 1]
    assert list(found) == ["PCK@0.05", "PCK@0.2 of the box", "PCK@0.2 of the torso"]
    assert found["PCK@0.2 of the torso"].by_joint["head"] is None
    preds[0, 2] += 50  # one of the three labelled joints is wrong now
    assert score(people(part), preds, PENN_ACTION)["PCK@0.2 of the box"].value == pytest.approx(2 / 3)


def test_joints_that_a_network_does_not_know_do_not_count():
    part = np.zeros((3, 13, 2))
    preds = part.copy()
    preds[:, 4:] = np.nan
    found = score(people(part), preds, PENN_ACTION)["PCK@0.05"]
    assert found.value == 1 and len(found.in_mean) == 4 and set(found.by_joint) == set(PENN_ACTION.skeleton.joints[:4])


def test_nothing_labelled_gives_no_metrics():
    part = np.full((2, 16, 2), np.nan)
    found = score(people(part, normalize=-1.0), np.zeros((2, 16, 2)), MPII)["PCKh@0.5"]
    assert found.value is found.auc is found.visible is None and set(found.by_joint.values()) == {None}


def test_people_of_penn_action_have_their_sequence_action_and_box(tmp_path):
    (tmp_path / "labels").mkdir()
    # The second sequence has one box fewer than frames.
    boxes = {"0003": [[0, 0, 10, 30], [5, 5, 45, 25]], "0007": [[0, 0, 10, 4]]}
    labels = [
        penn_labels.Label(
            name, action, "front", False, np.ones((2, 13, 2)), np.ones((2, 13), bool), np.array(box, float), 60, 50
        )
        for (name, box), action in zip(boxes.items(), ("bowl", "squat"), strict=True)
    ]
    for label in labels:
        penn_labels.write_label(tmp_path / "labels" / f"{label.sequence}.mat", label)
    annotations.write(tmp_path, "test", penn_action.annotations(labels, {"0003": 0, "0007": 2}))
    found = DatasetFiles(PENN_ACTION, tmp_path, tmp_path / "frames").people("test")
    assert found.actions == ["bowl", "bowl", "squat", "squat"]
    np.testing.assert_array_equal(found.groups, [0, 0, 1, 1])
    np.testing.assert_allclose(found.box, [30, 40, 10, 10])


def test_people_of_mpii_share_a_group_with_those_on_the_same_image(tmp_path):
    (tmp_path / "annot").mkdir()
    rows = people(np.ones((3, 16, 2))).rows
    rows.images[:] = ["b.jpg", "a.jpg", "b.jpg"]
    annotations.write(tmp_path / "annot", "valid", rows)
    found = DatasetFiles(MPII, tmp_path / "annot", tmp_path / "images").people("valid")
    assert found.groups[0] == found.groups[2] != found.groups[1]
