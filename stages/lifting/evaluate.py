"""The converter, the lifter and the baselines on motion capture that was held out.

Each pose of the validation clips is seen by one camera, the same in all evaluations with equal settings. All methods see the
same heatmaps: the converter as they are, the others the joints in them. `sharp` heatmaps have a peak of 1 on each joint;
`noisy` ones are blurred, low, shifted or empty, as those of forecasts are. The folder gets
    lifting.json               all figures
    lifting.csv, .md, .txt     errors of each method with either kind of heatmaps
    actions.csv, joints.csv    mm without alignment, by action and by joint, with sharp heatmaps
    tests.csv, .md, .txt       is the converter better than each rival?
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
from stages.lifting.samples import NONE, Noise, PoseSamples, Scenes, draw_blobs, observed, synthesise, validation_scenes
from stages.lifting.scoring import Errors, compare, errors, limb_unsteadiness, mean_with_interval
from stages.settings.lifting import Converter, ConverterTraining
from stages.settings.sections import Workspace

NAME = "lifting.json"
BATCH = 256
MOMENTS = 16  # poses in a row over which limbs should keep their lengths, seen by one camera
NOISY = Noise(blur_std=2, lowest_peak=0.3, jitter_std=1, missing_probability=0.1)  # that of the preset res-64-modern
INPUTS = {"sharp": NONE, "noisy": NOISY}
_NOISE, _CAMERAS = 0, 1  # RNG streams of the evaluation
COLUMNS = {
    "error_mm": "mm", "low": "low", "high": "high", "aligned_mm": "aligned mm", "depth_mm": "depth mm", "focal_px": "focal px",
    "magnification_percent": "magnification %", "reprojection_px": "reprojection px", "limbs_percent": "limbs %",
}  # fmt: skip

Method = Callable[[Tensor, Tensor], np.ndarray]  # heatmaps (N, J, S, S) and the joints in them, px -> outputs (N, 3 J + 4)


class LiftingFigures(BaseModel):
    """Mean errors of one method with one kind of heatmaps; see `scoring.Errors`."""

    model_config = ConfigDict(extra="forbid")

    error_mm: float  # without alignment, and its 95 % confidence interval over clips
    low: float
    high: float
    aligned_mm: float
    depth_mm: float
    focal_px: float
    magnification_percent: float
    reprojection_px: float
    limbs_percent: float | None  # None: no clip has enough poses
    by_joint: dict[str, float]  # mm without alignment
    by_action: dict[str, float]


class LiftingAccuracy(BaseModel):
    """What lifting.json holds."""

    model_config = ConfigDict(extra="forbid")

    poses: int
    clips: int
    inputs: dict[str, dict[str, LiftingFigures]]  # sharp and noisy -> method


@dataclass(frozen=True)
class _Trial:
    """What is evaluated on: the scenes of all poses and of poses in a row, with one kind of heatmaps."""

    scenes: Scenes
    rows: Scenes  # W x MOMENTS poses
    side: int  # px of the heatmaps
    training: ConverterTraining
    noise: Noise

    def outputs(self, methods: dict[str, Method], device: torch.device, rows: bool) -> dict[str, np.ndarray]:
        """Return the outputs (N, 3 J + 4) of each method for the poses in a row, or for all poses."""
        scenes = self.rows if rows else self.scenes
        whole = tensors(observed(scenes, self.training, self.noise, np.random.default_rng([_NOISE, rows])))
        found: dict[str, list[np.ndarray]] = {name: [np.empty((0, 3 * len(JOINTS) + 4))] for name in methods}
        for start in range(0, len(scenes), BATCH):
            batch = {name: values[start : start + BATCH].to(device) for name, values in whole.items()}
            maps = draw_blobs(batch, self.side, self.training)
            joints = joints_of(maps)
            for name, method in methods.items():
                found[name].append(method(maps, joints))
        return {name: np.concatenate(parts) for name, parts in found.items()}


def evaluate(folder: Path, models: dict[str, Path], clips: dict[str, Clips], options: Converter, training: ConverterTraining,
             workspace: Workspace, report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Score networks and baselines; return each method's error in mm with either kind of heatmaps.

    models: name -> network, the converter's first. clips: of train, which baselines learn from, and valid. Raises DataError for
    a file that is no network, and for a network that sees heatmaps of another size than the first.
    """
    device = pick_device(workspace.device)
    methods, side = _methods(models, clips["train"], options, training, device)
    published = options.cameras == "published"
    scenes = validation_scenes(clips["valid"].poses, side, published)
    rows = synthesise(in_rows(clips["valid"]), side, np.random.default_rng([_CAMERAS]), published)
    found: dict[str, dict[str, LiftingFigures]] = {}
    sharp: dict[str, Errors] = {}
    for number, (name, noise) in enumerate(INPUTS.items()):
        trial = _Trial(scenes, rows, side, training, noise)
        report(number, len(INPUTS), f"{name} heatmaps")
        single, in_a_row = (trial.outputs(methods, device, rows=which) for which in (False, True))
        wrong = {method: errors(outputs, scenes) for method, outputs in single.items()}
        found[name] = {method: _figures(clips["valid"], wrong[method], in_a_row[method]) for method in methods}
        sharp = sharp or wrong
    accuracy = LiftingAccuracy(poses=len(scenes), clips=len(clips["valid"]), inputs=found)
    write_atomically(folder / NAME, accuracy.model_dump_json(indent=1).encode())
    _write_tables(folder, accuracy, sharp, clips["valid"].clip)
    return {name: {method: figures.error_mm for method, figures in by_method.items()} for name, by_method in found.items()}


