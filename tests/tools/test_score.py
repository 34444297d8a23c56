"""tools.score from the command line: the published table for MPII's validation people."""

import json
import re
import sys

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datasets.formats.annotations import Annotations
from datasets.formats.annotations import write as write_annotations
from tests.shared import SHARED
from tools import score

DETECTIONS = SHARED / "mpii_eval" / "detections_our_format.mat"


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
        pytest.skip(f"{DETECTIONS} does not exist; it contains published detections for MPII's validation people")
    text = run(DETECTIONS)
    assert table(text, 0.5)[:8] == ["95.60", "92.71", "83.36", "76.74", "81.93", "73.36", "65.45", "81.46"]
    assert [table(text, t)[7] for t in (0.1, 0.2, 0.3, 0.4)] == ["28.40", "57.45", "71.00", "77.63"]


@pytest.fixture
def truth(tmp_path):
    """Write a file TRUTH of three people with a head size of 10 px; return its path.

    The third person has only one label, the head top; the other two have all labels. All predictions in TRUTH are wrong.
    """
    missing = np.zeros((16, 3), np.uint8)
    missing[[j for j in range(16) if j != 9], 2] = 1
    boxes = np.zeros((2, 2, 3))
    boxes[1] = [[10 / 0.6] * 3, [0] * 3]
    path = tmp_path / "truth.mat"
    points = np.ones((16, 2, 3))
    savemat(path, {"pos_gt_src": points, "jnt_missing": missing, "headboxes_src": boxes, "pos_pred_src": points + 1000})
    return path


def write(path, preds):
    """Write predictions (3, 16, 2) in 1-based px, in the layout that belongs to the file's name.

    Return the description of the layout that tools.score should print.
    """
    people = [{"keypoints": np.insert(p - 1, 2, 0.9, axis=1).tolist(), "bbox_id": i} for i, p in enumerate(preds)]
    match path.name:
        case "torch.mat":
            savemat(path, {"preds": preds})
            return "preds, 3 x 16 x 2 (people, joints, x and y), px counted from 1"
        case "ours.mat":
            savemat(path, {"preds": preds.transpose(1, 2, 0)})
            return "preds, 16 x 2 x 3 (joints, x and y, people), px counted from 1"
        case "toolkit.mat":
            annolist = np.empty((1, 3), dtype=[("annorect", object)])
            annolist[0] = [({"annopoints": {"point": points(p)}},) for p in preds]
            savemat(path, {"annolist": annolist})
            return "annolist, 3 x 16 x 2"
        case "torch.h5" | "matlab.h5":
            with h5py.File(path, "w") as file:
                file["preds"] = preds.T if path.name == "matlab.h5" else preds
            return "2 x 16 x 3 (x and y, joints, people)" if path.name == "matlab.h5" else "3 x 16 x 2 (people"
        case "confident.npy":
            np.save(path, np.insert(preds, 2, 0.9, axis=2))
            return "3 x 16 x 3 (people, joints, x, y and confidence), px counted from 1"
        case "fortran.npy":
            np.save(path, np.asfortranarray(preds.astype(np.float32)))
            return "3 x 16 x 2 (people, joints, x and y)"
        case "keyed.json":  # 0-based px, as in a list of people
            path.write_text(json.dumps({"keypoints": (preds - 1).tolist()}))
            return "keypoints, 3 x 16 x 2 (people, joints, x and y), px counted from 0"
        case "flat.json":
            path.write_text(json.dumps({"preds": preds.reshape(3, 32).tolist()}))
            return "preds, 3 x 32 (people, joints with x and y), px counted from 1"
        case "mmpose.json":  # people in another order, with their numbers as bbox_id, and 0-based px
            path.write_text(json.dumps([people[i] for i in (2, 0, 1)]))
            return "keypoints, 3 x 16 x 3 (people, joints, x, y and confidence), px counted from 0"
    raise ValueError(path)


def points(joints):
    """Return predictions as the struct array of MPII's toolkit, with the joints in reverse order."""
    array = np.empty((1, 16), dtype=[(name, object) for name in ("id", "x", "y")])
    array[0] = [(float(j), *joints[j]) for j in reversed(range(16))]
    return array


FORMS = "torch.mat ours.mat toolkit.mat torch.h5 matlab.h5 confident.npy fortran.npy flat.json keyed.json mmpose.json"


@pytest.mark.parametrize("form", FORMS.split())
def test_predictions_of_any_layout_are_scored(run, truth, tmp_path, form):
    preds = np.ones((3, 16, 2))
    preds[2, 9, 1] = 6  # an error of 5 px is a hit only at the threshold 0.5
    preds[0, 0, 0] = 7  # two right ankles are labelled: one prediction is wrong, the other correct
    layout = write(tmp_path / form, preds)
    own, ours = run(truth, tmp_path / form).split(f"{form}: ")
    assert layout in ours.splitlines()[0]
    assert set(table(own, 0.5)) == {"0.00"}
    errors = re.search("^mean error, px +(.*)$", ours, flags=re.M)[1].split()
    assert (errors[0], errors[6], errors[-1]) == ("1.67", "1.50", f"{11 / 29:.2f}")
    assert table(ours, 0.5)[0] == "100.00" and table(ours, 0.5)[6] == "75.00"
    assert table(ours, 0.5)[7:] == [f"{100 * 13.5 / 14:.2f}", f"{100 * 28 / 29:.2f}"]
    assert table(ours, 0.4)[0] == "66.67"


