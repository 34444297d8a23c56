"""Labels and predictions for other programs: the exported files agree with the annotation files and evaluations."""

import json

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.formats.coco import read_coco, write_coco, write_coco_results
from tests.pipeline.conftest import Place, finished_chain, place

__all__ = ["finished_chain", "place"]  # fixtures


@pytest.mark.parametrize(("dataset", "folder", "joints"), [("mpii", "mpii", 16), ("penn_action", "penn_action_cropped", 13)])
def test_people_boxes_and_flags_are_those_of_the_annotation_files(place: Place, dataset, folder, joints):
    code, out, err = place.call("tools.export_labels", dataset, "--split", "train", "--out", "labels.json")
    assert code == 0, err
    images = place.folder / out.split("the images are in ")[1].strip()
    coco = COCO(place.folder / "labels.json")
    with h5py.File(place.exp / folder / "annot/train.h5") as file:
        part, visible, center, scale = (file[name][()] for name in ("part", "visible", "center", "scale"))
    names = (place.exp / folder / "annot/train_images.txt").read_text().splitlines()
    people = coco.loadAnns(sorted(coco.getAnnIds()))
    assert len(people) == len(part)
    for row, person in enumerate(people):
        image = coco.loadImgs(person["image_id"])[0]
        assert image["file_name"] == names[row]
        assert cv2.imread(str(images / image["file_name"])).shape[:2] == (image["height"], image["width"])
        found = np.array(person["keypoints"]).reshape(joints, 3)
        labelled = (part[row] != 0).any(axis=1)
        np.testing.assert_allclose(found[labelled, :2] + 1, part[row][labelled])  # the annotation files count pixels from 1
        assert (found[~labelled] == 0).all() and person["num_keypoints"] == labelled.sum()
        np.testing.assert_array_equal(found[:, 2], labelled.astype(int) + (labelled & (visible[row] > 0)))
        left, top, width, height = person["bbox"]
        # The annotations contain the box after it was moved down by 0.075 of its side and enlarged 1.25 times.
        np.testing.assert_allclose([left + width / 2 + 1, top + height / 2 + 0.075 * height + 1], center[row])
        assert width == height == pytest.approx(200 * scale[row] / 1.25)
    category = coco.loadCats(1)[0]
    assert len(category["keypoints"]) == joints and np.array(category["skeleton"]).min() == 1
    assert np.array(category["skeleton"]).max() <= joints
    again, rows = read_coco(place.folder / "labels.json").rows, annotations.read(place.exp / folder / "annot", "train")
    assert again.images == rows.images
    for field in ("part", "visible", "center", "scale"):
        np.testing.assert_allclose(getattr(again, field), getattr(rows, field), err_msg=field)


def test_predictions_are_those_of_the_evaluation(place: Place):
    for arguments in ((), ("--predictions", "finetuned")):
        code, _, err = place.call("tools.export_labels", "penn_action", *arguments)
        assert code == 0, err
    coco = COCO(place.folder / "labels/penn_action-valid.json")
    people = json.loads((place.folder / "labels/penn_action-valid-finetuned.json").read_text())
    with h5py.File(place.exp / "penn_action_cropped/evaluate-finetuned/preds_valid.h5") as file:
        preds, confidence = file["preds"][()], file["confidence"][()]
    names = (place.exp / "penn_action_cropped/annot/valid_images.txt").read_text().splitlines()
    assert len(people) == len(preds)
    for row, person in enumerate(people):
        found = np.array(person["keypoints"]).reshape(13, 3)
        np.testing.assert_allclose(found[:, :2] + 1, preds[row])
        np.testing.assert_allclose(found[:, 2], confidence[row])
        assert person["score"] == pytest.approx(confidence[row].mean())
        assert coco.loadImgs(person["image_id"])[0]["file_name"] == names[row]
    assert len(coco.loadRes(str(place.folder / "labels/penn_action-valid-finetuned.json")).getAnnIds()) == len(preds)


