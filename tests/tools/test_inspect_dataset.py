"""tools.inspect_dataset: its tables, the choice of rows, and its pictures of the tiny chain's datasets."""

import argparse

import cv2
import numpy as np
import pandas as pd
import pytest

from datasets.errors import DataError
from datasets.formats.annotations import Annotations
from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from tests.pipeline.conftest import Place, finished_chain, place
from tools import inspect_dataset

__all__ = ["finished_chain", "place"]  # fixtures

ODD = pd.DataFrame({"split": "valid", "row": [2, 2, 5], "what": ["thighs crossed", "joints outside", "joints outside"]})
ACTIONS = pd.Series(["bowl", "bowl", "squat", "squat", "squat", "bowl"])


def rows(count: int = 6) -> Annotations:
    part = np.full((count, 13, 2), 5.0)
    part[:1, 3] = np.nan
    visible = ~np.isnan(part).any(axis=2)
    visible[:, 4] = False
    numbers = np.arange(count)
    return Annotations([f"{i // 2}/{i}.jpg" for i in numbers], numbers, 0 * numbers, part[:, 0], numbers + 1.0, part, visible,
                       -np.ones(count), -np.ones(count))  # fmt: skip


def choose(**options) -> list[int]:
    defaults = {"split": "valid", "rows": None, "action": None, "suspicious": None, "count": 2, "seed": 0}
    return inspect_dataset.choose(rows(), ODD, ACTIONS, argparse.Namespace(**(defaults | options)))


def test_rows_are_chosen_by_number_action_and_oddity():
    assert choose(rows=[4, 0, 3]) == [0, 3, 4]
    assert choose(suspicious="") == [2, 5] and choose(suspicious="thighs") == [2]
    assert choose(action="bowl", count=9) == [0, 1, 5]
    assert choose(action="squat", suspicious="") == [2]
    assert len(choose()) == 2 and choose() == choose() and len({tuple(choose(seed=seed)) for seed in range(9)}) > 1
    for wrong in (
        {"rows": [6]},
        {"rows": [-1]},
        {"action": "tennis"},
        {"suspicious": "arms"},
        {"rows": [1], "action": "squat"},
    ):
        with pytest.raises(DataError, match="row|--action"):
            choose(**wrong)


def test_tables():
    splits = {"train": rows(4), "valid": rows(), "test": rows(0)}
    table = inspect_dataset.by_split(splits, ODD)
    assert table["rows"].to_dict() == {"train": 4, "valid": 6, "test": 0}
    assert table["suspicious rows"].to_dict() == {"train": 0, "valid": 2, "test": 0}
    assert table.loc["valid", "labelled joints per row"] == pytest.approx(77 / 6, abs=0.01)
    joints = inspect_dataset.by_joint(rows(), PENN_ACTION.skeleton)
    assert joints.loc["right_elbow"].tolist() == [83.3, 83.3] and joints.loc["left_elbow"].tolist() == [100.0, 0.0]
    actions = inspect_dataset.by_action({"train": ACTIONS[:3], "valid": ACTIONS[3:]})
    assert actions.loc["squat"].tolist() == [1, 2] and actions.loc["bowl"].tolist() == [2, 1]


def test_joints_that_are_not_visible_are_rings():
    image, joints = np.zeros((64, 64, 3), np.uint8), np.full((13, 2), np.nan)
    joints[[3, 4]] = (16, 32), (48, 32)
    drawn = draw.draw_person(image, joints, PENN_ACTION.skeleton, np.arange(13) != 4)
    assert drawn[32, 16].tolist() == list(draw.COLOURS["right"]) and drawn[32, 48].tolist() == [0, 0, 0]
    assert not image.any()


def test_pictures_of_the_chain(place: Place):
    for dataset in ("mpii", "penn_action"):
        code, out, err = place.call("tools.inspect_dataset", dataset, "--split", "train", "--rows", "0", "2", "1")
        assert code == 0, err
        assert "right_ankle" in out and ("train rows" in out) == (dataset == "penn_action")
        sheet = cv2.imread(str(place.folder / f"pictures/{dataset}-train.png"))
        assert sheet is not None and sheet.shape[:2] == (288, 3 * 262 + 6)
        right, left = (np.array(draw.COLOURS[side][::-1]) for side in ("right", "left"))
        for k in range(3):
            cell = sheet[48:272, 6 + 262 * k : 262 * (k + 1)].astype(int)
            assert all((np.abs(cell - colour).max(axis=2) < 8).sum() > 10 for colour in (right, left))
    code, out, err = place.call("tools.inspect_dataset", "lsp")
    assert code == 1 and "run Annotate:lsp" in err and "Traceback" not in err
