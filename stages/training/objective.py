"""Define the interface between the training loop and an objective, which holds all that is specific to one training."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from datasets.progress import Report


@dataclass(frozen=True)
class Resources:
    """The device, dtype and workers of one process of a training, and the share of each batch that it computes."""

    device: torch.device
    compute: torch.dtype  # dtype of autocast
    workers: int  # number of processes that prepare samples
    share: tuple[int, int]  # (k, n): this process is number k of n and computes the samples k, k + n ... of each batch


class Objective(Protocol):
    """The part of the code that differs between trainings: network, batches, loss, metrics, validation and picture.

    The loop does the rest: optimizer, learning rate, precision, gradient accumulation, weight EMA, processes, checkpoints,
    logs, resuming. For a training in several processes the objective is pickled, and each process calls `begin` of its own
    copy. Metrics are a dict of numbers of one iteration or one validation: `loss`, `acc` and those listed in `parts`. The best
    epoch is the one with the highest `acc` in validation.
    """

    parts: tuple[str, ...]  # names of the metrics besides `loss` and `acc`
    loss_limit: float  # the training stops if the loss reaches this limit

    @property
    def network(self) -> nn.Module:
        """Return the network that is trained; it is on the CPU until the loop moves it."""

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Prepare to start or to continue a training.

        networks: the network to train and, if there is one, its weight EMA. Both are on the device; if the training continues
        from a checkpoint, they have the checkpoint's weights. Raises DataError if no validation is possible.
        """

    def phase(self, epoch: int) -> Hashable:
        """Return an identifier of the phase of the training to which an epoch (from 1) belongs.

        All iterations of a phase launch the same CUDA kernels.
        """

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's share of the batches `first` to `end` - 1; the first axis of all tensors counts samples."""

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Any:
        """Return the model's outputs for a micro-batch on the device; the loop calls this method with autocast."""

    def loss(self, outputs: Any, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss of a micro-batch, a scalar with a gradient, and sums (S,) without a gradient, which `metrics` reads.

        share: size of the micro-batch / size of the whole batch. The loop adds up the losses and sums of all micro-batches and
        processes. The first of the sums is the loss. The method must not wait for the device.
        """

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the metrics of an iteration, computed from the totals (S,) of the sums that `loss` returns, on the CPU.

        A metric is NaN if no joint counted.
        """

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Return sums (V,) float64 over this process's share of the validation split, and a picture (H, W, 3) uint8 RGB.

        `validation_metrics` computes the metrics from the sums.
        Calls `report(validated samples, all samples)` from time to time.
        """

    def validation_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the metrics of a validation from its sums (V,) over all processes."""

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write a network with its description to a file that other stages can load."""

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the whole batch of an iteration (counted from 0), to be saved so that a person can inspect it."""
