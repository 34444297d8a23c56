"""Evaluation of a simulated network whose predictions are correct, or wrong by a known distance."""

import json
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import loadmat

from datasets.formats import annotations
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.evaluation import evaluate as module
from stages.evaluation.evaluate import evaluate
from stages.loading.loader import PoseDataset
from stages.network.checkpoints import Description
from stages.settings.recipes import Recipe
from stages.settings.sections import Evaluation, Input, Network, Workspace


class Oracle(torch.nn.Module):
    """A network that returns the target heatmaps of the input image, moved by `shift` px along x for the joints in `moved`."""

    def __init__(self, samples, joints, moved=(), shift=0):
        super().__init__()
        self.known = {}
        for position in range(len(samples)):
            sample = samples[position]
            maps = np.zeros((len(joints), *sample["heatmaps"].shape[1:]), np.float32)
            for i, name in enumerate(joints):
                if name in samples.data.skeleton.joints:
                    maps[i] = sample["heatmaps"][samples.data.skeleton.joints.index(name)]
                if name in moved:
                    maps[i] = np.roll(maps[i], shift, axis=1)
            self.known[sample["input"].tobytes()] = torch.from_numpy(maps)

    def forward(self, images):
        return [torch.stack([self.known[image.contiguous().numpy().tobytes()] for image in images])]


@pytest.fixture
def score(penn_sequences, tmp_path, monkeypatch):
    """A function that evaluates an `Oracle` for given joints and returns the validation split's results in accuracy.json."""

    def run(joints, evaluation=Evaluation(flip_test=False), **oracle):  # noqa: B008
        samples = PoseDataset(penn_sequences, "valid", Input(resolution=64), Recipe(target_sigma=1.5, target_radius=5))
        description = Description(Network(), joints, 64, {})
        monkeypatch.setattr(module, "load_network", lambda _: (Oracle(samples, joints, **oracle), description))
        result = evaluate(tmp_path, tmp_path, penn_sequences, ["valid"], evaluation, Workspace(device="cpu", workers=1))
        written = json.loads((tmp_path / "accuracy.json").read_text())
        assert written["dataset"] == "penn_action"
        metrics = written["splits"]["valid"]
        assert result == {"valid": {"acc": metrics["acc"], "PCK@0.05": metrics["measures"]["PCK@0.05"]["value"]}}
        return metrics

    return run


def test_a_perfect_network_scores_everything(score, penn_sequences, tmp_path):
    result = score(PENN_ACTION.skeleton.joints, Evaluation(flip_test=False, heatmaps=True))
    assert result["acc"] == 1 and result["measures"]["PCK@0.05"]["value"] == 1 and result["people"] == 2
    rows = annotations.read(penn_sequences.annotations, "valid")
    with h5py.File(tmp_path / "preds_valid.h5") as file:
        # A box of 60 px has a heatmap of 16 px, so a heatmap pixel is 3.75 image pixels wide. The error must be below 0.2 px.
        assert np.abs(file["preds"][:] - 1 - rows.part).max() < 0.2
        assert file["confidence"].shape == (2, 13)
        np.testing.assert_array_equal(loadmat(tmp_path / "preds_valid.mat")["preds"].transpose(2, 0, 1), file["preds"][:])
        preds = file["preds"][:] - 1
    with h5py.File(tmp_path / "heatmaps_valid.h5") as file:
        maps = file["heatmaps"][:]
    assert maps.shape == (2, 13, 16, 16)
    largest = np.stack(np.unravel_index(maps.reshape(2, 13, -1).argmax(-1), (16, 16))[::-1], axis=-1)
    assert np.abs(3.75 * largest - (preds - rows.center[:, None] + 30)).max() < 4  # errors in px of the image
    with h5py.File(tmp_path / "people_valid.h5") as file:
        np.testing.assert_allclose(file["distance"][:], np.linalg.norm(preds - rows.part, axis=-1), atol=1e-9)
        np.testing.assert_array_equal(file["group"][:], [0, 1])
        # The first two reference lengths: the longer sides of the image and of the labelled box.
        np.testing.assert_allclose(file["reference"][:, :2], [[48, 40]] * 2)
        # The third reference length: the torso, from the left shoulder to the right hip.
        np.testing.assert_allclose(file["reference"][:, 2], np.linalg.norm(rows.part[:, 2] - rows.part[:, 7], axis=-1))


