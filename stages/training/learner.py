"""Define the state of a training: network, optimizer, weight EMA, gradient scaler, and progress."""

from dataclasses import asdict, field
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from stages.network import checkpoints
from stages.settings.trainings import Training
from stages.training.optimizer import Ema, load_optimizer, make_optimizer, optimizer_tensors


@dataclass
class State:
    """The progress of a training, saved with each checkpoint; the values are validated when the object is built."""

    iteration: int = 0  # finished iterations since the start
    epoch_start: int = 0  # finished iterations before the current epoch
    sums: dict[str, float] = field(default_factory=dict)  # metric -> sum of the metric over the epoch's finished iterations
    counts: dict[str, int] = field(default_factory=dict)  # metric -> number of iterations that were added to its sum
    best: list[int | float] = field(default_factory=list)  # the row of `valid` with the best accuracy; empty if there is none
    # One row per finished epoch: epoch, loss, acc, LR, and the objective's other metrics.
    train: list[list[int | float]] = field(default_factory=list)
    valid: list[list[int | float]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Return the current epoch, counted from 1."""
        return len(self.train) + 1

    def add(self, metrics: dict[str, float]) -> None:
        """Add the metrics (loss, accuracy and others) of an iteration; a metric that is NaN does not count."""
        for name, value in metrics.items():
            if value == value:
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self, name: str, missing: float = 0.0) -> float:
        """Return the mean of a metric over the epoch so far; return `missing` if the metric was NaN in every iteration."""
        return self.sums[name] / self.counts[name] if name in self.counts else missing


class Learner:
    """A network in training with its optimizer and gradient scaler, and its weight EMA if the recipe sets `ema`.

    The gradient scaler is enabled only for float16.
    """

    def __init__(self, network: nn.Module, training: Training, device: torch.device, compute: torch.dtype) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kind = training.optimizer
        self.optimizer = make_optimizer(training, self.network)
        self.ema = Ema(self.network, training.ema) if training.ema else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=compute == torch.float16)

    @property
    def evaluated(self) -> nn.Module:
        """Return the network that is validated and kept: the weight EMA if there is one."""
        return self.ema.network if self.ema else self.network

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint, by name."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        if self.ema:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.network.state_dict().items()}
        return tensors

    def description(self, state: State) -> dict[str, Any]:
        """Return what a checkpoint holds besides tensors: states of training and gradient scaler, name of the optimizer."""
        return {"state": asdict(state), "optimizer": self.kind, "scaler": self.scaler.state_dict()}

    def load(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> State:
        """Load the contents of a checkpoint; return the state of its training.

        The optimizer's state is loaded only if the checkpoint was written with this kind of optimizer. Raises RuntimeError for
        a checkpoint of another network, and LookupError, TypeError or ValueError for data that is not a checkpoint.
        """
        state = State(**description["state"])
        weights = checkpoints.below("network.", tensors)
        self.network.load_state_dict(weights)
        if self.ema:
            self.ema.network.load_state_dict(checkpoints.below("ema.", tensors) or weights)
        if description["optimizer"] == self.kind:
            load_optimizer(self.optimizer, checkpoints.below("optimizer.", tensors))
        if description["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(description["scaler"])
        return state
