"""The objective of the converter and of the lifter: errors of the joints in space, of their place and of the focal length."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.imaging import draw
from datasets.mocap.clips import Clips
from datasets.penn_action import PENN_ACTION
from datasets.progress import Report
from stages.lifting import checkpoints
from stages.lifting.bodies import JOINTS
from stages.lifting.network import ConverterNet, LifterNet, Pose3D
from stages.lifting.samples import NONE, PoseSamples, Scenes, draw_blobs, observed, validation_scenes
from stages.settings.lifting import Converter
from stages.settings.trainings import Training
from stages.training.objective import Resources

VALIDATION_BATCH = 256
HEADS = ("repos", "trans", "focal")
METRE = 1000.0  # mm
SHOWN, CANVAS = 4, 224  # people of the picture, and px of each of their images


class LiftingObjective:
    """Trains a converter or a lifter on synthetic samples; see `stages.training.objective.Objective`.

    The loss is the sum of the mean squared errors of repos, trans and focal, each in the units of the network's output layer.
    error_mm is the mean distance between the joints of repos and those of the sample, without any alignment. acc is 1 minus
    this error in metres, so that the best epoch has the lowest error on the validation clips, as published. Validation always
    uses the same cameras, sharp heatmaps and the bodies as they were recorded.
    """

    parts: tuple[str, ...] = ("error_mm", *HEADS)

    def __init__(self, network: ConverterNet | LifterNet, clips: dict[str, Clips], options: Converter,
                 training: Training) -> None:  # fmt: skip
        """clips: of train and valid, with the joints of Penn Action. With normalised outputs the network's units are set."""
        self.network, self.options, self.training = network, options, training
        side = network.side
        self.samples = PoseSamples(clips["train"].poses, side, options, training)
        self.valid_poses = clips["valid"].poses
        self.valid: Scenes | None = None
        self.resources = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))
        self.loss_limit = 1e9  # mm^2: joints that lie tens of metres off; the published training starts at 5e5
        if options.outputs == "normalised":
            network.units.standardise(targets(tensors(observed(self.samples.statistics(), training, NONE, _unused()))))
            self.loss_limit = 1e6

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Take note of the resources, and place the cameras that validate."""
        self.resources = resources
        self.valid = validation_scenes(self.valid_poses, self.network.side, self.options.cameras == "published")

    def phase(self, epoch: int) -> Hashable:
        """Return the one phase of such a training."""
        return 0

    def batches(self, first: int, count: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches of `observed`."""
        rank, processes = self.resources.share
        for batch in self.samples.batches(first, count):
            yield {name: values[rank::processes] for name, values in tensors(batch).items()}

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Tensor:
        """Return the outputs (N, 3 J + 4) in mm and px."""
        return compute(model, batch, self.network, self.training)

    def loss(self, outputs: Tensor, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and its sums: loss, the mean distance of joints in mm, and the losses of repos, trans and focal."""
        unit = self.network.units.unit.to(outputs.device)
        difference = Pose3D.of((outputs.float() - targets(batch)) / unit)
        losses = torch.stack([part.square().mean() for part in difference]) * share
        found = Pose3D.of(outputs.detach().float())
        error = (found.repos - batch["repos"]).square().sum(dim=-1).sqrt().mean() * share
        loss = losses.sum()
        return loss, torch.cat([loss.detach()[None], error[None], losses.detach()])

    def figures(self, sums: Tensor) -> dict[str, float]:
        """Return loss, acc and the parts."""
        loss, error, *losses = sums.tolist()
        return {"loss": loss, "acc": 1 - error / METRE, "error_mm": error} | dict(zip(HEADS, losses, strict=True))

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Sum over validation poses: their number, and the sums of `loss`. The picture shows some people from two sides."""
        assert self.valid is not None, "begin comes first"
        rank, processes = self.resources.share
        whole = tensors(observed(self.valid, self.training, NONE, _unused()))
        sums, picture, count = torch.zeros(6, dtype=torch.float64), np.zeros((1, 1, 3), np.uint8), len(self.valid)
        network.eval()
        for start in range(0, count, VALIDATION_BATCH):
            some = slice(start + rank, start + VALIDATION_BATCH, processes)
            batch = {name: values[some].to(self.resources.device) for name, values in whole.items()}
            size = len(batch["focal"])
            if size:
                with torch.inference_mode():
                    outputs = self.forward(network, batch, phase)
                    _, found = self.loss(outputs, batch, size)
                sums += torch.cat([torch.tensor([size]), found.cpu()]).double()
                picture = draw_poses(batch, outputs) if start == 0 else picture
            report(min(start + VALIDATION_BATCH, count), count)
        return sums, picture

    def validation_figures(self, sums: Tensor) -> dict[str, float]:
        """Return loss, acc and the parts, over all validation poses."""
        return self.figures(sums[1:] / sums[0])

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write the network with its joints and the side of its heatmaps."""
        assert isinstance(network, (ConverterNet, LifterNet))
        checkpoints.save(path, network, JOINTS, metrics)

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the batch of an iteration."""
        return next(self.samples.batches(iteration, iteration + 1))


def tensors(batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return a batch as tensors."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def targets(batch: dict[str, Tensor]) -> Tensor:
    """Return what a network should give for a batch: (N, 3 J + 4) mm and px."""
    return torch.cat([batch["repos"].flatten(1), batch["trans"], batch["focal"][:, None]], dim=1)


def compute(model: nn.Module, batch: dict[str, Tensor], network: ConverterNet | LifterNet, training: Training) -> Tensor:
    """Return the outputs (N, 3 J + 4) of a model for a batch of `observed`; network: the model, or what it wraps."""
    if isinstance(network, LifterNet):
        return model(batch["seen"])
    return model(draw_blobs(batch, network.side, training).to(memory_format=torch.channels_last))


def draw_poses(batch: dict[str, Tensor], outputs: Tensor) -> np.ndarray:
    """Draw the first people of a batch: in the image, and from their right as the network and as the labels have them.

    outputs: (N, 3 J + 4). Returns (H, W, 3) uint8 RGB.
    """
    found = Pose3D.of(outputs[:SHOWN].float().cpu())
    points, truth = batch["points"][:SHOWN].cpu().numpy(), batch["repos"][:SHOWN].cpu().numpy()
    rows = [
        [_drawn(pose) for pose in points],
        [_drawn(pose[:, [2, 1]], 2 * METRE) for pose in found.repos.numpy()],
        [_drawn(pose[:, [2, 1]], 2 * METRE) for pose in truth],
    ]
    return draw.contact_sheet(rows, ["image", "network, from the side", "labels, from the side"])


def _drawn(points: np.ndarray, extent: float | None = None) -> np.ndarray:
    """Return a picture of a pose (J, 2), centred; extent: side of the picture in the pose's unit; None: as large as it fits."""
    extent = extent or 1.2 * float(np.ptp(points, axis=0).max())
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    canvas = np.full((CANVAS, CANVAS, 3), 90, np.uint8)
    return draw.draw_person(canvas, (points - middle) / extent * CANVAS + CANVAS / 2, PENN_ACTION.skeleton)


def _unused() -> np.random.Generator:
    """Return a generator for what draws numbers but, without noise, does not use them."""
    return np.random.default_rng(0)
