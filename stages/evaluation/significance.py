"""Compute confidence intervals of accuracies, and significance tests between two networks.

People in one image, and frames of one sequence, are not independent samples. So the bootstrap resamples whole groups: images
of MPII, sequences of Penn Action.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

RESAMPLES = 10_000
SURE = 0.95  # confidence level of the intervals
_CHUNK = 2**22  # number of random numbers that are drawn at a time, to limit memory


@dataclass(frozen=True)
class Hits:
    """The hits of a network on one split, counted for each of G groups."""

    hits: np.ndarray  # (G, J): number of hits
    counts: np.ndarray  # (G, J): number of labelled joints; 0 for joints that do not count
    overall: Literal["mean", "total"]  # "mean": `rate` is the mean of the joints' rates; "total": all hits / all labels

    def rate(self) -> float:
        """Return the rate in [0, 1]; NaN if no joint counts."""
        return float(_rates(self.hits.sum(axis=0), self.counts.sum(axis=0), self.overall))

    def only(self, joints: np.ndarray) -> "Hits":
        """Return the hits on some joints only; joints: (J,) bool."""
        return Hits(self.hits * joints, self.counts * joints, self.overall)


@dataclass(frozen=True)
class Difference:
    """The difference of two networks' rates, second minus first, in [-1, 1]."""

    value: float
    low: float  # lower end of the 95 % confidence interval
    high: float  # upper end of the 95 % confidence interval
    p: float  # p-value: probability of a difference at least as large as |value| if the networks are equally good
    groups: int


def hits_by_group(distance: np.ndarray, reference: np.ndarray, threshold: float, group: np.ndarray, joints: np.ndarray,
                  overall: Literal["mean", "total"]) -> Hits:  # fmt: skip
    """Return, for each group and each joint, the number of hits and the number of scored labels.

    distance: (N, J) px, see `measures.distances_to_labels`; NaN: not scored. reference: (N,) px; people without a positive
    reference are not scored. group: (N,), number of each person's group. joints: (J,) bool, whether a joint is scored.
    """
    scored = np.isfinite(reference) & (reference > 0)
    counted = ~np.isnan(distance) & scored[:, None] & joints
    hit = counted & (distance <= threshold * np.where(scored, reference, 0.0)[:, None])
    numbers = np.unique(group, return_inverse=True)[1]
    hits, counts = (np.zeros((numbers.max(initial=-1) + 1, distance.shape[1])) for _ in range(2))
    np.add.at(hits, numbers, hit)
    np.add.at(counts, numbers, counted)
    return Hits(hits, counts, overall)


def interval(hits: Hits, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % confidence interval of the rate (percentile bootstrap over groups)."""
    return _interval(_resampled(len(hits.hits), [hits], seed)[0])


def difference(first: Hits, second: Hits, seed: int = 0) -> Difference:
    """Return the difference of two rates, second minus first, with a paired bootstrap interval and a paired permutation test.

    Both networks must be scored on the same people. The test swaps the two networks' results in each group at random
    (scipy.stats.permutation_test).
    """
    # Imported here, because the import takes a second, for which the report would wait.
    from scipy.stats import permutation_test

    rates = _resampled(len(first.hits), [first, second], seed)
    low, high = _interval(rates[1] - rates[0])
    counts = first.counts.sum(axis=0)
    # Both networks are scored on the same labels, so the difference of their rates is a sum over the groups: each group adds
    # its difference in hits at each joint, times the weight of the joint.
    weight = np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0) / max((counts > 0).sum(), 1)
    if first.overall == "total":
        weight = np.where(counts > 0, 1 / max(counts.sum(), 1), 0.0)
    shares = (second.hits - first.hits) @ weight
    # Scipy does not accept a single group. Swapping the networks' results in one group changes only the sign, so p = 1.
    if len(shares) < 2:
        return Difference(float(shares.sum()), low, high, 1.0, len(shares))
    test = permutation_test(
        (shares,), lambda values, axis: values.sum(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, batch=max(1, _CHUNK // max(len(shares), 1)), rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Difference(float(shares.sum()), low, high, float(test.pvalue), len(shares))


def _resampled(groups: int, networks: list[Hits], seed: int) -> list[np.ndarray]:
    """Return each network's rates (RESAMPLES,) on groups drawn with replacement; the draws are the same for all networks."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // max(groups, 1))
    rates: list[list[np.ndarray]] = [[] for _ in networks]
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        drawn = rng.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)
        for found, network in zip(rates, networks, strict=True):
            found.append(_rates(times @ network.hits, times @ network.counts, network.overall))
    return [np.concatenate(found) for found in rates]


def _rates(hits: np.ndarray, counts: np.ndarray, overall: str) -> np.ndarray:
    """Return the rates (...) computed from hits and counts, both (..., J); NaN if no joint counts."""
    if overall == "total":
        hits, counts = hits.sum(axis=-1, keepdims=True), counts.sum(axis=-1, keepdims=True)
    counted = counts > 0
    each = np.where(counted, hits / np.maximum(counts, 1), 0.0).sum(axis=-1)
    joints = counted.sum(axis=-1)
    return np.where(joints > 0, each / np.maximum(joints, 1), np.nan)


def _interval(rates: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(rates, [(1 - SURE) / 2, (1 + SURE) / 2]) if not np.isnan(rates).all() else (np.nan, np.nan)
    return float(low), float(high)
