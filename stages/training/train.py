"""The one training loop: pre-training and fine-tuning alike.

The mean squared error of the heatmaps, summed over the stacks, moved by the optimizer of the recipe. A training is a pure
function of its settings, its data and the initial weights; killed at any moment, it continues from its last checkpoint as
if nothing had happened. The folder holds
    last.safetensors       network, optimizer and state, written every few seconds: what a training resumes from
    before-last.safetensors  the one that it replaced, for the case that it is damaged; gone at the end
    last-NNN.safetensors   the same as it was after epoch NNN, for the last `keep_last` epochs
    best.safetensors       the network of the epoch with the best validation accuracy
    epoch-NNN.safetensors  snapshots of the network
    train.log, valid.log   epoch, loss, acc, LR: one line an epoch; the loss is that of the last stack
    logs/                  what tells of times and speed, see stages.training.logs
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error, require_space
from datasets.imaging import draw
from datasets.imaging.heatmaps import decode_argmax
from datasets.progress import Report, silent
from datasets.skeletons import Skeleton, matching_joints
from stages.evaluation.metrics import mean_rate, training_hits
from stages.inference.predict import compute_type, pick_device, predict
from stages.loading import augment
from stages.loading.loader import PoseDataset, batches, channel_mean, killed_reader_as_data_error
from stages.machine import memory
from stages.machine.pool import processes
from stages.machine.recorded import Recorded, is_compiled
from stages.network import checkpoints
from stages.network.hourglass import HourglassNet, replace_head
from stages.settings.sections import Input, Network, Settings, Workspace
from stages.settings.trainings import Finetuning, Training
from stages.training import distributed
from stages.training.logs import Logs, write_log
from stages.training.optimizer import (
    Ema,
    cancelled_biases,
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_rate,
)
from stages.training.resuming import BEFORE, LAST, find_checkpoint

VALIDATION_BATCH = 16
READ_EVERY = {"cpu": 1}  # iterations; reading the loss from another device waits for it, so there it is done
READ_SELDOM = 25  # only so often; a divisor of logs.EVERY
MOST_TRIALS = 3  # of cuDNN's ways to compute a convolution; its own limit takes a minute to try them all at 128 images
EXPLODED = 1e4  # a mean squared error beyond this: outputs a hundred times the height of a target


@dataclass
class State:
    """How far a training has come. Saved with each checkpoint; its values are checked when it is built."""

    iteration: int = 0  # finished iterations since the start
    epoch_start: int = 0  # those before the current epoch
    loss: float = 0.0  # sums over the finished iterations of the current epoch
    accuracy: float = 0.0
    scored: int = 0  # of them, those in which a joint counted
    best: list[int | float] = field(default_factory=list)  # the row of `valid` with the best accuracy
    train: list[list[int | float]] = field(default_factory=list)  # a row per finished epoch: epoch, loss, acc, LR
    valid: list[list[int | float]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return len(self.train) + 1


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


def train(folder: Path, network: HourglassNet, data: DatasetFiles, size: Input, training: Training, workspace: Workspace,
          report: Report = silent) -> dict[str, float]:  # fmt: skip
    """Train in a folder to the end, in [workspace] processes and machines; see `Trainer`."""
    Settings(network=network.options, input=size)  # checks that the heatmap size is divisible by 2**depth
    arguments = folder, network, data, size, training, workspace
    together = workspace.processes * workspace.machines
    if together == 1:
        return _train(*arguments, report)
    if training.batch < together:
        raise DataError(f"{together} processes cannot share a batch of {training.batch}; set fewer, or a larger batch.")
    gpus = torch.cuda.device_count()
    if pick_device(workspace.device).type == "cuda" and workspace.processes > gpus:
        raise DataError(f"[workspace] processes = {workspace.processes}, but torch finds {gpus} GPU here; set at most as many.")
    return distributed.launch(_train, arguments, folder.name, workspace, report)


def _train(folder, network, data, size, training, workspace, report) -> dict[str, float]:
    # Said here, because an exception that crosses processes is a traceback.
    with disk_trouble_as_data_error(folder), killed_reader_as_data_error():
        return Trainer(folder, network, data, size, training, workspace).run(report)


class Trainer:
    """A training in a folder, or one process's part of it. `run` trains to the end, from wherever the folder's checkpoint
    stands; without one, from where the training that it branches off from stands, or from the weights of `network`."""

    def __init__(self, folder: Path, network: HourglassNet, data: DatasetFiles, size: Input, training: Training,
                 workspace: Workspace) -> None:  # fmt: skip
        self.folder, self.data, self.size, self.training, self.workspace = folder, data, size, training, workspace
        self.device, self.group = pick_device(workspace.device), distributed.group()
        self.compute = compute_type(training.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.compute == torch.float16)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not training.train_redundant_biases:
            for bias in cancelled_biases(self.network):
                bias.requires_grad_(False)
        self.optimizer = make_optimizer(training, self.network)
        self.ema = Ema(self.network, training.ema) if training.ema else None
        self.state = State()
        self._resume()
        if training.subtract_mean and not self.network.mean.any():
            for net in {self.network, self.evaluated()}:
                net.mean.copy_(torch.from_numpy(channel_mean(data, training.seed)))
        # A branch may begin in an epoch that is longer already than its own are.
        beyond = max(self.state.iteration - self.state.epoch_start - training.iterations, 0)
        self.iterations = self.state.epoch_start + beyond + (training.epochs - len(self.state.train)) * training.iterations
        self.scoring = torch.tensor(data.skeleton.scoring)
        self.make: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None  # a batch of what the loader gives
        self.recorded = Recorded(self._iterate, self.device) if self._can_be_recorded() else None
        self.pending: list[Tensor] = []  # figures of the iterations that have not been read yet
        self.model = distributed.parallel(self.network, self.device)
        images = training.epochs * training.iterations * training.batch
        if is_compiled(workspace.compile, images, self.device, self.group.size):
            self.model.compile(dynamic=False)

    def run(self, report: Report = silent) -> dict[str, float]:
        """Train all epochs; returns the best epoch's figures. `report(iteration, iterations, text)`."""
        t, w, state = self.training, self.workspace, self.state
        memory.keep_big_blocks()
        if self.group.writes:
            self._require_space()
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = w.deterministic, not w.deterministic
        torch.backends.cudnn.benchmark_limit = MOST_TRIALS
        self.workers = max(1, processes(w.workers) // w.processes)
        self.share = self.group.rank, self.group.size
        self.valid_samples = PoseDataset(self.data, "valid", self.size, t)
        if np.isnan(self.valid_samples.rows.part[:, list(self.data.skeleton.scoring)]).all():
            raise DataError(f"{self.data.annotations}/valid.h5 labels none of the joints that score; validation needs some.")
        self.logs = Logs(
            self.folder if self.group.writes else None, t.batch, state.iteration, self.iterations, len(state.train)
        )
        self.writer = checkpoints.Writer()
        samples = self._samples()
        stream = batches(samples, t.batch, self.workers, state.iteration, self.iterations, self.share)
        with self.writer, self.logs, memory.shortage_as_data_error(t.batch, self.size.resolution):
            while not self._finished():
                self._train_epoch(stream, report)
                self._finish_epoch(report)
        if self.group.writes:
            (self.folder / BEFORE).unlink(missing_ok=True)  # how far it was when the training ended is chance
        return {"best_epoch": state.best[0], "valid_accuracy": state.best[2], "valid_loss": state.best[1]}

    def _samples(self) -> PoseDataset:
        """The stream that is trained on; where crops are kept and the device is CUDA, samples are made there of plans."""
        t = self.training
        if not self.data.crops or self.device.type != "cuda":
            return PoseDataset(self.data, "train", self.size, t, t.seed, t.batch)
        stream, self.make = augment.plans(self.data, self.size, t, self.device)
        return stream

    def _can_be_recorded(self) -> bool:
        """Whether an iteration is a fixed list of launches: not with several processes, nor where float16 may skip a step."""
        return self.device.type == "cuda" and self.group.size == 1 and not self.scaler.is_enabled()

    def _require_space(self) -> None:
        """Raise DataError where the disk is too small for the files of all epochs, and for two more while one is replaced."""
        t = self.training
        network = sum(tensor.nbytes for tensor in self.network.state_dict().values())
        checkpoint = network * (2 + (t.optimizer != "rmsprop") + bool(t.ema))  # with one or two moments of each weight
        snapshots = t.epochs // t.snapshot_epochs if t.snapshot_epochs else 0
        needed = (3 + t.keep_last) * checkpoint + (1 + snapshots) * network
        there = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        require_space(self.folder, needed - there, "This training")

    def _finished(self) -> bool:
        t, rows = self.training, self.state.train
        between = self.state.iteration == self.state.epoch_start  # else the current epoch is not validated yet
        stopped = t.stop_after and self.state.iteration >= t.stop_after and between
        level = t.early_stop and len(rows) > 1 and rows[-1][2] - rows[-2][2] < t.early_stop
        return bool(stopped or level or len(rows) >= t.epochs)

    def _train_epoch(self, stream, report) -> None:
        t, state = self.training, self.state
        end = state.epoch_start + t.iterations
        if t.stop_after:
            end = min(end, t.stop_after)
        every = READ_EVERY.get(self.device.type, READ_SELDOM)
        saved = time.monotonic()
        self.network.train()
        self.logs.begin_epoch()
        while state.iteration < end:
            with self.logs.waiting():
                batch = next(stream)
            self.pending.append(self.step(batch))
            state.iteration += 1
            if state.iteration % every == 0 or state.iteration == end:
                self._read(report)
                if self.group.writes and time.monotonic() - saved > self.workspace.checkpoint_seconds:
                    self._save(LAST)
                    saved = time.monotonic()

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        """One iteration; returns its figures, still on the device: loss of all stacks, loss of the last, then per scoring
        joint how often it was hit, and how often seen (2 + 2 S)."""
        i = self.state.iteration
        rates = [learning_rate(self.training, i, self.iterations), self.ema.share(i) if self.ema else 0.0]
        exact = torch.float64 if self.device.type == "cpu" else torch.float32
        inputs = {name: batch[name] for name in batch if name != "image_to_crop"}  # no device but the CPU needs that
        inputs |= {"rates": torch.tensor(rates, dtype=exact), "scoring": self.scoring}
        if self.recorded:
            return self.recorded(inputs)
        return self._iterate({name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()})

    def _iterate(self, inputs: dict[str, Tensor]) -> Tensor:
        """One iteration of what is on the device: the batch, learning rate and share of the running mean, scoring joints."""
        rate, share = inputs["rates"]
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        count = min(self.training.gradient_accumulation, self.training.batch // self.group.size)  # the same in all processes
        tensors = {name: t.tensor_split(count) for name, t in inputs.items() if name not in ("rates", "scoring")}
        parts = [{name: tensors[name][i] for name in tensors} for i in range(count)]
        figures = [self._backward(part, inputs["scoring"], part is parts[-1]) for part in parts]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update(self.network, share)
        return torch.stack(figures).sum(dim=0)

    def _backward(self, part: dict[str, Tensor], scoring: Tensor, last: bool) -> Tensor:
        """Backpropagate one micro-batch; gradients are all-reduced only on the last one. Returns its share of the metrics."""
        if self.make:
            part = self.make(part)
        share = len(part["input"]) / self.training.batch
        with distributed.gradients_stay_here(self.model, not last):
            with torch.autocast(self.device.type, self.compute, enabled=self.compute != torch.float32):
                stacks = self.model(part["input"].to(memory_format=torch.channels_last))
            losses = torch.stack([squared_error(maps, part).mean() for maps in stacks]) * share
            self.scaler.scale(losses.sum() * self.group.size).backward()  # the processes' gradients are averaged
        hits, seen = training_hits(stacks[-1].detach(), part["heatmaps"], scoring)
        losses = losses.detach()
        return torch.cat([losses.sum()[None], losses[-1:], hits.sum(dim=0), seen.sum(dim=0)])

    def _read(self, report: Report) -> None:
        """Take in the figures of the iterations since the last reading."""
        state, joints = self.state, len(self.data.skeleton.scoring)
        rows = self.group.sum(torch.stack(self.pending))
        first = state.iteration - len(self.pending)
        self.pending.clear()
        for iteration, (total, loss, *_) in enumerate(rows.tolist(), first):
            if not total < EXPLODED:  # nor is nan
                error = self._gone_wrong(iteration, f"The loss became {total:.3g}")
                self.group.from_first(lambda: None)  # no process ends before the first has saved the batch
                raise error
            counts = rows[iteration - first, 2:]
            accuracy = mean_rate(counts[:joints], counts[joints:])
            state.loss += loss
            if not math.isnan(accuracy):
                state.accuracy += accuracy
                state.scored += 1
            rate = learning_rate(self.training, iteration, self.iterations)
            self.logs.iteration(state.epoch, iteration + 1, loss, accuracy, rate)
        loss, (speed, waiting) = state.loss / (state.iteration - state.epoch_start), self.logs.pace()
        text = f"epoch {state.epoch} loss {loss:.2e} acc {self._accuracy():.1%} {speed:.1f} images/s, waits {waiting:.0%}"
        report(state.iteration, self.iterations, text)

    def _accuracy(self) -> float:
        """Training accuracy of the epoch so far."""
        return self.state.accuracy / max(self.state.scored, 1)

    def _gone_wrong(self, iteration: int, what: str) -> DataError:
        """Save the batch of an iteration, counted from 0, for inspection; returns an error that says how to go on."""
        t = self.training
        path = self.folder / f"logs/bad-batch-{iteration + 1}.npz"
        if self.group.writes:
            samples = PoseDataset(self.data, "train", self.size, t, t.seed, t.batch)
            batch = next(batches(samples, t.batch, 1, first=iteration, count=iteration + 1))
            arrays: dict[str, Any] = {name: np.asarray(values) for name, values in batch.items()}
            np.savez(path, images=[samples.rows.images[row] for row in batch["row"]], **arrays)
        last, remedy = self.folder / LAST, "a lower learning_rate, a longer warmup or precision = float32"
        how = f"There is no checkpoint yet: try {remedy}."
        if last.exists():
            good = checkpoints.load_tensors(last)[1]["state"]["iteration"]
            how = (
                f"The last good checkpoint is {last}, of iteration {good}: to go on from it, give it as branch_from to an "
                f"experiment of another name, with {remedy}. Should it explode there, too, its weights were spoilt already: "
                "begin again, or from one that keep_last kept."
            )
        return DataError(f"{what} at iteration {iteration + 1} (epoch {self.state.epoch}). Its batch is in {path}. {how}")

    def _finish_epoch(self, report: Report) -> None:
        """Validate, log, keep the best, save."""
        t, state = self.training, self.state
        rate = learning_rate(t, state.iteration - 1, self.iterations)
        loss, accuracy, picture = self._validate(report)
        epoch, done = state.epoch, state.iteration - state.epoch_start
        state.train.append([epoch, state.loss / done, self._accuracy(), rate])
        state.valid.append([epoch, loss, accuracy, rate])
        state.loss, state.accuracy, state.scored, state.epoch_start = 0.0, 0.0, 0, state.iteration
        best = not state.best or accuracy > state.best[2]
        if best:
            state.best = state.valid[-1]
        if self.group.writes:
            self._keep(best, picture)

    def _keep(self, best: bool, picture: np.ndarray) -> None:
        """Write what an epoch leaves in the folder. `best`: none before was better."""
        t, state, (epoch, *_) = self.training, self.state, self.state.train[-1]
        write_log(self.folder / "train.log", state.train)
        write_log(self.folder / "valid.log", state.valid)
        self.logs.epoch(int(epoch), state.iteration, state.train[-1], state.valid[-1], picture)
        if best:
            self._save_network("best.safetensors")
        if t.snapshot_epochs and epoch % t.snapshot_epochs == 0:
            self._save_network(f"epoch-{epoch:03d}.safetensors")
        if t.keep_last:
            self._save(f"last-{epoch:03d}.safetensors")
            (self.folder / f"last-{epoch - t.keep_last:03d}.safetensors").unlink(missing_ok=True)
        self._save(LAST)

    def _validate(self, report: Report) -> tuple[float, float, np.ndarray]:
        """Loss and accuracy over the whole validation split, each sample counting the same, and a picture of some."""
        count, skeleton = len(self.valid_samples), self.data.skeleton
        stream = batches(self.valid_samples, VALIDATION_BATCH, self.workers, share=self.share)
        sums = torch.zeros(4, dtype=torch.float64)  # samples, loss, samples that show a joint, their accuracy
        picture, seen = np.zeros((1, 1, 3), np.uint8), 0
        for batch, maps in predict(self.evaluated(), stream, skeleton.mirrored(), self.device, True, self.compute):
            hits, counted = (counts.sum(dim=1) for counts in training_hits(maps, batch["heatmaps"], self.scoring))
            rates = (hits / counted)[counted > 0].double()
            sums += torch.stack(
                [torch.tensor(len(maps)), squared_error(maps, batch).sum(), torch.tensor(len(rates)), rates.sum()]
            )
            if not seen:
                picture = draw_predictions(batch, maps, skeleton)
            seen += len(maps) * self.group.size
            report(self.state.iteration, self.iterations, f"validating {min(seen, count)}/{count}")
        samples, loss, scored, accuracy = self.group.sum(sums).tolist()
        return loss / samples, accuracy / max(scored, 1), picture

    def evaluated(self) -> HourglassNet:
        """The network that is validated and kept: the running mean if there is one."""
        return cast(HourglassNet, self.ema.network) if self.ema else self.network

    def _save_network(self, name: str) -> None:
        metrics = {"epoch": self.state.valid[-1][0], "valid_accuracy": self.state.valid[-1][2]}
        checkpoints.save_network(
            self.folder / name, self.evaluated(), self.data.skeleton.joints, self.size.resolution, metrics
        )  # fmt: skip

    def _save(self, name: str) -> None:
        """A checkpoint that a training can go on from."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()}
        if self.ema:
            tensors |= {f"ema.{k}": v for k, v in self.ema.network.state_dict().items()}
        if not all_finite(tensors):
            raise self._gone_wrong(self.state.iteration - 1, "The weights became infinite")
        description = {
            "state": asdict(self.state), "optimizer": self.training.optimizer, "scaler": self.scaler.state_dict(),
        }  # fmt: skip
        self.writer.save(self.folder / name, tensors, description, self.folder / BEFORE if name == LAST else None)

    def _resume(self) -> None:
        """Take up the folder's checkpoint, or that of the training to branch off from."""
        found = self.group.from_first(lambda: find_checkpoint(self.folder, self.training.branch_file))
        if not found:
            return
        path, branches, tensors, description = found
        try:
            self._take_up(tensors, description)
        except RuntimeError:
            raise DataError(f"{path} is of another network; to branch off, [network] and the joints must stay.") from None
        except (LookupError, TypeError, ValueError):
            raise DataError(f"{path} is not a checkpoint of a training; give a last.safetensors.") from None
        if branches:
            self._check_branch(path)

    def _take_up(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        self.state = State(**description["state"])
        weights = checkpoints.below("network.", tensors)
        self.network.load_state_dict(weights)
        if self.ema:
            self.ema.network.load_state_dict(checkpoints.below("ema.", tensors) or weights)
        if description["optimizer"] == self.training.optimizer:
            load_optimizer(self.optimizer, checkpoints.below("optimizer.", tensors))
        if description["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(description["scaler"])

    def _check_branch(self, path: Path) -> None:
        """A branch has its own best epoch. Raises DataError where its settings leave it nothing to do."""
        self.state.best = []
        if self._finished() or 0 < self.training.stop_after <= self.state.iteration:
            raise DataError(
                f"{path} has {len(self.state.train)} epochs and {self.state.iteration} iterations behind it; give the branch "
                "more epochs, or another stop_after or early_stop."
            )


def squared_error(maps: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Mean squared error (N,) of each sample's heatmaps (N, J, h, w), the error of each joint times batch["weights"] (N, J).

    The mean is over all joints, whatever they weigh, so that the errors of a batch's parts add up to the batch's.
    """
    squares = (maps.float() - batch["heatmaps"]).square().mean(dim=(2, 3))
    return (squares * batch["weights"]).mean(dim=1)


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Return whether every floating-point tensor is free of NaN and infinity. The tensors may be on several devices.

    An optimizer keeps its step counter on the CPU while its moments are on the GPU. There is one transfer per device.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            sums.setdefault(tensor.device, []).append(tensor.sum())
    return all(bool(torch.stack(parts).isfinite().all()) for parts in sums.values())


def draw_predictions(batch: dict[str, Tensor], maps: Tensor, skeleton: Skeleton, count: int = 6) -> np.ndarray:
    """The first people of a batch with their labels and with what the heatmaps `maps` (N, J, h, w) say: (H, W, 3) uint8."""
    images = (batch["input"][:count].clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    rows = []
    for shown in (batch["heatmaps"], maps):
        points, height = decode_argmax(shown[:count].numpy())
        points = (np.where(height[..., None] > 0, points, np.nan) + 0.5) * (images.shape[1] / shown.shape[-1]) - 0.5
        rows.append([draw.draw_person(image, joints, skeleton) for image, joints in zip(images, points, strict=True)])
    return draw.contact_sheet(rows, ["labels", "network"])