def test_object_keypoint_similarity_of_pycocotools_is_the_formula_by_hand(tmp_path):
    """The predictions for two people are wrong by 4 px and 40 px; the similarities must be 0.923 and 0.0003.

    The formula is exp(-d^2 / (2 area (2 sigma)^2)), with the distance d in px, the area 100^2 px^2, and sigma 0.05.
    """
    part = np.full((2, 3, 2), 150.0) + np.arange(3)[:, None] * 20
    part[0, 2] = np.nan
    rows = Annotations(
        images=["a.jpg", "b.jpg"], index=np.arange(2), person=np.zeros(2, int), center=np.full((2, 2), 150.0),
        scale=np.full(2, 100 / 200 * 1.25), part=part, visible=~np.isnan(part[..., 0]), normalize=np.full(2, -1.0),
        torsoangle=np.zeros(2),
    )  # fmt: skip
    preds = np.nan_to_num(part, nan=7.0) + np.array([[[4.0, 0.0]], [[0.0, 40.0]]])
    preds[0, 2] = np.nan  # a joint that the network does not predict, and that has no label
    write_coco(tmp_path / "labels.json", rows, ["a", "b", "c"], [(0, 1)], {"a.jpg": (300, 300), "b.jpg": (300, 300)}, "")
    write_coco_results(tmp_path / "found.json", rows, preds, np.full((2, 3), 0.5))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found[0]["keypoints"][6:] == [0, 0, 0] and found[0]["score"] == 0.5
    labels = COCO(tmp_path / "labels.json")
    scored = COCOeval(labels, labels.loadRes(str(tmp_path / "found.json")), "keypoints")
    scored.params.kpt_oks_sigmas = np.full(3, 0.05)
    scored.evaluate()
    similarity = [scored.ious[image, 1].item() for image in (1, 2)]
    assert similarity == pytest.approx([np.exp(-16 / (2 * 1e4 * 0.01)), np.exp(-1600 / (2 * 1e4 * 0.01))], rel=1e-3)


def test_missing_results_and_unwritable_files_are_reported(place: Place):
    for arguments, told in (
        (("lsp",), "make it with: python -m pipeline run"), (("mpii", "--out", "nowhere/labels.json"), "cannot be written"),
        (("lsp", "--predictions", "scratch"), "make it with: python -m pipeline run"),
        (("mpii", "--predictions", "pretrained", "--split", "train"), "it scores valid"),
    ):  # fmt: skip
        code, _, err = place.call("tools.export_labels", *arguments)
        assert code == 1 and told in err and "Traceback" not in err
    assert not (place.folder / "nowhere").exists()
    assert json.dumps([path.name for path in place.folder.glob("*.json")]) == "[]"


def test_sleap_and_deeplabcut_read_the_same_predictions(place: Place):
    sleap_io = pytest.importorskip("sleap_io")
    for out in ("p.slp", "p.csv", "l.slp"):
        options = [] if out == "l.slp" else ["--predictions", "pretrained"]
        code, _, err = place.call("tools.export_labels", "mpii", *options, "--out", out)
        assert code == 0, err
    with h5py.File(place.exp / "mpii/evaluate-pretrained/preds_valid.h5") as file:
        preds, confidence = file["preds"][()] - 1, file["confidence"][()]
    rows = annotations.read(place.exp / "mpii/annot", "valid")
    for name, points in (("p.slp", preds), ("l.slp", rows.part)):
        labels = sleap_io.load_slp(str(place.folder / name))
        found = {}
        for frame in labels.labeled_frames:
            image = str(frame.video.filename[frame.frame_idx]).partition("/images/")[2]
            for number, person in enumerate(frame.instances):
                found[image, number] = person
        assert len(found) == len(rows)
        seen: dict = {}
        for row, image in enumerate(rows.images):
            person = found[image, seen.setdefault(image, 0)]
            seen[image] += 1
            np.testing.assert_allclose(person.numpy(), points[row], atol=1e-4)
            if name == "p.slp":
                np.testing.assert_allclose(person.points["score"], confidence[row], atol=1e-6)
        assert cv2.imread(str(labels.video.filename[0])) is not None
    several = len(set(rows.images)) < len(rows)
    table = pd.read_csv(place.folder / "p.csv", header=[0, 1, 2, 3] if several else [0, 1, 2], index_col=0)
    assert table.index.tolist() == list(dict.fromkeys(rows.images))
    first = table.loc[rows.images[0]].to_numpy().reshape(-1, 16, 3)[0]
    np.testing.assert_allclose(first, np.column_stack((preds[0], confidence[0])))


def test_a_wrong_suffix_is_refused(place: Place):
    code, _, err = place.call("tools.export_labels", "mpii", "--out", "labels.h5")
    assert "--out labels.h5: the name should end in .json or .slp for labels" in err
    assert code == 1
