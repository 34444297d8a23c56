"""Write the logs by which a person follows a training: logs/metrics.csv, and TensorBoard events in the same folder.

The files contain times, so they differ between equal trainings. Therefore they are in the folder logs/: the content digest of
a result ignores this folder. The columns of metrics.csv are COLUMNS and the objective's further metrics. The column `what`
states what a row contains: the mean over the last EVERY iterations (train), the mean over all iterations of an epoch (epoch),
or the result of a validation (valid).
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
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from datasets.files import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "logs/metrics.csv"
COLUMNS = ("time", "what", "epoch", "iteration", "iterations", "loss", "acc", "LR", "samples_per_second", "waiting")
EVERY = 50  # number of iterations from one row of metrics.csv to the next


class Logs:
    """A context manager that writes the logs of a training to `folder`; without a folder, it writes nothing.

    iteration, epochs: how many iterations and epochs the training had finished at its last checkpoint; iterations: how many
    iterations it has in all. Rows of later iterations and epochs are deleted from metrics.csv: a process that was
    killed wrote them after the last checkpoint. parts: names of the objective's metrics besides loss and acc, one column each.
    The column `waiting` is the share of the time in which the loop waited for samples.
    """

    def __init__(
        self, folder: Path | None, batch: int, iteration: int, iterations: int, epochs: int, parts: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.batch, self.parts = folder, batch, parts
        self.done, self.iterations, self.epochs = iteration, iterations, epochs
        self.columns = (*COLUMNS, *parts)
        self.events: SummaryWriter | None = None
        self.hook = threading.excepthook
        self.last_pace = 0.0, 0.0
        self.metrics: list[dict[str, float]] = []  # metrics of each iteration since the last row of metrics.csv
        self.seconds = self.waited = 0.0
        self.mark = time.monotonic()

    def __enter__(self) -> "Logs":
        self.hook, threading.excepthook = threading.excepthook, self._errors_of_threads
        if self.folder:
            self._open(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.events:
                self.events.close()
        finally:
            threading.excepthook = self.hook

    def _open(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        (folder / METRICS).parent.mkdir(exist_ok=True)
        kept = [
            row for row in read_metrics(folder)
            if int(row["iteration"]) <= self.done and (row["what"] == "train" or int(row["epoch"]) <= self.epochs)
        ]  # fmt: skip
        text = io.StringIO()
        names = dict(zip(self.columns, self.columns, strict=True))
        csv.DictWriter(text, self.columns, extrasaction="ignore").writerows([names, *kept])
        write_atomically(folder / METRICS, text.getvalue().encode())
        self.events = SummaryWriter(str((folder / METRICS).parent), purge_step=self.done + 1, flush_secs=20)

    def begin_epoch(self) -> None:
        """Start measuring time, so that the validation before the epoch does not count."""
        self.mark = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the time of the `with` block, in which the loop waits for samples."""
        begun = time.monotonic()
        yield
        self.waited += time.monotonic() - begun

    def iteration(self, epoch: int, iteration: int, metrics: dict[str, float], rate: float) -> None:
        """Log an iteration. metrics: its loss, accuracy and others, NaN if no joint counted; rate: its learning rate."""
        now = time.monotonic()
        self.seconds, self.mark = self.seconds + now - self.mark, now
        self.metrics.append(metrics)
        if iteration % EVERY == 0:
            names = ("loss", "acc", *self.parts)
            known = {name: [f[name] for f in self.metrics if not math.isnan(f[name])] for name in names}
            self._write("train", epoch, iteration, {name: fmean(values or [0.0]) for name, values in known.items()}, rate)
            self.metrics = []
            self.seconds = self.waited = 0.0
            self.mark = time.monotonic()

    def pace(self) -> tuple[float, float]:
        """Return samples per second, and the share of time spent waiting for samples, since the last row of metrics.csv.

        If no iteration was logged since that row, return the values of that row.
        """
        if self.metrics:
            seconds = max(self.seconds, 1e-9)
            self.last_pace = len(self.metrics) * self.batch / seconds, self.waited / seconds
        return self.last_pace

    def epoch(self, epoch: int, iteration: int, train: list[float], valid: list[float], picture: np.ndarray) -> None:
        """Log an epoch. train, valid: the epoch's rows of train.log and valid.log.

        picture: an image (H, W, 3) uint8 RGB for TensorBoard.
        """
        for what, (_, loss, acc, rate, *parts) in (("epoch", train), ("valid", valid)):
            metrics = {"loss": loss, "acc": acc} | dict(zip(self.parts, parts, strict=True))
            self._write(what, epoch, iteration, metrics, rate)
        if self.events:
            self.events.add_image("valid/predictions", picture, iteration, dataformats="HWC")
            self.events.flush()

    def _write(self, what: str, epoch: int, iteration: int, metrics: dict[str, float], rate: float) -> None:
        if not self.folder or not self.events:
            return
        speed, waiting = self.pace()
        row = [f"{time.time():.1f}", what, epoch, iteration, self.iterations, f"{metrics['loss']:.8f}", f"{metrics['acc']:.6f}"]
        row += [f"{rate:g}", *([f"{speed:.2f}", f"{waiting:.4f}"] if what == "train" else ["", ""])]
        row += ["" if math.isnan(metrics[name]) else f"{metrics[name]:.8f}" for name in self.parts]
        with open(self.folder / METRICS, "a", newline="") as file:
            csv.writer(file).writerow(row)
        shown = dict(metrics)
        if what == "train":
            shown |= {"LR": rate, "samples_per_second": speed, "waiting": waiting}
        for name, value in shown.items():
            if not math.isnan(value):
                self.events.add_scalar(f"{what}/{name}", value, iteration)

    def _errors_of_threads(self, error: threading.ExceptHookArgs) -> None:
        """Ignore OSError (a full disk) in TensorBoard's thread: the next call raises the same error in the main thread."""
        if not isinstance(error.exc_value, OSError):
            self.hook(error)


