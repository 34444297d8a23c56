"""Compute the PCK of forecasts by step, from counts on which all tables, curves, intervals and tests are based.

A forecast joint is correct if it is less than 0.05 of the cropped frame's longer side away from the joint's label in the frame
of the same step (image-play). Joints that are not visible in that frame do not count; a joint without a forecast is a miss.
"""

from dataclasses import dataclass, field

import numpy as np

from stages.evaluation.significance import Difference, Hits, difference
from stages.forecasting.movements import Movements, Starts

THRESHOLD = 0.05  # a joint is correct below this distance, as a fraction of the cropped frame's longer side
THRESHOLDS = tuple(k / 100 for k in range(11))  # thresholds of curves, as published


@dataclass
class Counts:
    """Numbers of correct and of visible joints in the forecasts for a split, with S sequences, T steps and J joints."""

    hits: np.ndarray  # (S, T, J) int64: correct joints at THRESHOLD
    seen: np.ndarray  # (S, T, J) int64: visible joints
    curve: np.ndarray = field(repr=False)  # (len(THRESHOLDS), T) int64: hits of all joints at each threshold

    @classmethod
    def empty(cls, movements: Movements, steps: int) -> "Counts":
        """Return counts of 0 for all sequences of `movements`."""
        shape = (len(movements.sequence), steps, movements.joints.shape[1])
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros((len(THRESHOLDS), steps), np.int64))

    def add(self, movements: Movements, starts: Starts, forecasts: np.ndarray) -> None:
        """Add forecasts (N, T, J, 2) from N start frames, in 0-based px of the cropped frame; NaN for a missing joint."""
        truth = movements.joints[starts.rows]
        seen = ~np.isnan(truth).any(axis=-1)
        with np.errstate(invalid="ignore"):
            relative = np.linalg.norm(forecasts - truth, axis=-1) / movements.side[starts.sequence][:, None, None]
        relative = np.where(seen & ~np.isnan(relative), relative, np.inf)
        np.add.at(self.hits, starts.sequence, relative < THRESHOLD)
        np.add.at(self.seen, starts.sequence, seen)
        self.curve += np.array([(relative < threshold).sum(axis=(0, 2)) for threshold in THRESHOLDS])

    def by_step(self) -> np.ndarray:
        """Return the PCK (T,) in [0, 1] over all joints and forecasts; NaN if no joint is visible."""
        return _rate(self.hits.sum(axis=(0, 2)), self.seen.sum(axis=(0, 2)))

    def by_joint(self) -> np.ndarray:
        """Return the PCK (T, J) of each joint at each step."""
        return _rate(self.hits.sum(axis=0), self.seen.sum(axis=0))

    def by_action(self, movements: Movements) -> dict[str, np.ndarray]:
        """Return action -> PCK (T,) at each step, in order of first appearance."""
        actions = np.array(movements.action)
        rates = {}
        for action in dict.fromkeys(movements.action):
            chosen = actions == action
            rates[action] = _rate(self.hits[chosen].sum(axis=(0, 2)), self.seen[chosen].sum(axis=(0, 2)))
        return rates

    def by_threshold(self) -> np.ndarray:
        """Return the PCK (len(THRESHOLDS), T) at each threshold."""
        return _rate(self.curve, self.seen.sum(axis=(0, 2)))


def _rate(hits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return hits / np.where(seen > 0, seen, np.nan)


def difference_by_step(first: Counts, second: Counts) -> list[Difference]:
    """Return by how much the second forecaster is better than the first at each step, with paired tests over sequences.

    Both forecasters must be scored on the same start frames.
    """
    return [difference(_hits(first, step), _hits(second, step)) for step in range(first.hits.shape[1])]


def _hits(counts: Counts, step: int) -> Hits:
    """Return the hits at one step, summed over joints, for each sequence with a visible joint at this step."""
    chosen = counts.seen[:, step].any(axis=1)
    hits, seen = (values[chosen, step].astype(np.float64).sum(axis=1, keepdims=True) for values in (counts.hits, counts.seen))
    return Hits(hits, seen, "total")
