"""Error analysis: the table compared with values worked out by hand, and the people in worst_<split>.png."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from stages.evaluation.failures import failures, write_failures

KNEES = [PENN_ACTION.skeleton.joints.index(name) for name in ("right_knee", "left_knee")]


@pytest.fixture
def table(penn_sequences, tmp_path):
    """A function that analyses predictions for two people; by default, the first person's knees are exchanged in them.

    The function returns the table as a dict: (by, value) -> [joints, rate, median, confused].
    """

    def run(preds=None, hidden=()):
        people = penn_sequences.people("valid")
        if preds is None:
            preds = people.rows.part.copy()
            preds[0, KNEES] = preds[0, KNEES[::-1]]
        visible = people.rows.visible.copy()
        visible[:, list(hidden)] = False
        write_failures(tmp_path, "valid", penn_sequences, replace(people, rows=replace(people.rows, visible=visible)), preds)
        lines = (tmp_path / "failures_valid.csv").read_text().splitlines()
        assert lines[0] == "by,value,joints,measure,rate,median,confused"
        cells = [line.split(",") for line in lines[1:]]
        assert {row.pop(3) for row in cells} == {"PCK@0.05"}
        return {tuple(row[:2]): [float(value or "nan") for value in row[2:]] for row in cells}

    return run


def test_exchanged_knees_are_confused(table, penn_sequences):
    # Two of 26 joints are wrong. Of the 24 joints with a left-right partner, these two are predicted at the partner's position.
    part = penn_sequences.split("valid").part
    assert np.linalg.norm(part[0, KNEES[0]] - part[0, KNEES[1]]) > 0.05 * 48
    rows = table()
    assert rows["all", "all"] == pytest.approx([26, 100 * 24 / 26, 0, 100 * 2 / 24], abs=1e-3)
    assert rows["joint", "left_knee"][:2] == [2, 50] and rows["joint", "left_knee"][3] == 50
    assert rows["joint", "left_hip"] == [2, 100, 0, 0]
    assert rows["joint", "head"][:2] == [2, 100] and np.isnan(rows["joint", "head"][3])
    assert rows["action", "bowl"][:2] == pytest.approx([13, 100 * 11 / 13], abs=1e-3)
    assert rows["action", "squat"][:2] == [13, 100]
    assert ("visibility", "occluded") not in rows


def test_occluded_joints_have_a_row(table):
    rows = table(hidden=KNEES)
    assert rows["visibility", "occluded"][:2] == [4, 50] and rows["visibility", "visible"][:2] == [22, 100]


def test_unknown_joints_are_in_no_row(table, penn_sequences):
    preds = penn_sequences.split("valid").part.copy()
    preds[:, KNEES] = np.nan
    rows = table(preds)
    assert rows["all", "all"][:2] == [22, 100] and ("joint", "left_knee") not in rows


def test_a_labelled_joint_without_a_prediction_is_a_miss(table, penn_sequences):
    preds = penn_sequences.split("valid").part.copy()
    preds[0, KNEES[1]] = np.nan
    rows = table(preds)
    assert rows["joint", "left_knee"][:3] == [2, 50, np.inf]  # one error is 0, the other is infinite
    assert rows["all", "all"][:3] == pytest.approx([26, 100 * 25 / 26, 0], abs=1e-3)


def test_joints_outside_the_mean_count_only_in_their_own_row():
    joints, distance = ("pelvis", "knee"), np.array([[50.0, 1.0]])
    people = SimpleNamespace(actions=[""], rows=SimpleNamespace(visible=np.ones((1, 2), bool), scale=np.ones(1)))
    found = failures(joints, people, distance, np.array([[10.0]]), np.full((1, 2), np.nan), np.array([False, True]))
    rates = dict(zip(found["value"], found["rate"], strict=True))
    assert rates["all"] == rates["visible"] == rates["knee"] == 100 and rates["pelvis"] == 0


def test_the_picture_shows_the_worst_of_each_image_first(penn_sequences, tmp_path, monkeypatch):
    people = penn_sequences.people("valid")
    rows = people.rows.select(np.array([0, 0, 0, 1]))
    many = replace(people, rows=rows, groups=np.array([0, 0, 0, 1]), actions=["a"] * 4, box=np.ones(4))
    shown = []
    monkeypatch.setattr(draw, "person", lambda data, rows, row, joints: (shown.append(row), np.zeros((8, 8, 3), np.uint8))[1])
    preds = rows.part + np.array([3.0, 9, 6, 20])[:, None, None]
    write_failures(tmp_path, "valid", penn_sequences, many, preds)
    assert shown == [3, 1, 3, 1]  # labels above, predictions below
    assert cv2.imread(str(tmp_path / "worst_valid.png")) is not None
