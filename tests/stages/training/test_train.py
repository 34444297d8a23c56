"""Training: it reduces the loss, repeats bit for bit, and resumes after a kill at any moment."""

import errno
import math
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import torch

from datasets.errors import DataError
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from datasets.progress import silent
from stages.loading.loader import PoseDataset, batches
from stages.network.checkpoints import load_network, load_tensors, save_network, save_tensors
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Input, Network, Workspace
from stages.settings.trainings import Finetuning, Training
from stages.training.checkpointing import all_finite
from stages.training.heatmaps import HeatmapObjective, network_for, new_network, squared_error
from stages.training.learner import State
from stages.training.train import Job, Trainer, run
from tests.other_device import to_other_device

SIZE = Input(resolution=32)
BLOB = {"target_sigma": 1.0, "target_radius": 2}
LENGTH = {"epochs": 2, "iterations": 5, "batch": 4, "seed": 5, "snapshot_epochs": 2, "keep_last": 1, **BLOB}
# Resuming with these settings needs all of a checkpoint: two moments per weight, weight EMA, iteration (for the schedule).
SETTINGS = Training(
    optimizer="adamw",
    learning_rate=1e-3,
    warmup=3,
    schedule="cosine",
    weight_decay=0.1,
    ema=0.9,
    gradient_accumulation=2,
    **LENGTH,
)
FILES = ["best.safetensors", "epoch-002.safetensors", "last-002.safetensors", "last.safetensors", "train.log", "valid.log"]


def job(folder, data, settings=SETTINGS, seconds=1e9, stacks=1, **workspace):
    folder.mkdir(exist_ok=True)
    network = new_network(Network(stacks=stacks, stem="2 4 4", features=8, depth=2), len(data.skeleton.joints), settings.seed)
    place = Workspace(device="cpu", workers=1, checkpoint_seconds=seconds, **workspace)
    return Job(folder, HeatmapObjective(network, data, SIZE, settings), settings, place)


def trainer(*arguments, **options):
    return Trainer(job(*arguments, **options))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("spoilt", [None, "network", "step"])
def test_a_checkpoint_may_hold_tensors_of_two_devices(spoilt):
    """On CUDA, the optimizer keeps its step counter on the CPU, and the moments on the GPU."""
    tensors = {
        "network": to_other_device(torch.ones(2, 3)),
        "moment": to_other_device(torch.zeros(3)),
        "step": torch.tensor(7.0),
    }
    with pytest.raises(RuntimeError, match="same device"):  # the simulated device refuses the operations that CUDA refuses
        torch.stack([tensor.sum() for tensor in tensors.values()])
    if spoilt:
        tensors[spoilt] = tensors[spoilt] * torch.nan if spoilt == "step" else tensors[spoilt].mul(math.nan)
    assert all_finite(tensors) is (spoilt is None)


@pytest.fixture(scope="module")
def finished(tiny_penn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trainer(folder, tiny_penn).run()
    return folder


def test_the_required_disk_space_is_that_of_the_training(tiny_penn, finished, tmp_path, monkeypatch):
    """The space is that of all files of a finished training, and of two more checkpoints: the previous and the next one."""
    asked = []
    monkeypatch.setattr("stages.training.checkpointing.require_space", lambda folder, needed, what: asked.append(needed))
    trainer(tmp_path / "begun", tiny_penn, SETTINGS.model_copy(update={"stop_after": 1})).run()
    files = [*finished.glob("*.safetensors"), *[finished / "last.safetensors"] * 2]
    assert asked[0] == pytest.approx(sum(t.nbytes for path in files for t in load_tensors(path)[0].values()), rel=0.1)
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"This training needs .* where 1 kB are free"):
        trainer(tmp_path / "refused", tiny_penn).run()


def test_two_trainings_are_equal_to_the_bit(tiny_penn, finished, tmp_path):
    trainer(tmp_path / "again", tiny_penn).run()
    assert contents(tmp_path / "again") == contents(finished)
    assert list(contents(finished)) == FILES


