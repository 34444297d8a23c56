"""The focal loss equals its formula and trains networks whose heatmaps come from a sigmoid; other networks are refused."""

from math import log

import pytest
import torch

from datasets.errors import DataError
from stages.network.checkpoints import load_network
from stages.settings.forecasting import ForecastTraining
from stages.settings.lifting import ConverterTraining
from stages.settings.sections import Network, Settings, Workspace
from stages.settings.trainings import Finetuning, Training
from stages.training.heatmaps import HeatmapObjective, focal_error, new_network
from stages.training.train import Job, train
from tests.stages.training.test_train import BLOB, SIZE
from tests.stages.training.test_train import log as rows


def test_the_focal_error_is_that_of_the_formula():
    target = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])  # the second joint has no blob
    maps = torch.tensor([[[[0.5, 0.5], [0.1, 0.9]], [[0.2, 0.2], [0.2, 0.2]]]])
    first = (0.5**2 * log(2) + 0.5**4 * 0.5**2 * log(2) - 0.1**2 * log(0.9) - 0.9**2 * log(0.1)) / 4
    second = -(0.2**2) * log(0.8)
    for weights, expected in (([1.0, 1.0], (first + second) / 2), ([0.5, 0.0], first / 4)):
        found = focal_error(maps, {"heatmaps": target, "weights": torch.tensor([weights])})
        assert found.tolist() == pytest.approx([expected], rel=1e-5)


def test_certain_and_wrong_heatmaps_have_a_finite_error_and_a_missed_peak_is_learnt():
    maps = torch.tensor([[[[1e-9, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]], requires_grad=True)
    target = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    error = focal_error(maps, {"heatmaps": target, "weights": torch.ones(1, 2)})
    error.sum().backward()
    assert error.isfinite().all() and maps.grad.isfinite().all()
    assert maps.grad[0, 0, 0, 0] == pytest.approx(-1e9 / 8, rel=1e-3)


def test_the_rest_of_a_blob_outside_of_the_heatmap_is_no_peak():
    target = torch.tensor([[[[0.01, 0.0], [0.0, 0.0]]]])
    found = focal_error(torch.full((1, 1, 2, 2), 0.5), {"heatmaps": target, "weights": torch.ones(1, 1)})
    assert found.item() == pytest.approx(0.25 * log(2) * (0.99**4 + 3) / 4, rel=1e-5)


def job(folder, data, heatmaps):
    settings = Training(
        loss="focal", epochs=6, iterations=10, batch=6, learning_rate=3e-3, rotation_std=0, scale_std=0, colour_jitter=0,
        flip_probability=0, snapshot_epochs=0, **BLOB,
    )  # fmt: skip
    options = Network(stem="2 4 4", features=8, depth=2, heatmaps=heatmaps, initial="pytorch")
    network = new_network(options, len(data.skeleton.joints), 5)
    return Job(folder, HeatmapObjective(network, data, SIZE, settings), settings, Workspace(device="cpu", workers=1))


def test_a_network_learns_with_the_focal_loss(tiny_penn, tmp_path):
    train(job(tmp_path, tiny_penn, "sigmoid"))
    losses = [row[1] for row in rows(tmp_path / "train.log")]
    assert losses[-1] < 0.5 * losses[0]
    network, _ = load_network(tmp_path / "best.safetensors")
    maps = network(torch.rand(1, 3, 32, 32))[-1]
    assert network.options.heatmaps == "sigmoid" and maps.min() > 0 and maps.max() < 1


def test_the_focal_loss_is_refused_where_it_cannot_work(tiny_penn, tmp_path):
    with pytest.raises(DataError, match=r"loss = focal needs a network with \[network\] heatmaps = sigmoid"):
        job(tmp_path, tiny_penn, "linear")
    with pytest.raises(DataError, match=r"\[finetune\] loss = focal needs \[network\] heatmaps = sigmoid"):
        Settings(finetune=Finetuning(loss="focal"))
    assert Settings(finetune=Finetuning(loss="focal"), network=Network(heatmaps="sigmoid")).finetune.loss == "focal"
    for training in (ForecastTraining, ConverterTraining):
        with pytest.raises(DataError, match="loss = focal"):
            training(loss="focal")
