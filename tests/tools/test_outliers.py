"""tools.outliers from the command line: frames are chosen, and their corrected labels can be used as a dataset."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from stages.network.checkpoints import save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tests import fish
from tests.pipeline.conftest import Place, empty

__all__ = ["empty"]  # a fixture
JOINTS = ("nose", "left_fin", "right_fin", "back", "tail")


@pytest.fixture
def model(empty: Place) -> Path:
    torch.manual_seed(0)
    for name, seed in (("a", 0), ("b", 1)):
        torch.manual_seed(seed)
        network = HourglassNet(Network(stem="4 8 8", features=8, depth=2), 5)
        save_network(empty.folder / f"{name}.safetensors", network, JOINTS, 64, {}, ((0, 3), (3, 4)))
    return empty.folder


def run(place: Place, *arguments: str, code: int = 0) -> str:
    found, out, err = place.call("tools.outliers", *arguments)
    assert found == code and "Traceback" not in err, err
    return out + err


def test_outliers_of_a_video_are_a_dataset_after_correction(empty: Place, model):
    pytest.importorskip("sleap_io")
    fish.write_sleap(empty.folder / "swim", 24)
    said = run(empty, "swim/swim.mp4", "--model", "a.safetensors", "--second", "b.safetensors", "--count", "6", "--apart", "3")
    assert "6 of 24 frames are in outliers" in said
    table = pd.read_csv(empty.folder / "outliers/outliers.csv")
    chosen = table[table["chosen for"].notna()]
    assert len(table) == 24 and set(chosen["chosen for"]) == {"unsure", "flicker", "mirror", "second"}
    frames = chosen["frame"].to_numpy()
    assert len(frames) == 6 and np.diff(frames).min() >= 3
    assert table["unsure"].idxmax() in frames  # "unsure" chooses first, so its worst frame is chosen
    content = json.loads((empty.folder / "outliers/labels.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"swim-{frame:06d}.png" for frame in frames]
    for frame, name in zip(frames, sorted(os.listdir(empty.folder / "outliers/images")), strict=True):
        shown = cv2.imread(str(empty.folder / "outliers/images" / name))[:, :, ::-1]
        assert np.abs(shown.astype(int) - fish.picture(frame)).mean() < 8
    assert cv2.imread(str(empty.folder / "outliers/outliers.png")) is not None
    # Correct a joint, as a user would, and use the corrected file as a dataset.
    content["annotations"][0]["keypoints"][:2] = [12.5, 34.5]
    (empty.folder / "corrected.json").write_text(json.dumps(content))
    for labels, joint in (("corrected.json", (12.5, 34.5)), ("outliers/labels.slp", None)):
        empty.set(f"[dataset:more]\nlabels = {labels}\nimages = outliers/images\nvalid = 0.5\nsplit_seed = 1\n")
        empty.run("run", "Annotate:more", "--config", "profile.cfg")
        from datasets.formats import annotations

        rows = [annotations.read(empty.exp / "own/more/annot", split) for split in ("train", "valid")]
        found = {image: part for people in rows for image, part in zip(people.images, people.part, strict=True)}
        assert sorted(found) == sorted(os.listdir(empty.folder / "outliers/images"))
        first = content["images"][0]["file_name"]
        if joint:
            np.testing.assert_allclose(found[first][0], joint)
        expected = np.array(content["annotations"][0]["keypoints"]).reshape(5, 3)[1:, :2]
        np.testing.assert_allclose(found[first][1:], expected, atol=1e-3)


def test_images_in_a_folder_do_not_flicker(empty: Place, model):
    fish.write_pictures(empty.folder / "in", 7)
    assert "4 of 7 frames" in run(empty, "in", "--model", "a.safetensors", "--count", "4")
    chosen = pd.read_csv(empty.folder / "outliers/outliers.csv")["chosen for"].dropna()
    assert set(chosen) == {"unsure", "mirror"}
    said = run(empty, "in", "--model", "a.safetensors", code=1)
    assert "--out outliers is not empty; give another folder, so that corrected labels are not replaced." in said


def test_networks_without_a_common_joint_are_refused(empty: Place, model):
    fish.write_pictures(empty.folder / "in", 2)
    save_network(empty.folder / "c.safetensors", HourglassNet(Network(stem="4 8 8", features=8, depth=2), 1), ("paw",), 64, {})
    said = run(empty, "in", "--model", "a.safetensors", "--second", "c.safetensors", code=1)
    assert "no joint in common" in said
