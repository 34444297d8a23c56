"""Evaluate a network on the splits of one dataset: write predictions, accuracies and an error analysis.

Files in the result folder:
    accuracy.json          the dataset, and for each split: number of people, training accuracy, mean error in px, and the
                           results of `measures.score`
    preds_<split>.h5       preds (N, J, 2): joints in px of the original image, 1-based as in the annotation files,
                           NaN for joints that the network does not know; confidence (N, J): height of the heatmap's peak
    people_<split>.h5      distance (N, J) in px: see `measures.distances_to_labels`;
                           reference (N, M): reference lengths of the M measures in px;
                           group (N,): number of each person's group (an image or a sequence)
    preds_<split>.mat      preds (J, 2, N): the joints of preds_<split>.h5
    heatmaps_<split>.h5    heatmaps (N, J, h, w) float32, only with the setting [evaluate] heatmaps
    pred_keypoints_mpii.mat    the submission for MPII's evaluation, only for MPII's test people
    per_joint.csv, per_action.csv              see `groups`
    failures_<split>.csv, worst_<split>.png    see `failures`
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats.hdf5 import Layout, RowsH5, write_h5
from datasets.formats.matlab import write_mat
from datasets.progress import Report, silent
from datasets.skeletons import matching_joints, mirrored
from stages.evaluation import accuracy, groups, metrics, oks
from stages.evaluation.accuracy import SplitMetrics
from stages.evaluation.failures import write_failures
from stages.evaluation.measures import distances_to_labels, joints_in_mean, number, score
from stages.inference.predict import average_scales, compute_type, joints_in_image, pick_device, predict, set_tf32
from stages.loading.loader import PoseDataset, batches, killed_reader_as_data_error
from stages.machine import memory
from stages.network.checkpoints import load_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Evaluation, Input, Workspace

BATCH = 16


@killed_reader_as_data_error()
def evaluate(folder: Path, model: Path, data: DatasetFiles, splits: list[str], evaluation: Evaluation, workspace: Workspace,
             report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Score the network in the file `model` on splits of `data`, and write all files of the result.

    Returns split -> the training accuracy and the accuracy by the dataset's first measure. Joints whose names the network does
    not know are not scored. All people have equal weight in the training accuracy. Raises DataError for an unreadable file, and
    for a network without any of the dataset's joints.
    """
    memory.keep_big_blocks()
    network, description = load_network(model)
    channels = matching_joints(description.joints, data.skeleton.joints)
    if all(channel is None for channel in channels):
        raise DataError(
            f"{model} predicts none of the joints of {data.dataset.title} ({', '.join(data.skeleton.joints)}); choose a "
            "network that does, such as one that was trained on them (`scratch` or `finetuned`)."
        )
    size = Input(resolution=description.resolution)
    result: dict[str, SplitMetrics] = {}
    labelled: groups.Scored = []
    for split in splits:
        samples = PoseDataset(data, split, size)
        predictions = Predictions(samples, channels, evaluation.decoder)
        with ExitStack() as stack:
            kept = None
            if evaluation.heatmaps:
                shape = (len(channels), size.heatmap, size.heatmap)
                layout: Layout = {"heatmaps": (shape, np.dtype("<f4"))}
                kept = stack.enter_context(RowsH5(folder / f"heatmaps_{split}.h5", len(samples), layout))
            for batch, maps in heatmaps_of(network, samples, mirrored(description.joints), evaluation, workspace):
                ours = predictions.add(batch, maps.numpy())
                if kept:
                    kept.append({"heatmaps": ours.astype("<f4", copy=False)})
                report(len(predictions.rows_seen), len(samples), split)
        report(0, 1, f"{split}: writing")
        found = predictions.training.result(), len(predictions.training.scoring)
        result[split] = write_split(folder, split, data, predictions.preds, predictions.confidence, found)
        if result[split].pixels is not None:
            labelled.append((split, data.people(split), predictions.preds))
    accuracy.write(folder, data.dataset, result)
    groups.write(folder, labelled, data.dataset)
    first = data.dataset.measures[0].name
    return {split: {"acc": found.acc, first: found.measures[first].value} for split, found in result.items()}


