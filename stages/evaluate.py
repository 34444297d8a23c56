"""A network's accuracy on the splits of one dataset, and its predictions.

The folder gets
    accuracy.json         per split: the training accuracy, PCK over all labelled joints, and PCK per joint
    preds_<split>.h5      preds (N, J, 2): joints in pixels of the original image, 1-based as in the annotation files, NaN
                          for joints that the network does not know; confidence (N, J): height of the heatmap's peak
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.annotations import Annotations, write_h5
from datasets.errors import DataError
from datasets.progress import Report, silent
from datasets.skeletons import Skeleton, matching_joints, mirrored
from stages import metrics
from stages.checkpoints import load_network
from stages.loader import Data, Samples, batches
from stages.predict import compute_type, joints_in_image, pick_device, predict
from stages.settings import Evaluation, Input, Workspace

BATCH = 16


@dataclass(frozen=True)
class Measure:
    """The PCK that a dataset is known by: distance <= threshold x reference length of each person."""

    name: str
    threshold: float
    reference: Callable[[Annotations], np.ndarray]  # (N,) px


# PCKh is MPII's own; 0.05 x the longer side of the cropped image is how image-play scores Penn Action, whose box side is
# 200 px x scale = 1.25 x that side. FLIC and LSP are known by 0.2 x the torso, from a shoulder to the opposite hip.
MEASURES = {
    "mpii": Measure("PCKh@0.5", 0.5, lambda rows: rows.normalize),
    "penn_action": Measure("PCK@0.05", 0.05, lambda rows: rows.scale * 200 / 1.25),
    "flic": Measure("PCK@0.2", 0.2, lambda rows: rows.normalize),
    "lsp": Measure("PCK@0.2", 0.2, lambda rows: rows.normalize),
}


def evaluate(folder: Path, model: Path, data: Data, splits: list[str], evaluation: Evaluation, workspace: Workspace,
             report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Score the network in the file `model` on splits of `data`; returns what accuracy.json holds.

    Joints that the network does not know by name neither count nor cost. The training accuracy weighs each person the same.
    """
    network, description = load_network(model)
    device = pick_device(workspace.device)
    channels = matching_joints(description.joints, data.skeleton.joints)
    if all(channel is None for channel in channels):
        raise DataError(f"{model} knows none of the joints of {data.skeleton.name}; give a network for people.")
    size = Input(resolution=description.resolution)
    result: dict[str, Any] = {}
    for split in splits:
        samples = Samples(data, split, size)
        predictor = predict(
            network, batches(samples, BATCH, workspace.workers), mirrored(description.joints), device, evaluation.flip,
            compute_type(evaluation.precision, device),
        )  # fmt: skip
        scores = _Scores(data.skeleton, channels, samples.rows)
        for batch, maps in predictor:
            scores.add(batch, maps.numpy(), size.resolution)
            report(len(scores.rows_seen), len(samples), split)
        scores.write(folder / f"preds_{split}.h5")
        result[split] = scores.result()
    (folder / "accuracy.json").write_text(json.dumps(result, indent=1))
    return result


class _Scores:
    """Collects one split's predictions and accuracies batch by batch."""

    def __init__(self, skeleton: Skeleton, channels: list[int | None], rows: Annotations) -> None:
        self.skeleton, self.rows = skeleton, rows
        self.known = [j for j, channel in enumerate(channels) if channel is not None]
        self.channels = [channel for channel in channels if channel is not None]
        self.training = metrics.TrainingAccuracy([j for j in skeleton.scoring if j in self.known])
        self.rows_seen: list[int] = []
        self.preds = np.full(rows.part.shape, np.nan)
        self.confidence = np.zeros(rows.part.shape[:2])

    def add(self, batch: dict, maps: np.ndarray, resolution: int) -> None:
        """maps: the network's heatmaps (N, its joints, h, w) for the batch."""
        rows = batch["row"].numpy()
        target = batch["heatmaps"].numpy()
        predicted = np.zeros_like(target)
        predicted[:, self.known] = maps[:, self.channels]
        self.training.update_each(predicted, target)
        points, confidence = joints_in_image(maps[:, self.channels], batch["image_to_crop"].numpy(), resolution)
        self.preds[np.ix_(rows, self.known)] = points
        self.confidence[np.ix_(rows, self.known)] = confidence
        self.rows_seen.extend(rows.tolist())

    def result(self) -> dict[str, Any]:
        """The split's figures; rates in [0, 1], None where nothing counts."""
        measure = MEASURES[self.skeleton.name]
        in_mean = [j for j in self.known if self.skeleton.joints[j] not in metrics.NOT_IN_PCKH]
        pck = metrics.Pck([measure.threshold], len(self.skeleton.joints), in_mean)
        pck.update(self.preds, self.rows.part, measure.reference(self.rows))
        counted = pck.result()
        joints = {self.skeleton.joints[j]: _number(counted.joints[0, j]) for j in self.known}
        return {
            "people": len(self.rows_seen),
            "acc": _number(self.training.result()),
            "acc joints": len(self.training.scoring),
            measure.name: _number(counted.mean[0]),
            f"{measure.name} joints": len(in_mean),
            f"{measure.name} by joint": joints,
        }

    def write(self, path: Path) -> None:
        write_h5(path, {"preds": self.preds + 1, "confidence": self.confidence})


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
