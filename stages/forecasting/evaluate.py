"""Forecast with a network from the frames of a split, and score the forecasts.

Files in the result folder:
    forecasts_<split>.h5   joints (N, T, J, 2) float32, px of the cropped frame counted from 1; confidence (N, T, J) float32,
                           height of the heatmap's peak; one row for the forecast from each frame of the split. With a
                           converter also repos (N, T, J, 3) mm, trans (N, T, 3) mm and focal (N, T) heatmap px, float32: see
                           `Pose3D`
    counts_<split>_<kind>.h5    hits and seen (S, T, J), and curve, for each kind of start frames: see `scoring.Counts`
    counts_<split>_<kind>_projected.h5    with a converter: the counts of the projected 3D joints
    forecast.json          PCK@0.05 by step, for each kind of start frames
Kinds of start frames: all (every frame, by the published rule), first (the first frame of each sequence), fixed_rate (the
setting `stride` of [forecast] is the number of frames from one step to the next; the start frames are the frames from which
all steps lie inside the sequence).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.formats.hdf5 import Layout, RowsH5, h5_field, open_h5, write_h5
from datasets.penn_action import PENN_ACTION
from datasets.progress import Report, silent
from stages.forecasting.checkpoints import load_forecaster
from stages.forecasting.movements import Movements, Starts, fixed_rate_starts, published_starts, read_movements
from stages.forecasting.network import ForecastNet, Outputs
from stages.forecasting.samples import PennSequences
from stages.forecasting.scoring import Counts
from stages.inference.predict import compute_type, in_image, joints_in_image, pick_device, set_tf32
from stages.lifting.network import Pose3D
from stages.loading.loader import batches, killed_reader_as_data_error
from stages.machine import memory
from stages.settings.forecasting import STEPS, ForecastTraining
from stages.settings.sections import Evaluation, Input, Workspace

BATCH = 8
NAME = "forecast.json"
KINDS = ("all", "first", "fixed_rate")


@dataclass(frozen=True)
class ForecastFiles:
    """The folders of the cropped Penn Action dataset that a forecasting network reads."""

    annotations: Path  # folder that has image-play's annotation files in penn-crop/
    cropped: Path  # folder that contains frames/ and labels/

    def movements(self, split: str) -> Movements:
        """Return the movements of a split: train, valid or test. Raises DataError if a file is missing or damaged."""
        return read_movements(self.annotations, self.cropped / "labels", split)

    @property
    def frames(self) -> Path:
        """Return the folder of the frames."""
        return self.cropped / "frames"


class StepMetrics(BaseModel):
    """The PCK@0.05 of the forecasts from one kind of start frames."""

    model_config = ConfigDict(extra="forbid")

    starts: int
    sequences: int
    pck: list[float | None]  # by step, in [0, 1]; None if no joint is visible


class ForecastAccuracy(BaseModel):
    """The contents of forecast.json."""

    model_config = ConfigDict(extra="forbid")

    splits: dict[str, dict[str, StepMetrics]]  # split -> kind of start frames -> PCK of the heatmaps' joints
    projected: dict[str, dict[str, StepMetrics]] | None = None  # like `splits`, for projected 3D joints; None: no converter


@dataclass(frozen=True)
class Forecast:
    """The forecasts from n start frames, in the coordinates of the cropped frames."""

    starts: np.ndarray  # (n,) int64: indices of the start frames in the dataset's `Starts`
    joints: np.ndarray  # (n, T, J, 2) 0-based px: joints in the heatmaps
    confidence: np.ndarray  # (n, T, J): height of each heatmap's peak
    poses: Pose3D | None  # 3D poses (n, T) on the CPU; None without a converter
    projected: np.ndarray | None  # (n, T, J, 2) 0-based px: image coordinates of the 3D joints


def read(folder: Path) -> ForecastAccuracy:
    """Return the contents of forecast.json in the folder of an evaluation. Raises DataError for a missing or invalid file."""
    try:
        return ForecastAccuracy.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / NAME} is missing or damaged ({error}); run EvaluateForecast again.") from None


def starts_by_kind(movements: Movements, stride: int) -> dict[str, Starts]:
    """Return kind -> start frames of this kind; the kind fixed_rate is left out if no sequence is long enough."""
    every = published_starts(movements)
    kinds = {"all": every, "first": every.select(np.isin(every.rows[:, 0], movements.first[:-1]))}
    try:
        return kinds | {"fixed_rate": fixed_rate_starts(movements, stride)}
    except DataError:
        return kinds


@killed_reader_as_data_error()
def evaluate(folder: Path, model: Path, data: ForecastFiles, splits: list[str], training: ForecastTraining,
             evaluation: Evaluation, workspace: Workspace, report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Forecast from every frame of the splits, and score the forecasts; return each split's mean PCK over the steps.

    Raises DataError for a file that is not a forecasting network, and for an unreadable frame.
    """
    memory.keep_big_blocks()
    network, about = load_forecaster(model)
    size, accuracy = Input(resolution=about.resolution), ForecastAccuracy(splits={})
    for split in splits:
        movements = data.movements(split)
        starts = published_starts(movements)
        samples = PennSequences(movements, starts, data.frames, size, training)
        kinds = starts_by_kind(movements, training.stride)
        counts = {kind: Counts.empty(movements, STEPS) for kind in kinds}
        projected = {kind: Counts.empty(movements, STEPS) for kind in kinds} if network.converter else {}
        with ExitStack() as stack:
            layout = _layout(len(about.joints), network.converter is not None)
            kept = stack.enter_context(RowsH5(folder / f"forecasts_{split}.h5", len(samples), layout))
            for found in forecasts_of(network, samples, evaluation, workspace):
                rows = {"joints": (found.joints + 1).astype("<f4"), "confidence": found.confidence.astype("<f4")}
                rows |= {name: part.numpy() for name, part in found.poses._asdict().items()} if found.poses else {}
                kept.append(rows)
                frames = starts.rows[found.starts, 0]
                _add(counts, movements, kinds, frames, found.joints)
                if found.projected is not None:
                    _add(projected, movements, kinds, frames, found.projected)
                report(int(found.starts[-1]) + 1, len(samples), split)
        accuracy.splits[split] = _save(folder / f"counts_{split}_{{}}.h5", counts, kinds)
        if projected:
            accuracy.projected = (accuracy.projected or {}) | {
                split: _save(folder / f"counts_{split}_{{}}_projected.h5", projected, kinds)
            }
    write_atomically(folder / NAME, accuracy.model_dump_json(indent=1).encode())
    return {split: {"mean PCK@0.05": float(np.nanmean(_numbers(kinds["all"].pck)))} for split, kinds in accuracy.splits.items()}


