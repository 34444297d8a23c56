"""What a person follows a training by: logs/metrics.csv, and TensorBoard events beside it.

Both hold times, so they stand in the folder logs/, which does not count to a result's content. The columns of
metrics.csv are COLUMNS; a row is the mean over the last EVERY iterations (`what` = train), or an epoch's training mean
(epoch) or validation (valid).
"""

import csv
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import numpy as np
from safetensors import SafetensorError, safe_open

from datasets.files import write_atomically

METRICS = "logs/metrics.csv"
COLUMNS = ("time", "what", "epoch", "iteration", "iterations", "loss", "acc", "LR", "images_per_second", "waiting")
EVERY = 50  # iterations from one row to the next


class Logs:
    """The logs of a training in `folder` that has done `iteration` of `iterations`, and has finished `epochs` of its epochs.

    What they say of later ones is dropped: a process that was killed wrote it after its last checkpoint.

    Without a folder, nothing is written. `waiting` in the rows is the part of the time in which the loop waited for samples.
    """

    def __init__(self, folder: Path | None, batch: int, iteration: int, iterations: int, epochs: int) -> None:
        self.path, self.batch, self.iterations = folder and folder / METRICS, batch, iterations
        if folder and self.path:
            self._open(folder, self.path, iteration, epochs)
        self.last_pace = 0.0, 0.0
        self._begin_window()

    def _open(self, folder: Path, path: Path, iteration: int, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path.parent.mkdir(exist_ok=True)
        kept = [
            row for row in read_metrics(folder)
            if int(row["iteration"]) <= iteration and (row["what"] == "train" or int(row["epoch"]) <= epochs)
        ]  # fmt: skip
        text = io.StringIO()
        csv.DictWriter(text, COLUMNS).writerows([dict(zip(COLUMNS, COLUMNS, strict=True)), *kept])
        write_atomically(path, text.getvalue().encode())
        self.events = SummaryWriter(str(path.parent), purge_step=iteration + 1, flush_secs=20)

    def _begin_window(self) -> None:
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.seconds = self.waited = 0.0
        self.mark = time.monotonic()

    def begin_epoch(self) -> None:
        """From now on the time counts; validation before it does not."""
        self.mark = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measures the time that the loop waits for samples."""
        begun = time.monotonic()
        yield
        self.waited += time.monotonic() - begun

    def iteration(self, epoch: int, iteration: int, loss: float, accuracy: float, rate: float) -> None:
        """Take in an iteration; accuracy: NaN where no joint counted."""
        now = time.monotonic()
        self.seconds, self.mark = self.seconds + now - self.mark, now
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if iteration % EVERY == 0:
            known = [accuracy for accuracy in self.accuracies if not math.isnan(accuracy)]
            self._write("train", epoch, iteration, fmean(self.losses), fmean(known or [0.0]), rate)
            self._begin_window()

    def pace(self) -> tuple[float, float]:
        """Images a second, and the part of the time in which the loop waited, in the present window or the last."""
        if self.losses:
            seconds = max(self.seconds, 1e-9)
            self.last_pace = len(self.losses) * self.batch / seconds, self.waited / seconds
        return self.last_pace

    def epoch(self, epoch: int, iteration: int, train: list[float], valid: list[float], picture: np.ndarray) -> None:
        """Take in an epoch: rows of train.log and valid.log (epoch, loss, acc, LR), and a picture (H, W, 3) uint8 RGB."""
        if not self.path:
            return
        self._write("epoch", epoch, iteration, *train[1:])
        self._write("valid", epoch, iteration, *valid[1:])
        self.events.add_image("valid/predictions", picture, iteration, dataformats="HWC")
        self.events.flush()

    def _write(self, what: str, epoch: int, iteration: int, loss: float, accuracy: float, rate: float) -> None:
        if not self.path:
            return
        speed, waiting = self.pace()
        row = [f"{time.time():.1f}", what, epoch, iteration, self.iterations, f"{loss:.8f}", f"{accuracy:.6f}", f"{rate:g}"]
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow([*row, *([f"{speed:.2f}", f"{waiting:.4f}"] if what == "train" else ["", ""])])
        figures = {"loss": loss, "acc": accuracy}
        if what == "train":
            figures |= {"LR": rate, "images_per_second": speed, "waiting": waiting}
        for name, value in figures.items():
            self.events.add_scalar(f"{what}/{name}", value, iteration)

    def __enter__(self) -> "Logs":
        self.hook, threading.excepthook = threading.excepthook, self._errors_of_threads
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.path:
                self.events.close()
        finally:
            threading.excepthook = self.hook

    def _errors_of_threads(self, error: threading.ExceptHookArgs) -> None:
        """Say nothing of a full disk where TensorBoard's own thread meets it: the next call raises the same in this one."""
        if not isinstance(error.exc_value, OSError):
            self.hook(error)


def write_log(path: Path, rows: list[list[float]]) -> None:
    """A log in the published columns."""
    lines = ["epoch\tloss\tacc\tLR"] + [f"{int(e)}\t{loss:.8f}\t{acc:.6f}\t{rate:g}" for e, loss, acc, rate in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a training's metrics.csv; none where there is no such file. A damaged or unfinished row is left out."""
    try:
        with open(folder / METRICS, newline="", errors="replace") as file:
            return [row for row in csv.DictReader(file) if _is_row(row)]
    except (OSError, csv.Error):
        return []


def _is_row(row: dict[str, str]) -> bool:
    try:
        return set(row) == set(COLUMNS) and row["waiting"] is not None and min(int(row["iteration"]), int(row["epoch"])) >= 0
    except (TypeError, ValueError):
        return False


def how_far(folder: Path) -> str:
    """How far a training is, in words: by the checkpoint that it resumes from, or by metrics.csv; "" where neither says."""
    iteration, total = 0, ""
    try:
        if rows := read_metrics(folder):
            iteration, total = int(rows[-1]["iteration"]), rows[-1]["iterations"]
        with safe_open(folder / "last.safetensors", framework="numpy") as file:
            iteration = json.loads((file.metadata() or {})["description"])["state"]["iteration"]
    except (OSError, ValueError, LookupError, TypeError, SafetensorError):
        pass
    return f"iteration {iteration}" + (f" of {total}" if total else "") if iteration else ""
