"""Samples that the device computes from augmentation plans equal the samples that worker processes compute."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from datasets.formats import annotations
from datasets.progress import silent
from stages.loading import augment
from stages.loading.augment import DeviceSamples
from stages.loading.loader import Plans, PoseDataset
from stages.settings.sections import Network, Settings, Workspace
from stages.settings.trainings import Training
from stages.training.heatmaps import HeatmapObjective, new_network
from stages.training.train import Job, Trainer
from tests.other_device import OnOtherDevice, OtherDevice, to_other_device
from tests.stages.loading.test_crop_cache import PEOPLE, SIZE, data

__all__ = ["data"]  # a fixture

COUNT = 2 * PEOPLE


def recipe(name):
    return (
        Settings()
        .recipes[name]
        .model_copy(update={"rotate180_probability": 0.3, "cutout_probability": 0.3, "occluded_weight": 0.5})
    )


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", ["published", "modern"])
def test_samples_are_equal_up_to_interpolation(data, name, pixels):
    plans, samples = Plans(data, SIZE, recipe(name), 3, 6, pixels), PoseDataset(data, "train", SIZE, recipe(name), 3, 6)
    made = DeviceSamples(plans.target, None if pixels else augment.load(plans, torch.device("cpu")))(
        default_collate([plans[i] for i in range(COUNT)])
    )
    expected = default_collate([samples[i] for i in range(COUNT)])
    torch.testing.assert_close(made["weights"], expected["weights"], rtol=0, atol=0)
    # Tolerances: OpenCV rounds sampling positions by up to 1/64 px, and a crop in two steps rounds pixels twice.
    steepest = (expected["heatmaps"].diff(dim=-1)).abs().max().item()
    torch.testing.assert_close(made["heatmaps"], expected["heatmaps"], rtol=0, atol=1e-5 if name == "modern" else steepest / 32)
    difference = (made["input"] - expected["input"]).abs() * 255
    assert difference.mean() < 0.5 and (difference > 6).float().mean() < 1e-3
    # Pixels in the erased square or outside the image are black; nearly the same pixels must be black in both samples.
    assert ((made["input"] == 0) == (expected["input"] == 0)).float().mean() > 0.995
    moved = (made["input"].roll(1, dims=-1) - expected["input"]).abs() * 255
    assert moved.mean() > 3 * difference.mean()  # a shift by one pixel gives more than three times this difference


def test_crops_and_plans_meet_on_the_device_only(data):
    plans = Plans(data, SIZE, recipe("published"), 3, 6)
    batch = {name: to_other_device(values) for name, values in default_collate([plans[i] for i in range(6)]).items()}
    with OtherDevice():
        made = DeviceSamples(plans.target, None)(batch)
    assert all(isinstance(values, OnOtherDevice) for values in made.values())


def test_crops_that_do_not_fit_come_with_their_plans(data, monkeypatch):
    training = Settings().pretrain
    for free, fits in ((2 * PEOPLE * 96 * 96 * 3 + 2, True), (2 * PEOPLE * 96 * 96 * 3 - 2, False)):
        monkeypatch.setattr(augment, "_free_bytes", lambda device, free=free: free)
        stream, samples = augment.plans(data, SIZE, training, torch.device("cpu"))
        assert stream.pixels is not fits and (samples.crops is not None) is fits
        assert ("crop" in stream[0]) is not fits


def test_plans_of_a_damaged_cache_are_an_error(data, tmp_path):
    broken = replace(data, crops=tmp_path)
    assert "run CacheCrops again" in str(Plans(broken, SIZE, recipe("published"), 3, 6)[0])


class OnPlans(HeatmapObjective):
    """An objective that computes its samples from plans, as on CUDA, but on the CPU."""

    def begin(self, resources, networks):
        super().begin(resources, networks)
        self.stream, self.make = augment.plans(self.data, self.size, self.training, resources.device)


def test_a_training_on_plans_is_that_on_samples_and_resumes_to_the_bit(data, tmp_path):
    people = replace(data, annotations=tmp_path)
    rows = data.split("train")
    annotations.write(tmp_path, "train", rows)
    annotations.write(tmp_path, "valid", rows.select(np.arange(4)))
    settings = Training(
        epochs=2, iterations=3, batch=4, snapshot_epochs=0, gradient_accumulation=2, target_sigma=1.0, target_radius=2
    )

    def run(name, kind, report=silent):
        (tmp_path / name).mkdir(exist_ok=True)
        network = new_network(Network(stem="2 4 4", features=8, depth=2), 13, 5)
        workspace = Workspace(device="cpu", workers=1, checkpoint_seconds=1e-9)
        Trainer(Job(tmp_path / name, kind(network, people, SIZE, settings), settings, workspace)).run(report)
        return [float(line.split("\t")[1]) for line in (tmp_path / name / "train.log").read_text().splitlines()[1:]]

    def end(done, *_):
        if done == 5:
            raise InterruptedError

    plans, samples = run("plans", OnPlans), run("samples", HeatmapObjective)
    assert plans == pytest.approx(samples, rel=0.02) and len(plans) == 2
    with pytest.raises(InterruptedError):
        run("stopped", OnPlans, end)
    run("stopped", OnPlans)
    assert (tmp_path / "stopped/last.safetensors").read_bytes() == (tmp_path / "plans/last.safetensors").read_bytes()
