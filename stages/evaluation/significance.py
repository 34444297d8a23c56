"""How sure an accuracy is, and whether one network is better than another.

People of one image and frames of one sequence are no independent samples, so what is resampled is the group: an image of
MPII, a sequence of Penn Action.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import permutation_test

RESAMPLES = 10_000
SURE = 0.95  # of the intervals
_CHUNK = 2**22  # random numbers drawn at a time


@dataclass(frozen=True)
class Hits:
    """What a network hit on one split, counted in each of G groups."""

    hits: np.ndarray  # (G, J)
    counts: np.ndarray  # (G, J): labelled joints; 0 for joints that do not count
    overall: Literal["mean", "total"]  # see `measures.Measure`

    def rate(self) -> float:
        """In [0, 1]; NaN where nothing counts."""
        return float(_rates(self.hits.sum(axis=0), self.counts.sum(axis=0), self.overall))

    def only(self, joints: np.ndarray) -> "Hits":
        """The same on some joints, (J,) bool."""
        return Hits(self.hits * joints, self.counts * joints, self.overall)


@dataclass(frozen=True)
class Difference:
    """By how much the second of two networks is better, as parts of 1."""

    value: float
    low: float  # the interval that holds the true difference with 95 %
    high: float
    p: float  # how often a difference as large comes out by chance where there is none
    groups: int


def hits_by_group(distance: np.ndarray, reference: np.ndarray, threshold: float, group: np.ndarray, joints: np.ndarray,
                  overall: Literal["mean", "total"]) -> Hits:  # fmt: skip
    """Count hits: distance (N, J) px, NaN where not labelled; reference (N,) px; group (N,); joints (J,) bool: which count."""
    scored = np.isfinite(reference) & (reference > 0)
    counted = ~np.isnan(distance) & scored[:, None] & joints
    hit = counted & (distance <= threshold * np.where(scored, reference, 0.0)[:, None])
    numbers = np.unique(group, return_inverse=True)[1]
    hits, counts = (np.zeros((numbers.max(initial=-1) + 1, distance.shape[1])) for _ in range(2))
    np.add.at(hits, numbers, hit)
    np.add.at(counts, numbers, counted)
    return Hits(hits, counts, overall)


def interval(hits: Hits, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the rate by the percentile bootstrap over groups."""
    return _interval(_resampled(len(hits.hits), [hits], seed)[0])


def difference(first: Hits, second: Hits, seed: int = 0) -> Difference:
    """Second minus first on the same people and joints: paired bootstrap interval, paired permutation test.

    The test exchanges the two networks' results in each group at random (scipy.stats.permutation_test).
    """
    rates = _resampled(len(first.hits), [first, second], seed)
    low, high = _interval(rates[1] - rates[0])
    counts = first.counts.sum(axis=0)
    # Both have the same counts, so the difference is a sum over the groups, each with its weight.
    weight = np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0) / max((counts > 0).sum(), 1)
    if first.overall == "total":
        weight = np.where(counts > 0, 1 / max(counts.sum(), 1), 0.0)
    shares = (second.hits - first.hits) @ weight
    test = permutation_test(
        (shares,), lambda values, axis: values.sum(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, batch=max(1, _CHUNK // max(len(shares), 1)), rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Difference(float(shares.sum()), low, high, float(test.pvalue), len(shares))


def _resampled(groups: int, networks: list[Hits], seed: int) -> list[np.ndarray]:
    """Rates (RESAMPLES,) of each network on groups drawn with replacement, the same groups for all."""
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
    """Rates (...) of hits and counts (..., J)."""
    if overall == "total":
        hits, counts = hits.sum(axis=-1, keepdims=True), counts.sum(axis=-1, keepdims=True)
    counted = counts > 0
    each = np.where(counted, hits / np.maximum(counts, 1), 0.0).sum(axis=-1)
    joints = counted.sum(axis=-1)
    return np.where(joints > 0, each / np.maximum(joints, 1), np.nan)


def _interval(rates: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(rates, [(1 - SURE) / 2, (1 + SURE) / 2]) if not np.isnan(rates).all() else (np.nan, np.nan)
    return float(low), float(high)
