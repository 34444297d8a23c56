"""Train a network with any objective: the training loop.

A training is a pure function of its settings, its data and the initial weights. A training that is killed at any moment
continues from its last checkpoint, and its result equals that of an uninterrupted training. After SIGTERM or SIGUSR1, a
training writes a checkpoint and stops. The folder of a training contains the checkpoints (`stages.training.checkpointing`) and
    train.log, valid.log   one line per epoch: epoch, loss, acc, LR and the objective's other metrics
    logs/                  times and speed, see `stages.training.logs`
"""

import math
import signal
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error
from datasets.progress import Report, silent
from stages.inference.predict import compute_type, pick_device, set_tf32
from stages.loading.loader import killed_reader_as_data_error
from stages.machine import memory
from stages.machine.cuda_graphs import Captured, is_compiled
from stages.machine.pool import processes
from stages.machine.stopping import SIGNALS, Stop
from stages.settings.sections import Workspace
from stages.settings.trainings import Training
from stages.training import distributed
from stages.training.checkpointing import Checkpoints, NotFinite, find_checkpoint
from stages.training.learner import Learner, State
from stages.training.logs import Logs, write_log
from stages.training.objective import Objective, Resources
from stages.training.optimizer import learning_rate, set_rate

READ_EVERY = {"cpu": 1}  # device type -> the loss is read once in this many iterations
READ_SELDOM = 25  # for other devices, where reading the loss waits for the device; must divide logs.EVERY
# Number of algorithms that cuDNN tries for a convolution; with cuDNN's own limit, the trials take a minute for a batch of 128.
MOST_TRIALS = 3


@dataclass(frozen=True)
class Job:
    """A training: its folder, its objective and its settings."""

    folder: Path
    objective: Objective
    training: Training
    workspace: Workspace


def train(job: Job, report: Report = silent) -> dict[str, float]:
    """Train to the end, in as many processes and machines as [workspace] sets; return the best epoch's metrics.

    Raises DataError if the batch or the number of GPUs is too small for the processes.
    """
    training, workspace = job.training, job.workspace
    together = workspace.processes * workspace.machines
    if together == 1:
        return run(job, report)
    if training.batch < together:
        raise DataError(f"{together} processes cannot share a batch of {training.batch}; set fewer, or a larger batch.")
    gpus = torch.cuda.device_count()
    if pick_device(workspace.device).type == "cuda" and workspace.processes > gpus:
        raise DataError(
            f"[workspace] processes = {workspace.processes}, but torch finds only {gpus} GPU(s) here; set at most {gpus}."
        )
    return distributed.launch(run, job, job.folder.name, workspace, report)


def run(job: Job, report: Report) -> dict[str, float]:
    """Train in this process, alone or as one of several; return the best epoch's metrics."""
    memory.keep_big_blocks()
    set_arithmetic(job.training, job.workspace)
    # Errors become DataErrors in this process, because other exceptions reach the parent process only as a traceback.
    with disk_trouble_as_data_error(job.folder), killed_reader_as_data_error():
        return Trainer(job).run(report)


def set_arithmetic(training: Training, workspace: Workspace) -> None:
    """Set how CUDA computes in the whole process, from the settings `precision` and `deterministic`."""
    set_tf32(training.precision)
    torch.backends.cudnn.deterministic = workspace.deterministic
    torch.backends.cudnn.benchmark = not workspace.deterministic
    torch.backends.cudnn.benchmark_limit = MOST_TRIALS


