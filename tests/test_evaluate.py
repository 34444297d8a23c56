"""Evaluation of a network that is made to be right, or wrong in a known way."""

import json

import h5py
import numpy as np
import pytest
import torch

from datasets import annotations
from datasets.skeletons import MPII, PENN_ACTION
from stages import evaluate as module
from stages.checkpoints import Description
from stages.evaluate import evaluate
from stages.settings import Evaluation, Network, Workspace


class Oracle(torch.nn.Module):
    """Gives heatmaps that are looked up by the input image: the targets, moved by `shift` pixels along x for some joints."""

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
def score(tiny_penn, tmp_path, monkeypatch):
    from stages.loader import Samples
    from stages.settings import Input, Recipe

    def run(joints, **oracle):
        samples = Samples(tiny_penn, "valid", Input(resolution=64), Recipe(blob_sigma=1.5, blob_radius=5))
        description = Description(Network(), joints, 64, {})
        monkeypatch.setattr(module, "load_network", lambda _: (Oracle(samples, joints, **oracle), description))
        result = evaluate(tmp_path, tmp_path, tiny_penn, ["valid"], Evaluation(flip=False), Workspace(device="cpu", workers=1))
        assert json.loads((tmp_path / "accuracy.json").read_text()) == result
        return result["valid"]

    return run


def test_a_perfect_network_scores_everything(score, tiny_penn, tmp_path):
    result = score(PENN_ACTION.joints)
    assert result["acc"] == 1 and result["PCK@0.05"] == 1 and result["people"] == 2
    rows = annotations.read(tiny_penn.annotations, "valid")
    with h5py.File(tmp_path / "preds_valid.h5") as file:
        # 60 px shown at 64: a heatmap pixel is 3.75 image pixels; decoding is far better than that.
        assert np.abs(file["preds"][:] - 1 - rows.part).max() < 0.1
        assert file["confidence"].shape == (2, 13)


def test_joints_that_are_wrong_cost_their_share(score):
    # 4 px of 16 is beyond both thresholds; 2 of 10 scoring joints, 2 of 13 joints.
    result = score(PENN_ACTION.joints, moved=("left_knee", "right_wrist"), shift=5)
    assert result["acc"] == pytest.approx(0.8)
    assert result["PCK@0.05"] == pytest.approx(11 / 13)
    assert result["PCK@0.05 by joint"]["left_knee"] == 0 and result["PCK@0.05 by joint"]["head"] == 1


def test_a_network_of_other_joints_counts_on_those_that_it_knows(score, tmp_path):
    names = tuple(name for name in MPII.joints if not name.endswith("_knee") and name != "head_top")
    result = score(names)
    assert result["acc"] == 1 and set(result["PCK@0.05 by joint"]) == set(PENN_ACTION.joints) - {
        "left_knee",
        "right_knee",
        "head",
    }
    with h5py.File(tmp_path / "preds_valid.h5") as file:
        assert np.isnan(file["preds"][:, PENN_ACTION.joints.index("left_knee")]).all()
