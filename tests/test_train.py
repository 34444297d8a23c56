"""Training: it learns, it repeats bit for bit, and it survives being killed anywhere."""

import math
import shutil

import cv2
import numpy as np
import pytest
import torch

from datasets.errors import DataError
from datasets.skeletons import MPII, PENN_ACTION
from stages.checkpoints import load_network, load_tensors, save_network
from stages.hourglass import HourglassNet
from stages.settings import Finetuning, Input, Network, Training, Workspace
from stages.train import Trainer, network_for, new_network, weighted_loss

SIZE = Input(resolution=32)
BLOB = {"blob_sigma": 1.0, "blob_radius": 2}
SETTINGS = Training(epochs=2, iterations=5, batch=4, learning_rate=1e-3, seed=5, snapshot_epochs=2, schedule="cosine", **BLOB)
FILES = ["best.safetensors", "epoch-002.safetensors", "last.safetensors", "train.log", "valid.log"]


def trainer(folder, data, settings=SETTINGS, seconds=1e9):
    folder.mkdir(exist_ok=True)
    workspace = Workspace(device="cpu", workers=1, checkpoint_seconds=seconds)
    network = new_network(Network(stem="2 4 4", features=8, depth=2), len(data.skeleton.joints), settings.seed)
    return Trainer(folder, network, data, SIZE, settings, workspace)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(tiny_penn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trainer(folder, tiny_penn).run()
    return folder


def test_two_trainings_are_equal_to_the_bit(tiny_penn, finished, tmp_path):
    trainer(tmp_path / "again", tiny_penn).run()
    assert contents(tmp_path / "again") == contents(finished)
    assert list(contents(finished)) == FILES


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("phase", "moment"), [("training", n) for n in (1, 3, 5, 6, 10)] + [("validating", n) for n in (5, 10)]
)
def test_killed_and_resumed_is_as_if_never_killed(tiny_penn, finished, tmp_path, moment, phase):
    def kill(done, _total, text):
        if done == moment and text.startswith("validating") == (phase == "validating"):
            raise Killed

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        trainer(folder, tiny_penn, seconds=1e-9).run(kill)  # a checkpoint after every iteration
    trainer(folder, tiny_penn).run()
    assert contents(folder) == contents(finished)


def test_a_resumed_training_does_not_start_again(tiny_penn, tmp_path):
    def kill(done, *_):
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        trainer(tmp_path, tiny_penn, seconds=1e-9).run(kill)
    resumed = trainer(tmp_path, tiny_penn)
    assert resumed.state.iteration == 3  # the checkpoint of iteration 4 had not been written
    done = []
    resumed.run(lambda now, *_: done.append(now))
    assert done[0] == 4