class Trainer:
    """A training in a folder, or one process's share of it.

    The training continues from the checkpoint in the folder. If the folder has no checkpoint, the training starts from the
    checkpoint of the training from which it branches off, or else from the objective's network.
    """

    def __init__(self, job: Job) -> None:
        self.folder, self.objective, self.training, self.workspace = job.folder, job.objective, job.training, job.workspace
        t, w = self.training, self.workspace
        self.device, self.group = pick_device(w.device), distributed.group()
        self.compute = compute_type(t.precision, self.device)
        self.learner = Learner(self.objective.network, t, self.device, self.compute)
        self.network = self.learner.network
        self.checkpoints = Checkpoints(self.folder, t, w.checkpoint_seconds, self.group.writes)
        self.state = State()
        self._resume()
        workers = max(1, processes(w.workers) // w.processes)
        resources = Resources(self.device, self.compute, workers, (self.group.rank, self.group.size))
        self.objective.begin(resources, list(dict.fromkeys([self.network, self.learner.evaluated])))
        # A branch may begin in the middle of an epoch of its parent, after more iterations of this epoch than an epoch of the
        # branch has.
        state = self.state
        beyond = max(state.iteration - state.epoch_start - t.iterations, 0)
        self.iterations = state.epoch_start + beyond + (t.epochs - len(state.train)) * t.iterations
        self.logs = Logs(
            self.folder if self.group.writes else None, t.batch, state.iteration, self.iterations, len(state.train),
            self.objective.parts,
        )  # fmt: skip
        self.phase: Hashable = None
        self.captured: Captured | None = None
        self.pending: list[Tensor] = []  # sums (S,) of the last iterations, not yet read from the device
        # If one of several processes fails, their launcher ends the others by SIGTERM; they must not write a checkpoint then.
        self.stop = Stop(SIGNALS if self.group.size == 1 else (signal.SIGUSR1,))
        self.model = distributed.parallel(self.network, self.device)
        if is_compiled(w.compile, t.epochs * t.iterations * t.batch, self.device, self.group.size):
            self.model.compile(dynamic=False)

    def run(self, report: Report = silent) -> dict[str, float]:
        """Train all epochs; return the best epoch's metrics.

        Calls `report(iteration, iterations, text)` from time to time. Raises KeyboardInterrupt after a checkpoint if the system
        asks this process to stop.
        """
        t, state = self.training, self.state
        self.checkpoints.require_space(self.learner)
        stream = self.objective.batches(state.iteration, self.iterations)
        with self.stop, self.checkpoints, self.logs, memory.shortage_as_data_error(t.batch):
            while not self._finished():
                self._train_epoch(stream, report)
                self._finish_epoch(report)
        return {"best_epoch": state.best[0], "valid_accuracy": state.best[2], "valid_loss": state.best[1]}

    def _finished(self) -> bool:
        t, state = self.training, self.state
        # If stop_after was reached in the middle of an epoch, the training is finished only after this epoch's validation.
        between = state.iteration == state.epoch_start
        stopped = t.stop_after and state.iteration >= t.stop_after and between
        level = t.early_stop and len(state.train) > 1 and state.train[-1][2] - state.train[-2][2] < t.early_stop
        return bool(stopped or level or len(state.train) >= t.epochs)

    def _train_epoch(self, stream: Iterator[dict[str, Tensor]], report: Report) -> None:
        t, state = self.training, self.state
        end = state.epoch_start + t.iterations
        if t.stop_after:
            end = min(end, t.stop_after)
        every = READ_EVERY.get(self.device.type, READ_SELDOM)
        self.begin_phase(self.objective.phase(state.epoch))
        self.network.train()
        self.logs.begin_epoch()
        while state.iteration < end:
            with self.logs.waiting():
                batch = next(stream)
            self.pending.append(self.step(batch))
            state.iteration += 1
            if state.iteration % every == 0 or state.iteration == end:
                self._read(report)
                stops = self._stops()
                if self.checkpoints.is_due() or (stops and self.group.writes):
                    self._save(lambda: self.checkpoints.save(self.learner, self.state))
                if stops:
                    raise KeyboardInterrupt

    def _stops(self) -> bool:
        """Return whether any process of the group has been asked to stop; the answer is the same in all processes."""
        return bool(self.group.sum(torch.tensor([float(self.stop.asked)])).item())

    def begin_phase(self, phase: Hashable) -> None:
        """Start a phase; if every iteration of the phase launches the same CUDA kernels, capture them as a CUDA graph.

        Trainings in several processes, or in float16 (which may skip the optimizer's step), are not captured, because their
        iterations may launch different kernels.
        """
        if phase == self.phase:
            return
        self.phase = phase
        if self.device.type == "cuda" and self.group.size == 1 and not self.learner.scaler.is_enabled():
            self.captured = Captured(self._iterate, self.device)

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        """Do one iteration; return the totals (S,) of the sums that `Objective.loss` returned, still on the device."""
        i, ema = self.state.iteration, self.learner.ema
        rates = [learning_rate(self.training, i, self.iterations), ema.share(i) if ema else 0.0]
        exact = torch.float64 if self.device.type == "cpu" else torch.float32
        inputs = batch | {"rates": torch.tensor(rates, dtype=exact)}
        if self.captured:
            return self.captured(inputs)
        return self._iterate({name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()})

    def _iterate(self, inputs: dict[str, Tensor]) -> Tensor:
        """Do one iteration; return the totals (S,) of the sums that `Objective.loss` returned.

        inputs: a batch on the device, and `rates` (2,): the learning rate, and the result of `Ema.share`.
        """
        learner, (rate, share) = self.learner, inputs["rates"]
        set_rate(learner.optimizer, rate)
        learner.optimizer.zero_grad(set_to_none=True)
        count = min(self.training.gradient_accumulation, self.training.batch // self.group.size)  # equal in all processes
        tensors = {name: tensor.tensor_split(count) for name, tensor in inputs.items() if name != "rates"}
        parts = [{name: tensors[name][i] for name in tensors} for i in range(count)]
        sums = [self._backward(part, part is parts[-1]) for part in parts]
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.ema:
            learner.ema.update(share)
        return torch.stack(sums).sum(dim=0)

    def _backward(self, part: dict[str, Tensor], last: bool) -> Tensor:
        """Backpropagate one micro-batch; gradients are all-reduced only on the last one.

        Returns the sums (S,) of `Objective.loss` for this micro-batch.
        """
        share = len(next(iter(part.values()))) / self.training.batch
        with distributed.gradients_stay_here(self.model, not last):
            with torch.autocast(self.device.type, self.compute, enabled=self.compute != torch.float32):
                outputs = self.objective.forward(self.model, part, self.phase)
            loss, sums = self.objective.loss(outputs, part, share)
            # Multiply by the number of processes: DDP averages gradients over the processes, but the sum is needed.
            self.learner.scaler.scale(loss * self.group.size).backward()
        return sums

    def _read(self, report: Report) -> None:
        """Read the sums of the iterations since the last reading, and add them to the state and the logs.

        Raises DataError if a loss is NaN or not below the objective's limit.
        """
        state = self.state
        rows = self.group.sum(torch.stack(self.pending))
        first = state.iteration - len(self.pending)
        self.pending.clear()
        for iteration, sums in enumerate(rows, first):
            total = sums[0].item()
            if not total < self.objective.loss_limit:  # this condition also holds for NaN
                error = self._gone_wrong(iteration, f"The loss became {total:.3g}")
                self.group.from_first(lambda: None)  # wait, so that no process ends before the first one has saved the batch
                raise error
            metrics = self.objective.metrics(sums)
            state.add(metrics)
            self.logs.iteration(state.epoch, iteration + 1, metrics, learning_rate(self.training, iteration, self.iterations))
        speed, waiting = self.logs.pace()
        text = f"epoch {state.epoch} loss {state.mean('loss'):.2e} acc {state.mean('acc'):.1%}"
        report(state.iteration, self.iterations, f"{text} {speed:.1f} samples/s, waits {waiting:.0%}")

    def _finish_epoch(self, report: Report) -> None:
        """Validate, write the logs, keep the best network and save a checkpoint."""
        state = self.state

        def show(samples: int, count: int) -> None:
            report(state.iteration, self.iterations, f"validating {samples}/{count}")

        sums, picture = self.objective.validate(self.learner.evaluated, self.phase, show)
        found = self.objective.validation_metrics(self.group.sum(sums))
        rate = learning_rate(self.training, state.iteration - 1, self.iterations)
        epoch = state.epoch
        trained = [state.mean("loss"), state.mean("acc"), rate, *(state.mean(name, math.nan) for name in self.objective.parts)]
        state.train.append([epoch, *trained])
        state.valid.append([epoch, found["loss"], found["acc"], rate, *(found[name] for name in self.objective.parts)])
        state.sums, state.counts, state.epoch_start = {}, {}, state.iteration
        is_best = not state.best or state.valid[-1][2] > state.best[2]
        if is_best:
            state.best = state.valid[-1]
        if self.group.writes:
            self._keep(is_best, picture)

    def _keep(self, is_best: bool, picture: np.ndarray) -> None:
        """Write the logs and the checkpoints of an epoch."""
        state = self.state
        for name, rows in (("train", state.train), ("valid", state.valid)):
            write_log(self.folder / f"{name}.log", rows, self.objective.parts)
        self.logs.epoch(int(state.train[-1][0]), state.iteration, state.train[-1], state.valid[-1], picture)
        metrics = {"epoch": state.valid[-1][0], "valid_accuracy": state.valid[-1][2]}
        save_network = partial(self.objective.save, network=self.learner.evaluated, metrics=metrics)
        self._save(lambda: self.checkpoints.save_epoch(self.learner, state, is_best, save_network))

    def _save(self, save: Callable[[], None]) -> None:
        """Call `save`. Raises DataError if a weight is NaN or infinite; the last good checkpoint is then not replaced."""
        try:
            save()
        except NotFinite:
            raise self._gone_wrong(self.state.iteration - 1, "A weight is NaN or infinite") from None

    def _gone_wrong(self, iteration: int, what: str) -> DataError:
        """Save the batch of an iteration, counted from 0, for inspection; return an error that says how to continue."""
        path = self.folder / f"logs/bad-batch-{iteration + 1}.npz"
        if self.group.writes:
            np.savez(path, **self.objective.arrays(iteration))  # type: ignore[arg-type]
        remedy = "a lower learning_rate, a longer warmup or precision = float32"
        how = f"There is no checkpoint yet: try {remedy}."
        if good := self.checkpoints.last_good():
            how = (
                f"The last good checkpoint is {good[0]}, of iteration {good[1]}: to continue from it, give it as branch_from "
                f"to an experiment of another name, with {remedy}. If that training fails, too, the checkpoint was bad: "
                "start from the beginning, or from an earlier checkpoint that keep_last kept."
            )
        return DataError(f"{what} at iteration {iteration + 1} (epoch {self.state.epoch}). Its batch is in {path}. {how}")

    def _resume(self) -> None:
        """Load the checkpoint in the folder, or else the checkpoint of the training to branch off from, if any."""
        found = self.group.from_first(lambda: find_checkpoint(self.folder, self.training.branch_file))
        if not found:
            return
        try:
            self.state = self.learner.load(found.tensors, found.description)
        except RuntimeError:
            raise DataError(
                f"{found.path} is of another network; a branch needs the [network] settings and the joints of this checkpoint."
            ) from None
        except (LookupError, TypeError, ValueError):
            raise DataError(f"{found.path} is not a checkpoint of a training; give a last.safetensors.") from None
        if found.branches:
            self._check_branch(found.path)

    def _check_branch(self, path: Path) -> None:
        """Reset the best epoch: only epochs of the branch count. Raises DataError if the branch has nothing to train."""
        state = self.state
        state.best = []
        if self._finished() or 0 < self.training.stop_after <= state.iteration:
            raise DataError(
                f"{path} has {len(state.train)} finished epochs and {state.iteration} iterations; give the branch "
                f"more epochs, or another stop_after or early_stop."
            )
