"""Accuracies, each computed batch by batch in memory bounded by the batch: the training accuracy, PCK(h), pixel error.

Points are (N, J, 2) in px, both arguments in the same space; NaN marks a joint that is not labelled (target) or not
found (prediction). Rates are in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from datasets.imaging.heatmaps import decode_argmax
from datasets.skeletons import Skeleton

PCKH_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # parts of the head size, `Annotations.normalize`


def training_accuracy(predicted: np.ndarray, target: np.ndarray, scoring: Sequence[int], threshold: float = 0.5) -> float:
    """The published training's accuracy of one batch (pose-hg-train, branch image-play), NaN where no joint counts.

    predicted, target: heatmaps (N, J, h, w). A joint is hit where the largest pixels of both lie at most
    threshold * (longer side / 10) px apart. It does not count where the target's largest pixel lies in the first row or
    column, which is where absent joints end up. The accuracy is the mean, over those of the `scoring` joints with at
    least one counted sample, of their hit rates: a joint weighs the same however many samples show it.
    """
    found, true = (decode_argmax(heatmaps)[0][:, list(scoring)] for heatmaps in (predicted, target))
    counts = (true > 0).all(axis=-1)
    distance = np.linalg.norm(found - true, axis=-1) / (max(target.shape[-2:]) / 10)
    seen = counts.sum(axis=0)
    hits = ((distance <= threshold) & counts).sum(axis=0)
    rates = hits[seen > 0] / seen[seen > 0]
    return float(rates.mean()) if rates.size else float("nan")


def training_hits(predicted: Tensor, target: Tensor, scoring: Tensor) -> tuple[Tensor, Tensor]:
    """What `training_accuracy` counts, on any device: hits and counted joints of each sample, two (N, S) of 0 and 1.

    predicted, target: heatmaps (N, J, h, w); scoring: numbers of S joints (S,), on the same device. Sums over samples give the
    accuracy by `mean_rate`.
    """
    height, width = target.shape[-2:]
    found, true = (maps.index_select(1, scoring).flatten(2).argmax(dim=2) for maps in (predicted, target))
    x, y = true % width, true // width
    squared = (found % width - x) ** 2 + (found // width - y) ** 2
    seen = (x > 0) & (y > 0)
    return (seen & (squared <= (max(height, width) / 20) ** 2)).float(), seen.float()


def mean_rate(hits: Tensor, seen: Tensor) -> float:
    """Mean of hits / seen, (S,) each, over the joints that were seen; NaN where there is none."""
    return (hits.double() / seen)[seen > 0].mean().item()


class TrainingAccuracy:
    """Mean of `training_accuracy` over batches, each batch weighing the same as in the published training.

    Batches without a single counted joint are left out; the published program would have divided by zero.
    """

    def __init__(self, scoring: Sequence[int], threshold: float = 0.5) -> None:
        self.scoring, self.threshold = tuple(scoring), threshold
        self.sum, self.batches = 0.0, 0

    def update(self, predicted: np.ndarray, target: np.ndarray) -> float:
        """Add a batch of heatmaps (N, J, h, w); returns its own accuracy, NaN where no joint counts."""
        accuracy = training_accuracy(predicted, target, self.scoring, self.threshold)
        if not np.isnan(accuracy):
            self.sum += accuracy
            self.batches += 1
        return accuracy

    def update_each(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Add heatmaps (N, J, h, w) as N batches of one, as the published program validates."""
        for one, truth in zip(predicted, target, strict=True):
            self.update(one[None], truth[None])

    def result(self) -> float:
        """Mean over the batches so far, NaN before the first that counts."""
        return self.sum / self.batches if self.batches else float("nan")


