"""Tables of the stage that compares networks, and drawings of people."""

import re
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.formats.hdf5 import write_h5
from datasets.imaging.draw import COLOURS, contact_sheet, draw_person
from datasets.measures import TRAINING_METRIC
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.evaluation import accuracy
from stages.evaluation.accuracy import MeasureMetrics, SplitMetrics
from stages.evaluation.scores import Scored, as_text, joint_table, pair_table, part_table, part_text
from stages.reporting.compare import Experiment, accuracy_table


def write_evaluation(folder: Path, dataset, rates, splits=("valid",), people=40, labelled=1.0, size=1.0):
    """Write an evaluation in which joint j is correct for the fraction rates[j] of the people, by every measure.

    A rate of NaN means that the network does not predict the joint. Returns the folder.
    """
    folder.mkdir()
    counts = np.round(np.asarray(rates) * people)
    metrics = {}
    for split in splits:
        distance = np.where(np.arange(people)[:, None] < counts, 0.0, 1e9)
        distance[:, np.isnan(rates)] = np.nan
        distance[int(people * labelled) :] = np.nan
        write_h5(
            folder / f"people_{split}.h5",
            {"distance": distance, "reference": np.full((people, len(dataset.measures)), size), "group": np.arange(people)},
        )
        known = {n: float(r) for n, r in zip(dataset.skeleton.joints, rates, strict=True) if not np.isnan(r)}
        counted = [n for n in known if n not in ("pelvis", "thorax")]
        value = float(np.mean([known[n] for n in counted]))
        measures = {
            m.name: MeasureMetrics(
                threshold=m.threshold, overall=m.overall, value=value, visible=value, mean=value, total=value, auc=value / 2,
                curve=[0.0] * 51, in_mean=counted, by_joint=known,
            )
            for m in dataset.measures
        }  # fmt: skip
        metrics[split] = SplitMetrics(people=people, acc=value / 2, acc_joints=10, pixels=3.0, measures=measures)
    accuracy.write(folder, dataset, metrics)
    return folder


def test_table_has_a_row_per_split_and_measure(tmp_path):
    some = np.full(16, 0.5)
    some[8] = np.nan
    experiments = [
        Experiment("before", "mpii/a", tmp_path, "mpii", {
            "mpii": write_evaluation(tmp_path / "0", MPII, np.full(16, 0.5)),
            "penn_action": write_evaluation(tmp_path / "1", PENN_ACTION, np.zeros(13), ("valid", "test")),
        }),
        Experiment("after", "penn/b", tmp_path, "penn_action", {
            "mpii": write_evaluation(tmp_path / "2", MPII, some),
            "penn_action": write_evaluation(tmp_path / "3", PENN_ACTION, np.ones(13), ("valid", "test")),
        }),
        Experiment("scratch", "penn/a", tmp_path, "penn_action", {
            "penn_action": write_evaluation(tmp_path / "4", PENN_ACTION, np.full(13, 0.25), ("valid", "test")),
        }),
    ]  # fmt: skip
    table = accuracy_table(experiments)
    assert list(table) == ["split", "people", "measure", "joints", "before", "after", "scratch"]
    assert table["split"].tolist() == [s for s in ("MPII valid", "Penn Action valid", "Penn Action test") for _ in range(2)]
    assert table["measure"].tolist() == [TRAINING_METRIC, "PCKh@0.5"] + [TRAINING_METRIC, "PCK@0.05"] * 2
    assert table["joints"].tolist() == ["10", "14/13", "10", "13", "10", "13"]
    assert table["before"].tolist() == [25, 50, 0, 0, 0, 0] and table["after"].tolist() == [25, 50, 50, 100, 50, 100]
    assert table["scratch"].isna().tolist() == [True, True, False, False, False, False]


def test_published_rows_follow_ours(tmp_path):
    rates = np.linspace(0, 0.75, 16)
    table = part_table([Scored("ours", write_evaluation(tmp_path / "e", MPII, rates, people=2958))])
    rows = table[table["measure"] == "PCKh@0.5"].set_index("network")
    ours = rows.loc["ours"]
    # The rates increase by 0.05 per joint; right and left ankle are joints 0 and 5, the top of the head is joint 9.
    assert ours["ankle"] == pytest.approx(12.5) and ours["head"] == pytest.approx(45) and ours["published"] == ""
    assert ours["pixels"] == 3
    assert ours["low"] < ours["overall"] < ours["high"] and ours["high"] - ours["low"] < 10
    anibali = rows.loc["2 stacks (anibali, PyTorch)"]
    assert anibali["published"] == "yes" and anibali["overall"] == 87.33 and anibali["wrist"] == 83.78
    training = table[table["measure"] == TRAINING_METRIC]
    assert training["overall"].tolist() == [pytest.approx(100 * (6 - 0.3 - 0.35) / 14 / 2), 80.58]
    text = part_text(table)
    assert "MPII valid, PCKh@0.5" in text and "2 stacks (anibali, PyTorch) *" in text and "* published" in text
    assert joint_table([Scored("ours", tmp_path / "e")]).query("joint == 'thorax'")["rate"].tolist() == [35, 35]


