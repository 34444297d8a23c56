"""A training in two processes equals a training in one process, restarts if a process is killed, and reports errors clearly."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.network.checkpoints import load_tensors
from stages.settings.sections import Input, Network, Workspace
from stages.settings.trainings import Training
from stages.training import distributed
from stages.training.heatmaps import HeatmapObjective, new_network
from stages.training.train import Job, Trainer, train

SETTINGS = Training(
    epochs=2, iterations=3, batch=5, learning_rate=1e-4, ema=0.5, seed=5, snapshot_epochs=0, target_sigma=1, target_radius=2
)
ALONE = Workspace(device="cpu", workers=1, checkpoint_seconds=1e-9)
TWO = ALONE.model_copy(update={"processes": 2})


def job(folder, data, workspace, settings=SETTINGS):
    """Return a job in float64, because RMSprop turns rounding errors into full steps where the true gradient is 0."""
    folder.mkdir(exist_ok=True)
    network = new_network(Network(stem="2 4 4", features=8, depth=2), len(data.skeleton.joints), settings.seed)
    objective = HeatmapObjective(network.double(), data, Input(resolution=32), settings)
    return Job(folder, objective, settings, workspace)


def train_and_die(job, told):
    """Train; on the first start, kill the second process at iteration 4."""

    def report(done, *_):
        if done == 4 and distributed.group().rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

    return Trainer(job).run(told if distributed.group().rank == 0 else report)


def test_two_processes_give_what_one_gives_though_one_is_killed(tiny_penn, tmp_path):
    """Two processes share batches of 5 people, and a validation split of 2 people."""
    alone = train(job(tmp_path / "alone", tiny_penn, ALONE))
    seen = []
    given = job(tmp_path / "two", tiny_penn, TWO)
    two = distributed.launch(train_and_die, given, "two", TWO, lambda done, *_: seen.append(done))
    assert seen[-1] == 6 and 4 in seen and 1 not in seen[seen.index(4) :]  # the training was continued from a checkpoint
    assert two == pytest.approx(alone, rel=1e-5)
    one, other = (load_tensors(tmp_path / name / "last.safetensors")[0] for name in ("alone", "two"))
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
    for name in ("train.log", "valid.log"):
        rows = [[float(v) for v in (tmp_path / f / name).read_text().split()[4:]] for f in ("alone", "two")]
        assert rows[0] == pytest.approx(rows[1], rel=1e-5, abs=1e-6)
    assert (tmp_path / "two" / "logs" / "metrics.csv").exists()


def test_all_processes_stop_at_one_iteration_when_the_first_is_asked(tiny_penn, tmp_path):
    def ask(done, *_):
        if done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    given = job(tmp_path / "asked", tiny_penn, TWO.model_copy(update={"checkpoint_seconds": 1e9}), SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train(replace(given, training=SETTINGS.model_copy(update={"iterations": 100})), ask)
    assert 1 <= load_tensors(tmp_path / "asked/last.safetensors")[1]["state"]["iteration"] < 100


def train_and_save_slowly(job, told):
    def save(*given, **arrays):
        time.sleep(2)
        saved(*given, **arrays)

    saved, np.savez = np.savez, save
    return Trainer(job).run(told)


def test_the_batch_of_an_exploding_loss_is_saved_before_the_processes_end(tiny_penn, tmp_path):
    given = job(tmp_path / "wild", tiny_penn, TWO, SETTINGS.model_copy(update={"learning_rate": 10.0}))
    with pytest.raises(DataError, match=r"loss became .* at iteration 2 .*last\.safetensors, of iteration 1"):
        distributed.launch(train_and_save_slowly, given, "wild", TWO)
    assert np.load(tmp_path / "wild/logs/bad-batch-2.npz")["input"].shape == (5, 3, 32, 32)


def test_a_broken_image_in_one_process_is_reported(tiny_penn, tmp_path, capfd):
    data = replace(tiny_penn, images=tmp_path)
    with pytest.raises(DataError, match=r"train\d\.jpg"):
        train(job(tmp_path / "broken", data, TWO))
    assert "Traceback" not in capfd.readouterr().err


def test_more_processes_than_a_batch_has_images(tiny_penn, tmp_path):
    with pytest.raises(DataError, match="6 processes cannot share a batch of 5"):
        train(job(tmp_path, tiny_penn, ALONE.model_copy(update={"processes": 6})))


def test_more_processes_than_gpus(tiny_penn, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DataError, match="processes = 2, but torch finds only 1 GPU"):
        train(job(tmp_path, tiny_penn, TWO.model_copy(update={"device": "auto"})))
