"""Compute accuracies batch by batch: the training accuracy, PCK, PCKh and the pixel error.

Points are (N, J, 2) in px; predictions and targets have the same coordinate space. NaN marks a joint that is not labelled
(target) or not predicted (prediction). Rates are in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from datasets.imaging.heatmaps import decode_argmax

if TYPE_CHECKING:  # the report needs this module, and must not wait for the import of torch
    from torch import Tensor

PCKH_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # thresholds of PCKh, as fractions of the head size


def training_accuracy(predicted: np.ndarray, target: np.ndarray, scoring: Sequence[int], threshold: float = 0.5) -> float:
    """Return the published training accuracy of one batch (pose-hg-train, branch image-play); NaN if no joint counts.

    predicted, target: heatmaps (N, J, h, w). A joint is a hit if the largest pixels of the two heatmaps are at most
    threshold * (longer side of the heatmap / 10) px apart. A joint does not count if the target's largest pixel lies in the
    first row or column; the target of an absent joint is 0 everywhere, so its largest pixel is the first one. The accuracy is
    the mean hit rate of the `scoring` joints that count in at least one sample; all these joints have equal weight.
    """
    found, true = (decode_argmax(heatmaps)[0][:, list(scoring)] for heatmaps in (predicted, target))
    counts = (true > 0).all(axis=-1)
    distance = np.linalg.norm(found - true, axis=-1) / (max(target.shape[-2:]) / 10)
    seen = counts.sum(axis=0)
    hits = ((distance <= threshold) & counts).sum(axis=0)
    rates = hits[seen > 0] / seen[seen > 0]
    return float(rates.mean()) if rates.size else float("nan")


def training_hits(predicted: "Tensor", target: "Tensor", scoring: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Return two float tensors (N, S): 1 for a hit (as in `training_accuracy`, threshold 0.5), and 1 for a joint that counts.

    predicted, target: heatmaps (N, J, h, w); scoring: indices of S joints (S,), on the device of the heatmaps. To get the
    accuracy, sum both tensors over the samples and pass the sums to `mean_rate`.
    """
    height, width = target.shape[-2:]
    found, true = (maps.index_select(1, scoring).flatten(2).argmax(dim=2) for maps in (predicted, target))
    x, y = true % width, true // width
    squared = (found % width - x) ** 2 + (found // width - y) ** 2
    seen = (x > 0) & (y > 0)
    return (seen & (squared <= (max(height, width) / 20) ** 2)).float(), seen.float()


def mean_rate(hits: "Tensor", seen: "Tensor") -> float:
    """Return the mean of hits / seen, both (S,), over the joints with seen > 0; NaN if there is no such joint."""
    return (hits.double() / seen)[seen > 0].mean().item()


class TrainingAccuracy:
    """The mean of `training_accuracy` over batches; all batches have equal weight, as in the published training.

    A batch without a joint that counts is skipped; the published program divides by zero for such a batch.
    """

    def __init__(self, scoring: Sequence[int], threshold: float = 0.5) -> None:
        self.scoring, self.threshold = tuple(scoring), threshold
        self.sum, self.batches = 0.0, 0

    def update(self, predicted: np.ndarray, target: np.ndarray) -> float:
        """Add a batch of heatmaps (N, J, h, w); return the accuracy of this batch, NaN if no joint counts."""
        accuracy = training_accuracy(predicted, target, self.scoring, self.threshold)
        if not np.isnan(accuracy):
            self.sum += accuracy
            self.batches += 1
        return accuracy

    def update_each(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Add heatmaps (N, J, h, w) as N batches of one sample, as the published program does in validation."""
        for one, truth in zip(predicted, target, strict=True):
            self.update(one[None], truth[None])

    def result(self) -> float:
        """Return the mean over all batches so far; NaN before the first counted batch."""
        return self.sum / self.batches if self.batches else float("nan")


@dataclass(frozen=True)
class PckResult:
    """The results of `Pck`; a rate is NaN if no joint was labelled."""

    thresholds: np.ndarray  # (T,)
    joints: np.ndarray  # (T, J): hit rate of each joint
    mean: np.ndarray  # (T,): mean hit rate of the joints listed in `Pck.in_mean`, as in tables on MPII's validation split
    total: np.ndarray  # (T,): hits / labels of all joints listed in `Pck.in_mean`, as in MPII's own evaluation
    counts: np.ndarray  # (J,) int64: number of labels of each joint
    pixels: np.ndarray  # (J,): mean distance in px from label to prediction
    mean_pixels: float  # mean distance in px from label to prediction, over all joints that enter `mean`

    def auc(self) -> float:
        """Return the area under the curve of `total`, divided by the range of the thresholds.

        There must be at least two thresholds, in ascending order. MPII's own evaluation uses 0, 0.01, 0.02 ... 0.5.
        """
        return float(np.trapezoid(self.total, self.thresholds) / (self.thresholds[-1] - self.thresholds[0]))


class Pck:
    """Percentage of correct keypoints (distance / reference length <= threshold) at several thresholds.

    Each person has one reference length, in px like the points. If this length is the head size (`Annotations.normalize`), the
    result is PCKh; `Measure.reference` computes the reference lengths of a dataset's measures. A person without a positive
    reference length does not count. A labelled joint without a prediction is a miss.
    """

    def __init__(self, thresholds: Sequence[float], joints: int, in_mean: Sequence[int] | None = None) -> None:
        """Start with zero counts.

        joints: number of joints, J. in_mean: indices of the joints that count in `mean` and `total`; default: all joints.
        """
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
        """Return the rates of all batches so far."""
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
    """Return values / counts; NaN for a count of 0."""
    return np.asarray(values) / np.where(counts > 0, counts, np.nan)


def by_part(rates: np.ndarray, joints: Sequence[str]) -> dict[str, np.ndarray]:
    """Return body part -> rate (...), as in PCKh tables: the mean of the rates (..., J) of the part's left and right joint.

    The name of a body part is the joint's name without the side: ankle, knee, hip ... head_top.
    """
    parts: dict[str, list[int]] = {}
    for i, name in enumerate(joints):
        parts.setdefault(name.removeprefix("right_").removeprefix("left_"), []).append(i)
    return {name: np.asarray(rates)[..., numbers].mean(axis=-1) for name, numbers in parts.items()}
