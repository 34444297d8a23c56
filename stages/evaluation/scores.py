"""Tables of accuracies: per body part and total, with intervals, published rows beside ours, and who is better than whom.

They need nothing but the folders that `evaluate` has made.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import DataError
from datasets.formats.annotations import h5_field, open_h5
from datasets.skeletons import SKELETONS, TITLES, Skeleton
from stages.evaluation import metrics
from stages.evaluation.measures import MEASURES, Measure
from stages.evaluation.significance import Difference, Hits, difference, hits_by_group, interval

TRAINING_METRIC = "training metric"
PARTS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


@dataclass(frozen=True)
class Scored:
    """A network scored on one dataset: what it is called, and the evaluation's result."""

    network: str
    folder: Path

    @cached_property
    def content(self) -> dict[str, Any]:
        """What accuracy.json holds. Raises DataError where it is missing or of another kind."""
        path = self.folder / "accuracy.json"
        try:
            content = json.loads(path.read_text())
            names = [measure.name for measure in MEASURES[content["dataset"]]]
            for figures in content["splits"].values():
                _ = figures["people"], figures["acc"], figures["pixels"], [figures["measures"][name]["curve"] for name in names]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not what an evaluation writes ({error}); evaluate again, or remove it.") from None
        return content

    @property
    def skeleton(self) -> Skeleton:
        return SKELETONS[self.content["dataset"]]

    @property
    def splits(self) -> dict[str, Any]:
        """The figures of each split that has labels."""
        return {name: figures for name, figures in self.content["splits"].items() if figures["pixels"] is not None}

    def people(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """distance, reference and group of a split's people, see `evaluate`."""
        path = self.folder / f"people_{split}.h5"
        with open_h5(path) as file:
            distance, reference, group = (h5_field(file, path, name)[()] for name in ("distance", "reference", "group"))
        return distance, reference, group

    def hits(self, split: str, measure: Measure) -> Hits:
        """What was hit on a split, in groups."""
        distance, reference, group = self.people(split)
        column = [m.name for m in MEASURES[self.skeleton.name]].index(measure.name)
        joints = [name in self.content["splits"][split]["measures"][measure.name]["by joint"] for name in self.skeleton.joints]
        counted = np.array(joints) & ~np.isin(self.skeleton.joints, metrics.NOT_IN_PCKH)
        return hits_by_group(distance, reference[:, column], measure.threshold, group, counted, measure.overall)


@dataclass(frozen=True)
class Published:
    """A published accuracy in per cent, or several of body parts: not measured here."""

    dataset: str
    split: str
    measure: str
    network: str
    overall: float
    parts: tuple[float, ...] = ()  # in the order of PARTS


# Sources: the READMEs of pose-hg-train, branch image-play; of anibali/pytorch-stacked-hourglass (after bearpaw/pytorch-pose);
# of princeton-vl/pytorch_stacked_hourglass, and of its fork with mean normalisation and cutout.
PUBLISHED = (
    Published("mpii", "valid", TRAINING_METRIC, "hg-256 (pose-hg-train, image-play)", 80.58),
    Published("mpii", "valid", "PCKh@0.5", "2 stacks (anibali, PyTorch)", 87.33,
              (96.15, 94.89, 88.14, 83.78, 87.43, 82.19, 77.87)),
    Published("mpii", "valid", "PCKh@0.5", "2 stacks (princeton-vl, PyTorch)", 88.5),
    Published("mpii", "valid", "PCKh@0.5", "2 stacks, regularised (fork of princeton-vl, PyTorch)", 88.7),
    Published("mpii", "valid", "PCKh@0.5", "8 stacks (princeton-vl, PyTorch)", 90.1),
    Published("mpii", "valid", "PCKh@0.5", "8 stacks, regularised (fork of princeton-vl, PyTorch)", 90.6),
    Published("penn_action", "valid", TRAINING_METRIC, "hg-256-ft, best epoch (pose-hg-train, image-play)", 91.52),
    Published("penn_action", "valid", TRAINING_METRIC, "hg-256-ft, last epoch (pose-hg-train, image-play)", 91.20),
    Published("penn_action", "test", TRAINING_METRIC, "hg-256-ft, last epoch (pose-hg-train, image-play)", 91.10),
)  # fmt: skip

# How many people or frames the published rows are of: where ours were scored on others, nothing can be compared.
PUBLISHED_PEOPLE = {("mpii", "valid"): 2958, ("penn_action", "valid"): 8721, ("penn_action", "test"): 76206}


def part_table(scored: list[Scored]) -> pd.DataFrame:
    """A row per split, measure and network, ours before published ones; rates in per cent, NaN where unknown.

    Published rows are there where ours are of as many people as they.
    Columns: split, measure, network, published (yes or nothing), people, the body parts, overall (as the dataset's owners
    have it), low and high (its 95 % interval), visible, total, auc, pixels (mean error in px, whatever the measure).
    """
    rows = []
    for dataset, split in dict.fromkeys((s.skeleton.name, split) for s in scored for split in s.splits):
        those = [s for s in scored if s.skeleton.name == dataset and split in s.splits]
        same = PUBLISHED_PEOPLE.get((dataset, split)) in [s.splits[split]["people"] for s in those]
        published = [p for p in PUBLISHED if same and (p.dataset, p.split) == (dataset, split)]
        for name in (TRAINING_METRIC, *(measure.name for measure in MEASURES[dataset])):
            ours = [_row(s, split, name) for s in those]
            others = [_published_row(p) for p in published if p.measure == name]
            rows += [{"split": f"{TITLES[dataset]} {split}", "measure": name} | row for row in ours + others]
    return pd.DataFrame(rows)


def _row(scored: Scored, split: str, name: str) -> dict[str, Any]:
    figures = scored.splits[split]
    row: dict[str, Any] = {"network": scored.network, "published": "", "people": figures["people"]}
    if name == TRAINING_METRIC:
        return row | dict.fromkeys(PARTS, np.nan) | {"overall": _percent(figures["acc"])}
    measure = next(m for m in MEASURES[scored.skeleton.name] if m.name == name)
    found = figures["measures"][name]
    rates = [_percent(found["by joint"].get(joint)) for joint in scored.skeleton.joints]
    parts = metrics.by_part(np.array(rates), scored.skeleton)
    if "head_top" in parts:
        parts["head"] = parts["head_top"]
    low, high = interval(scored.hits(split, measure))
    summary = {"overall": found["value"], "low": low, "high": high, **{n: found[n] for n in ("visible", "total", "auc")}}
    row |= {n: float(parts.get(n, np.nan)) for n in PARTS} | {n: _percent(value) for n, value in summary.items()}
    return row | {"pixels": figures["pixels"]}


def _published_row(p: Published) -> dict[str, Any]:
    parts = dict(zip(PARTS, p.parts or (np.nan,) * len(PARTS), strict=True))
    return {"network": p.network, "published": "yes", "people": np.nan} | parts | {"overall": p.overall}


def _percent(rate: float | None) -> float:
    return np.nan if rate is None else 100 * rate


def joint_table(scored: list[Scored]) -> pd.DataFrame:
    """A row per split, measure, network and joint: rate in per cent."""
    rows = [
        [f"{TITLES[s.skeleton.name]} {split}", measure, s.network, joint, _percent(rate)]
        for s in scored for split, figures in s.splits.items()
        for measure, found in figures["measures"].items() for joint, rate in found["by joint"].items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["split", "measure", "network", "joint", "rate"])


def compared(first: Scored, second: Scored, split: str) -> Difference | None:
    """By how much the second network is better by the first measure of their dataset, on the joints that both know.

    None where they were scored on different people.
    """
    measure = MEASURES[first.skeleton.name][0]
    a, b = (scored.hits(split, measure) for scored in (first, second))
    both = (a.counts.sum(axis=0) > 0) & (b.counts.sum(axis=0) > 0)
    a, b = a.only(both), b.only(both)
    same = np.array_equal(a.counts, b.counts) and np.array_equal(
        first.people(split)[1], second.people(split)[1], equal_nan=True
    )
    return difference(a, b) if same else None


def pair_table(pairs: list[tuple[Scored, Scored]]) -> pd.DataFrame:
    """A row per pair and split: is the second network better than the first? In points of per cent."""
    rows = []
    for first, second in pairs:
        for split in (name for name in first.splits if name in second.splits):
            d = compared(first, second, split)
            named = [f"{TITLES[first.skeleton.name]} {split}", MEASURES[first.skeleton.name][0].name, second.network]
            if d is None:
                rows.append([*named, "scored on other people", first.network, *[np.nan] * 5])
            else:
                verdict = "no difference shown" if d.p >= 0.05 else "better" if d.value > 0 else "worse"
                rows.append([*named, verdict, first.network, 100 * d.value, 100 * d.low, 100 * d.high, d.p, d.groups])
    columns = ["split", "measure", "network", "verdict", "than", "difference", "low", "high", "p", "groups"]
    return pd.DataFrame(rows, columns=columns)


def part_text(table: pd.DataFrame, form: str = "simple") -> str:
    """`part_table` for people: a table for each split and measure, as text or with form = github as Markdown."""
    tables = []
    for (split, measure), rows in table.groupby(["split", "measure"], sort=False):
        shown = rows.assign(network=rows["network"] + np.where(rows["published"] == "yes", " *", ""))
        if "low" in shown and not shown["low"].isna().all():
            sure = [f"{low:.2f} to {high:.2f}" for low, high in zip(shown["low"], shown["high"], strict=True)]
            shown["95 %"] = np.where(shown["low"].isna(), "", sure)
        columns = ["network", "people", *PARTS, "overall", "95 %", "visible", "total", "auc", "pixels"]
        shown = shown[[name for name in columns if name in shown and not shown[name].isna().all()]]
        tables.append(f"{split}, {measure}\n\n{as_text(shown, form)}")
    if (table["published"] == "yes").any():
        tables.append("\\* published, not measured here" if form == "github" else "* published, not measured here")
    return "\n\n".join(tables)


def as_text(table: pd.DataFrame, form: str = "simple") -> str:
    """A table for people, as text or with form = github as Markdown."""
    shown = table.map(lambda v: ("" if np.isnan(v) else f"{v:.2f}") if isinstance(v, float) else v)
    for name, form_of in {"p": ".4f", "people": ".0f", "groups": ".0f"}.items():
        if name in table:
            shown[name] = ["" if np.isnan(value) else f"{value:{form_of}}" for value in table[name]]
    numbers = ["right" if table[name].dtype.kind in "fi" or name == "95 %" else "left" for name in table]
    return shown.to_markdown(index=False, tablefmt=form, colalign=numbers, disable_numparse=True)
