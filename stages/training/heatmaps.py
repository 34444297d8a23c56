"""Define the objective of pre-training and fine-tuning: the error of the heatmaps, summed over the stacks."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.imaging import draw
from datasets.imaging.heatmaps import decode_argmax
from datasets.progress import Report
from datasets.skeletons import Skeleton, matching_joints
from stages.evaluation.metrics import mean_rate, training_hits
from stages.inference.predict import predict
from stages.loading import augment
from stages.loading.loader import PoseDataset, batches, channel_mean
from stages.network import checkpoints
from stages.network.hourglass import HourglassNet, replace_head
from stages.settings.sections import Input, Network, Settings
from stages.settings.trainings import Finetuning, Training
from stages.training.objective import Resources
from stages.training.optimizer import cancelled_biases

VALIDATION_BATCH = 16


def new_network(options: Network, joints: int, seed: int) -> HourglassNet:
    """Return a network with random weights; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return HourglassNet(options, joints)


def network_for(model: Path, skeleton: Skeleton, settings: Finetuning) -> HourglassNet:
    """Return the network of the file `model` with a new output layer for the joints of `skeleton`.

    With head = matching, the output channels of joints that the network already predicts keep their weights. All other output
    channels have random weights.
    """
    torch.manual_seed(settings.seed)
    network, description = checkpoints.load_network(model)
    sources = matching_joints(description.joints, skeleton.joints)
    return replace_head(network, sources if settings.head == "matching" else [None] * len(sources))


