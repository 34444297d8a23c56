"""Evaluate the converter, the lifter and the baselines on the validation clips of motion capture.

Each pose of the validation clips is seen by one random camera; two evaluations with equal settings use the same cameras. All
methods are tested on the same heatmaps: the input of the converter is the heatmaps; the input of the other methods is the
joints that `joints_of` finds in the heatmaps. `sharp` heatmaps have a peak of 1 at each joint. `noisy` heatmaps resemble
those of forecasts: a peak may be blurred, lower than 1, shifted or missing. `forecast` heatmaps were recorded from a
forecasting network (`stages.lifting.recordings`); without recordings, this kind of heatmaps is left out.

Files in the result folder:
    lifting.json               all mean errors
    lifting.csv, .md, .txt     mean errors of each method with each kind of heatmaps
    actions.csv, joints.csv    errors in mm, without Procrustes alignment, by action and by joint, with sharp heatmaps
    tests.csv, .md, .txt       significance tests of the converter against every other method, with sharp heatmaps
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.mocap.clips import Clips
from datasets.progress import Report, silent
from stages.evaluation.scores import as_text
from stages.inference.predict import pick_device
from stages.lifting.baselines import Baselines
from stages.lifting.bodies import JOINTS
from stages.lifting.checkpoints import load
from stages.lifting.network import ConverterNet, LifterNet, joints_of
from stages.lifting.objective import tensors
from stages.lifting.recordings import Recordings
from stages.lifting.samples import NONE, Noise, PoseSamples, Scenes, draw_heatmaps, observed, synthesise, validation_scenes
from stages.lifting.scoring import Errors, compare, errors, limb_unsteadiness, mean_with_interval
from stages.settings.lifting import Converter, ConverterTraining
from stages.settings.sections import Workspace

NAME = "lifting.json"
BATCH = 256
MOMENTS = 16  # poses per row; a row is consecutive poses seen by one camera, so its limb lengths should not change
NOISY = Noise(blur_std=2, lowest_peak=0.3, jitter_std=1, missing_probability=0.1)  # as in the preset res-64-modern
# Kind of heatmaps -> the noise with which they are drawn.
INPUTS = {"sharp": NONE, "noisy": NOISY}
_NOISE, _CAMERAS, _RECORDED = 0, 1, 2  # independent RNG streams of the evaluation
# Field of LiftingMetrics -> column of the table in lifting.csv.
COLUMNS = {
    "error_mm": "mm", "low": "low", "high": "high", "aligned_mm": "aligned mm", "depth_mm": "depth mm", "focal_px": "focal px",
    "magnification_percent": "magnification %", "reprojection_px": "reprojection px", "limbs_percent": "limbs %",
}  # fmt: skip

# A method maps heatmaps (N, J, S, S), and the joints (N, J, 2) px found in these heatmaps, to outputs (N, 3 J + 4).
Method = Callable[[Tensor, Tensor], np.ndarray]


class LiftingMetrics(BaseModel):
    """The mean errors of one method with one kind of heatmaps; see `scoring.Errors`."""

    model_config = ConfigDict(extra="forbid")

    error_mm: float  # error without Procrustes alignment
    low: float  # lower end of the 95 % confidence interval of error_mm, by a bootstrap over clips
    high: float  # upper end of the confidence interval of error_mm
    aligned_mm: float
    depth_mm: float
    focal_px: float
    magnification_percent: float
    reprojection_px: float
    limbs_percent: float | None  # mean of `scoring.limb_unsteadiness`; None if all clips have fewer than MOMENTS poses
    by_joint: dict[str, float]  # joint -> error in mm without Procrustes alignment
    by_action: dict[str, float]  # action -> error in mm without Procrustes alignment


class LiftingAccuracy(BaseModel):
    """The contents of lifting.json."""

    model_config = ConfigDict(extra="forbid")

    poses: int  # number of validation poses
    clips: int  # number of validation clips
    inputs: dict[str, dict[str, LiftingMetrics]]  # kind of heatmaps (sharp, noisy, forecast) -> method -> metrics


@dataclass(frozen=True)
class _Trial:
    """The validation poses of an evaluation, and the kind of heatmaps that the methods get for these poses."""

    scenes: Scenes  # all validation poses, each with a camera of its own
    rows: Scenes  # W rows of MOMENTS consecutive poses, see `in_rows`; one camera sees a row
    side: int  # side of the heatmaps in px
    training: ConverterTraining  # defines how heatmaps are drawn
    noise: Noise  # noise of drawn heatmaps
    recordings: Recordings | None = None  # recorded heatmaps that replace the drawn ones

    def outputs(self, methods: dict[str, Method], device: torch.device, rows: bool) -> dict[str, np.ndarray]:
        """Return method -> outputs (N, 3 J + 4) for the poses in `self.rows` if `rows`, else for those in `self.scenes`."""
        scenes = self.rows if rows else self.scenes
        whole = observed(scenes, self.training, self.noise, np.random.default_rng([_NOISE, rows]))
        count = len(self.recordings) if self.recordings else 1
        shown = np.random.default_rng([_RECORDED, rows]).integers(count, size=len(scenes))
        found: dict[str, list[np.ndarray]] = {name: [np.empty((0, 3 * len(JOINTS) + 4))] for name in methods}
        for start in range(0, len(scenes), BATCH):
            some = {name: values[start : start + BATCH] for name, values in whole.items()}
            some = self.recordings.replace(some, shown[start : start + BATCH]) if self.recordings else some
            batch = {name: values.to(device) for name, values in tensors(some).items()}
            maps = draw_heatmaps(batch, self.side, self.training)
            joints = joints_of(maps)
            for name, method in methods.items():
                found[name].append(method(maps, joints))
        return {name: np.concatenate(parts) for name, parts in found.items()}


def evaluate(folder: Path, models: dict[str, Path], clips: dict[str, Clips], recordings: Recordings | None, options: Converter,
             training: ConverterTraining, workspace: Workspace, report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Score networks and baselines; return kind of heatmaps -> method -> mean error in mm without Procrustes alignment.

    models: name -> file of a network; the converter comes first. clips: split -> clips; the baselines learn from `train`, and
    all methods are scored on `valid`. recordings: recorded heatmaps, or None. Raises DataError for a file that
    contains no converter or lifter, and for a network whose heatmaps have another size than the heatmaps of the first network.
    """
    device = pick_device(workspace.device)
    converter = load(next(iter(models.values())))[0]
    if isinstance(converter, ConverterNet):  # a converter of others has the cameras of its training, not those of [converter]
        options = options.model_copy(update={"cameras": converter.options.cameras})
    methods, side = _methods(models, clips["train"], options, training, device)
    published = options.cameras == "published"
    scenes = validation_scenes(clips["valid"].poses, side, published)
    rows = synthesise(in_rows(clips["valid"]), side, np.random.default_rng([_CAMERAS]), published)
    found: dict[str, dict[str, LiftingMetrics]] = {}
    sharp: dict[str, Errors] = {}
    trials = {name: _Trial(scenes, rows, side, training, noise) for name, noise in INPUTS.items()}
    trials |= {"forecast": _Trial(scenes, rows, side, training, NONE, recordings)} if recordings else {}
    for number, (name, trial) in enumerate(trials.items()):
        report(number, len(trials), f"{name} heatmaps")
        single, in_a_row = (trial.outputs(methods, device, rows=which) for which in (False, True))
        wrong = {method: errors(outputs, scenes) for method, outputs in single.items()}
        found[name] = {method: _metrics(clips["valid"], wrong[method], in_a_row[method]) for method in methods}
        sharp = sharp or wrong
    accuracy = LiftingAccuracy(poses=len(scenes), clips=len(clips["valid"]), inputs=found)
    write_atomically(folder / NAME, accuracy.model_dump_json(indent=1).encode())
    _write_tables(folder, accuracy, sharp, clips["valid"].clip)
    return {name: {method: metrics.error_mm for method, metrics in by_method.items()} for name, by_method in found.items()}


