"""The published table of MPII's validation people from the command line."""

import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from tools import score

DETECTIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "mpii_eval" / "detections_our_format.mat"


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["score", *map(str, arguments)])
        assert score.main() == code
        out, err = capsys.readouterr()
        return err if code else out

    return call


def table(text, threshold):
    return re.search(rf"^@{threshold} +(.*)$", text, flags=re.M)[1].split()


def test_published_predictions_give_the_published_table(run):
    if not DETECTIONS.exists():
        pytest.skip(f"{DETECTIONS} is not here: it holds published detections for MPII's validation people")
    text = run(DETECTIONS)
    assert table(text, 0.5)[:8] == ["95.60", "92.71", "83.36", "76.74", "81.93", "73.36", "65.45", "81.46"]
    assert [table(text, t)[7] for t in (0.1, 0.2, 0.3, 0.4)] == ["28.40", "57.45", "71.00", "77.63"]


@pytest.fixture
def truth(tmp_path):
    """Three people with heads of 10 px; of the third only the head top is labelled. Their own predictions are all wrong."""
    missing = np.zeros((16, 3), np.uint8)
    missing[[j for j in range(16) if j != 9], 2] = 1
    boxes = np.zeros((2, 2, 3))
    boxes[1] = [[10 / 0.6] * 3, [0] * 3]
    path = tmp_path / "truth.mat"
    points = np.ones((16, 2, 3))
    savemat(path, {"pos_gt_src": points, "jnt_missing": missing, "headboxes_src": boxes, "pos_pred_src": points + 1000})
    return path


@pytest.mark.parametrize("form", ["mat", "mat by person", "h5"])
def test_predictions_of_any_form_are_scored(run, truth, tmp_path, form):
    preds = np.ones((3, 16, 2))
    preds[2, 9, 1] = 6  # 5 px: a hit at 0.5 only
    preds[0, 0, 0] = 7  # one of two right ankles
    path = tmp_path / ("ours.h5" if form == "h5" else "ours.mat")
    if form == "h5":
        with h5py.File(path, "w") as file:
            file["preds"] = preds
    else:
        savemat(path, {"preds": preds if form == "mat by person" else preds.transpose(1, 2, 0)})
    own, ours = run(truth, path).split("ours.")
    assert set(table(own, 0.5)) == {"0.00"}
    errors = re.search("^mean error, px +(.*)$", ours, flags=re.M)[1].split()
    assert (errors[0], errors[6], errors[-1]) == ("1.67", "1.50", f"{11 / 29:.2f}")
    assert table(ours, 0.5)[0] == "100.00" and table(ours, 0.5)[6] == "75.00"
    assert table(ours, 0.5)[7:] == [f"{100 * 13.5 / 14:.2f}", f"{100 * 28 / 29:.2f}"]
    assert table(ours, 0.4)[0] == "66.67"


def test_files_of_another_kind_are_refused_in_a_sentence(run, truth, tmp_path):
    savemat(tmp_path / "few.mat", {"preds": np.ones((16, 2, 5))})
    assert "16 x 2 x 3" in run(truth, tmp_path / "few.mat", code=1)
    assert "pos_gt_src" in run(tmp_path / "few.mat", code=1)
    assert "missing" in run(tmp_path / "nothing.mat", code=1)
    savemat(tmp_path / "text.mat", {"preds": "words"})
    assert "no numbers" in run(truth, tmp_path / "text.mat", code=1)