class HeatmapObjective:
    """An `Objective` (`stages.training.objective`) that trains an hourglass to predict the heatmaps of a dataset's people."""

    parts: tuple[str, ...] = ()
    loss_limit = 1e4  # the squared error of outputs that are 100 times as high as the target's peak

    def __init__(self, network: HourglassNet, data: DatasetFiles, size: Input, training: Training) -> None:
        Settings(network=network.options, input=size)  # checks that the heatmap size is divisible by 2**depth
        if training.loss == "focal" and network.options.heatmaps != "sigmoid":
            raise DataError(
                "loss = focal needs a network with [network] heatmaps = sigmoid; the heatmaps of this one are linear."
            )
        self.error = {"squared_error": squared_error, "focal": focal_error}[training.loss]
        self.network, self.data, self.size, self.training = network, data, size, training
        self.resources = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))
        self.scoring = torch.tensor(data.skeleton.scoring)
        self.valid: PoseDataset | None = None
        self.stream: PoseDataset | None = None
        self.make: augment.DeviceSamples | None = None  # computes the samples of `stream` on the device, see `augment`
        if not training.train_redundant_biases:
            for bias in cancelled_biases(network):
                bias.requires_grad_(False)

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Open the train and valid splits, and set the networks' `mean` if the recipe subtracts the mean colour.

        With cached crops and a CUDA device, the loader yields plans (labels and chosen augmentation of a sample), from which
        the device computes the training samples (`augment.plans`). Raises DataError if the valid split has no label of any
        joint that counts in the training accuracy (`Skeleton.scoring`).
        """
        t, self.resources = self.training, resources
        self.scoring = self.scoring.to(resources.device)
        self.valid = PoseDataset(self.data, "valid", self.size, t)
        if np.isnan(self.valid.rows.part[:, list(self.data.skeleton.scoring)]).all():
            names = ", ".join(self.data.skeleton.joints[joint] for joint in self.data.skeleton.scoring)
            raise DataError(f"{self.data.annotations}/valid.h5 has no label of a joint that counts in the accuracy ({names}).")
        if self.data.crops and resources.device.type == "cuda":
            self.stream, self.make = augment.plans(self.data, self.size, t, resources.device)
        else:
            self.stream = self._samples()
        hourglasses = [cast(HourglassNet, network) for network in networks]
        if t.subtract_mean and not hourglasses[0].mean.any():
            for hourglass in hourglasses:
                hourglass.mean.copy_(torch.from_numpy(channel_mean(self.data, t.seed)))

    def _samples(self) -> PoseDataset:
        return PoseDataset(self.data, "train", self.size, self.training, self.training.seed, self.training.batch)

    def phase(self, epoch: int) -> Hashable:
        """Return 0: all epochs of this training have the same phase."""
        return 0

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches: input (N, 3, R, R), heatmaps (N, J, h, w) and weights (N, J), or plans of samples (see `begin`)."""
        assert self.stream
        for batch in batches(self.stream, self.training.batch, self.resources.workers, first, end, self.resources.share):
            yield {name: batch[name] for name in batch if name != "image_to_crop"}  # only evaluations need image_to_crop

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> list[Tensor]:
        """Return the heatmaps of every stack.

        If `batch` contains plans (see `begin`), the samples are first computed from the plans and added to `batch`.
        """
        if self.make:
            batch |= self.make(batch)
        return model(batch["input"].to(memory_format=torch.channels_last))

    def loss(self, outputs: list[Tensor], batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss and sums (2 + 2 K,); K: number of joints that count in the training accuracy (`Skeleton.scoring`).

        The sums: loss of all stacks, loss of the last stack, number of hits of each of the K joints (K values), number of
        labels with which each joint's predictions were compared (K values).
        """
        losses = torch.stack([self.error(maps, batch).mean() for maps in outputs]) * share
        hits, seen = training_hits(outputs[-1].detach(), batch["heatmaps"], self.scoring)
        loss, detached = losses.sum(), losses.detach()
        return loss, torch.cat([detached.sum()[None], detached[-1:], hits.sum(dim=0), seen.sum(dim=0)])

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the loss of the last stack, and the training accuracy."""
        joints, counts = len(self.scoring), sums[2:]
        return {"loss": sums[1].item(), "acc": mean_rate(counts[:joints], counts[joints:])}

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Return sums (4,) over the samples, and a picture.

        The sums: number of samples, sum of their losses, number of samples with a joint that counts in the training accuracy,
        sum of these samples' training accuracies. All samples have equal weight.
        """
        assert self.valid
        place, skeleton, count = self.resources, self.data.skeleton, len(self.valid)
        stream = batches(self.valid, VALIDATION_BATCH, place.workers, share=place.share)
        scoring = self.scoring.cpu()
        sums = torch.zeros(4, dtype=torch.float64)
        picture, seen = np.zeros((1, 1, 3), np.uint8), 0
        hourglass = cast(HourglassNet, network)
        for batch, maps in predict(hourglass, stream, skeleton.mirrored(), place.device, True, place.compute):
            hits, counted = (counts.sum(dim=1) for counts in training_hits(maps, batch["heatmaps"], scoring))
            rates = (hits / counted)[counted > 0].double()
            sums += torch.stack([torch.tensor(len(maps)), self.error(maps, batch).sum(), torch.tensor(len(rates)), rates.sum()])
            if not seen:
                picture = draw_predictions(batch, maps, skeleton)
            seen += len(maps) * place.share[1]
            report(min(seen, count), count)
        return sums, picture

    def validation_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the mean loss and accuracy of the samples."""
        samples, loss, scored, accuracy = sums.tolist()
        return {"loss": loss / samples, "acc": accuracy / max(scored, 1)}

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write the network with its joints, limbs and resolution."""
        hourglass, skeleton = cast(HourglassNet, network), self.data.skeleton
        checkpoints.save_network(path, hourglass, skeleton.joints, self.size.resolution, metrics, skeleton.limbs)

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the batch of an iteration, with the names of its images."""
        samples = self._samples()
        batch = next(batches(samples, self.training.batch, 1, first=iteration, end=iteration + 1))
        names = np.array([samples.rows.images[row] for row in batch["row"]])
        return {"images": names} | {name: np.asarray(values) for name, values in batch.items()}


def squared_error(maps: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean squared error (N,) of heatmaps (N, J, h, w); batch["weights"] (N, J) weights the error of each joint.

    The sum over the joints is divided by the number of joints, not by the sum of weights, so that the errors of micro-batches,
    each multiplied by the micro-batch's share of the batch, add up to the batch's error.
    """
    squares = (maps.float() - batch["heatmaps"]).square().mean(dim=(2, 3))
    return (squares * batch["weights"]).mean(dim=1)


def focal_error(maps: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean focal error (N,) of heatmaps (N, J, h, w) in [0, 1], weighted like `squared_error`.

    Formula of Law and Deng, "CornerNet: Detecting Objects as Paired Keypoints", 2018, with alpha = 2 and beta = 4. p is the
    heatmap's value at a pixel, t the target's. The error of the target's largest pixel is -(1 - p)^2 log(p), and that of every
    other pixel is -(1 - t)^4 p^2 log(1 - p). So pixels that are nearly right, such as most of the background, hardly count.
    A target that is nowhere above 0.5, such as the rest of a blob outside of the heatmap, has no such largest pixel.
    """
    targets, p = batch["heatmaps"], maps.float()
    highest = targets.amax(dim=(2, 3), keepdim=True)
    peaks = (targets == highest) & (highest > 0.5)
    # The limits keep logarithms and gradients finite.
    missed = -((1 - p) ** 2) * p.clamp_min(1e-30).log()
    invented = -((1 - targets) ** 4) * p**2 * torch.log1p(-p.clamp_max(1 - 1e-6))
    errors = torch.where(peaks, missed, invented)
    return (errors.mean(dim=(2, 3)) * batch["weights"]).mean(dim=1)


def draw_predictions(batch: dict[str, Tensor], maps: Tensor, skeleton: Skeleton, count: int = 6) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of a batch's first people: a row with labels, a row with predictions from `maps`."""
    images = (batch["input"][:count].clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    rows = []
    for shown in (batch["heatmaps"], maps):
        points, height = decode_argmax(shown[:count].numpy())
        points = (np.where(height[..., None] > 0, points, np.nan) + 0.5) * (images.shape[1] / shown.shape[-1]) - 0.5
        rows.append([draw.draw_person(image, joints, skeleton) for image, joints in zip(images, points, strict=True)])
    return draw.contact_sheet(rows, ["labels", "network"])