def in_rows(clips: Clips) -> np.ndarray:
    """Return the clips cut into W rows of MOMENTS consecutive poses, (W, MOMENTS, J, 3) mm.

    Poses that are left over at the end of a clip are omitted.
    """
    cut = [
        clips.poses[start : start + MOMENTS]
        for first, end in zip(clips.first[:-1].tolist(), clips.first[1:].tolist(), strict=True)
        for start in range(first, end - MOMENTS + 1, MOMENTS)
    ]
    return np.stack(cut) if cut else np.empty((0, MOMENTS, *clips.poses.shape[1:]), np.float32)


def read(folder: Path) -> LiftingAccuracy:
    """Return the contents of lifting.json in the folder of an evaluation. Raises DataError for a missing or invalid file."""
    try:
        return LiftingAccuracy.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / NAME} is missing or damaged ({error}); run EvaluateConverter again.") from None


def _methods(models: dict[str, Path], train: Clips, options: Converter, training: ConverterTraining,
             device: torch.device) -> tuple[dict[str, Method], int]:  # fmt: skip
    """Return name -> method, and the side in px of the heatmaps that all networks are built for."""
    networks = {name: load(path)[0].to(device) for name, path in models.items()}
    side = next(iter(networks.values())).side
    for name, network in networks.items():
        if network.side != side:
            raise DataError(f"{models[name]} sees heatmaps of {network.side} px, not of {side} px; train both networks again.")

    learnt = Baselines.learn(PoseSamples(train.poses, side, options, training).statistics(), side)
    baselines = {"linear map": learnt.linear_map, "nearest 2D pose": learnt.nearest, "mean pose": learnt.mean_pose}
    methods: dict[str, Method] = {name: partial(_by_network, network) for name, network in networks.items()}
    return methods | {name: partial(_by_joints, baseline) for name, baseline in baselines.items()}, side