def test_joints_that_are_wrong_cost_their_share(score, penn_sequences, tmp_path):
    # In heatmaps of 16 px, an error of at least 5 px exceeds the thresholds of both measures. The error affects 2 of the 10
    # joints of the training metric, and 2 of the 13 joints of PCK.
    result = score(PENN_ACTION.skeleton.joints, moved=("left_knee", "right_wrist"), shift=5)
    assert result["acc"] == pytest.approx(0.8)
    pck = result["measures"]["PCK@0.05"]
    assert pck["value"] == pck["visible"] == pytest.approx(11 / 13) and len(pck["in_mean"]) == 13
    assert pck["by_joint"]["left_knee"] == 0 and pck["by_joint"]["head"] == 1
    joints = pd.read_csv(tmp_path / "per_joint.csv").set_index(["split", "metric", "threshold", "joint"])
    assert joints.loc["valid", "PCK@0.05", 0.05, "left_knee"].tolist() == [2, 0]  # number of labels, and hit rate in %
    assert joints.loc["valid", "PCK@0.05", 0.05, "head"].tolist() == [2, 100] and len(joints) == 3 * 13
    actions = pd.read_csv(tmp_path / "per_action.csv").set_index(["split", "metric", "threshold", "action"])
    named = penn_sequences.people("valid").actions
    assert set(actions.index.get_level_values("action")) == set(named)
    for action in set(named):
        count = named.count(action)
        found = actions.loc["valid", "PCK@0.05", 0.05, action].tolist()
        assert found == [count, 13 * count, pytest.approx(100 * 11 / 13, abs=1e-3), pytest.approx(100 * 11 / 13, abs=1e-3)]


def test_a_network_of_other_joints_counts_on_those_that_it_knows(score, tmp_path):
    names = tuple(name for name in MPII.skeleton.joints if not name.endswith("_knee") and name != "head_top")
    result = score(names)
    assert result["acc"] == 1 and result["measures"]["PCK@0.05"]["value"] == 1
    assert set(result["measures"]["PCK@0.05"]["by_joint"]) == set(PENN_ACTION.skeleton.joints) - {
        "left_knee",
        "right_knee",
        "head",
    }
    with h5py.File(tmp_path / "preds_valid.h5") as file:
        assert np.isnan(file["preds"][:, PENN_ACTION.skeleton.joints.index("left_knee")]).all()


def test_boxes_of_several_sizes_agree_where_a_joint_is(penn_sequences, tmp_path):
    class Brightness(torch.nn.Module):
        """A simulated network whose only joint is at a bright dot."""

        def forward(self, images):
            return [torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)]

    dots = [(12, 30), (25, 17)]
    for i, dot in enumerate(dots):
        image = cv2.circle(np.zeros((48, 40, 3), np.uint8), dot, 2, (255, 255, 255), -1)
        (tmp_path / f"000{i}").mkdir()
        cv2.imwrite(str(tmp_path / f"000{i}/000001.jpg"), image)
    samples = PoseDataset(replace(penn_sequences, images=tmp_path), "valid", Input(resolution=128))
    for scales in ("1", "1.25", "1 0.8 1.25", "1.25 0.8"):
        settings = Evaluation(flip_test=False, test_scales=scales)
        ((batch, maps),) = module.heatmaps_of(Brightness(), samples, [0], settings, Workspace(device="cpu", workers=1))
        found, _ = module.joints_in_image(maps.numpy(), batch["image_to_crop"].numpy(), 128)
        assert np.abs(found[:, 0] - dots).max() < 0.15, scales
