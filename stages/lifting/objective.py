"""Define the objective that the training loop uses for the converter and for the lifter: batches, loss and validation."""

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
from stages.lifting.recordings import Recordings
from stages.lifting.samples import NONE, PoseSamples, Scenes, draw_heatmaps, observed, validation_scenes
from stages.settings.lifting import Converter
from stages.settings.trainings import Training
from stages.training.objective import Resources

VALIDATION_BATCH = 256  # number of poses in a batch
HEADS = ("repos", "trans", "focal")  # parts of an output, see `Pose3D`
METRE = 1000.0  # mm
SHOWN, CANVAS = 4, 224  # number of people in the picture, and side in px of each drawing of a person


class LiftingObjective:
    """The objective of a converter or a lifter, trained on synthetic samples; see `stages.training.objective.Objective`.

    The loss is the sum of three mean squared errors: of repos, trans and focal, in the units of the network's last layer. The
    metric error_mm is the mean distance in mm between the estimated and the true joints of repos, without Procrustes
    alignment. The metric acc is 1 minus this error in metres. So the best epoch, which has the highest acc, has the lowest
    error on the validation clips, as in the published training. All validations use the same cameras, sharp heatmaps, and
    bodies with unchanged proportions.
    """

    parts: tuple[str, ...] = ("error_mm", *HEADS)

    def __init__(self, network: ConverterNet | LifterNet, clips: dict[str, Clips], options: Converter,
                 training: Training, recordings: Recordings | None = None) -> None:  # fmt: skip
        """Prepare the training samples; clips: split (train, valid) -> clips with the joints of Penn Action.

        recordings: recorded heatmaps for a part of the training samples, see `PoseSamples`. If the outputs are normalised,
        `network.units` is computed from the correct outputs of training samples, see `Units.standardise`.
        """
        self.network, self.options, self.training = network, options, training
        side = network.side
        self.samples = PoseSamples(clips["train"].poses, side, options, training, recordings)
        self.valid_poses = clips["valid"].poses
        self.valid: Scenes | None = None
        self.resources = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))
        self.loss_limit = 1e9  # mm^2; errors of tens of metres reach this limit; the published training starts at a loss of 5e5
        if options.outputs == "normalised":
            network.units.standardise(targets(tensors(observed(self.samples.statistics(), training, NONE, _unused()))))
            self.loss_limit = 1e6

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Store the resources, and draw the random cameras that see the validation poses."""
        self.resources = resources
        self.valid = validation_scenes(self.valid_poses, self.network.side, self.options.cameras == "published")

    def phase(self, epoch: int) -> Hashable:
        """Return 0: a training of these networks has a single phase."""
        return 0

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's share of the batches `first` to `end` - 1, as tensors with the names that `observed` lists."""
        rank, processes = self.resources.share
        for batch in self.samples.batches(first, end):
            yield {name: values[rank::processes] for name, values in tensors(batch).items()}

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Tensor:
        """Return the outputs (N, 3 J + 4) of a model for a batch, in mm and px."""
        return compute(model, batch, self.network, self.training)

    def loss(self, outputs: Tensor, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and (5,): loss, error_mm, losses of repos, trans and focal; all values are multiplied by `share`."""
        unit = self.network.units.unit.to(outputs.device)
        difference = Pose3D.of((outputs.float() - targets(batch)) / unit)
        losses = torch.stack([part.square().mean() for part in difference]) * share
        found = Pose3D.of(outputs.detach().float())
        error = (found.repos - batch["repos"]).square().sum(dim=-1).sqrt().mean() * share
        loss = losses.sum()
        return loss, torch.cat([loss.detach()[None], error[None], losses.detach()])

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the metrics of an iteration: loss, acc and the metrics in `parts`; sums: (5,), summed values of `loss`."""
        loss, error, *losses = sums.tolist()
        return {"loss": loss, "acc": 1 - error / METRE, "error_mm": error} | dict(zip(HEADS, losses, strict=True))

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Validate on this process's share of the validation poses; return sums (6,), and a picture of the first poses.

        The first sum is the number of poses. The other five are sums over the batches: the values that `loss` returns for a
        batch are multiplied by the number of poses in the batch, and added. `draw_poses` draws the picture.
        """
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

    def validation_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the metrics over all validation poses: loss, acc and the metrics in `parts`; sums: (6,), see `validate`."""
        return self.metrics(sums[1:] / sums[0])

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write a network and its description to a file that `stages.lifting.checkpoints.load` reads."""
        assert isinstance(network, (ConverterNet, LifterNet))
        checkpoints.save(path, network, JOINTS, metrics)

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the whole batch of an iteration (counted from 0), as `PoseSamples.batches` yields it."""
        return next(self.samples.batches(iteration, iteration + 1))


def tensors(batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return a batch of arrays as a batch of tensors that share the memory of the arrays."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def targets(batch: dict[str, Tensor]) -> Tensor:
    """Return the correct outputs for a batch, (N, 3 J + 4): repos and trans in mm, then focal in px, see `Pose3D`."""
    return torch.cat([batch["repos"].flatten(1), batch["trans"], batch["focal"][:, None]], dim=1)


def compute(model: nn.Module, batch: dict[str, Tensor], network: ConverterNet | LifterNet, training: Training) -> Tensor:
    """Return the outputs (N, 3 J + 4) of a model for a batch that `observed` made.

    network: the model itself, or the wrapped network if `model` is a wrapper such as DistributedDataParallel.
    """
    if isinstance(network, LifterNet):
        return model(batch["seen"])
    return model(draw_heatmaps(batch, network.side, training).to(memory_format=torch.channels_last))


def draw_poses(batch: dict[str, Tensor], outputs: Tensor) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 RGB of the first SHOWN poses of a batch, in three rows; outputs: (N, 3 J + 4).

    The rows show each pose in the image, the estimated pose seen from the camera's right, and the true pose seen from there.
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
    """Return a picture with a pose (J, 2) in its centre.

    extent: side of the picture in the unit of the pose; None: 1.2 times the larger side of the pose's bounding box.
    """
    extent = extent or 1.2 * float(np.ptp(points, axis=0).max())
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    canvas = np.full((CANVAS, CANVAS, 3), 90, np.uint8)
    return draw.draw_person(canvas, (points - middle) / extent * CANVAS + CANVAS / 2, PENN_ACTION.skeleton)


def _unused() -> np.random.Generator:
    """Return a random generator for calls of `observed` without noise; their results do not depend on the generator."""
    return np.random.default_rng(0)