def _by_network(network: ConverterNet | LifterNet, maps: Tensor, joints: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(maps if isinstance(network, ConverterNet) else joints).cpu().numpy()


def _by_joints(baseline: Callable[[np.ndarray], np.ndarray], maps: Tensor, joints: Tensor) -> np.ndarray:
    return baseline(joints.cpu().numpy())


def _metrics(clips: Clips, wrong: Errors, in_a_row: np.ndarray) -> LiftingMetrics:
    """Return the mean errors of a method.

    clips: validation clips; wrong: the method's errors on all validation poses; in_a_row: the method's outputs
    (W * MOMENTS, 3 J + 4) for the W rows of poses that `in_rows` returns.
    """
    moments = in_a_row[:, :-4].reshape(-1, MOMENTS, len(JOINTS), 3)
    error, low, high = mean_with_interval(wrong.joints, clips.clip)
    action = np.array(clips.actions)[clips.clip]
    return LiftingMetrics(
        error_mm=error, low=low, high=high, aligned_mm=float(wrong.aligned.mean()), depth_mm=float(wrong.depth.mean()),
        focal_px=float(wrong.focal.mean()), magnification_percent=100 * float(wrong.magnification.mean()),
        reprojection_px=float(wrong.reprojection.mean()),
        limbs_percent=100 * float(limb_unsteadiness(moments).mean()) if len(moments) else None,
        by_joint=dict(zip(JOINTS, wrong.joints.mean(axis=0).tolist(), strict=True)),
        by_action={name: float(wrong.joints[action == name].mean()) for name in dict.fromkeys(clips.actions)},
    )  # fmt: skip


def table(accuracy: LiftingAccuracy) -> pd.DataFrame:
    """Return a table of all mean errors, with one row per kind of heatmaps and method.

    `low` and `high` are the ends of the 95 % confidence interval of the error in the column `mm`.
    """
    rows = [
        [name, method, *(getattr(metrics, field) for field in COLUMNS)]
        for name, by_method in accuracy.inputs.items()
        for method, metrics in by_method.items()
    ]
    return pd.DataFrame(rows, columns=["heatmaps", "method", *COLUMNS.values()])


def tests(sharp: dict[str, Errors], clip: np.ndarray) -> pd.DataFrame:
    """Return a table of paired tests that compare the first method with every other method, one test per row.

    A difference is the first method's error minus the error of the method in the column `than`, in mm, without Procrustes
    alignment. sharp: method -> errors with sharp heatmaps; clip: (N,), number of the clip of each pose. Clips are the
    independent samples of the tests.
    """
    first, *rivals = sharp
    rows = []
    for rival in rivals:
        d = compare(sharp[rival].joints, sharp[first].joints, clip)
        verdict = "no difference shown" if not d.p < 0.05 else "better" if d.value < 0 else "worse"
        rows.append([first, verdict, rival, d.value, d.low, d.high, d.p, d.groups])
    return pd.DataFrame(rows, columns=["method", "verdict", "than", "difference mm", "low", "high", "p", "groups"])


def _write_tables(folder: Path, accuracy: LiftingAccuracy, sharp: dict[str, Errors], clip: np.ndarray) -> None:
    for name, found in (("lifting", table(accuracy)), ("tests", tests(sharp, clip))):
        found.to_csv(folder / f"{name}.csv", index=False)
        (folder / f"{name}.md").write_text(as_text(found, "github") + "\n")
        (folder / f"{name}.txt").write_text(as_text(found) + "\n")
    for name, of in (("actions", "by_action"), ("joints", "by_joint")):
        columns = {method: getattr(metrics, of) for method, metrics in accuracy.inputs["sharp"].items()}
        pd.DataFrame(columns).rename_axis(name.removesuffix("s")).round(2).to_csv(folder / f"{name}.csv")
