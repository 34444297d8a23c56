"""Analyse a network's errors by joint, action, visibility and person size; count left-right confusions; draw the worst images.

`failures_<split>.csv` has a row for all joints, and one row per joint, action, visibility and size range. Columns: by (the
kind of row, such as joint), value (such as left_knee), joints (number of labelled joints), measure (the dataset's first
measure), rate (hits / labelled joints, in per cent), median (of the error, in px), confused (share of confused joints, in per
cent). A joint is confused if its prediction is nearer to the label of the opposite joint (left for right) than to its own
label, and would be a hit for the opposite joint. The share covers only joints whose opposite joint is labelled too. A
labelled joint without a prediction is a miss with an infinite error, and does not count for the share.

`worst_<split>.png` shows labels and predictions of the people with the largest errors, at most one person per image or
sequence.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.dataset import DatasetFiles
from datasets.files import csv_text
from datasets.imaging import draw
from datasets.measures import People
from stages.evaluation.measures import distances_to_labels, joints_in_mean, known_joints

SHOWN = 8  # number of people in worst_<split>.png


def write_failures(folder: Path, split: str, data: DatasetFiles, people: People, preds: np.ndarray) -> None:
    """Write failures_<split>.csv and worst_<split>.png.

    preds: (N, J, 2) in 0-based px of the images, NaN for joints that the network does not know.
    """
    measure = data.dataset.measures[0]
    reference = measure.reference(people)[:, None]
    with np.errstate(invalid="ignore"):
        limit = np.where(reference > 0, measure.threshold * reference, np.nan)
    distance = distances_to_labels(preds, people.rows.part)
    confused = _confused(people, preds, distance, limit, data.skeleton.mirrored())
    in_mean = np.isin(np.arange(len(data.skeleton.joints)), joints_in_mean(preds, data.skeleton))
    table = failures(data.skeleton.joints, people, distance, limit, confused, in_mean)
    table.insert(table.columns.get_loc("rate"), "measure", measure.name)
    table["value"] = table["value"].map(csv_text)  # names of actions come from downloaded archives, which are not trusted
    table.to_csv(folder / f"failures_{split}.csv", index=False)
    _draw_worst(folder / f"worst_{split}.png", data, people, preds, np.where(in_mean, distance / limit, np.nan))


def _confused(people: People, preds: np.ndarray, distance: np.ndarray, limit: np.ndarray, mirrored: list[int]) -> np.ndarray:
    """Return left-right confusion (N, J) float: 1 if the other side's joint was predicted, 0 if not, NaN if unknown."""
    other = np.linalg.norm(preds - people.rows.part[:, mirrored], axis=-1)
    with np.errstate(invalid="ignore"):
        confused = ((other <= limit) & (other < distance)).astype(np.float64)
    single = np.array(mirrored) == np.arange(len(mirrored))
    confused[np.isnan(distance) | np.isnan(other) | np.isnan(limit) | single] = np.nan
    return confused


def failures(joints: tuple[str, ...], people: People, distance: np.ndarray, limit: np.ndarray,
             confused: np.ndarray, in_mean: np.ndarray) -> pd.DataFrame:  # fmt: skip
    """Return the table of failures_<split>.csv without the column `measure`.

    Rows over several joints leave out joints that do not count in the mean accuracy.

    distance: (N, J) px, see `distances_to_labels`; confused: (N, J), see `_confused`; both are NaN if unknown. limit: (N, 1),
    largest distance of a hit in px; in_mean: (J,) bool, whether the joint counts in the mean accuracy.
    """
    counted = ~np.isnan(distance) & ~np.isnan(limit)
    rows = []
    for by, value, which in _divisions(joints, people, counted):
        chosen = counted & which if by == "joint" else counted & which & in_mean
        if chosen.any():
            hits, sides = (distance <= limit)[chosen], confused[chosen & ~np.isnan(confused)]
            share = 100 * sides.mean() if sides.size else np.nan
            rows.append([by, value, chosen.sum(), 100 * hits.mean(), np.median(distance[chosen]), share])
    return pd.DataFrame(rows, columns=["by", "value", "joints", "rate", "median", "confused"]).round(3)


def _divisions(joints: tuple[str, ...], people: People, counted: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (by, value, mask) for each row of the table; the mask, which broadcasts to (N, J), selects the row's joints."""
    yield "all", "all", np.array(True)
    for j, joint in enumerate(joints):
        yield "joint", joint, np.arange(len(joints)) == j
    actions = np.array(people.actions)
    for action in sorted(set(people.actions) - {""}):
        yield "action", action, (actions == action)[:, None]
    yield "visibility", "visible", people.rows.visible
    yield "visibility", "occluded", ~people.rows.visible
    side = people.rows.scale * 200
    edges = np.quantile(side[counted.any(axis=1)], [0, 0.25, 0.5, 0.75, 1]) if counted.any() else np.zeros(5)
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (side >= low) & ((side < high) | (high == edges[-1]))
        yield "box side", f"{low:.0f} to {high:.0f} px", inside[:, None]


def _draw_worst(path: Path, data: DatasetFiles, people: People, preds: np.ndarray, relative: np.ndarray) -> None:
    """Draw the people with the largest mean error: a row of pictures with labels, and below it a row with predictions.

    relative: (N, J), the error of each joint, divided by the largest distance of a hit; values above 10 count as 10.
    """
    errors = np.minimum(relative, 10.0)
    known = ~np.isnan(errors)
    enough = known.sum(axis=1) >= max(1, len(known_joints(preds)) // 2)
    mean = np.where(enough, np.where(known, errors, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), -1.0)
    worst: dict[int, int] = {}
    for row in np.argsort(-mean, kind="stable").tolist():
        if mean[row] >= 0 and len(worst) < SHOWN:
            worst.setdefault(int(people.groups[row]), row)
    if worst:
        pictures = [[draw.person(data, people.rows, row, joints[row]) for row in worst.values()]
                    for joints in (people.rows.part, preds)]  # fmt: skip
        draw.write_png(path, draw.contact_sheet(pictures, ["the largest errors: labels", "predictions"]))
