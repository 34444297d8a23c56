"""Objective: all that a training optimises and shows, and that the training loop does not know."""

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
    """What one process of a training computes with."""

    device: torch.device
    compute: torch.dtype  # of autocast
    workers: int  # processes that prepare samples
    share: tuple[int, int]  # (number of this process, number of processes): its part of each batch


class Objective(Protocol):
    """What a training optimises: its network, batches, loss with its parts, validation and picture.

    The loop does the rest: optimizer, learning rate, precision, gradient accumulation, weight EMA, processes, checkpoints,
    logs, resuming. An objective is sent to other processes before `begin`. Figures are named numbers of one iteration or of one
    validation: at least `loss` and `acc` (higher is better; the best epoch is chosen by it), and those of `parts`.
    """

    parts: tuple[str, ...]  # names of further figures for the logs
    loss_limit: float  # a loss beyond this stops the training

    @property
    def network(self) -> nn.Module:
        """The network that is trained; on the CPU until the loop moves it."""

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Prepare for a training or for going on with one.

        networks: those whose weights the training moves or averages, on the device, after a checkpoint was loaded. Raises
        DataError where nothing can be validated.
        """

    def phase(self, epoch: int) -> Hashable:
        """Return the phase of an epoch, counted from 1. Within one phase all iterations launch the same kernels."""

    def batches(self, first: int, count: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's part of the batches `first` to `count` - 1; the first axis of every tensor is the samples'."""

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Any:
        """Return what the model computes for a micro-batch on the device; runs with autocast."""

    def loss(self, outputs: Any, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss of a micro-batch, a scalar with a gradient, and its sums (S,) without one.

        share: the micro-batch's part of the whole batch. Losses and sums of all parts and processes are added up. The first of
        the sums is the loss. Must not wait for the device.
        """

    def figures(self, sums: Tensor) -> dict[str, float]:
        """Return the figures of an iteration from its added-up sums (S,), on the CPU; NaN where nothing counted."""

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Return sums (V,) float64 over this process's part of the validation split, and a picture (H, W, 3) uint8 RGB.

        `report(samples, all samples)` now and then.
        """

    def validation_figures(self, sums: Tensor) -> dict[str, float]:
        """Return the figures of a validation from its sums (V,) over all processes."""

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write a network with its description, ready for the stages that use it."""

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the whole batch of an iteration, counted from 0, for a person to inspect."""
