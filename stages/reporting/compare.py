"""Compare networks: make tables, significance tests, curves, and pictures of predictions on validation images.

Files in the result folder:
    accuracy.csv, .md, .txt    accuracies before and after fine-tuning, and of a network trained from scratch, if there is one
    parts.csv, .md, .txt       accuracies by body part and in total, with 95 % intervals and published results
    joints.csv                 accuracies by joint
    tests.csv, .md, .txt       significance tests: the fine-tuned network against the other networks, and the network
                               before fine-tuning against stored predictions of other programs
    curves_<dataset>           loss and accuracy by epoch, .png, .pdf and .svg
    pck_<dataset>              PCK by threshold, .png, .pdf and .svg
    predictions.png            labels and predictions of some people of each dataset's validation split
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.dataset import DatasetFiles
from datasets.formats.hdf5 import h5_field, open_h5
from datasets.imaging import draw
from datasets.measures import TRAINING_METRIC
from stages.evaluation.scores import Scored, as_text, joint_table, pair_table, part_table, part_text
from stages.reporting import curves

SHOWN = 6  # number of people in a row of predictions.png


@dataclass(frozen=True)
class Experiment:
    """A network of the chain: before or after fine-tuning, or trained from scratch."""

    column: str  # name of the column in tables: before, after or scratch
    name: str  # path of the network below exp/, such as mpii/hg-256
    training: Path  # folder of the training, or of the precomputed network
    dataset: str  # name of the dataset on which the network was trained last
    scores: dict[str, Path]  # dataset -> folder of the evaluation on this dataset

    def scored(self, dataset: str) -> Scored:
        return Scored(self.name, self.scores[dataset])


def compare(
    folder: Path, experiments: list[Experiment], data: dict[str, DatasetFiles], stored: Mapping[str, Path]
) -> dict[str, Any]:
    """Write all files of a comparison; return the number of rows of the accuracy table.

    experiments: the first two are the network before and after fine-tuning; data: dataset -> files of this dataset; stored:
    name of another program -> folder with the evaluation of this program's stored predictions for MPII.
    """
    table = accuracy_table(experiments)
    table.to_csv(folder / "accuracy.csv", index=False)
    percent = table.map(lambda v: f"{v:.2f} %" if isinstance(v, float) else v)
    (folder / "accuracy.md").write_text(percent.to_markdown(index=False) + "\n")
    legend = f"before fine-tuning: {experiments[0].name}    after: {experiments[1].name}\n\n"
    right = ("left", "right", "left", *("right",) * (len(table.columns) - 3))
    (folder / "accuracy.txt").write_text(legend + percent.to_markdown(index=False, tablefmt="simple", colalign=right) + "\n")
    others = [Scored(f"{name} (stored)", place) for name, place in stored.items()]
    first, *rest = ([e.scored(dataset) for e in experiments if dataset in e.scores] for dataset in data)
    write_tables(folder, [*first, *others, *(scored for those in rest for scored in those)])
    fine_tuned = experiments[1]
    pairs = [(e.scored(d), fine_tuned.scored(d)) for d in data for e in experiments if e is not fine_tuned and d in e.scores]
    write_tests(folder, pair_table(pairs + [(other, experiments[0].scored("mpii")) for other in others]))
    _draw_curves(folder, experiments, list(data))
    _draw_predictions(folder / "predictions.png", experiments, data)
    return {"rows": len(table)}


def accuracy_table(experiments: list[Experiment]) -> pd.DataFrame:
    """Return a table with a row per split and measure, and one column of accuracies per experiment.

    Accuracies are in per cent, NaN if missing. Column `joints`: number of joints that count in the accuracy; if the numbers of
    the networks differ, the column contains all different numbers, such as 14/16.
    """
    rows, before = [], experiments[0]
    for dataset, split in dict.fromkeys((d, s) for d in before.scores for s in before.scored(d).accuracy.labelled):
        one = before.scored(dataset)
        found = {e.column: e.scored(dataset).accuracy.splits[split] for e in experiments if dataset in e.scores}
        first = one.first_measure
        for name in (TRAINING_METRIC, first):
            values = {c: f.acc if name != first else f.measures[first].value for c, f in found.items()}
            joints = [f.acc_joints if name != first else len(f.measures[first].in_mean) for f in found.values()]
            people = str(next(iter(found.values())).people)
            row = [f"{one.accuracy.title} {split}", people, name, "/".join(dict.fromkeys(map(str, joints)))]
            numbers = [values.get(e.column) for e in experiments]
            rows.append(row + [float("nan") if v is None else 100 * v for v in numbers])
    return pd.DataFrame(rows, columns=["split", "people", "measure", "joints", *(e.column for e in experiments)])


def write_tables(folder: Path, scored: list[Scored]) -> pd.DataFrame:
    """Write parts.* and joints.csv; return the table of parts.*."""
    table = part_table(scored)
    table.to_csv(folder / "parts.csv", index=False)
    (folder / "parts.md").write_text(part_text(table, "github") + "\n")
    (folder / "parts.txt").write_text(part_text(table) + "\n")
    joint_table(scored).to_csv(folder / "joints.csv", index=False)
    return table


def write_tests(folder: Path, table: pd.DataFrame) -> None:
    """Write the files tests.*."""
    table.to_csv(folder / "tests.csv", index=False)
    (folder / "tests.md").write_text(as_text(table, "github") + "\n")
    (folder / "tests.txt").write_text(as_text(table) + "\n")


def _draw_curves(folder: Path, experiments: list[Experiment], datasets: list[str]) -> None:
    for dataset in datasets:
        trainings = []
        for e in experiments:
            if e.dataset == dataset:
                test = e.scored(dataset).accuracy.labelled.get("test")
                trainings.append(curves.Training(e.name, e.training, test.acc if test else None))
        curves.draw_training(folder / f"curves_{dataset}", trainings)
        curves.draw_pck(folder / f"pck_{dataset}", [e.scored(dataset) for e in experiments if dataset in e.scores])


def _draw_predictions(path: Path, experiments: list[Experiment], data: dict[str, DatasetFiles]) -> None:
    """Draw labels and predictions of validation people.

    For MPII, only the network before fine-tuning is drawn; for Penn Action, all networks are drawn.
    """
    rows, titles = [], []
    for dataset, place in data.items():
        people = place.split("valid")
        chosen = np.unique(np.linspace(0, len(people) - 1, SHOWN).astype(int)).tolist()
        versions = {"labels": people.part}
        for e in experiments[:1] if dataset == experiments[0].dataset else experiments:
            preds = e.scores[dataset] / "preds_valid.h5"
            with open_h5(preds) as file:
                versions[f"{e.column} ({e.name})"] = h5_field(file, preds, "preds")[:] - 1  # from 1-based to 0-based pixels
        for title, joints in versions.items():
            rows.append([draw.person(place, people, row, joints[row]) for row in chosen])
            titles.append(f"{place.dataset.title} valid: {title}")
    draw.write_png(path, draw.contact_sheet(rows, titles))