def test_it_learns(tiny_penn, tmp_path):
    settings = Training(epochs=1, iterations=60, batch=6, learning_rate=3e-3, rotation=0, scale=0, colour=0, flip=0, **BLOB)
    losses = []
    t = trainer(tmp_path, tiny_penn, settings)
    step = t._step
    t._step = lambda batch: (lambda r: (losses.append(r[0]), r)[1])(step(batch))
    t.run()
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_logs_have_the_published_columns(finished):
    lines = (finished / "valid.log").read_text().splitlines()
    assert lines[0].split("\t") == ["epoch", "loss", "acc", "LR"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2"]
    rates = [float(line.split("\t")[3]) for line in lines[1:]]
    # A cosine from 1e-3 at iteration 0 to 0 at iteration 10; the last iterations of the epochs are 4 and 9.
    assert rates == pytest.approx([0.5e-3 * (1 + math.cos(math.pi * i / 10)) for i in (4, 9)], rel=1e-4)


@pytest.mark.parametrize(("accuracies", "best"), [([0.25, 0.75, 0.5], 2), ([0.75, 0.25, 0.5], 1)])
def test_the_best_epoch_is_kept(tiny_penn, tmp_path, monkeypatch, accuracies, best):
    settings = Training(epochs=3, iterations=1, batch=2)
    left = iter(accuracies)
    monkeypatch.setattr(Trainer, "_validate", lambda *_: (0.1, next(left)))
    assert trainer(tmp_path, tiny_penn, settings).run()["best_epoch"] == best
    network, description = load_network(tmp_path / "best.safetensors")
    assert description.metrics == {"epoch": best, "valid_accuracy": accuracies[best - 1]}
    last, _ = load_tensors(tmp_path / "last.safetensors")
    assert not torch.equal(network.stem.conv.weight, last["network.stem.conv.weight"])  # not the last epoch's


def test_a_resumed_optimizer_has_the_memory_layout_of_its_parameters(tiny_penn, finished, tmp_path):
    resumed = trainer(shutil.copytree(finished, tmp_path / "copy"), tiny_penn)
    for parameter in resumed.network.parameters():
        assert resumed.optimizer.state[parameter]["square_avg"].stride() == parameter.stride()


def test_best_is_the_epoch_with_the_best_validation_accuracy(finished):
    rows = [line.split("\t") for line in (finished / "valid.log").read_text().splitlines()[1:]]
    best = max(rows, key=lambda row: float(row[2]))
    _, description = load_network(finished / "best.safetensors")
    assert description.metrics["epoch"] == int(best[0])
    assert description.metrics["valid_accuracy"] == pytest.approx(float(best[2]), abs=1e-6)
    assert description.joints == PENN_ACTION.joints and description.resolution == 32


def test_a_loss_that_is_no_number_stops_in_a_sentence(tiny_penn, tmp_path):
    t = trainer(tmp_path, tiny_penn)
    with torch.no_grad():
        t.network.heads[0].output.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="loss became nan at iteration 1"):
        t.run()
    assert not (tmp_path / "best.safetensors").exists()


def test_a_damaged_checkpoint_is_named(tiny_penn, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    (folder / "last.safetensors").write_bytes((folder / "last.safetensors").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last\.safetensors"):
        trainer(folder, tiny_penn)


@pytest.mark.parametrize("head", ["matching", "random"])
def test_head_for_penn_action(tmp_path, head):
    network = HourglassNet(Network(stem="2 4 4", features=8, depth=2), 16)
    save_network(tmp_path / "m.safetensors", network, MPII.joints, 32, {})
    fine = network_for(tmp_path / "m.safetensors", PENN_ACTION, Finetuning(head=head))
    # Penn Action's joints among MPII's, by hand: head (top), then r/l shoulder, elbow, wrist, hip, knee, ankle.
    source = [9, 12, 13, 11, 14, 10, 15, 2, 3, 1, 4, 0, 5]
    same = [torch.equal(fine.heads[0].output.weight[i], network.heads[0].output.weight[s]) for i, s in enumerate(source)]
    assert all(same) if head == "matching" else not any(same)
    assert torch.equal(fine.stem.conv.weight, network.stem.conv.weight)


def test_checkpoints_hold_the_optimizer(finished):
    tensors, description = load_tensors(finished / "last.safetensors")
    assert description["state"]["iteration"] == 10
    assert any(name.startswith("optimizer.") for name in tensors)


def test_the_loss_averages_over_weighted_joints():
    maps, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    target[0, 1], target[1, 2] = 3, 5  # squared errors 9 and 25, all others 1
    assert weighted_loss(maps, target, torch.ones(2, 3)).item() == pytest.approx((4 + 9 + 25) / 6)
    weights = torch.tensor([[1, 0.5, 0], [0, 0, 0.5]])
    assert weighted_loss(maps, target, weights).item() == pytest.approx((1 + 4.5 + 12.5) / 2)
    assert weighted_loss(maps, target, torch.zeros(2, 3)).item() == 0


def test_the_network_remembers_the_mean_of_its_training_images(tiny_penn, tmp_path):
    settings = SETTINGS.model_copy(update={"subtract_mean": True, "epochs": 1, "iterations": 1})
    trainer(tmp_path, tiny_penn, settings).run()
    images = [cv2.imread(str(tiny_penn.images / f"train{i}.jpg"))[:, :, ::-1] for i in range(6)]
    expected = np.mean(images, axis=(0, 1, 2)) / 255
    for network in (load_network(tmp_path / "best.safetensors")[0], trainer(tmp_path, tiny_penn, settings).network):
        np.testing.assert_allclose(network.mean, expected, atol=1e-4)