def test_a_joint_that_was_not_found_is_a_miss(run, truth, tmp_path):
    preds = np.ones((3, 16, 2)).tolist()
    preds[0][9] = [None, None]
    (tmp_path / "p.json").write_text(json.dumps(preds))
    assert table(run(truth, tmp_path / "p.json").split("p.json: ")[1], 0.5)[0] == "66.67"


def test_a_joint_that_is_never_predicted_is_left_out_of_the_mean(run, truth, tmp_path):
    preds = np.ones((3, 16, 2))
    preds[:, 8] = np.nan
    np.save(tmp_path / "p.npy", preds)
    said = run(truth, tmp_path / "p.npy").split("p.npy: ")[1]
    assert "not predicted, and left out of the mean: upper_neck" in said and table(said, 0.5)[7] == "100.00"


@pytest.mark.parametrize(("name", "mean"), [("tompson.h5", "81.46"), ("bearpaw-hg_s2_b1.mat", "86.76")])
def test_published_files_give_their_published_means(run, name, mean):
    if not DETECTIONS.exists():
        pytest.skip(f"{DETECTIONS} does not exist")
    assert table(run(DETECTIONS, DETECTIONS.with_name(name)).split(f"{name}: ")[1], 0.5)[7] == mean


def test_files_of_another_kind_are_refused_in_a_sentence(run, truth, tmp_path):
    savemat(tmp_path / "few.mat", {"preds": np.ones((16, 2, 5))})
    assert "16 x 2 x 5, expected 3 x 16 x 2" in run(truth, tmp_path / "few.mat", code=1)
    assert "pos_gt_src" in run(tmp_path / "few.mat", code=1)
    assert "missing" in run(tmp_path / "nothing.mat", code=1)
    savemat(tmp_path / "text.mat", {"preds": "words"})
    assert "does not hold numbers" in run(truth, tmp_path / "text.mat", code=1)
    others = {"a.csv": b"1,2", "b.npy": b"no", "c.json": b"{}", "d.json": b'[{"joints": {}}]', "e.h5": b"no", "f.json": b"3"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        assert name in run(truth, tmp_path / name, code=1)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "objects.npy cannot be read as an array of numbers" in run(truth, tmp_path / "objects.npy", code=1)


def annotated(folder, people):
    """Write valid.h5 and its list of images for people given as (image, number in the image); return the path of valid.h5."""
    folder.mkdir()
    count = len(people)
    nothing = np.full(count, -1.0)
    write_annotations(folder, "valid", Annotations(
        images=[image for image, _ in people], index=np.arange(count), person=np.array([person for _, person in people]),
        center=np.full((count, 2), 50.0), scale=np.ones(count), part=np.full((count, 16, 2), 50.0),
        visible=np.ones((count, 16), bool), normalize=nothing, torsoangle=nothing,
    ))  # fmt: skip
    return folder / "valid.h5"


def test_published_and_our_predictions_are_scored_on_the_same_people(run, truth, tmp_path):
    """Score the second and the first of three people, in this order.

    our.npy contains predictions for only these two people; one of the predictions is correct.
    """
    order = annotated(tmp_path / "published", [("a.jpg", 0), ("a.jpg", 1), ("b.jpg", 0)])
    people = annotated(tmp_path / "ours", [("a.jpg", 1), ("a.jpg", 0)])
    every, some = np.ones((3, 16, 2)), np.ones((2, 16, 2))
    every[0] += 1000  # the first person's prediction is wrong, the second person's is correct
    some[0] += 1000  # our.npy begins with the second person, whose prediction is wrong
    np.save(tmp_path / "theirs.npy", every)
    np.save(tmp_path / "our.npy", some)
    text = run(truth, tmp_path / "theirs.npy", tmp_path / "our.npy", "--people", people, "--order", order)
    assert text.count("2 people, area") == 3
    assert [line.split()[-2] for line in text.splitlines() if line.startswith("@0.5 ")] == ["0.00", "50.00", "50.00"]
    tests = {
        line.split()[0].rpartition("/")[2]: line.split()[1:] for line in text.splitlines() if line.startswith(str(tmp_path))
    }
    # All scored people are on one image, so all resamples are equal, and the intervals have width 0.
    assert tests["truth.mat"][:6] == ["0.00", "0.00", "0.00", "50.00", "50.00", "50.00"]
    assert tests["theirs.npy"] == ["50.00", "50.00", "50.00", "0.00", "0.00", "0.00", "1.0000"]
    assert tests["our.npy"] == ["50.00", "50.00", "50.00"]


def test_people_who_are_not_among_the_published_ones_are_refused(run, truth, tmp_path):
    order = annotated(tmp_path / "published", [("a.jpg", 0), ("a.jpg", 1), ("b.jpg", 0)])
    people = annotated(tmp_path / "ours", [("a.jpg", 1), ("c.jpg", 0)])
    assert "1 people of" in run(truth, "--people", people, "--order", order, code=1)
    turned = annotated(tmp_path / "turned", [("a.jpg", 1), ("a.jpg", 0), ("b.jpg", 0)])
    assert "in another order" in run(truth, "--people", turned, "--order", order, code=1)
    short = annotated(tmp_path / "short", [("a.jpg", 1)])
    assert "has 3 people, but --order 1" in run(truth, "--people", short, "--order", short, code=1)
