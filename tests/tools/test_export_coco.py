"""COCO keypoints of the converted datasets: what pycocotools reads of them is what the annotation files hold."""

import json

import cv2
import h5py
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.pipeline.conftest import Place, finished_chain, place

__all__ = ["finished_chain", "place"]  # fixtures


@pytest.mark.parametrize(("dataset", "folder", "joints"), [("mpii", "mpii", 16), ("penn_action", "penn_action_cropped", 13)])
def test_people_boxes_and_flags_are_those_of_the_annotation_files(place: Place, dataset, folder, joints):
    process = place.start("-m", "tools.export_coco", dataset, "--split", "train", "--out", "labels.json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
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
        np.testing.assert_allclose(found[labelled, :2] + 1, part[row][labelled])  # the files count pixels from 1
        assert (found[~labelled] == 0).all() and person["num_keypoints"] == labelled.sum()
        np.testing.assert_array_equal(found[:, 2], labelled.astype(int) + (labelled & (visible[row] > 0)))
        left, top, width, height = person["bbox"]
        np.testing.assert_allclose([left + width / 2 + 1, top + height / 2 + 1], center[row])
        assert width == height == pytest.approx(200 * scale[row] / 1.25)
    category = coco.loadCats(1)[0]
    assert len(category["keypoints"]) == joints and np.array(category["skeleton"]).min() == 1
    assert np.array(category["skeleton"]).max() <= joints


def test_what_is_missing_or_cannot_be_written_is_told(place: Place):
    for arguments, told in (
        (("lsp",), "make it with: python -m pipeline run"), (("mpii", "--out", "nowhere/labels.json"), "cannot be written"),
    ):  # fmt: skip
        process = place.start("-m", "tools.export_coco", *arguments)
        err = process.communicate(timeout=120)[1]
        assert process.returncode == 1 and told in err and "Traceback" not in err
    assert not (place.folder / "nowhere").exists()
    assert json.dumps([path.name for path in place.folder.glob("*.json")]) == "[]"
