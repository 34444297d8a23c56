"""Write the accuracy of each joint and of each action to per_joint.csv and per_action.csv; rates are in per cent.

Columns of both files: split, metric, threshold (as a multiple of the metric's reference length).
Further columns of per_joint.csv: joint, labelled (number of scored labels), rate.
Further columns of per_action.csv, for the joints that count in the dataset's mean: action, people (number of people), labelled
(number of scored labels), mean (mean of the joints' rates), total (number of hits / number of scored labels).

Joints that are not predicted for any person have no row. Datasets without actions have no per_action.csv.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.dataset import Dataset
from datasets.files import csv_text
from datasets.measures import Measure, People
from stages.evaluation.measures import joints_in_mean
from stages.evaluation.metrics import Pck, PckResult

# For each split: its name, its N people, and the predicted joints (N, J, 2) of these people in 0-based px of the images.
Scored = list[tuple[str, People, np.ndarray]]


def write(folder: Path, scored: Scored, dataset: Dataset) -> None:
    """Write per_joint.csv and per_action.csv for the splits in `scored`; each of these splits must have labels.

    Raises OSError, for example for a full disk.
    """
    measured = [(split, people, preds, measure) for split, people, preds in scored for measure in dataset.measures]
    by_joint = pd.DataFrame(row for one in measured for row in _joints(*one, dataset))
    by_joint.to_csv(folder / "per_joint.csv", index=False)
    by_action = pd.DataFrame(row for one in measured for row in _actions(*one, dataset))
    if len(by_action):
        by_action.to_csv(folder / "per_action.csv", index=False)


def _joints(split: str, people: People, preds: np.ndarray, measure: Measure, dataset: Dataset) -> Iterator[dict]:
    found = _pck(people, preds, measure, dataset, np.ones(len(preds), bool))
    for joint, rate, count in zip(dataset.skeleton.joints, found.joints[0], found.counts, strict=True):
        if not np.isnan(preds[:, dataset.skeleton.joints.index(joint)]).all():
            yield _named(split, measure) | {"joint": joint, "labelled": count, "rate": _percent(rate)}


def _actions(split: str, people: People, preds: np.ndarray, measure: Measure, dataset: Dataset) -> Iterator[dict]:
    actions = np.array(people.actions)
    for action in sorted(set(people.actions) - {""}):
        those = actions == action
        found = _pck(people, preds, measure, dataset, those)
        yield _named(split, measure) | {
            "action": csv_text(action),  # the names come from downloaded archives, which are not trusted
            "people": int(those.sum()),
            "labelled": int(found.counts[joints_in_mean(preds, dataset.skeleton)].sum()),
            "mean": _percent(found.mean[0]),
            "total": _percent(found.total[0]),
        }


def _pck(people: People, preds: np.ndarray, measure: Measure, dataset: Dataset, those: np.ndarray) -> PckResult:
    counted = Pck([measure.threshold], len(dataset.skeleton.joints), joints_in_mean(preds, dataset.skeleton))
    counted.update(preds[those], people.rows.part[those], measure.reference(people)[those])
    return counted.result()


def _named(split: str, measure: Measure) -> dict:
    return {"split": split, "metric": measure.name, "threshold": measure.threshold}


def _percent(rate: float) -> float:
    return round(100 * float(rate), 3)
