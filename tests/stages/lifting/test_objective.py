"""The objective of the converter and of the lifter: its loss, and trainings that are interrupted or run in two processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.mocap.clips import Clips
from stages.lifting.bodies import JOINTS
from stages.lifting.checkpoints import load
from stages.lifting.network import ConverterNet, LifterNet
from stages.lifting.objective import LiftingObjective, targets
from stages.settings.lifting import Converter, ConverterTraining
from stages.settings.sections import Workspace
from stages.training import distributed
from stages.training.objective import Resources
from stages.training.train import Job, Trainer, train
from tests.stages.lifting.made import standing
from tests.stages.training.test_distributed import train_and_die
from tests.stages.training.test_train import Killed, contents, log

SETTINGS = ConverterTraining(
    epochs=2, iterations=3, batch=8, optimizer="adamw", learning_rate=1e-3, ema=0.5, seed=5, snapshot_epochs=0,
    target_sigma=1.0, target_radius=2, targets="subpixel", flip_probability=0.5,
)  # fmt: skip
MODERN = Converter(preset="res-64-modern", features=8)
ALONE = Workspace(device="cpu", workers=1, checkpoint_seconds=1e-9)
SIDE = 16
CPU = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))


def clips(count: int, seed: int) -> Clips:
    return Clips(JOINTS, standing(count, seed), np.array([0, count]), ("a/1",), np.ones(1, np.float32))


def objective(kind: str = "converter", options: Converter = MODERN, settings: ConverterTraining = SETTINGS) -> LiftingObjective:
    torch.manual_seed(settings.seed)
    network = ConverterNet(13, SIDE, options) if kind == "converter" else LifterNet(13, SIDE, 16)
    return LiftingObjective(network, {"train": clips(20, 0), "valid": clips(7, 1)}, options, settings)


def job(folder: Path, kind: str = "converter", settings: ConverterTraining = SETTINGS, workspace: Workspace = ALONE) -> Job:
    folder.mkdir(exist_ok=True)
    return Job(folder, objective(kind, settings=settings), settings, workspace)


def test_the_published_loss_adds_squared_mm_and_px() -> None:
    one = objective(options=Converter(features=8))
    (batch,) = one.batches(0, 1)
    outputs = targets(batch)
    shifted = outputs.clone()
    shifted[:, :39] += torch.tensor([3.0, 0, 4]).repeat(13)  # each joint is 5 mm off: mean squared error 25 / 3
    shifted[:, 41] += 30  # the person's depth is 30 mm off: mean squared error of the position 900 / 3
    shifted[:, 42] -= 2
    loss, sums = one.loss(shifted, batch, 0.5)
    assert loss.item() == pytest.approx(0.5 * (25 / 3 + 300 + 4), rel=1e-3)
    assert sums[1:].tolist() == pytest.approx([2.5, 25 / 6, 150, 2], rel=1e-3)
    metrics = one.metrics(2 * sums)
    assert metrics["error_mm"] == pytest.approx(5, rel=1e-3) and metrics["acc"] == pytest.approx(1 - 0.005, rel=1e-3)


def test_normalised_losses_count_standard_deviations() -> None:
    one = objective()
    (batch,) = one.batches(0, 1)
    outputs = targets(batch)
    unit = one.network.units.unit
    loss, sums = one.loss(outputs + 2 * unit, batch, 1.0)
    assert sums[2:].tolist() == pytest.approx([4, 4, 4], rel=1e-3) and loss.item() == pytest.approx(12, rel=1e-3)


def test_micro_batches_and_processes_add_up() -> None:
    one = objective()
    (batch,) = one.batches(0, 1)
    outputs = targets(batch) + torch.randn(8, 43)
    _, whole = one.loss(outputs, batch, 1.0)
    parts = [{name: values[i::2] for name, values in batch.items()} for i in range(2)]
    sums = sum(one.loss(outputs[i::2], part, 0.5)[1] for i, part in enumerate(parts))
    torch.testing.assert_close(sums, whole)
    one.begin(Resources(torch.device("cpu"), torch.float32, 1, (1, 2)), [])
    (half,) = one.batches(0, 1)
    assert torch.equal(half["points"], parts[1]["points"])


def test_validation_is_the_same_whenever_it_is_made() -> None:
    one = objective("lifter")
    one.begin(CPU, [])
    first, picture = one.validate(one.network, 0, lambda *_: None)
    list(one.batches(0, 2))
    second, _ = one.validate(one.network, 0, lambda *_: None)
    assert torch.equal(first, second) and first[0] == 7 and picture.dtype == np.uint8 and picture.shape[2] == 3
    shares = []
    for rank in (0, 1):
        one.begin(Resources(torch.device("cpu"), torch.float32, 1, (rank, 2)), [])
        shares.append(one.validate(one.network, 0, lambda *_: None)[0])
    torch.testing.assert_close(shares[0] + shares[1], first)


@pytest.mark.parametrize("kind", ["converter", "lifter"])
def test_it_resumes_bit_for_bit(tmp_path: Path, kind: str) -> None:
    whole = train(job(tmp_path / "whole", kind))
    for moment in (2, 4):  # in the middle of each of the two epochs

        def kill(done: int, *_: object, at: int = moment) -> None:
            if done == at:
                raise Killed

        with pytest.raises(Killed):
            Trainer(job(tmp_path / str(moment), kind)).run(kill)
        assert Trainer(job(tmp_path / str(moment), kind)).run() == whole
        assert contents(tmp_path / str(moment)) == contents(tmp_path / "whole")
    network, about = load(tmp_path / "whole/best.safetensors")
    assert about.joints == JOINTS and not network.training


def test_two_processes_give_what_one_gives_though_one_is_killed(tmp_path: Path) -> None:
    """The results are only nearly equal, because each process computes batch statistics from its own half of the batch."""
    train(job(tmp_path / "one"))
    two = ALONE.model_copy(update={"processes": 2})
    distributed.launch(train_and_die, job(tmp_path / "two", workspace=two), "two", two)
    for name in ("train.log", "valid.log"):
        one, other = (np.array(log(tmp_path / folder / name)) for folder in ("one", "two"))
        assert one.shape == other.shape == (2, 4 + 4)
        np.testing.assert_allclose(other[:, 1], one[:, 1], rtol=0.3, err_msg=name)  # loss
