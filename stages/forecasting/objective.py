"""Define the objective of the forecasting network: the error of its heatmaps at the steps that the curriculum trains.

With a converter, the loss includes the error of the 3D joints' projections.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from datasets.progress import Report
from stages.forecasting.checkpoints import save_forecaster
from stages.forecasting.movements import Movements
from stages.forecasting.network import ForecastNet, Outputs
from stages.forecasting.samples import PennSequences, starts_of
from stages.lifting.network import Pose3D
from stages.loading import augment
from stages.loading.loader import batches
from stages.settings.forecasting import STEPS, ForecastTraining
from stages.settings.sections import Input
from stages.training.objective import Resources
from stages.training.optimizer import cancelled_biases

VALIDATION_BATCH = 4
SHOWN, SHOWN_STEPS = 4, (0, 1, 3, 7, 15)  # number of people, and steps (counted from 0), in the validation picture


class ForecastObjective:
    """Trains a forecasting network; see `stages.training.objective.Objective`.

    The loss is the sum over steps of the mean squared error of each step's heatmaps. acc is the PCK@0.05 of the heatmaps'
    largest pixels over all steps; loss_t and pck_t are the loss and the PCK@0.05 of step t.

    With a converter, `projection_weight` * `projection` is added to the loss. The 3D joints are projected to the heatmap;
    `projection` is the sum over steps of the mean squared difference between the projected and the labelled coordinates, in
    squared heatmap px. The difference is set to 0 for hidden joints.
    """

    parts: tuple[str, ...] = tuple(f"{name}_{step}" for name in ("loss", "pck") for step in range(1, STEPS + 1))
    loss_limit = 1e4 * STEPS  # `HeatmapObjective.loss_limit` for each step

    def __init__(self, network: ForecastNet, movements: dict[str, Movements], frames: Path, size: Input,
                 training: ForecastTraining) -> None:  # fmt: skip
        """Open the data, and freeze the parameters that are not trained.

        movements: split (train, valid) -> movements; frames: exp/penn_action_cropped/data/frames.
        """
        self.network, self.size, self.training = network, size, training
        starts = {split: starts_of(found, training) for split, found in movements.items()}
        self.stream = PennSequences(movements["train"], starts["train"], frames, size, training, training.seed)
        self.valid = PennSequences(movements["valid"], starts["valid"], frames, size, training)
        self.resources = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))
        if not training.train_redundant_biases:
            for bias in cancelled_biases(network.hourglass):
                bias.requires_grad_(False)
        if network.converter:
            self.parts = (*self.parts, "projection")
            network.converter.requires_grad_(training.converter_changes == "everything")

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Store the device, dtype, workers, and the share of each batch that this process computes."""
        self.resources = resources

    def phase(self, epoch: int) -> int:
        """Return how many steps of each forecast are trained in an epoch; the number grows from epoch to epoch."""
        return self.training.curriculum[min(epoch, len(self.training.curriculum)) - 1]

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches of the samples of `PennSequences`: input, points, weights and limit."""
        place = self.resources
        for batch in batches(self.stream, self.training.batch, place.workers, first, end, place.share):  # type: ignore[arg-type]
            yield {name: batch[name] for name in ("input", "points", "weights", "limit")}

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Outputs:
        """Return the model's outputs for the first `phase` steps."""
        if self.network.converter and self.training.converter_changes == "nothing":
            self.network.converter.eval()  # batch normalisation keeps the statistics of the converter's own training
        return model(batch["input"].to(memory_format=torch.channels_last), phase)

    def loss(self, outputs: Outputs, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and sums (50,): loss, projection, then by step: loss (16,), hits (16,), visible joints (16,)."""
        maps = outputs.heatmaps
        errors = (self._errors(maps, batch).mean(dim=(0, 2)) * share).float()
        hits, seen = correct(maps.detach(), batch)
        steps = torch.stack([errors.detach(), hits.sum(dim=(0, 2)), seen.sum(dim=(0, 2))])
        padded = nn.functional.pad(steps, (0, STEPS - steps.shape[1]))
        loss, projection = errors.sum(), torch.zeros((), device=maps.device)
        if outputs.poses:
            projection = self._projection(outputs.poses, batch).mean(dim=0).sum() * share
            loss = loss + self.training.projection_weight * projection
        return loss, torch.cat([torch.stack([loss, projection]).detach(), padded.flatten()])

    def _projection(self, poses: Pose3D, batch: dict[str, Tensor]) -> Tensor:
        """Return the joints' mean squared projection errors (N, steps) in squared heatmap px, weighted by batch["weights"]."""
        assert self.network.converter
        points = batch["points"][:, : poses.focal.shape[1]]
        known = ~points.isnan().any(dim=-1, keepdim=True)
        # Hidden joints become 0 before the subtraction: if NaN were masked only afterwards, the gradient would still be NaN.
        difference = torch.where(known, poses.projected(self.network.converter.center) - points.nan_to_num(0), 0)
        return (difference.square().mean(dim=-1) * batch["weights"][:, : points.shape[1]]).mean(dim=2)

    def _errors(self, maps: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean squared errors (N, steps, J) of heatmaps (N, steps, J, h, w), weighted by batch["weights"]."""
        n, steps, joints, side, _ = maps.shape
        points = within(batch["points"][:, :steps], side)
        targets = augment.draw(points.flatten(0, 1), side, self.training.target_sigma, self.training.target_radius)
        squares = (maps.float() - targets.view(n, steps, joints, side, side)).square().mean(dim=(3, 4))
        return squares * batch["weights"][:, :steps]

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the loss, acc, and each step's loss and PCK, which are NaN for steps that are not trained yet."""
        losses, hits, seen = sums[2:].double().view(3, STEPS)
        return {"loss": sums[0].item()} | self._metrics(losses, hits, seen, sums[1].item())

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Return sums (50,) over this process's share of the start frames, and a picture of the first forecasts.

        The sums: number of start frames, projection, then for each step the loss (16,), hits (16,) and visible joints (16,).
        """
        place, count, steps = self.resources, len(self.valid), self.training.score_steps
        stream = batches(self.valid, VALIDATION_BATCH, place.workers, share=place.share)  # type: ignore[arg-type]
        sums, number, projection = torch.zeros(3, STEPS, dtype=torch.float64), 0, 0.0
        picture = np.zeros((1, 1, 3), np.uint8)
        network.eval()
        with torch.inference_mode(), torch.autocast(place.device.type, place.compute, enabled=place.compute != torch.float32):
            for batch in stream:
                batch = {name: tensor.to(place.device) for name, tensor in batch.items()}
                maps, poses = network(batch["input"].to(memory_format=torch.channels_last), steps)
                hits, seen = correct(maps, batch)
                losses = self._errors(maps, batch).mean(dim=2).sum(dim=0)
                sums[:, :steps] += torch.stack([losses, hits.sum(dim=(0, 2)), seen.sum(dim=(0, 2))]).double().cpu()
                if poses:
                    projection += self._projection(poses, batch).sum().item()
                if not number:
                    picture = draw_forecasts(batch["input"], maps)
                number += len(maps)
                report(min(number * place.share[1], count), count)
        return torch.cat([torch.tensor([number, projection], dtype=torch.float64), sums.flatten()]), picture

    def validation_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the loss, acc, and each step's loss and PCK; sums: the results of `validate`, added up over all processes."""
        losses, hits, seen = sums[2:].view(3, STEPS)
        losses, projection = losses / sums[0], (sums[1] / sums[0]).item()
        loss = losses.sum().item() + self.training.projection_weight * projection
        return {"loss": loss} | self._metrics(losses, hits, seen, projection)

    def _metrics(self, losses: Tensor, hits: Tensor, seen: Tensor, projection: float) -> dict[str, float]:
        """Return acc and the values named in `parts`; losses, hits, seen (visible joints): (16,), one value per step."""
        rates = (hits / seen).tolist()  # NaN if no joint is visible, and for steps that were not computed
        trained = (seen > 0).tolist()
        found = {"acc": (hits.sum() / seen.sum()).item()}
        found |= {
            f"loss_{i}": value if on else float("nan")
            for i, (value, on) in enumerate(zip(losses.tolist(), trained, strict=True), 1)
        }
        found |= {f"pck_{i}": rate for i, rate in enumerate(rates, 1)}
        return found | ({"projection": projection} if self.network.converter else {})

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write the network with the names of its joints and its input resolution."""
        save_forecaster(path, cast(ForecastNet, network), PENN_ACTION.skeleton.joints, self.size.resolution, metrics)

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the batch of an iteration, with the paths of its images."""
        batch = next(batches(self.stream, self.training.batch, 1, first=iteration, end=iteration + 1))  # type: ignore[arg-type]
        names = np.array([str(self.stream.image_path(int(start))) for start in batch["start"]])
        return {"images": names} | {name: np.asarray(values) for name, values in batch.items()}


def within(points: Tensor, side: int) -> Tensor:
    """Return points (..., 2) in heatmap px; a point outside of the heatmap becomes NaN."""
    nearest = torch.floor(points + 0.5)
    outside = ~((nearest >= 0) & (nearest < side)).all(dim=-1, keepdim=True)  # true for NaN
    return points.masked_fill(outside, torch.nan)


def correct(maps: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return which joints of heatmaps are correct, and which joints are visible: two tensors (N, steps, J) of 0 and 1.

    A joint is correct if the distance of the heatmap's largest pixel from the joint is less than batch["limit"] px.
    """
    points = batch["points"][:, : maps.shape[1]]
    largest = maps.flatten(3).argmax(dim=3)
    found = torch.stack([largest % maps.shape[4], largest // maps.shape[4]], dim=-1)
    seen = ~points.isnan().any(dim=-1)
    near = (found - points).square().sum(dim=-1).sqrt() < batch["limit"][:, None, None]
    return (near & seen).float(), seen.float()


def draw_forecasts(images: Tensor, maps: Tensor) -> np.ndarray:
    """Draw the poses of heatmaps (N, T, J, h, w) on the first of the images (N, 3, R, R); return a picture (H, W, 3) uint8."""
    shown = [step for step in SHOWN_STEPS if step < maps.shape[1]]
    pictures = (images[:SHOWN].clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    largest = maps[:SHOWN].float().flatten(3).argmax(dim=3).cpu().numpy()
    side = maps.shape[4]
    points = (np.stack([largest % side, largest // side], axis=-1) + 0.5) * (pictures.shape[1] / side) - 0.5
    rows = [
        [draw.draw_person(picture, points[i, step], PENN_ACTION.skeleton) for i, picture in enumerate(pictures)]
        for step in shown
    ]
    return draw.contact_sheet(rows, [f"step {step + 1}" for step in shown])