def _layout(joints: int, converter: bool) -> Layout:
    """Return field of forecasts_<split>.h5 -> (shape of one row, dtype); a row is the forecast from one start frame."""
    number, shapes = np.dtype("<f4"), {"joints": (STEPS, joints, 2), "confidence": (STEPS, joints)}
    shapes |= {"repos": (STEPS, joints, 3), "trans": (STEPS, 3), "focal": (STEPS,)} if converter else {}
    return {name: (shape, number) for name, shape in shapes.items()}


def _save(path: Path, counts: dict[str, Counts], kinds: dict[str, Starts]) -> dict[str, StepMetrics]:
    """For each kind of start frames, write a file of counts and return the PCK; `path` has {} in place of the kind's name."""
    for kind, counted in counts.items():
        save_counts(Path(str(path).format(kind)), counted)
    return {kind: _metrics(counted, kinds[kind]) for kind, counted in counts.items()}


def forecasts_of(
    network: ForecastNet, samples: PennSequences, evaluation: Evaluation, workspace: Workspace
) -> Iterator[Forecast]:
    """Yield the forecasts from all samples, one batch of start frames at a time."""
    device = pick_device(workspace.device)
    compute = compute_type(evaluation.precision, device)
    set_tf32(evaluation.precision)
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    mirrored = PENN_ACTION.skeleton.mirrored() if evaluation.flip_test else None
    for batch in batches(samples, BATCH, workspace.workers):  # type: ignore[arg-type]
        with torch.inference_mode(), torch.autocast(device.type, compute, enabled=compute != torch.float32):
            outputs = on_cpu(forecast_images(network, batch["input"].to(device), STEPS, mirrored))
        maps, poses = outputs
        n, steps, joints, h, w = maps.shape
        resolution, to_crop = batch["input"].shape[-1], np.repeat(batch["image_to_crop"].numpy(), steps, axis=0)
        points, height = joints_in_image(maps.view(-1, joints, h, w).numpy(), to_crop, resolution, evaluation.decoder)
        projected = None
        if poses and network.converter:
            pixels = poses.projected(network.converter.center).flatten(0, 1).double().numpy()
            projected = in_image(pixels, h, to_crop, resolution).reshape(n, steps, joints, 2)
        yield Forecast(
            batch["start"].numpy(), points.reshape(n, steps, joints, 2), height.reshape(n, steps, joints), poses, projected
        )


