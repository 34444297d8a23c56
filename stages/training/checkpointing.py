"""The checkpoints in a training's folder: which are kept, and which one the training goes on from.

last.safetensors         network, optimizer and state, written every few seconds: what a training resumes from
before-last.safetensors  the one that it replaced, for the case that it is damaged; gone at the end
last-NNN.safetensors     the same as it was after epoch NNN, for the last `keep_last` epochs
best.safetensors         the network of the epoch with the best validation accuracy
epoch-NNN.safetensors    snapshots of the network
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
BEFORE = "before-last.safetensors"  # what `LAST` replaced, while the training goes on
BEST = "best.safetensors"


class Checkpoints:
    """Keeps the checkpoints of one training; to be used in `with`, at whose end all is on the disk.

    A thread writes them while the training goes on. In a process that does not write (`writes`), nothing is kept.
    """

    def __init__(self, folder: Path, training: Training, seconds: float, writes: bool) -> None:
        """seconds: between two writings of `LAST` within an epoch."""
        self.folder, self.training, self.seconds, self.writes = folder, training, seconds, writes
        self._writer, self._saved = Writer(), time.monotonic()

    def __enter__(self) -> "Checkpoints":
        self._writer.__enter__()
        self._saved = time.monotonic()
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._writer.__exit__(error, *rest)
        if self.writes and not error:
            (self.folder / BEFORE).unlink(missing_ok=True)  # how far it was when the training ended is chance

    def require_space(self, learner: Learner) -> None:
        """Raise DataError where the disk is too small for the files of all epochs, and for two more while one is replaced."""
        if not self.writes:
            return
        t = self.training
        network = sum(tensor.nbytes for tensor in learner.network.state_dict().values())
        checkpoint = network * (2 + (t.optimizer != "rmsprop") + bool(t.ema))  # with one or two moments of each weight
        snapshots = t.epochs // t.snapshot_epochs if t.snapshot_epochs else 0
        needed = (3 + t.keep_last) * checkpoint + (1 + snapshots) * network
        there = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        require_space(self.folder, needed - there, "This training")

    def is_due(self) -> bool:
        """Return whether `LAST` is old enough to be replaced."""
        return self.writes and time.monotonic() - self._saved > self.seconds

    def save(self, learner: Learner, state: State, name: str = LAST) -> None:
        """Write a checkpoint. Raises NotFinite where a weight is NaN or infinite: the last good checkpoint then stays."""
        tensors, description = learner.tensors(), learner.description(state)
        if not all_finite(tensors):
            raise NotFinite
        self._writer.save(self.folder / name, tensors, description, self.folder / BEFORE if name == LAST else None)
        self._saved = time.monotonic()

    def save_epoch(self, learner: Learner, state: State, is_best: bool, save_network: Callable[[Path], None]) -> None:
        """Write what an epoch that has just ended leaves, and remove what is no longer kept."""
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
        """Return the path and the iteration of `LAST`, if there is one, after a writing that is in progress."""
        self._writer.wait()
        path = self.folder / LAST
        return (path, load_tensors(path)[1]["state"]["iteration"]) if path.exists() else None


class NotFinite(Exception):
    """A weight became NaN or infinite."""


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Return whether every floating-point tensor is free of NaN and infinity. The tensors may be on several devices.

    An optimizer keeps its step counter on the CPU while its moments are on the GPU. There is one transfer per device.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            sums.setdefault(tensor.device, []).append(tensor.sum())
    return all(bool(torch.stack(parts).isfinite().all()) for parts in sums.values())


class Checkpoint(NamedTuple):
    """What a training goes on from."""

    path: Path
    branches: bool  # another training's
    tensors: dict[str, Tensor]
    description: dict[str, Any]


def find_checkpoint(folder: Path, branch: str) -> Checkpoint | None:
    """Return the checkpoint that the training in a folder starts from, if any; branch: path of another training's, or "".

    A damaged one, which a power cut may leave, is passed over, which is said. Raises DataError where none can be read: what
    was trained is then never begun again unasked.
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
            sentence = f"{path.with_name(LAST)} is damaged; going on from the checkpoint before it, of iteration {iteration}."
            print(sentence, file=sys.stderr)
        return Checkpoint(path, False, tensors, description)
    if failures:
        raise DataError(_nothing_left(folder, failures))
    path = follow(Path(branch).expanduser())
    return Checkpoint(path, True, *load_tensors(path)) if branch else None


def _nothing_left(folder: Path, damaged: list[Path]) -> str:
    """What to say where every checkpoint is damaged."""
    whole = [path.name for path in sorted(folder.glob("*.safetensors")) if path not in damaged and _is_whole(path)]
    epochs = [name for name in whole if name.startswith("last-")]
    remains = f"What remains there: {', '.join(whole)}. " if whole else ""
    if epochs:
        how = f"To go on from an epoch, give {folder / epochs[-1]} as branch_from to an experiment of another name"
    else:
        how = "To train from the beginning, move that folder away and run again"
    named = " and ".join(path.name for path in damaged)
    are = "is" if len(damaged) == 1 else "are"
    return f"{named} in {folder} {are} damaged, and no other checkpoint of this training can be gone on from. {remains}{how}."


def _is_whole(path: Path) -> bool:
    try:
        load_tensors(path)
    except DataError:
        return False
    return True