def write_log(path: Path, rows: list[list[float]], parts: tuple[str, ...] = ()) -> None:
    """Write train.log or valid.log: the published columns epoch, loss, acc and LR, and one column for each name in `parts`."""
    lines = ["\t".join(("epoch", "loss", "acc", "LR", *parts))]
    for epoch, loss, acc, rate, *others in rows:
        lines.append("\t".join([f"{int(epoch)}", f"{loss:.8f}", f"{acc:.6f}", f"{rate:g}", *(f"{x:.8f}" for x in others)]))
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a training's metrics.csv without damaged or unfinished rows; no rows if the file does not exist."""
    try:
        with open(folder / METRICS, newline="", errors="replace") as file:
            return [row for row in csv.DictReader(file) if _is_row(row)]
    except (OSError, csv.Error):
        return []


def _is_row(row: dict[str, str]) -> bool:
    try:
        for name in ("time", "acc", *(("samples_per_second",) if row["what"] == "train" else ())):
            float(row[name])  # raises ValueError for text
        return (
            set(row) >= set(COLUMNS)
            and None not in row.values()
            and row["waiting"] is not None
            and min(int(row["iteration"]), int(row["epoch"])) >= 0
            and int(row["iterations"]) > 0
        )
    except (KeyError, TypeError, ValueError):
        return False


def how_far(folder: Path) -> str:
    """Return the progress of a training as text, from last.safetensors or else metrics.csv; "" if neither file exists."""
    iteration, total = 0, ""
    try:
        if rows := read_metrics(folder):
            iteration, total = int(rows[-1]["iteration"]), rows[-1]["iterations"]
        with safe_open(folder / "last.safetensors", framework="numpy") as file:
            iteration = json.loads((file.metadata() or {})["description"])["state"]["iteration"]
    except (OSError, ValueError, LookupError, TypeError, SafetensorError):
        pass
    return f"iteration {iteration}" + (f" of {total}" if total else "") if iteration else ""