def in_rows(clips: Clips) -> np.ndarray:
    """Return (W, MOMENTS, J, 3) mm: each clip cut into poses in a row; what is left at a clip's end is left out."""
    cut = [
        clips.poses[start : start + MOMENTS]
        for first, end in zip(clips.first[:-1].tolist(), clips.first[1:].tolist(), strict=True)
        for start in range(first, end - MOMENTS + 1, MOMENTS)
    ]
    return np.stack(cut) if cut else np.empty((0, MOMENTS, *clips.poses.shape[1:]), np.float32)


def read(folder: Path) -> LiftingAccuracy:
    """Read lifting.json of an evaluation's folder. Raises DataError where it is missing or of another kind."""
    try:
        return LiftingAccuracy.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / NAME} is not what an evaluation of converters writes ({error}); evaluate again.") from None


def _methods(models: dict[str, Path], train: Clips, options: Converter, training: ConverterTraining,
             device: torch.device) -> tuple[dict[str, Method], int]:  # fmt: skip
    """Return name -> method, and the side of the heatmaps that all of them see."""
    networks = {name: load(path)[0].to(device) for name, path in models.items()}
    side = next(iter(networks.values())).side
    for name, network in networks.items():
        if network.side != side:
            raise DataError(f"{models[name]} sees heatmaps of {network.side} px, not of {side} px; train both again.")

    learnt = Baselines.learn(PoseSamples(train.poses, side, options, training).statistics(), side)
    baselines = {"linear map": learnt.linear_map, "nearest 2D pose": learnt.nearest, "mean pose": learnt.mean_pose}
    methods: dict[str, Method] = {name: partial(_by_network, network) for name, network in networks.items()}
    return methods | {name: partial(_by_joints, baseline) for name, baseline in baselines.items()}, side


def _by_network(network: ConverterNet | LifterNet, maps: Tensor, joints: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(maps if isinstance(network, ConverterNet) else joints).cpu().numpy()


def _by_joints(baseline: Callable[[np.ndarray], np.ndarray], maps: Tensor, joints: Tensor) -> np.ndarray:
    return baseline(joints.cpu().numpy())


def _figures(clips: Clips, wrong: Errors, in_a_row: np.ndarray) -> LiftingFigures:
    """Return the means of a method's errors; in_a_row: its outputs for the poses in a row."""
    moments = in_a_row[:, :-4].reshape(-1, MOMENTS, len(JOINTS), 3)
    error, low, high = mean_with_interval(wrong.joints, clips.clip)
    action = np.array(clips.actions)[clips.clip]
    return LiftingFigures(
        error_mm=error, low=low, high=high, aligned_mm=float(wrong.aligned.mean()), depth_mm=float(wrong.depth.mean()),
        focal_px=float(wrong.focal.mean()), magnification_percent=100 * float(wrong.magnification.mean()),
        reprojection_px=float(wrong.reprojection.mean()),
        limbs_percent=100 * float(limb_unsteadiness(moments).mean()) if len(moments) else None,
        by_joint=dict(zip(JOINTS, wrong.joints.mean(axis=0).tolist(), strict=True)),
        by_action={name: float(wrong.joints[action == name].mean()) for name in dict.fromkeys(clips.actions)},
    )  # fmt: skip


def table(accuracy: LiftingAccuracy) -> pd.DataFrame:
    """Return a row per kind of heatmaps and method with all mean errors; low and high bound mm."""
    rows = [
        [name, method, *(getattr(figures, field) for field in COLUMNS)]
        for name, by_method in accuracy.inputs.items()
        for method, figures in by_method.items()
    ]
    return pd.DataFrame(rows, columns=["heatmaps", "method", *COLUMNS.values()])


def tests(sharp: dict[str, Errors], clip: np.ndarray) -> pd.DataFrame:
    """Return a row per rival of the first method: is its error lower, by paired tests over clips? In mm, sharp heatmaps."""
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
        columns = {method: getattr(figures, of) for method, figures in accuracy.inputs["sharp"].items()}
        pd.DataFrame(columns).rename_axis(name.removesuffix("s")).round(2).to_csv(folder / f"{name}.csv")
