"""Compare forecasts with baselines: tables and curves by step, tests, strips of poses and animations.

Files in the result folder, for the test split:
    forecasts.csv, .md, .txt   PCK@0.05 of all forecasters at each step, for each kind of start frames
    actions.csv, joints.csv    PCK@0.05 of the network at each step, for each action and for each joint
    summary.txt                PCK@0.05, and the errors of space.csv, at some steps; every frame is a start frame
    tests.csv, .md, .txt       significance tests at each step: the network and pose-only against the baselines in RIVALS
    forecasts.png, .pdf, .svg  curves of PCK over the steps
    strips.png                 for some movements, the forecast poses on the input image, and the labelled poses below them
    movement-<k>.gif           animations of the movements in strips.png
Further files, if the network has a converter and therefore forecasts 3D poses:
    movements3d.html           a page in which the mouse turns the 3D poses of the movements in strips.png
    movements3d.png            still views of these 3D poses from three sides
    space.csv, .md, .txt       errors of 3D poses in mm by step; only for the built-in sample, whose true 3D poses are known
    space-tests.csv, .md, .txt significance tests of these errors against zero velocity
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from datasets.errors import DataError
from datasets.formats.hdf5 import h5_field, open_h5
from datasets.imaging import draw
from datasets.imaging.images import read_image
from datasets.penn_action import PENN_ACTION, frame_name
from datasets.progress import Report, silent
from stages.evaluation.scores import as_text
from stages.forecast_comparison import pictures, space
from stages.forecast_comparison.baselines import Forecasts, baselines, zero_velocity
from stages.forecast_comparison.pose_only import forecast, load
from stages.forecasting.evaluate import ForecastFiles, load_counts, starts_by_kind
from stages.forecasting.movements import STEPS, Movements, Starts, published_starts
from stages.forecasting.scoring import Counts, difference_by_step
from stages.reporting.curves import COLOURS, STYLE, new_figure, save_figure
from stages.reporting.movements3d import Movement3D, strips, write_page

SPLIT = "test"
SHOWN = 4  # number of movements that are drawn
PROJECTED = ", projected 3D joints"  # suffix of a network's name in tables, for joints projected from its 3D poses
KNOWN = ", action known"
POSE_ONLY = {"any-action.safetensors": "pose-only", "action-known.safetensors": f"pose-only{KNOWN}"}
DASHED = {space.PREDICTED: "zero velocity", "NN-oracle": "NN-all"}  # dashed curve -> solid curve in the same colour
SUMMARY = ("1", "2", "4", "8", "12", "16")  # steps in summary.txt
RIVALS = ("zero velocity", "mean of 50 nearest")  # baselines in the significance tests


def compare(folder: Path, evaluation: Path, name: str, pose_only: Path, data: ForecastFiles, stride: int,
            truth: dict[int, np.ndarray] | None = None, report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Compare a network's forecasts with those of baselines, and write all files that the module's docstring lists.

    evaluation: folder of the network's evaluation; name: name of the network in the tables; pose_only: folder of the pose-only
    forecasters; stride: number of frames from step to step, for the kind fixed_rate of start frames; truth: number of a
    sequence -> the true 3D poses of its frames (frames, J, 3) in mm; None if they are unknown (they are known only for the
    built-in sample). Baselines and pose-only forecasters start from the labelled poses. A second zero-velocity baseline starts
    from the first pose that the network predicts. Returns the mean PCK over the steps of the network and of zero velocity from
    the labelled pose; if the files space.* are written, also the mean 3D error of the network and of zero velocity from the
    predicted pose. Raises DataError for a damaged file, and if the network has the name of a baseline.
    """
    train, movements = data.movements("train"), data.movements(SPLIT)
    kinds = starts_by_kind(movements, stride)
    counts: dict[str, dict[str, Counts]] = {}
    for done, (kind, starts) in enumerate(kinds.items()):
        counts[kind] = {name: load_counts(evaluation / f"counts_{SPLIT}_{kind}.h5")}
        if (evaluation / f"counts_{SPLIT}_{kind}_projected.h5").exists():
            counts[kind][name + PROJECTED] = load_counts(evaluation / f"counts_{SPLIT}_{kind}_projected.h5")
        counts[kind][space.PREDICTED] = count(movements, starts, partial(_from_predicted, evaluation, starts))
        query = movements.joints[starts.rows[:, 0]]
        rivals = baselines(train, movements, starts, query) | _from_poses(pose_only, movements, starts, query)
        if name in rivals:
            raise DataError(f"[forecast] experiment = {name} is the name of a baseline in the tables; give another name.")
        for rival, forecasts in rivals.items():
            report(done, len(kinds), f"{kind}: {rival}")
            counts[kind][rival] = count(movements, starts, forecasts)
    rates = table(counts)
    _write(folder, "forecasts", rates)
    _write(folder, "tests", tests(counts, name))
    network = counts["all"][name]
    actions = pd.DataFrame({action: 100 * rates for action, rates in network.by_action(movements).items()}, index=_steps()).T
    actions.rename_axis("action").round(3).to_csv(folder / "actions.csv")
    joints = pd.DataFrame(100 * network.by_joint(), index=_steps(), columns=list(PENN_ACTION.skeleton.joints)).T
    joints.rename_axis("joint").round(3).to_csv(folder / "joints.csv")
    draw_curves(folder / "forecasts", counts["all"])
    _draw_movements(folder, evaluation, movements, data, truth)
    rows = {which: float(np.nanmean(counts["all"][which].by_step())) for which in (name, "zero velocity")}
    found, parts = {"mean PCK@0.05": rows}, [summary(rates)]
    if truth and name + PROJECTED in counts["all"]:
        errors = _compare_in_space(folder, evaluation, name, movements, truth)
        found["mean error in mm"] = {which: float(errors[which, "none"].mean()) for which in (name, space.PREDICTED)}
        parts.append(space_summary(errors))
    (folder / "summary.txt").write_text("\n\n".join(as_text(part) for part in parts) + "\n")
    return found


