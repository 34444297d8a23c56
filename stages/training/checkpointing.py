"""Write the checkpoints in a training's folder, and find the checkpoint from which a training continues.

last.safetensors         network, optimizer and state, written every few seconds; an interrupted training continues from it
before-last.safetensors  the previous last.safetensors, in case last.safetensors is damaged; deleted at the end of the training
last-NNN.safetensors     last.safetensors after epoch NNN, for the last `keep_last` epochs
best.safetensors         the network of the epoch with the best validation accuracy
epoch-NNN.safetensors    the network after epoch NNN, every `snapshot_epochs` epochs
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.errors import DataError
from datasets.files import require_space
from datasets.links import follow
from stages.network.checkpoints import Writer, load_tensors
from stages.settings.trainings import Training
from stages.training.learner import Learner, State

LAST = "last.safetensors"
BEFORE = "before-last.safetensors"  # name of the previous `LAST`, which is kept during the training
BEST = "best.safetensors"


class Checkpoints:
    """A context manager that writes the checkpoints of one training. At the end of the block all files are on the disk.

    A thread writes the files while the training continues. In a process with writes = False, `is_due` is always false.
    """

    def __init__(self, folder: Path, training: Training, seconds: float, writes: bool) -> None:
        """Store the arguments.

        seconds: time between two writes of `LAST` within an epoch; writes: whether this process writes the training's files.
        """
        self.folder, self.training, self.seconds, self.writes = folder, training, seconds, writes
        self._writer, self._saved = Writer(), time.monotonic()

    def __enter__(self) -> "Checkpoints":
        self._writer.__enter__()
        self._saved = time.monotonic()
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._writer.__exit__(error, *rest)
        if self.writes and not error:
            (self.folder / BEFORE).unlink(missing_ok=True)  # not part of the result: its content depends on timing

    def require_space(self, learner: Learner) -> None:
        """Raise DataError if the disk lacks space for the training's files.

        These are the files that remain at the end, `BEFORE`, and one checkpoint that is being written.
        """
        if not self.writes:
            return
        t = self.training
        network = sum(tensor.nbytes for tensor in learner.network.state_dict().values())
        # A checkpoint contains the weights, one or two optimizer moments of each weight, and the EMA, if there is one.
        checkpoint = network * (2 + (t.optimizer != "rmsprop") + bool(t.ema))
        snapshots = t.epochs // t.snapshot_epochs if t.snapshot_epochs else 0
        needed = (3 + t.keep_last) * checkpoint + (1 + snapshots) * network
        there = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        require_space(self.folder, needed - there, "This training")

    def is_due(self) -> bool:
        """Return whether `LAST` is old enough to be written again."""
        return self.writes and time.monotonic() - self._saved > self.seconds

    def save(self, learner: Learner, state: State, name: str = LAST) -> None:
        """Write a checkpoint. Raises NotFinite if a weight is NaN or infinite; the last good checkpoint then stays."""
        tensors, description = learner.tensors(), learner.description(state)
        if not all_finite(tensors):
            raise NotFinite
        self._writer.save(self.folder / name, tensors, description, self.folder / BEFORE if name == LAST else None)
        self._saved = time.monotonic()

    def save_epoch(self, learner: Learner, state: State, is_best: bool, save_network: Callable[[Path], None]) -> None:
        """Write the files of an epoch that has just ended, and delete the checkpoint that `keep_last` no longer keeps.

        is_best: whether the epoch is the best one so far; save_network: writes the evaluated network to a path.
        """
        t, epoch = self.training, len(state.train)
        if is_best:
            save_network(self.folder / BEST)
        if t.snapshot_epochs and epoch % t.snapshot_epochs == 0:
            save_network(self.folder / f"epoch-{epoch:03d}.safetensors")
        if t.keep_last:
            self.save(learner, state, f"last-{epoch:03d}.safetensors")
            (self.folder / f"last-{epoch - t.keep_last:03d}.safetensors").unlink(missing_ok=True)
        self.save(learner, state)

    def last_good(self) -> tuple[Path, int] | None:
        """Return the path and the iteration of `LAST`, or None without `LAST`, after waiting for a write in progress."""
        self._writer.wait()
        path = self.folder / LAST
        return (path, load_tensors(path)[1]["state"]["iteration"]) if path.exists() else None


class NotFinite(Exception):
    """A weight became NaN or infinite."""


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Return whether every floating-point tensor is free of NaN and infinity.

    The tensors may be on several devices: an optimizer may keep its step counter on the CPU and its moments on the GPU. Only
    one number is transferred from each device.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            sums.setdefault(tensor.device, []).append(tensor.sum())
    return all(bool(torch.stack(parts).isfinite().all()) for parts in sums.values())


class Checkpoint(NamedTuple):
    """A checkpoint from which a training continues."""

    path: Path
    branches: bool  # true if the checkpoint is of another training, from which this training branches off
    tensors: dict[str, Tensor]
    description: dict[str, Any]


def find_checkpoint(folder: Path, branch: str) -> Checkpoint | None:
    """Return the checkpoint from which the training in a folder continues, or None.

    branch: path of another training's checkpoint, used if the folder has no checkpoint, or "". A damaged checkpoint, as a
    power cut may leave, is skipped with a message on stderr. Raises DataError if all checkpoints in the folder are damaged, so
    that a training never starts from the beginning unnoticed.
    """
    there = [path for path in (folder / LAST, folder / BEFORE) if path.exists()]
    failures = list[Path]()
    for path in there:
        try:
            tensors, description = load_tensors(path)
            iteration = int(description["state"]["iteration"])
        except (DataError, LookupError, TypeError, ValueError):
            failures.append(path)
            continue
        if failures:
            sentence = f"{path.with_name(LAST)} is damaged; continuing from the previous checkpoint, of iteration {iteration}."
            print(sentence, file=sys.stderr)
        return Checkpoint(path, False, tensors, description)
    if failures:
        raise DataError(_nothing_left(folder, failures))
    path = follow(Path(branch).expanduser())
    return Checkpoint(path, True, *load_tensors(path)) if branch else None


def _nothing_left(folder: Path, damaged: list[Path]) -> str:
    """Return the error message for a folder in which `LAST` and `BEFORE` are damaged."""
    whole = [path.name for path in sorted(folder.glob("*.safetensors")) if path not in damaged and _is_whole(path)]
    epochs = [name for name in whole if name.startswith("last-")]
    remains = f"Undamaged files there: {', '.join(whole)}. " if whole else ""
    if epochs:
        how = f"To continue from an epoch, give {folder / epochs[-1]} as branch_from to an experiment of another name"
    else:
        how = "To train from the beginning, move that folder away and run again"
    named = " and ".join(path.name for path in damaged)
    are = "is" if len(damaged) == 1 else "are"
    return f"{named} in {folder} {are} damaged, and this training has no other checkpoint to continue from. {remains}{how}."


def _is_whole(path: Path) -> bool:
    try:
        load_tensors(path)
    except DataError:
        return False
    return True
