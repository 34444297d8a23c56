"""The figures of a dataset's measures for predictions."""

import numpy as np

from datasets.dataset import Dataset
from datasets.measures import Measure, People
from stages.evaluation import metrics
from stages.evaluation.accuracy import MeasureFigures

STEPS = 50  # of a curve; MPII's evaluation has one every 0.01 of PCKh up to 0.5
PEOPLE = 4096  # scored at a time


def score(people: People, preds: np.ndarray, dataset: Dataset) -> dict[str, MeasureFigures]:
    """Return the figures of all measures of a dataset, by name, for predictions (N, J, 2) in the images' 0-based px.

    Joints that are NaN for everybody are unknown to the network: they neither count nor cost.
    """
    return {measure.name: _score(people, preds, dataset, measure) for measure in dataset.measures}


def known_joints(preds: np.ndarray) -> np.ndarray:
    """The joints of predictions (N, J, 2) that are not NaN for everybody."""
    return np.flatnonzero(~np.isnan(preds).all(axis=(0, 2)))


def _score(people: People, preds: np.ndarray, dataset: Dataset, measure: Measure) -> MeasureFigures:
    skeleton, known = dataset.skeleton, known_joints(preds)
    in_mean = [j for j in known if skeleton.joints[j] not in skeleton.not_in_mean]
    thresholds = np.linspace(0, measure.threshold, STEPS + 1).tolist()
    every, visible = (metrics.Pck(thresholds, len(skeleton.joints), in_mean) for _ in range(2))
    part, reference = people.rows.part, measure.reference(people)
    seen = np.where(people.rows.visible[:, :, None], part, np.nan)
    for start in range(0, len(preds), PEOPLE):
        some = slice(start, start + PEOPLE)
        every.update(preds[some], part[some], reference[some])
        visible.update(preds[some], seen[some], reference[some])
    result = every.result()
    curve = getattr(result, measure.overall)
    return MeasureFigures(
        threshold=measure.threshold,
        overall=measure.overall,
        value=number(curve[-1]),
        visible=number(getattr(visible.result(), measure.overall)[-1]),
        mean=number(result.mean[-1]),
        total=number(result.total[-1]),
        auc=number(result.auc()),
        curve=[number(value) for value in curve],
        in_mean=[skeleton.joints[j] for j in in_mean],
        by_joint={skeleton.joints[j]: number(result.joints[-1, j]) for j in known},
    )


def number(value: float) -> float | None:
    """Return a figure as JSON has it, which knows no NaN."""
    return None if np.isnan(value) else float(value)