def test_published_rows_of_other_people_are_left_out(tmp_path):
    table = part_table([Scored("ours", write_evaluation(tmp_path / "e", MPII, np.full(16, 0.5), people=2957))])
    assert set(table["network"]) == {"ours"} and "published" not in part_text(table)


def test_pairs_say_which_network_is_better(tmp_path):
    rates = {"weak": 0.25, "strong": 0.5, "same": 0.25}
    found = {n: Scored(n, write_evaluation(tmp_path / n, PENN_ACTION, np.full(13, r))) for n, r in rates.items()}
    table = pair_table([(found["weak"], found[name]) for name in ("strong", "same")] + [(found["strong"], found["weak"])])
    assert table["verdict"].tolist() == ["better", "no difference shown", "worse"]
    assert table["difference"].tolist() == pytest.approx([25, 0, -25])


def test_pairs_count_the_joints_that_both_networks_know(tmp_path):
    some = np.full(13, 0.5)
    some[3:] = np.nan
    all_of_them = np.zeros(13)
    all_of_them[:3] = 0.75
    a = Scored("some", write_evaluation(tmp_path / "a", PENN_ACTION, some))
    b = Scored("all", write_evaluation(tmp_path / "b", PENN_ACTION, all_of_them))
    assert pair_table([(a, b)])["difference"].tolist() == pytest.approx([25])


def test_other_people_are_not_compared(tmp_path):
    a = Scored("a", write_evaluation(tmp_path / "a", PENN_ACTION, np.full(13, 0.5)))
    b = Scored("b", write_evaluation(tmp_path / "b", PENN_ACTION, np.full(13, 0.5), people=39))
    c = Scored("c", write_evaluation(tmp_path / "c", PENN_ACTION, np.full(13, 0.5), labelled=0.9))
    d = Scored("d", write_evaluation(tmp_path / "d", PENN_ACTION, np.full(13, 0.5), size=2.0))
    table = pair_table([(a, b), (a, c), (a, d), (a, a)])
    assert table["verdict"].tolist() == ["scored on other people"] * 3 + ["no difference shown"]
    assert table["difference"].isna().tolist() == [True, True, True, False]
    assert re.search(r"b +scored on other people +a *$", as_text(table), flags=re.M)


def test_a_folder_that_is_no_evaluation_is_named(tmp_path):
    with pytest.raises(DataError, match=r"accuracy\.json"):
        part_table([Scored("x", tmp_path)])
    begin = '{"dataset": "mpii", "title": "MPII", "joints": [], '
    for text in ("[]", begin + '"splits": {}}', begin + '"splits": {"valid": {"people": 3}}}'):
        (tmp_path / "accuracy.json").write_text(text)
        with pytest.raises(DataError, match="evaluate again"):
            part_table([Scored("x", tmp_path)])


def test_a_drawn_person_has_sides_in_their_colours():
    joints = np.full((13, 2), np.nan)
    for name, point in (
        ("right_elbow", (20, 20)),
        ("right_wrist", (20, 80)),
        ("left_knee", (80, 20)),
        ("left_ankle", (80, 80)),
    ):
        joints[PENN_ACTION.skeleton.joints.index(name)] = point
    blank = np.zeros((100, 100, 3), np.uint8)
    image = draw_person(blank, joints, PENN_ACTION.skeleton)
    for x, side in ((20, "right"), (80, "left")):  # the edges of lines are blended with the background
        assert np.abs(image[50, x].astype(int) - COLOURS[side]).max() < 60, side
    assert not image[:, 30:70].any() and not blank.any()


def test_contact_sheet_fits_all_images():
    wide, tall = np.full((10, 40, 3), 9, np.uint8), np.full((300, 100, 3), 200, np.uint8)
    sheet = contact_sheet([[wide, tall], [tall]], ["one", "two"], side=64)
    assert sheet.shape == (2 * (64 + 32), 2 * 70 + 6, 3)
    assert (sheet == 9).all(axis=2).sum() == 64 * 16 and (sheet == 200).all(axis=2).sum() > 2 * 60 * 20
