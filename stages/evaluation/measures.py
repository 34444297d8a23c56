"""Each dataset's standard metrics, computed as its authors do, and the people that they are computed on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from datasets import penn_action
from datasets.dataset_files import DatasetFiles
from datasets.formats.annotations import Annotations
from datasets.skeletons import PENN_ACTION, Skeleton
from stages.evaluation import metrics

STEPS = 50  # intervals of a PCK curve; as in MPII's evaluation, which has a step of 0.01 up to 0.5
PEOPLE = 4096  # number of people scored at a time, to limit memory


@dataclass(frozen=True)
class People:
    """The N people of one split, with the data for scoring."""

    rows: Annotations
    groups: np.ndarray  # (N,) int64: people of one image or sequence, who are not independent samples, share a number
    actions: list[str]  # action of the sequence; "" for datasets without actions
    box: np.ndarray  # (N,) px, longer side of the labelled box; NaN for datasets without boxes


def people_of(data: DatasetFiles, split: str) -> People:
    """Return the people of a split. Penn Action's actions and boxes are read from the label files next to the frames."""
    rows = data.split(split)
    names = [image.rpartition("/")[0] or image for image in rows.images]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if data.skeleton is not PENN_ACTION:
        return People(rows, groups, [""] * len(rows), np.full(len(rows), np.nan))
    labels = {name: penn_action.read_label(data.images.parent / "labels" / f"{name}.mat") for name in sorted(set(names))}
    frames = [int(image.rpartition("/")[2].removesuffix(".jpg")) - 1 for image in rows.images]
    # In two sequences the last frame has no box; the previous frame's box is used, as others who score Penn Action do.
    boxes = np.array(
        [labels[name].bbox[min(frame, len(labels[name].bbox) - 1)] for name, frame in zip(names, frames, strict=True)]
    )
    return People(rows, groups, [labels[name].action for name in names], (boxes[:, 2:] - boxes[:, :2]).max(axis=1))


@dataclass(frozen=True)
class Measure:
    """A PCK: a joint is correct if its error is at most `threshold` times the reference length of the person."""

    name: str
    threshold: float
    reference: Callable[[People], np.ndarray]  # (N,) px; if not positive or NaN, the person is not scored
    overall: Literal["mean", "total"]  # the dataset authors' figure: mean of the joints' rates, or rate over all joints


def _torso(skeleton: Skeleton) -> Callable[[People], np.ndarray]:
    shoulder, hip = skeleton.joints.index("left_shoulder"), skeleton.joints.index("right_hip")
    return lambda people: metrics.joint_distance(people.rows.part, shoulder, hip)


# The comparison shows the first measure of each dataset. MPII: tables of PCKh on the validation split show the mean of the
# joints' rates; MPII's own evaluation of the test split shows the total. Penn Action: image-play scores forecasts by 0.05 of
# the longer side of the cropped image (the box side is 200 px x scale, 1.25 x this side); pose estimators (LSTM Pose Machines
# and its successors) are scored by 0.2 of the labelled box or of the torso.
_PCK_TORSO = Measure("PCK@0.2 of the torso", 0.2, lambda people: people.rows.normalize, "total")
MEASURES = {
    "mpii": (
        Measure("PCKh@0.5", 0.5, lambda people: people.rows.normalize, "mean"),
        Measure("PCKh@0.1", 0.1, lambda people: people.rows.normalize, "mean"),
    ),
    "penn_action": (
        Measure("PCK@0.05", 0.05, lambda people: people.rows.scale * 200 / 1.25, "total"),
        Measure("PCK@0.2 of the box", 0.2, lambda people: people.box, "total"),
        Measure("PCK@0.2 of the torso", 0.2, _torso(PENN_ACTION), "total"),
    ),
    "flic": (_PCK_TORSO,),
    "lsp": (_PCK_TORSO,),
    "lspet": (_PCK_TORSO,),
}


def score(people: People, preds: np.ndarray, skeleton: Skeleton) -> dict[str, Any]:
    """Return the figures of all measures of a dataset, by name of the measure.

    preds: (N, J, 2) in 0-based px of the images. A joint that is NaN for all people is unknown to the network and is not
    scored. Rates are in [0, 1], None if no joint is scored. Each measure has: value (the figure that the dataset's authors
    report), visible (`value` over visible joints only), mean, total, auc (area under the curve of `total` up to the threshold),
    curve (of `value`, at evenly spaced thresholds from 0), joints (number of joints in the mean), and by joint.
    """
    return {measure.name: _score(people, preds, skeleton, measure) for measure in MEASURES[skeleton.name]}


def known_joints(preds: np.ndarray) -> np.ndarray:
    """Return the indices of joints that are not NaN for all people in predictions (N, J, 2)."""
    return np.flatnonzero(~np.isnan(preds).all(axis=(0, 2)))


def _score(people: People, preds: np.ndarray, skeleton: Skeleton, measure: Measure) -> dict[str, Any]:
    known = known_joints(preds)
    in_mean = [j for j in known if skeleton.joints[j] not in metrics.NOT_IN_PCKH]
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
    return {
        "value": number(curve[-1]),
        "visible": number(getattr(visible.result(), measure.overall)[-1]),
        "mean": number(result.mean[-1]),
        "total": number(result.total[-1]),
        "auc": number(result.auc()),
        "curve": [number(value) for value in curve],
        "joints": len(in_mean),
        "by joint": {skeleton.joints[j]: number(result.joints[-1, j]) for j in known},
    }


def number(value: float) -> float | None:
    """Return a number for JSON, with None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