def on_cpu(outputs: Outputs) -> Outputs:
    """Return outputs as float32 tensors on the CPU."""
    poses = Pose3D(*(part.float().cpu() for part in outputs.poses)) if outputs.poses else None
    return Outputs(outputs.heatmaps.float().cpu(), poses)


def forecast_images(network: ForecastNet, images: Tensor, steps: int, mirrored: list[int] | None) -> Outputs:
    """Return the outputs for images (N, 3, R, R).

    mirrored: for each joint, the index of its mirror joint; the outputs for the image and for the mirrored image are then
    averaged. None: only the outputs for the image itself.
    """
    outputs = network(images.to(memory_format=torch.channels_last), steps)
    if mirrored is None:
        return outputs
    other = network(images.flip(-1).to(memory_format=torch.channels_last), steps)
    maps = (outputs.heatmaps + other.heatmaps.flip(-1)[:, :, mirrored]) / 2
    if not outputs.poses:
        return Outputs(maps, None)
    both = zip(outputs.poses, other.poses.mirrored(mirrored), strict=True)
    return Outputs(maps, Pose3D(*((ours + theirs) / 2 for ours, theirs in both)))


def _add(
    counts: dict[str, Counts], movements: Movements, kinds: dict[str, Starts], frames: np.ndarray, joints: np.ndarray
) -> None:
    """Count each forecast for every kind of start frames that includes the forecast's start frame.

    frames: (n,) rows of the forecasts' start frames in `Movements.joints`; joints: (n, T, J, 2), the forecasts.
    """
    for kind, starts in kinds.items():
        begins = starts.rows[:, 0]  # in ascending order
        places = np.minimum(np.searchsorted(begins, frames), len(begins) - 1)
        same = begins[places] == frames
        if same.any():
            counts[kind].add(movements, starts.select(places[same]), joints[same])


def _metrics(counts: Counts, starts: Starts) -> StepMetrics:
    pck = [None if np.isnan(rate) else float(rate) for rate in counts.by_step()]
    return StepMetrics(starts=len(starts), sequences=len(np.unique(starts.sequence)), pck=pck)


def _numbers(rates: list[float | None]) -> np.ndarray:
    return np.array([np.nan if rate is None else rate for rate in rates])


def save_counts(path: Path, counts: Counts) -> None:
    """Write counts to an HDF5 file."""
    write_h5(path, {"hits": counts.hits, "seen": counts.seen, "curve": counts.curve})


def load_counts(path: Path) -> Counts:
    """Return the counts in a file that `save_counts` wrote. Raises DataError for a missing or damaged file."""
    with open_h5(path) as file:
        return Counts(*(h5_field(file, path, name)[()] for name in ("hits", "seen", "curve")))