def log(path):
    """Return the rows of train.log or valid.log as numbers."""
    return [[float(value) for value in line.split("\t")] for line in path.read_text().splitlines()[1:]]


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
        trainer(folder, tiny_penn, seconds=1e-9).run(kill)  # write a checkpoint after every iteration
    trainer(folder, tiny_penn).run()
    assert contents(folder) == contents(finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_asks_for_a_checkpoint_and_the_end(tiny_penn, finished, tmp_path, number):
    """No checkpoint is due before the end of the epoch, so the checkpoint of iteration 3 is written because of the signal."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "asked", tiny_penn).run(lambda done, *_: os.kill(os.getpid(), number) if done == 3 else None)
    assert signal.getsignal(number) == before
    assert load_tensors(tmp_path / "asked/last.safetensors")[1]["state"]["iteration"] == 3
    trainer(tmp_path / "asked", tiny_penn).run()
    there = contents(tmp_path / "asked")
    assert {name: there[name] for name in FILES} == {name: contents(finished)[name] for name in FILES}


def test_a_reader_that_ends_by_the_same_signal_is_no_error(tiny_penn, tmp_path):
    def end_all(done, *_):
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    with pytest.raises(KeyboardInterrupt):
        run(job(tmp_path / "asked", tiny_penn), end_all)


def test_the_published_recipe_resumes_as_well(tiny_penn, tmp_path):
    def kill(done, *_):
        if done == 7:
            raise Killed

    published = Training(**LENGTH)
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", tiny_penn, published, seconds=1e-9).run(kill)
    trainer(tmp_path / "killed", tiny_penn, published).run()
    trainer(tmp_path / "whole", tiny_penn, published).run()
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_resumed_training_does_not_start_again(tiny_penn, tmp_path):
    def kill(done, *_):
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        trainer(tmp_path, tiny_penn, seconds=1e-9).run(kill)
    resumed = trainer(tmp_path, tiny_penn)
    assert resumed.state.iteration == 3  # the checkpoint of iteration 4 was not written before the kill
    done = []
    resumed.run(lambda now, *_: done.append(now))
    assert done[0] == 4


def test_float16_scales_its_gradients_and_resumes(tiny_penn, tmp_path, monkeypatch):
    """The test runs float16 on the CPU. The gradient scale is too large at first, so the first steps are skipped."""
    monkeypatch.setattr("stages.training.train.compute_type", lambda *_: torch.float16)
    settings = SETTINGS.model_copy(update={"epochs": 1, "ema": 0.0})

    def kill(done, *_):
        if done == 4:
            raise Killed

    whole = trainer(tmp_path / "whole", tiny_penn, settings)
    whole.learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = whole.network.stem.conv.weight.clone()
    whole.step(next(whole.objective.batches(0, 1)))
    assert torch.equal(whole.network.stem.conv.weight, before) and whole.learner.scaler.get_scale() == 2.0**39
    trainer(tmp_path / "one", tiny_penn, settings).run()
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", tiny_penn, settings, seconds=1e-9).run(kill)
    trainer(tmp_path / "killed", tiny_penn, settings).run()
    assert contents(tmp_path / "killed") == contents(tmp_path / "one")
    # PyTorch's initial gradient scale of 65536 is too large here, so the training must have reduced it.
    assert load_tensors(tmp_path / "one" / "last.safetensors")[1]["scaler"]["scale"] < 65536
    assert not torch.equal(trainer(tmp_path / "one", tiny_penn, settings).network.stem.conv.weight, before)


def test_figures_that_are_read_seldom_are_the_same(tiny_penn, finished, tmp_path, monkeypatch):
    """As on a GPU, the sums of losses are read only sometimes: here at every fourth iteration and at the end of an epoch."""
    monkeypatch.setattr("stages.training.train.READ_EVERY", {})
    monkeypatch.setattr("stages.training.train.READ_SELDOM", 4)
    told = []
    trainer(tmp_path, tiny_penn, seconds=1e-9).run(lambda done, _, text: text.startswith("epoch") and told.append(done))
    assert told == [4, 5, 8, 10]
    assert contents(tmp_path) == contents(finished)


def test_compile_and_deterministic_reach_torch(tiny_penn, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(HourglassNet, "compile", lambda self, dynamic: compiled.append(self))
    for chosen, word in ((False, "no"), (True, "yes")):
        settings = Training(**LENGTH | {"epochs": 1, "iterations": 1})
        made = job(tmp_path / str(chosen), tiny_penn, settings, compile=word, deterministic=chosen)
        run(made, silent)
        assert torch.backends.cudnn.deterministic is chosen and torch.backends.cudnn.benchmark is not chosen
        assert compiled == [made.objective.network] * chosen


def test_it_learns(tiny_penn, tmp_path):
    settings = Training(
        epochs=6,
        iterations=10,
        batch=6,
        learning_rate=3e-3,
        rotation_std=0,
        scale_std=0,
        colour_jitter=0,
        flip_probability=0,
        **BLOB,
    )
    trainer(tmp_path, tiny_penn, settings).run()
    losses = [row[1] for row in log(tmp_path / "train.log")]
    assert losses[-1] < 0.4 * losses[0]


def test_logs_have_the_published_columns(finished):
    lines = (finished / "valid.log").read_text().splitlines()
    assert lines[0].split("\t") == ["epoch", "loss", "acc", "LR"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2"]
    rates = [row[3] for row in log(finished / "valid.log")]
    # The learning rate falls as a cosine from 1e-3 at iteration 0 to 0 at iteration 10; the epochs end with iterations 4 and 9.
    assert rates == pytest.approx([0.5e-3 * (1 + math.cos(math.pi * i / 10)) for i in (4, 9)], rel=1e-4)


@pytest.mark.parametrize(("accuracies", "best"), [([0.25, 0.75, 0.5], 2), ([0.75, 0.25, 0.5], 1)])
def test_the_best_epoch_is_kept(tiny_penn, tmp_path, monkeypatch, accuracies, best):
    settings = Training(epochs=3, iterations=1, batch=2)
    left = iter(accuracies)
    monkeypatch.setattr(HeatmapObjective, "validation_metrics", lambda *_: {"loss": 0.1, "acc": next(left)})
    assert trainer(tmp_path, tiny_penn, settings).run()["best_epoch"] == best
    network, description = load_network(tmp_path / "best.safetensors")
    assert description.metrics == {"epoch": best, "valid_accuracy": accuracies[best - 1]}
    last, _ = load_tensors(tmp_path / "last.safetensors")
    # The file best.safetensors does not contain the network of the last epoch.
    assert not torch.equal(network.stem.conv.weight, last["network.stem.conv.weight"])


def test_a_resumed_optimizer_has_the_memory_layout_of_its_parameters(tiny_penn, finished, tmp_path):
    resumed = trainer(shutil.copytree(finished, tmp_path / "copy"), tiny_penn)
    for parameter in resumed.network.parameters():
        assert resumed.learner.optimizer.state[parameter]["exp_avg_sq"].stride() == parameter.stride()


def test_best_is_the_epoch_with_the_best_validation_accuracy(finished):
    rows = [line.split("\t") for line in (finished / "valid.log").read_text().splitlines()[1:]]
    best = max(rows, key=lambda row: float(row[2]))
    _, description = load_network(finished / "best.safetensors")
    assert description.metrics["epoch"] == int(best[0])
    assert description.metrics["valid_accuracy"] == pytest.approx(float(best[2]), abs=1e-6)
    assert description.joints == PENN_ACTION.skeleton.joints and description.resolution == 32


def test_a_batch_in_parts_is_one_batch(tiny_penn, tmp_path):
    """With BatchNorm in evaluation mode, 3 micro-batches give the loss, accuracy and gradient of the whole batch of 5."""
    metrics, gradients = [], []
    for accumulate in (1, 3):
        t = trainer(tmp_path / str(accumulate), tiny_penn, Training(batch=5, gradient_accumulation=accumulate, **BLOB))
        t.network.eval()
        batch = next(batches(PoseDataset(tiny_penn, "train", SIZE, t.training, 5, 5), 5, 1, end=1))
        batch["weights"] = torch.linspace(0, 1, 5 * 13).view(5, 13)
        del batch["image_to_crop"]
        metrics.append(t.step(batch))
        gradients.append(torch.cat([p.grad.flatten() for p in t.network.parameters()]))
    torch.testing.assert_close(metrics[0], metrics[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)
    assert gradients[0].abs().max() > 1e-3


def test_weights_of_joints_weigh_their_errors():
    maps = torch.zeros(2, 2, 2, 2)
    target = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 2, 1, 1).expand(2, 2, 2, 2)
    assert squared_error(maps, {"heatmaps": target, "weights": torch.ones(2, 2)}).tolist() == [(1 + 4) / 2, (9 + 16) / 2]
    weights = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    assert squared_error(maps, {"heatmaps": target, "weights": weights}).tolist() == [1 / 2, (4.5 + 16) / 2]


def test_the_loss_of_two_stacks_is_logged_as_that_of_the_last(tiny_penn, tmp_path):
    t = trainer(tmp_path, tiny_penn, Training(batch=4, **BLOB), stacks=2)
    t.network.eval()
    batch = next(batches(PoseDataset(tiny_penn, "train", SIZE, t.training, 5, 4), 4, 1, end=1))
    first, last = ((maps - batch["heatmaps"]).square().mean().item() for maps in t.network(batch["input"]))
    del batch["image_to_crop"]
    total, logged, *_ = t.step(batch).tolist()
    assert (total, logged) == pytest.approx((first + last, last), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "accuracies", "epochs"),
    [
        ({"early_stop": 0.1}, [0.2, 0.4, 0.45, 0.9], 3),
        ({"early_stop": 0.0}, [0.2, 0.1, 0.0, 0.0], 4),
        ({"stop_after": 3}, [0.1] * 4, 2),  # the training ends in the middle of the second epoch
    ],
)
def test_a_training_can_end_early(tiny_penn, tmp_path, monkeypatch, settings, accuracies, epochs):
    t = trainer(tmp_path, tiny_penn, Training(epochs=4, iterations=2, batch=2, **settings, **BLOB))
    monkeypatch.setattr(State, "mean", lambda self, name, missing=0: accuracies[len(self.train)])
    t.run()
    assert len(log(tmp_path / "train.log")) == len(log(tmp_path / "valid.log")) == epochs
    assert t.state.iteration == settings.get("stop_after", 2 * epochs)
    assert trainer(tmp_path, tiny_penn, t.training).run() == t.run()  # the finished training has nothing left to do


def test_killed_in_the_validation_after_the_last_iteration(tiny_penn, tmp_path):
    def kill(*progress):
        if progress[2].startswith("validating"):
            raise Killed

    settings = Training(epochs=4, iterations=4, batch=2, stop_after=3, **BLOB)
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", tiny_penn, settings, seconds=1e-9).run(kill)
    for name in ("killed", "whole"):
        trainer(tmp_path / name, tiny_penn, settings).run()
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_nan_loss_stops_the_training(tiny_penn, tmp_path):
    t = trainer(tmp_path, tiny_penn)
    with torch.no_grad():
        t.network.heads[0].output.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="loss became nan at iteration 1 .*There is no checkpoint yet"):
        t.run()
    assert not (tmp_path / "best.safetensors").exists()


def test_a_validation_split_without_labels_is_refused_before_a_day_of_training(tiny_penn, tmp_path):
    annotations = shutil.copytree(tiny_penn.annotations, tmp_path / "annot")
    with h5py.File(annotations / "valid.h5", "r+") as file:
        file["part"][...] = 0  # (0, 0) means that a joint has no label
    with pytest.raises(DataError, match=r"valid\.h5 has no label of a joint that counts in the accuracy"):
        trainer(tmp_path / "t", replace(tiny_penn, annotations=annotations)).run()
    assert not (tmp_path / "t/last.safetensors").exists()


def test_the_batch_of_an_exploding_loss_and_the_last_good_checkpoint_are_named(tiny_penn, tmp_path):
    t = trainer(tmp_path, tiny_penn, seconds=1e-9)

    def poison(done, *_):
        if done == 3:
            with torch.no_grad():
                t.network.heads[0].output.bias.fill_(1e4)

    with pytest.raises(DataError, match=r"1e\+08 at iteration 4 .*last\.safetensors, of iteration 3: .*branch_from") as caught:
        t.run(poison)
    path = tmp_path / "logs" / "bad-batch-4.npz"
    assert str(path) in str(caught.value)
    saved = np.load(path)
    batch = list(batches(PoseDataset(tiny_penn, "train", SIZE, SETTINGS, 5, 4), 4, 1, first=0, end=4))[3]
    assert (saved["input"] == batch["input"].numpy()).all() and (saved["row"] == batch["row"].numpy()).all()
    assert saved["images"].tolist() == [f"train{row}.jpg" for row in saved["row"]]


def test_infinite_weights_are_not_saved_as_a_good_checkpoint(tiny_penn, tmp_path, monkeypatch):
    """Infinite weights are not saved even if the previous checkpoint is still being written when they are found."""

    def save_slowly(*arguments):
        time.sleep(0.3)
        save_tensors(*arguments)

    monkeypatch.setattr("stages.network.checkpoints.save_tensors", save_slowly)
    t = trainer(tmp_path, tiny_penn, seconds=1e-9)

    def poison(done, *_):
        if done == 3:
            with torch.no_grad():
                t.network.heads[0].output.bias.fill_(float("inf"))

    with pytest.raises(DataError, match=r"A weight is NaN or infinite at iteration 3 .*of iteration 2"):
        t.run(poison)
    assert load_tensors(tmp_path / "last.safetensors")[1]["state"]["iteration"] == 2


def test_a_full_disk_is_reported_as_an_error_in_every_process(tiny_penn, tmp_path, monkeypatch):
    def full(path, data, before=None):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("stages.network.checkpoints.write_atomically", full)
    with pytest.raises(DataError, match="The disk is full"):  # so in every process, because each calls `run`
        run(job(tmp_path, tiny_penn), lambda *_: None)


def test_a_killed_reader_of_images_is_reported_as_an_error(tiny_penn, tmp_path):
    """The training loop may notice the killed process at any point, and must always report the same clear error."""

    def kill(done, *_):
        if done == 2:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    settings = SETTINGS.model_copy(update={"iterations": 1000, "epochs": 1})
    with pytest.raises(DataError, match=r"reads images was killed .*set fewer \[workspace\] workers"):
        run(job(tmp_path, tiny_penn, settings), kill)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_the_error_for_a_batch_that_does_not_fit_names_the_settings(tiny_penn, tmp_path, monkeypatch, error):
    def out_of_memory(_):
        raise error

    t = trainer(tmp_path, tiny_penn)
    monkeypatch.setattr(t.network, "forward", out_of_memory)
    with pytest.raises(DataError, match=r"4 samples does not fit.*gradient_accumulation = 2"):
        t.run()


def test_a_damaged_checkpoint_is_named(tiny_penn, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    (folder / "last.safetensors").write_bytes((folder / "last.safetensors").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last\.safetensors"):
        trainer(folder, tiny_penn)


@pytest.mark.parametrize("head", ["matching", "random"])
def test_head_for_penn_action(tmp_path, head):
    network = HourglassNet(Network(stem="2 4 4", features=8, depth=2), 16)
    save_network(tmp_path / "m.safetensors", network, MPII.skeleton.joints, 32, {})
    fine = network_for(tmp_path / "m.safetensors", PENN_ACTION.skeleton, Finetuning(head=head))
    # Indices of Penn Action's joints among MPII's, by hand: head top, then right and left shoulder, elbow, wrist, hip, knee,
    # ankle.
    source = [9, 12, 13, 11, 14, 10, 15, 2, 3, 1, 4, 0, 5]
    same = [torch.equal(fine.heads[0].output.weight[i], network.heads[0].output.weight[s]) for i, s in enumerate(source)]
    assert all(same) if head == "matching" else not any(same)
    assert torch.equal(fine.stem.conv.weight, network.stem.conv.weight)


def test_a_network_that_halves_its_input_too_often_is_refused(tiny_penn, tmp_path):
    network = HourglassNet(Network(stem="2 4 4", features=8, depth=4), 13)
    with pytest.raises(DataError, match=r"resolution = 32 .*depth = 4 cannot halve 4 times"):
        HeatmapObjective(network, tiny_penn, SIZE, SETTINGS)


def test_cancelled_biases_stay_as_they_were_drawn(tiny_penn, tmp_path):
    settings = SETTINGS.model_copy(update={"train_redundant_biases": False})
    t = trainer(tmp_path, tiny_penn, settings)
    before = {name: p.detach().clone() for name, p in t.network.named_parameters()}
    t.run()
    same = {name for name, p in t.network.named_parameters() if torch.equal(p, before[name])}
    convolutions = {name for name, module in t.network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert same == {f"{name}.bias" for name in convolutions} - {"heads.0.output.bias"}


def test_checkpoints_hold_the_optimizer(finished):
    tensors, description = load_tensors(finished / "last.safetensors")
    assert description["state"]["iteration"] == 10
    assert any(name.startswith("optimizer.") for name in tensors)
    with pytest.raises(DataError, match=r"last\.safetensors is the state of a training; give its best\.safetensors"):
        load_network(finished / "last.safetensors")


def test_the_network_remembers_the_mean_of_its_training_images(tiny_penn, tmp_path):
    settings = SETTINGS.model_copy(update={"subtract_mean": True, "epochs": 1, "iterations": 1})
    trainer(tmp_path, tiny_penn, settings).run()
    images = [cv2.imread(str(tiny_penn.images / f"train{i}.jpg"))[:, :, ::-1] for i in range(6)]
    expected = np.mean(images, axis=(0, 1, 2)) / 255
    for network in (load_network(tmp_path / "best.safetensors")[0], trainer(tmp_path, tiny_penn, settings).network):
        np.testing.assert_allclose(network.mean, expected, atol=1e-4)