@dataclass(frozen=True)
class PckResult:
    """What `Pck` has counted. NaN stands where nothing was labelled."""

    thresholds: np.ndarray  # (T,)
    joints: np.ndarray  # (T, J): hit rate of each joint
    mean: np.ndarray  # (T,): mean of the joints' rates; what tables on MPII's validation split show
    total: np.ndarray  # (T,): hits of all joints / labelled joints; the total of MPII's own evaluation
    counts: np.ndarray  # (J,) int64: labelled joints
    pixels: np.ndarray  # (J,): mean distance in px where there is a prediction
    mean_pixels: float  # the same over all joints of the mean

    def auc(self) -> float:
        """Area under the curve of `total` over the thresholds (two at least, rising), divided by their range, as in MPII's
        own evaluation, where they are 0, 0.01 .. 0.5."""
        return float(np.trapezoid(self.total, self.thresholds) / (self.thresholds[-1] - self.thresholds[0]))


class Pck:
    """Percentage of correct keypoints: distance / reference length <= threshold, at several thresholds at once.

    The reference length is one number a person, in the px of the points: the head size makes it PCKh
    (`Annotations.normalize`), `measures` has the others. A person without a positive one
    cannot be scored and does not count. A labelled joint without a prediction is a miss.
    """

    def __init__(self, thresholds: Sequence[float], joints: int, in_mean: Sequence[int] | None = None) -> None:
        """joints: J; in_mean: the joints that `mean` and `total` take in, all by default."""
        self.thresholds = np.asarray(thresholds, dtype=np.float64)
        self.in_mean = np.arange(joints) if in_mean is None else np.asarray(in_mean, dtype=np.int64)
        self.hits = np.zeros((len(self.thresholds), joints), np.int64)
        self.counts = np.zeros(joints, np.int64)
        self.found = np.zeros(joints, np.int64)
        self.distance = np.zeros(joints)

    def update(self, predicted: np.ndarray, target: np.ndarray, reference: np.ndarray) -> None:
        """Add a batch: predicted and target points (N, J, 2), reference lengths (N,)."""
        reference = np.asarray(reference, dtype=np.float64)[:, None]
        distance = np.linalg.norm(predicted - target, axis=-1)
        labelled = ~np.isnan(target).any(axis=-1) & np.isfinite(reference) & (reference > 0)
        found = labelled & np.isfinite(distance)
        relative = np.where(found, distance, np.inf) / np.where(labelled, reference, 1.0)
        self.hits += (relative <= self.thresholds[:, None, None]).sum(axis=1)
        self.counts += labelled.sum(axis=0)
        self.found += found.sum(axis=0)
        self.distance += np.where(found, distance, 0.0).sum(axis=0)

    def result(self) -> PckResult:
        """The rates of everything added so far."""
        rates = _divide(self.hits, self.counts)
        counted = self.in_mean[self.counts[self.in_mean] > 0]
        return PckResult(
            thresholds=self.thresholds,
            joints=rates,
            mean=_divide(rates[:, counted].sum(axis=1), np.array(len(counted))),
            total=_divide(self.hits[:, counted].sum(axis=1), self.counts[counted].sum()),
            counts=self.counts.copy(),
            pixels=_divide(self.distance, self.found),
            mean_pixels=float(_divide(self.distance[counted].sum(), self.found[counted].sum())),
        )


def _divide(values: ArrayLike, counts: np.ndarray) -> np.ndarray:
    """values / counts, NaN where the count is 0."""
    return np.asarray(values) / np.where(counts > 0, counts, np.nan)


def pckh_joints(skeleton: Skeleton) -> list[int]:
    """Return the numbers of the joints that tables of PCKh take into their mean."""
    return [i for i, name in enumerate(skeleton.joints) if name not in skeleton.not_in_mean]


def by_part(rates: np.ndarray, joints: Sequence[str]) -> dict[str, np.ndarray]:
    """Rates (..., J) of joints as rates (...) of body parts: the mean of left and right, as tables of PCKh have it.

    The part's name is the joint's without its side: ankle, knee, hip ... head_top.
    """
    parts: dict[str, list[int]] = {}
    for i, name in enumerate(joints):
        parts.setdefault(name.removeprefix("right_").removeprefix("left_"), []).append(i)
    return {name: np.asarray(rates)[..., numbers].mean(axis=-1) for name, numbers in parts.items()}
