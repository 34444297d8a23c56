"""Tests for a machine with a GPU: results agree with those of the CPU, and trainings repeat bit for bit."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.penn_action import PENN_ACTION
from stages.forecasting.network import ForecastNet
from stages.inference.predict import set_tf32
from stages.inference.predictor import PosePredictor
from stages.lifting.network import ConverterNet
from stages.loading.crop_cache import cache_crops
from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import Forecaster
from stages.settings.lifting import Converter
from stages.settings.sections import Input, Network, Workspace
from stages.settings.trainings import Training
from stages.training.heatmaps import HeatmapObjective, new_network
from stages.training.train import Job, Trainer, set_arithmetic, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")

SMALL = Network(stem="4 8 8", features=16, depth=2)
SIZE = Input(resolution=64)
GPU = Workspace(device="cuda", workers=1, checkpoint_seconds=1e-9)
SETTINGS = Training(
    optimizer="adamw", learning_rate=1e-3, warmup=3, schedule="cosine", ema=0.9, epochs=2, iterations=30, batch=4, seed=5,
    gradient_accumulation=2, snapshot_epochs=0, target_sigma=1.0, target_radius=2, unlabelled_weight=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def cached(tiny_penn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    cache_crops(tiny_penn, SIZE.resolution, folder, 1)
    return replace(tiny_penn, crops=folder)


def network():
    return new_network(SMALL, 13, 7)


def job(folder, data, settings, workspace=GPU):
    return Job(folder, HeatmapObjective(network(), data, SIZE, settings), settings, workspace)


def test_the_network_computes_what_it_computes_on_the_cpu():
    net, images = HourglassNet(Network(), 16).eval(), torch.rand(2, 3, 128, 128)
    set_tf32("float32")
    with torch.inference_mode():
        expected = net(images)[-1]
    net.cuda()
    with torch.inference_mode():
        found = net(images.cuda())[-1].cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_forecasts_in_3d_are_those_of_the_cpu():
    converter = ConverterNet(13, 16, Converter(features=8))
    net, images = ForecastNet(network(), Forecaster(), converter).eval(), torch.rand(2, 3, 64, 64)
    set_tf32("float32")
    with torch.inference_mode():
        expected = net(images, 4)
    net.cuda()
    with torch.inference_mode():
        found = net(images.cuda(), 4)
    torch.testing.assert_close(found.heatmaps.cpu(), expected.heatmaps, atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(found.poses, expected.poses, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-2, rtol=1e-4)  # mm


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw"])
def test_a_training_that_is_interrupted_ends_as_the_one_that_is_not(tiny_penn, cached, tmp_path, precision, crops, optimizer):
    settings = SETTINGS.model_copy(update={"precision": precision, "optimizer": optimizer})

    def interrupt(done, *_):
        if done >= 60:  # the sums of iterations 51 to 60 are read here, and the last checkpoint is that of iteration 50
            interrupted.append(done)
            raise InterruptedError

    interrupted: list[int] = []
    for folder, reports in (("whole", [lambda *_: None]), ("stopped", [interrupt, lambda *_: None])):
        (tmp_path / folder).mkdir()
        for report in reports:
            with suppress(InterruptedError):
                train(job(tmp_path / folder, cached if crops else tiny_penn, settings), report)
    assert interrupted == [60]
    for name in ("best.safetensors", "last.safetensors", "train.log", "valid.log"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_captured_iteration_is_the_one_that_is_launched_step_by_step(cached, tmp_path, precision):
    ends = []
    for captured in (True, False):
        folder = tmp_path / str(captured)
        folder.mkdir()
        trainer = Trainer(job(folder, cached, SETTINGS.model_copy(update={"precision": precision})))
        trainer.begin_phase(0)
        set_arithmetic(trainer.training, GPU)
        assert trainer.captured
        trainer.captured = trainer.captured if captured else None
        trainer.run()
        ends.append((folder / "last.safetensors").read_bytes())
    assert ends[0] == ends[1]


def test_a_training_on_the_gpu_is_close_to_one_on_the_cpu(tiny_penn, tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 1, "iterations": 5, "optimizer": "rmsprop"})
    for device in ("cuda", "cpu"):
        (tmp_path / device).mkdir()
        train(job(tmp_path / device, tiny_penn, settings, Workspace(device=device, workers=1)))
    # Where a gradient is zero, RMSprop turns rounding errors into full steps, so weights may differ. Only losses are compared.
    losses = [float((tmp_path / device / "train.log").read_text().split()[5]) for device in ("cuda", "cpu")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[1] > 0


@pytest.mark.parametrize("precision, near", [("float32", 1e-4), ("auto", 0.1)])
def test_heatmaps_are_those_of_the_cpu(precision, near):
    about = Description(SMALL, PENN_ACTION.skeleton.joints, 64, {})
    # 25 images are six full batches and a batch of one image; the later full batches replay the captured CUDA graph.
    images = list(np.random.default_rng(0).integers(0, 255, (25, 80, 120, 3), np.uint8))
    net = network()
    expected = PosePredictor(net, about, device="cpu", precision="float32").predict(images, batch=4, sizes=(1, 1.2))
    found = PosePredictor(net, about, device="cuda", precision=precision).predict(images, batch=4, sizes=(1, 1.2))
    # The network is untrained, so rounding may change the position of a heatmap's largest pixel, but hardly the pixel's value.
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=near * np.abs(expected.confidence).max())
    assert np.array_equal(found.image, expected.image)
