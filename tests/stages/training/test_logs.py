"""metrics.csv: means over the last iterations, speed and waiting time, and the rows that are kept when a training resumes."""

import errno
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io import gfile

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error
from stages.training import logs
from stages.training.logs import METRICS, Logs, read_metrics


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now.seconds, time=lambda: 1e9 + now.seconds))
    return now


def iterate(log, clock, first, last):
    """Log iterations of 0.5 s, of which 0.1 s is waiting. The loss is the iteration's number; acc is NaN for even numbers."""
    log.begin_epoch()
    for i in range(first, last + 1):
        with log.waiting():
            clock.seconds += 0.1
        clock.seconds += 0.4
        log.iteration(1, i, {"loss": float(i), "acc": 0.5 if i % 2 else math.nan}, 1e-3)


def metrics(folder):
    """Return (what, iteration, loss, acc, samples_per_second, waiting) of every row of metrics.csv."""
    names = ("iteration", "loss", "acc", "samples_per_second", "waiting")
    return [(row["what"], *(float(row[name] or "nan") for name in names)) for row in read_metrics(folder)]


def test_rows_are_means_and_a_resumed_training_drops_rows_that_it_repeats(tmp_path, clock):
    def events():
        return EventAccumulator(str(tmp_path / "logs")).Reload()

    with Logs(tmp_path, 4, 0, 200, 9) as log:
        iterate(log, clock, 1, 70)
        clock.seconds += 1000  # the time of a validation does not count as training time
        log.epoch(1, 70, [1, 35.5, 0.5, 1e-3], [1, 0.25, 0.75, 1e-3], np.zeros((8, 8, 3), np.uint8))
        iterate(log, clock, 71, 100)
    # The losses are means over iterations 1 to 50 and 51 to 100; the speed is 4 images per half second.
    first, second = ("train", 50, 25.5, 0.5, 8, 0.2), ("train", 100, 75.5, 0.5, 8, 0.2)
    rows = metrics(tmp_path)
    assert [rows[0], rows[3]] == [first, second]
    assert [row[:4] for row in rows[1:3]] == [("epoch", 70, 35.5, 0.5), ("valid", 70, 0.25, 0.75)]
    assert [e.step for e in events().Images("valid/predictions")] == [70]
    with Logs(tmp_path, 4, 60, 200, 9):
        assert metrics(tmp_path) == [first]
    assert [(e.step, e.value) for e in events().Scalars("train/loss")] == [(50, 25.5)]


def test_a_row_that_is_being_written_is_left_out(tmp_path, clock):
    with Logs(tmp_path, 4, 0, 200, 9) as log:
        iterate(log, clock, 1, 100)
    whole = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(whole[:-20])
    assert [row["iteration"] for row in read_metrics(tmp_path)] == ["50"]
    with Logs(tmp_path, 4, 100, 200, 9):
        assert len(read_metrics(tmp_path)) == 1
    assert read_metrics(tmp_path / "nowhere") == []


def test_an_epoch_whose_checkpoint_was_not_written_is_not_logged_twice(tmp_path, clock):
    """The process is killed after it wrote the rows of an epoch; the last checkpoint was saved before the validation."""
    for _ in range(2):
        with Logs(tmp_path, 4, 100, 200, 0) as log:
            log.epoch(1, 100, [1, 35.5, 0.5, 1e-3], [1, 0.25, 0.75, 1e-3], np.zeros((8, 8, 3), np.uint8))
    assert [row[:2] for row in metrics(tmp_path)] == [("epoch", 100), ("valid", 100)]


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\x80",
        b"\0\0\0\0",
        b"1,train,x,y,z,1,1,1,1,1",
        b"1,train,1,60,0,1,1,1,1,1",
        b"1,train,1,60,200,1,x,1,1,1",
        b"\n\n,,,,\n",
    ],
)
def test_rows_that_are_damaged_are_left_out(tmp_path, clock, damage):
    with Logs(tmp_path, 4, 0, 200, 9) as log:
        iterate(log, clock, 1, 100)
    path = tmp_path / METRICS
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + damage + b"\r\n" + second)
    with Logs(tmp_path, 4, 100, 200, 9):
        assert [row["iteration"] for row in read_metrics(tmp_path)] == ["50", "100"]


def test_a_full_disk_under_tensorboard_is_reported_as_an_error(tmp_path, monkeypatch, capfd):
    """TensorBoard's thread writes the file, so the error occurs in this thread first."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = threading.excepthook
    with (
        pytest.raises(DataError, match="The disk is full"),
        disk_trouble_as_data_error(tmp_path),
        Logs(tmp_path, 4, 0, 9, 0) as log,
    ):
        monkeypatch.setattr(gfile.LocalFileSystem, "_write", full)
        for epoch in range(100):
            log.epoch(epoch, epoch, [1, 35.5, 0.5, 1e-3], [1, 0.25, 0.75, 1e-3], np.zeros((8, 8, 3), np.uint8))
            time.sleep(0.01)
    assert "Traceback" not in capfd.readouterr().err and threading.excepthook is before
