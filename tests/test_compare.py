"""The comparison's table and the drawing of people."""

import json

import numpy as np

from datasets.skeletons import PENN_ACTION
from stages.compare import accuracy_table
from stages.draw import COLOURS, contact_sheet, draw_person


def test_table_has_a_row_per_split_and_measure(tmp_path):
    inputs = {}
    for dataset, measure, splits in (("mpii", "PCKh@0.5", ["valid"]), ("penn", "PCK@0.05", ["valid", "test"])):
        for model, value in (("pretrained", 0.0), ("finetuned", 0.5)):
            folder = inputs[f"{dataset}-{model}"] = tmp_path / f"{dataset}-{model}"
            folder.mkdir()
            scores = {
                split: {
                    "people": 7,
                    "acc": value,
                    "acc joints": 10,
                    measure: None,
                    f"{measure} joints": 14 - (model == "finetuned"),
                }
                for split in splits
            }
            (folder / "accuracy.json").write_text(json.dumps(scores))
    table = accuracy_table(inputs)
    assert table["split"].tolist() == [s for s in ("MPII valid", "Penn Action valid", "Penn Action test") for _ in range(2)]
    assert table["before"].tolist()[::2] == [0.0] * 3 and table["after"].tolist()[::2] == [50.0] * 3
    assert table["joints"].tolist() == ["10", "14/13"] * 3
    assert table["before"].isna().tolist() == [False, True] * 3


def test_a_drawn_person_has_sides_in_their_colours():
    joints = np.full((13, 2), np.nan)
    for name, point in (
        ("right_elbow", (20, 20)),
        ("right_wrist", (20, 80)),
        ("left_knee", (80, 20)),
        ("left_ankle", (80, 80)),
    ):
        joints[PENN_ACTION.joints.index(name)] = point
    blank = np.zeros((100, 100, 3), np.uint8)
    image = draw_person(blank, joints, PENN_ACTION)
    for x, side in ((20, "right"), (80, "left")):  # lines have soft edges
        assert np.abs(image[50, x].astype(int) - COLOURS[side]).max() < 60, side
    assert not image[:, 30:70].any() and not blank.any()


def test_contact_sheet_fits_all_images():
    wide, tall = np.full((10, 40, 3), 9, np.uint8), np.full((300, 100, 3), 200, np.uint8)
    sheet = contact_sheet([[wide, tall], [tall]], ["one", "two"], side=64)
    assert sheet.shape == (2 * (64 + 32), 2 * 70 + 6, 3)
    assert (sheet == 9).all(axis=2).sum() == 64 * 16 and (sheet == 200).all(axis=2).sum() > 2 * 60 * 20