def _compare_in_space(
    folder: Path, evaluation: Path, name: str, movements: Movements, truth: dict[int, np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """Write the tables of 3D errors; return (forecaster, alignment) -> error of each forecast and step, (N, T) mm."""
    starts = published_starts(movements)
    path = evaluation / f"forecasts_{SPLIT}.h5"
    errors = space.errors_by_step(path, name, starts, space.true_poses(truth, movements))
    _write(folder, "space", space.table(errors, starts))
    _write(folder, "space-tests", space.tests(errors, name, starts))
    return errors


def count(movements: Movements, starts: Starts, forecasts: Callable[[], Forecasts]) -> Counts:
    """Return the numbers of correct and of visible joints, counted over the forecasts from all start frames."""
    counts = Counts.empty(movements, STEPS)
    for numbers, joints in forecasts():
        counts.add(movements, starts.select(numbers), joints)
    return counts


def table(counts: dict[str, dict[str, Counts]]) -> pd.DataFrame:
    """Return a table of PCK@0.05 in per cent at each step, and the mean; one row per kind of start frames and forecaster."""
    rows = []
    for kind, found in counts.items():
        for forecaster, counted in found.items():
            rates = 100 * counted.by_step()
            rows.append([kind, forecaster, *rates, float(np.nanmean(rates)) if not np.isnan(rates).all() else np.nan])
    return pd.DataFrame(rows, columns=["starts", "forecaster", *_steps(), "mean"])


def summary(rates: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `table` for the forecasts from every frame, at the steps in SUMMARY; they fit on a screen."""
    chosen = rates.loc[rates["starts"] == "all", ["forecaster", *SUMMARY, "mean"]]
    return chosen.rename(columns={step: f"step {step}" for step in SUMMARY} | {"forecaster": "PCK@0.05, Penn Action test"})


def space_summary(errors: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """Return a table of mean errors in mm, without alignment, of the forecasts from every frame, at the steps in SUMMARY."""
    rows = []
    for (forecaster, alignment), wrong in errors.items():
        if alignment == "none":
            rows.append([forecaster, *(wrong[:, int(step) - 1].mean() for step in SUMMARY), wrong.mean()])
    return pd.DataFrame(rows, columns=["error in 3D, mm, Penn Action test", *(f"step {step}" for step in SUMMARY), "mean"])


def tests(counts: dict[str, dict[str, Counts]], name: str) -> pd.DataFrame:
    """Return a table of significance tests, paired by sequence, with one row per learned forecaster, baseline and step.

    Each test asks whether a learned forecaster (the network `name`, or pose-only) is better at a step than one of the baselines
    listed in RIVALS. Every frame is a start frame. Differences are in percentage points.
    """
    rows = []
    for learned in (name, "pose-only"):
        for rival in RIVALS:
            found = difference_by_step(counts["all"][rival], counts["all"][learned])
            for step, d in enumerate(found, 1):
                verdict = "no difference shown" if not d.p < 0.05 else "better" if d.value > 0 else "worse"
                rows.append([learned, step, verdict, rival, 100 * d.value, 100 * d.low, 100 * d.high, d.p])
    return pd.DataFrame(rows, columns=["forecaster", "step", "verdict", "than", "difference", "low", "high", "p"])


@matplotlib.rc_context(STYLE)
def draw_curves(path: Path, counts: dict[str, Counts]) -> None:
    """Draw PCK@0.05 by step of all forecasters as `path`.png, .pdf and .svg."""
    figure, (axis,) = new_figure(1)
    figure.set_size_inches(7.6, 6.0)
    colours: dict[str, str] = {}
    for number, (forecaster, counted) in enumerate(counts.items()):
        family = DASHED.get(forecaster, forecaster.removesuffix(KNOWN))
        colour = colours.setdefault(family, COLOURS[len(colours) % len(COLOURS)])
        axis.plot(range(1, STEPS + 1), 100 * counted.by_step(), "-" if forecaster == family else "--", color=colour, marker=".",
                  linewidth=1.0 if number else 2.5, label=forecaster)  # fmt: skip
    axis.set(title="PCK@0.05 of forecasts, test split", xlabel="step", ylabel="%", ylim=(0, 100), xticks=range(1, STEPS + 1))
    save_figure(figure, path, axis, columns=2)


def _from_predicted(evaluation: Path, starts: Starts) -> Forecasts:
    """Yield, for each start frame, the pose that the network predicts for this frame, repeated at every step."""
    path = evaluation / f"forecasts_{SPLIT}.h5"
    with open_h5(path) as file:
        first = h5_field(file, path, "joints")[:, 0].astype(np.float64) - 1
    return zero_velocity(first[starts.rows[:, 0]])


def _from_poses(folder: Path, movements: Movements, starts: Starts, query: np.ndarray) -> dict[str, Callable[[], Forecasts]]:
    """Return name of a pose-only forecaster -> function that yields its forecasts; folder: folder that holds both networks."""
    found: dict[str, Callable[[], Forecasts]] = {}
    for file, name in POSE_ONLY.items():
        network, names = load(folder / file)
        known = {action: number for number, action in enumerate(names)}
        actions = np.array([known.get(action, 0) for action in movements.action])[starts.sequence]
        sizes = movements.size[starts.sequence].astype(np.float64)
        found[name] = partial(forecast, network, query, sizes, actions)
    return found


def _draw_movements(
    folder: Path, evaluation: Path, movements: Movements, data: ForecastFiles, truth: dict[int, np.ndarray] | None
) -> None:
    """Draw one forecast for each of SHOWN actions; its start frame is a quarter into a sequence, in mid-movement."""
    actions, starts = np.array(movements.action), published_starts(movements)
    distinct = np.sort(np.unique(actions, return_index=True)[1])
    chosen = distinct[np.unique(np.linspace(0, len(distinct) - 1, SHOWN).astype(int))]
    frames = [int(movements.first[sequence] + movements.lengths[sequence] // 4) for sequence in chosen.tolist()]
    path = evaluation / f"forecasts_{SPLIT}.h5"
    with open_h5(path) as file:
        forecasts = [h5_field(file, path, "joints")[frame] - 1.0 for frame in frames]
        in_space = "repos" in file
    rows, titles, turnable = [], [], []
    for number, (sequence, frame, predicted) in enumerate(zip(chosen.tolist(), frames, forecasts, strict=True), 1):
        place = data.frames / f"{movements.sequence[sequence]:04d}" / frame_name(frame - int(movements.first[sequence]))
        image, labels = read_image(place), movements.joints[starts.rows[frame]]
        rows += pictures.strip(image, predicted, labels)
        titles += [f"{actions[sequence]}: forecast at steps 1, 2, 4 ... 16", "labels"]
        pictures.write_animation(folder / f"movement-{number}.gif", image, predicted, labels)
        if in_space:
            poses, true = space.read_poses(path, frame).steady(), None
            shown = (
                poses.repos if truth else poses.repos + poses.trans[:, None]
            )  # the origin of true poses is the mean of their joints; to compare, the forecast is drawn from the same origin
            if truth:
                true = space.true_poses(truth, movements)[starts.rows[frame]]
            turnable.append(Movement3D(str(actions[sequence]), shown.numpy(), true, image, predicted))
    draw.write_png(folder / "strips.png", pictures.sheet(rows, titles))
    if turnable:
        write_page(folder / "movements3d.html", "Forecast poses in space", turnable, PENN_ACTION.skeleton)
        draw.write_png(folder / "movements3d.png", strips(turnable, PENN_ACTION.skeleton))


def _steps() -> list[str]:
    return [str(step) for step in range(1, STEPS + 1)]


def _write(folder: Path, name: str, found: pd.DataFrame) -> None:
    found.to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.md").write_text(as_text(found, "github") + "\n")
    (folder / f"{name}.txt").write_text(as_text(found) + "\n")
