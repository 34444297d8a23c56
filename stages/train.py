"""The one training loop: pre-training and fine-tuning alike.

RMSprop on the mean squared error of the heatmaps. A training is a pure function of its settings, its data and the
initial weights; killed at any moment, it continues from its last checkpoint as if nothing had happened.
The folder holds
    last.safetensors   network, optimizer and state, written every few seconds: what a training resumes from
    best.safetensors   the network of the epoch with the best validation accuracy
    epoch-NNN.safetensors  snapshots
    train.log, valid.log   epoch, loss, acc, LR: one line an epoch
"""

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from datasets.errors import DataError
from datasets.progress import Report, silent
from datasets.skeletons import Skeleton, matching_joints
from stages import checkpoints
from stages.files import write_atomically
from stages.hourglass import HourglassNet, replace_head
from stages.loader import Data, Samples, batches, channel_mean
from stages.metrics import TrainingAccuracy, training_accuracy
from stages.predict import pick_device, predict, uses_bfloat16
from stages.settings import Finetuning, Input, Network, Training, Workspace

VALIDATION_BATCH = 16


@dataclass
class State:
    """How far a training has come. Saved with each checkpoint."""

    iteration: int = 0  # finished iterations since the start
    loss: float = 0.0  # sums over the finished iterations of the current epoch
    accuracy: float = 0.0
    scored: int = 0  # of them, those in which a joint counted
    best: float = -1.0  # best validation accuracy so far
    train: list[list[float]] = field(default_factory=list)  # a row per finished epoch: epoch, loss, acc, LR
    valid: list[list[float]] = field(default_factory=list)


def new_network(options: Network, joints: int, seed: int) -> HourglassNet:
    """A network with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    return HourglassNet(options, joints)


def network_for(model: Path, skeleton: Skeleton, settings: Finetuning) -> HourglassNet:
    """The network of the file `model` with its output layer replaced by one for `skeleton`.

    With head = matching, joints that both know by name keep their output channel; the others, or with head = random all,
    start afresh.
    """
    torch.manual_seed(settings.seed)
    network, description = checkpoints.load_network(model)
    sources = matching_joints(description.joints, skeleton.joints)
    return replace_head(network, sources if settings.head == "matching" else [None] * len(sources))


def weighted_loss(maps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heatmaps (N, J, h, w), in which joint j of sample n counts weights[n, j]; 0 if none does."""
    errors = (maps - target).square().mean(dim=(2, 3))
    return (errors * weights).sum() / weights.sum().clamp(min=1e-6)


