"""Score predictions by the accuracy measures of a dataset, such as PCKh@0.5."""

import numpy as np

from datasets.dataset import Dataset
from datasets.measures import Measure, People
from datasets.skeletons import Skeleton
from stages.evaluation import metrics
from stages.evaluation.accuracy import MeasureMetrics

STEPS = 50  # number of steps between the thresholds of a PCK curve, as in MPII's evaluation: 0 to 0.5 in steps of 0.01
PEOPLE = 4096  # number of people scored at a time, to limit memory


def score(people: People, preds: np.ndarray, dataset: Dataset) -> dict[str, MeasureMetrics]:
    """Return name of a measure -> results of the predictions by this measure, for all measures of the dataset.

    preds: (N, J, 2) in 0-based px of the images. A joint that is NaN for all people is unknown to the network and is not
    scored.
    """
    return {measure.name: _score(people, preds, dataset, measure) for measure in dataset.measures}


def known_joints(preds: np.ndarray) -> np.ndarray:
    """Return the indices of the joints that are predicted for at least one person.

    preds: (N, J, 2), NaN where not predicted.
    """
    return np.flatnonzero(~np.isnan(preds).all(axis=(0, 2)))


def distances_to_labels(preds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the distance (N, J) in px from each prediction to its label; preds and labels: (N, J, 2) px.

    The distance is infinite for a labelled joint that was not predicted, which counts as a miss. It is NaN for a joint without
    a label, and for joints that the network does not know.
    """
    distance = np.linalg.norm(preds - labels, axis=-1)
    labelled = ~np.isnan(labels).any(axis=-1)
    known = np.isin(np.arange(preds.shape[1]), known_joints(preds))
    distance[np.isnan(distance) & labelled & known] = np.inf
    return distance


def joints_in_mean(preds: np.ndarray, skeleton: Skeleton) -> list[int]:
    """Return the indices of the predicted joints that count in the mean hit rate; preds: (N, J, 2), NaN if not predicted."""
    return [j for j in known_joints(preds) if skeleton.joints[j] not in skeleton.not_in_mean]


def _score(people: People, preds: np.ndarray, dataset: Dataset, measure: Measure) -> MeasureMetrics:
    skeleton, known, in_mean = dataset.skeleton, known_joints(preds), joints_in_mean(preds, dataset.skeleton)
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
    return MeasureMetrics(
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
    """Return a value as a number for JSON: NaN becomes None, because JSON has no NaN."""
    return None if np.isnan(value) else float(value)