def heatmaps_of(network: HourglassNet, samples: PoseDataset, mirror: list[int], evaluation: Evaluation,
                workspace: Workspace) -> Iterator[tuple[dict, Tensor]]:  # fmt: skip
    """Yield each batch of samples, and the network's heatmaps (N, network's joints, h, w) averaged over flips and scales.

    mirror: for each channel of the network, the channel of the mirrored joint. With several scales, the yielded samples are
    those of the first scale.
    """
    device = pick_device(workspace.device)
    compute = compute_type(evaluation.precision, device)
    set_tf32(evaluation.precision)
    streams = []
    for scale in evaluation.test_scales:
        scaled = copy.copy(samples)
        scaled.rows = replace(samples.rows, scale=samples.rows.scale * scale)
        stream = batches(scaled, BATCH, workspace.workers)
        streams.append(predict(network, stream, mirror, device, evaluation.flip_test, compute))
    for found in zip(*streams, strict=True):
        yield found[0][0], average_scales([maps for _, maps in found], evaluation.test_scales)


class Predictions:
    """Predictions and training accuracy on one split, collected batch by batch."""

    def __init__(self, samples: PoseDataset, channels: list[int | None], decoder: str) -> None:
        self.samples, self.decoder = samples, decoder
        self.known = [j for j, channel in enumerate(channels) if channel is not None]
        self.channels = [channel for channel in channels if channel is not None]
        self.training = metrics.TrainingAccuracy([j for j in samples.data.skeleton.scoring if j in self.known])
        self.rows_seen: list[int] = []
        self.preds = np.full(samples.rows.part.shape, np.nan)
        self.confidence = np.zeros(samples.rows.part.shape[:2])

    def add(self, batch: dict, maps: np.ndarray) -> np.ndarray:
        """Add a batch's heatmaps (N, network's joints, h, w); return the heatmaps of the dataset's joints (N, J, h, w).

        The returned heatmaps are 0 for joints that the network does not know.
        """
        rows, target = batch["row"].numpy(), batch["heatmaps"].numpy()
        ours = np.zeros_like(target)
        ours[:, self.known] = maps[:, self.channels]
        self.training.update_each(ours, target)
        resolution = batch["input"].shape[-1]
        points, confidence = joints_in_image(ours[:, self.known], batch["image_to_crop"].numpy(), resolution, self.decoder)
        self.preds[np.ix_(rows, self.known)] = points
        self.confidence[np.ix_(rows, self.known)] = confidence
        self.rows_seen.extend(rows.tolist())
        return ours


def write_split(folder: Path, split: str, data: DatasetFiles, preds: np.ndarray, confidence: np.ndarray,
                training: tuple[float, int] | None) -> SplitMetrics:  # fmt: skip
    """Write all files of a split; return the split's entry in accuracy.json.

    preds: (N, J, 2) in 0-based px of the images, NaN where unknown; confidence: (N, J); training: the training accuracy and the
    number of joints that count in it; None for predictions without heatmaps.
    """
    people = data.people(split)
    write_h5(folder / f"preds_{split}.h5", {"preds": preds + 1, "confidence": confidence})
    write_mat(folder / f"preds_{split}.mat", {"preds": (preds + 1).transpose(1, 2, 0)}, "predicted joints")
    if split == "test" and data.dataset.submit:
        data.dataset.submit(folder, data, people.rows, preds)
    distance = distances_to_labels(preds, people.rows.part)
    of_mean = distance[:, joints_in_mean(preds, data.skeleton)]
    found = of_mean[np.isfinite(of_mean)]
    reference = [measure.reference(people) for measure in data.dataset.measures]
    columns = {"distance": distance, "reference": np.stack(reference, axis=1), "group": people.groups}
    write_h5(folder / f"people_{split}.h5", columns)
    if not np.isnan(distance).all():
        write_failures(folder, split, data, people, preds)
    return SplitMetrics(
        people=len(preds),
        acc=number(training[0]) if training else None,
        acc_joints=training[1] if training else 0,
        pixels=float(found.mean()) if found.size else None,
        oks=oks.score(people.rows, preds, confidence, data.skeleton.joints) if data.dataset.oks else None,
        measures=score(people, preds, data.dataset),
    )