class Trainer:
    """A training in a folder. `run` trains to the end, from wherever the folder's checkpoint stands."""

    def __init__(self, folder: Path, network: HourglassNet, data: Data, size: Input, training: Training,
                 workspace: Workspace) -> None:  # fmt: skip
        self.folder, self.data, self.size, self.training, self.workspace = folder, data, size, training, workspace
        self.device = pick_device(workspace.device)
        self.bfloat16 = uses_bfloat16(training.precision, self.device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.RMSprop(self.network.parameters(), lr=training.learning_rate)
        self.state = State()
        if (folder / "last.safetensors").exists():
            self._resume()
        elif training.subtract_mean:
            self.network.mean.copy_(torch.from_numpy(channel_mean(data, training.seed)))

    def run(self, report: Report = silent) -> dict[str, float]:
        """Train all epochs; returns the best epoch's figures. `report(iteration, iterations, text)`."""
        t = self.training
        self.valid_samples = Samples(self.data, "valid", self.size, t)
        stream = batches(
            Samples(self.data, "train", self.size, t, t.seed, t.batch), t.batch, self.workspace.workers,
            first=self.state.iteration, count=t.epochs * t.iterations,
        )  # fmt: skip
        while len(self.state.train) < t.epochs:
            self._train_epoch(stream, report)
            self._finish_epoch(report)
        best = max(self.state.valid, key=lambda row: row[2])
        return {"best_epoch": best[0], "valid_accuracy": best[2], "valid_loss": best[1]}

    def _train_epoch(self, stream, report) -> None:
        t, state = self.training, self.state
        end = (len(state.train) + 1) * t.iterations
        saved = time.monotonic()
        self.network.train()
        while state.iteration < end:
            batch = next(stream)
            loss, heatmaps = self._step(batch)
            state.loss += self._finite(loss)
            accuracy = training_accuracy(heatmaps.numpy(), batch["heatmaps"].numpy(), self.data.skeleton.scoring)
            if not math.isnan(accuracy):
                state.accuracy += accuracy
                state.scored += 1
            state.iteration += 1
            done = state.iteration - end + t.iterations
            report(
                state.iteration, t.epochs * t.iterations,
                f"epoch {len(state.train) + 1} loss {state.loss / done:.2e} acc {self._accuracy():.1%}",
            )  # fmt: skip
            if time.monotonic() - saved > self.workspace.checkpoint_seconds:
                self._save()
                saved = time.monotonic()

    def _step(self, batch: dict) -> tuple[float, Tensor]:
        """One iteration: loss, and the last stack's heatmaps (N, J, h, w) on the CPU."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.state.iteration)
        images = batch["input"].to(self.device, memory_format=torch.channels_last, non_blocking=True)
        target = batch["heatmaps"].to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            stacks = self.network(images)
        weights = batch["weights"].to(self.device, non_blocking=True)
        loss = torch.stack([weighted_loss(maps.float(), target, weights) for maps in stacks]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item(), stacks[-1].detach().float().cpu()

    def _learning_rate(self, iteration: int) -> float:
        """The rate of an iteration, counted from 0 over the whole training."""
        t = self.training
        if t.schedule == "constant":
            return t.learning_rate
        return t.learning_rate * 0.5 * (1 + math.cos(math.pi * iteration / (t.epochs * t.iterations)))

    def _accuracy(self) -> float:
        """Training accuracy of the epoch so far."""
        return self.state.accuracy / max(self.state.scored, 1)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise DataError(
                f"The loss became {loss} at iteration {self.state.iteration + 1}. The last checkpoint in {self.folder} is "
                "from before. Lower learning_rate, or use precision = float32, and run again."
            )
        return loss

    def _finish_epoch(self, report) -> None:
        """Validate, log, keep the best, save."""
        t, state = self.training, self.state
        epoch = len(state.train) + 1
        rate = self._learning_rate(state.iteration - 1)
        loss, accuracy = self._validate(report)
        state.train.append([epoch, state.loss / t.iterations, self._accuracy(), rate])
        state.valid.append([epoch, loss, accuracy, rate])
        state.loss, state.accuracy, state.scored = 0.0, 0.0, 0
        self._log("train.log", state.train)
        self._log("valid.log", state.valid)
        if epoch == 1 or accuracy > state.best:
            state.best = accuracy
            self._save_network("best.safetensors")
        if t.snapshot_epochs and epoch % t.snapshot_epochs == 0:
            self._save_network(f"epoch-{epoch:03d}.safetensors")
        self._save()

    def _validate(self, report) -> tuple[float, float]:
        """Loss and accuracy over the whole validation split, each sample counting the same."""
        samples = self.valid_samples
        mirrored = self.data.skeleton.mirrored()
        stream = batches(samples, VALIDATION_BATCH, self.workspace.workers)
        loss, accuracy, seen = 0.0, TrainingAccuracy(self.data.skeleton.scoring), 0
        for batch, maps in predict(self.network, stream, mirrored, self.device, flip=True, bfloat16=self.bfloat16):
            loss += (maps - batch["heatmaps"]).square().mean(dim=(1, 2, 3)).sum().item()
            accuracy.update_each(maps.numpy(), batch["heatmaps"].numpy())
            seen += len(maps)
            report(self.state.iteration, self.training.epochs * self.training.iterations, f"validating {seen}/{len(samples)}")
        if math.isnan(accuracy.result()):
            raise DataError(f"{self.data.annotations}/valid.h5 shows none of the joints that score; validation needs some.")
        return loss / seen, accuracy.result()

    def _log(self, name: str, rows: list[list[float]]) -> None:
        lines = ["epoch\tloss\tacc\tLR"] + [f"{int(e)}\t{loss:.8f}\t{acc:.6f}\t{rate:g}" for e, loss, acc, rate in rows]
        write_atomically(self.folder / name, ("\n".join(lines) + "\n").encode())

    def _save_network(self, name: str) -> None:
        metrics = {"epoch": self.state.valid[-1][0], "valid_accuracy": self.state.valid[-1][2]}
        checkpoints.save_network(self.folder / name, self.network, self.data.skeleton.joints, self.size.resolution, metrics)

    def _save(self) -> None:
        """The checkpoint that a killed training resumes from."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
        checkpoints.save_tensors(self.folder / "last.safetensors", tensors, {"state": asdict(self.state)})

    def _resume(self) -> None:
        tensors, description = checkpoints.load_tensors(self.folder / "last.safetensors")
        self.state = State(**description["state"])
        self.network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        saved = self.optimizer.state_dict()
        parameters = list(self.network.parameters())
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, i, kind = name.split(".")
                if value.dim():  # in the parameter's memory layout: another would round differently
                    value = torch.empty_like(parameters[int(i)]).copy_(value)
                saved["state"].setdefault(int(i), {})[kind] = value
        self.optimizer.load_state_dict(saved)
