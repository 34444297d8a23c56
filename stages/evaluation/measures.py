"""Each dataset's standard metrics, computed as its authors do, and the people they are computed on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from datasets import penn_action
from datasets.dataset_files import DatasetFiles
from datasets.formats.annotations import Annotations
from datasets.skeletons import PENN_ACTION, Skeleton
from stages.evaluation import metrics

STEPS = 50  # of a curve; MPII's evaluation has one every 0.01 of PCKh up to 0.5
PEOPLE = 4096  # scored at a time


@dataclass(frozen=True)
class People:
    """The people of one split as they are scored; N rows."""

    rows: Annotations
    groups: np.ndarray  # (N,) int64: people of one image or one sequence, who are no independent samples, share a number
    actions: list[str]  # of the sequence; "" where the dataset has none
    box: np.ndarray  # (N,) px, longer side of the label's own box; NaN where the dataset has none


def people_of(data: DatasetFiles, split: str) -> People:
    """The people of a split. For Penn Action, actions and boxes come from the labels beside the frames."""
    rows = data.split(split)
    names = [image.rpartition("/")[0] or image for image in rows.images]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if data.skeleton is not PENN_ACTION:
        return People(rows, groups, [""] * len(rows), np.full(len(rows), np.nan))
    labels = {name: penn_action.read_label(data.images.parent / "labels" / f"{name}.mat") for name in sorted(set(names))}
    frames = [int(image.rpartition("/")[2].removesuffix(".jpg")) - 1 for image in rows.images]
    # The two sequences whose last frame has no box repeat the one before, as others do who score Penn Action.
    boxes = np.array(
        [labels[name].bbox[min(frame, len(labels[name].bbox) - 1)] for name, frame in zip(names, frames, strict=True)]
    )
    return People(rows, groups, [labels[name].action for name in names], (boxes[:, 2:] - boxes[:, :2]).max(axis=1))


@dataclass(frozen=True)
class Measure:
    """A PCK: a joint is right within `threshold` times the reference length of its person."""

    name: str
    threshold: float
    reference: Callable[[People], np.ndarray]  # (N,) px; not positive or NaN: the person cannot be scored
    overall: Literal["mean", "total"]  # what its owners report: the mean of the joints' rates, or all joints counted alike


def _torso(skeleton: Skeleton) -> Callable[[People], np.ndarray]:
    shoulder, hip = skeleton.joints.index("left_shoulder"), skeleton.joints.index("right_hip")
    return lambda people: metrics.joint_distance(people.rows.part, shoulder, hip)


# The first of each is the one that the comparison shows. PCKh: tables on MPII's validation split show the mean of the
# joints' rates (MPII's own evaluation of the test split shows the total). The longer side of the cropped image is how
# image-play scores forecasts on Penn Action (the box side is 200 px x scale, 1.25 x that side); 0.2 of the label's box or
# of the torso is how pose estimators are scored on it (LSTM Pose Machines and its successors).
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
    """The figures of all measures of a dataset, for predictions (N, J, 2) in the images' 0-based px.

    Joints that are NaN for everybody are unknown to the network: they neither count nor cost. Rates are in [0, 1], None
    where nothing counts. Name -> value (the owners' figure), visible (the same over visible joints only), mean, total,
    auc (area under the curve of `total` up to the threshold), curve (of `value`, at evenly spaced thresholds from 0 on),
    joints (how many enter the mean) and by joint.
    """
    return {measure.name: _score(people, preds, skeleton, measure) for measure in MEASURES[skeleton.name]}


def known_joints(preds: np.ndarray) -> np.ndarray:
    """The joints of predictions (N, J, 2) that are not NaN for everybody."""
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
    """For JSON, which knows no NaN."""
    return None if np.isnan(value) else float(value)
