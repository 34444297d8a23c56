"""Make tables of accuracies, by body part and in total, with confidence intervals and published results; make tables of
significance tests.

The only inputs are the result folders of `evaluate`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.catalog import dataset_named
from datasets.formats.hdf5 import h5_field, open_h5
from datasets.measures import BODY_PARTS, TRAINING_METRIC, Published
from stages.evaluation.accuracy import Accuracy, read
from stages.evaluation.metrics import by_part
from stages.evaluation.significance import Difference, Hits, difference, hits_by_group, interval


@dataclass(frozen=True)
class Scored:
    """The evaluation of a network on one dataset."""

    network: str  # name of the network in the tables
    folder: Path  # result folder of `evaluate`

    @cached_property
    def accuracy(self) -> Accuracy:
        """Return the contents of accuracy.json. Raises DataError for a missing or invalid file."""
        return read(self.folder)

    @property
    def first_measure(self) -> str:
        """Return the name of the dataset's first measure, by which networks are compared.

        Significance tests, and the table of accuracies before and after fine-tuning, use this measure.
        """
        return self.accuracy.measures[0]

    def people(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return distance (N, J), reference (N, M) of M measures, both in px, and group (N,), from people_<split>.h5."""
        path = self.folder / f"people_{split}.h5"
        with open_h5(path) as file:
            distance, reference, group = (h5_field(file, path, name)[()] for name in ("distance", "reference", "group"))
        return distance, reference, group

    def hits(self, split: str, measure: str) -> Hits:
        """Return the hits on a split by one measure, counted for each group of people."""
        distance, reference, group = self.people(split)
        metrics = self.accuracy.splits[split].measures[measure]
        counted = np.isin(self.accuracy.joints, metrics.in_mean)
        length = reference[:, self.accuracy.measures.index(measure)]
        return hits_by_group(distance, length, metrics.threshold, group, counted, metrics.overall)


def part_table(scored: list[Scored]) -> pd.DataFrame:
    """Return a table with one row per split, measure and network; rates are in per cent, NaN if unknown.

    For each split and measure, the networks in `scored` come first. After them come the published results for as many people
    as one of these networks was scored on. Columns: split, measure, network, published (yes or empty), people (number), the
    body parts, overall (the rate that the dataset's owners report), low and high (95 % confidence interval of overall),
    visible, total and auc (see `MeasureMetrics`), pixels (mean error in px, which does not depend on the measure).
    """
    rows = []
    for dataset, split in dict.fromkeys((s.accuracy.dataset, split) for s in scored for split in s.accuracy.labelled):
        those = [s for s in scored if s.accuracy.dataset == dataset and split in s.accuracy.labelled]
        people = {s.accuracy.splits[split].people for s in those}
        known = dataset_named(dataset)
        published = [p for p in known.published if p.split == split and p.people in people] if known else []
        for name in (TRAINING_METRIC, *those[0].accuracy.measures):
            # Stored predictions have no heatmaps, and so no training accuracy.
            ours = [_row(s, split, name) for s in those if name != TRAINING_METRIC or s.accuracy.splits[split].acc is not None]
            others = [_published_row(p) for p in published if p.measure == name]
            rows += [{"split": f"{those[0].accuracy.title} {split}", "measure": name} | row for row in ours + others]
        rows += [row for s in those for row in _oks_rows(s, split)]
    return pd.DataFrame(rows)


def _row(scored: Scored, split: str, name: str) -> dict[str, Any]:
    metrics = scored.accuracy.splits[split]
    row: dict[str, Any] = {"network": scored.network, "published": "", "people": metrics.people}
    if name == TRAINING_METRIC:
        return row | dict.fromkeys(BODY_PARTS, np.nan) | {"overall": _percent(metrics.acc)}
    found = metrics.measures[name]
    joints = scored.accuracy.joints
    parts = by_part(np.array([_percent(found.by_joint.get(joint)) for joint in joints]), joints)
    if "head_top" in parts:
        parts["head"] = parts["head_top"]
    low, high = interval(scored.hits(split, name))
    summary = {"overall": found.value, "low": low, "high": high}
    summary |= {"visible": found.visible, "total": found.total, "auc": found.auc}
    row |= {n: float(parts.get(n, np.nan)) for n in BODY_PARTS} | {n: _percent(value) for n, value in summary.items()}
    return row | {"pixels": metrics.pixels}


def _oks_rows(scored: Scored, split: str) -> list[dict[str, Any]]:
    """Return a network's rows for OKS AP, AP50, AP75 and AR; no rows if accuracy.json has no such metrics for the split."""
    metrics = scored.accuracy.splits[split]
    if not metrics.oks:
        return []
    row = {"split": f"{scored.accuracy.title} {split}", "network": scored.network, "published": "", "people": metrics.people}
    named = {"OKS AP": metrics.oks.ap, "OKS AP50": metrics.oks.ap50, "OKS AP75": metrics.oks.ap75, "OKS AR": metrics.oks.ar}
    return [
        row | dict.fromkeys(BODY_PARTS, np.nan) | {"measure": name, "overall": _percent(value)} for name, value in named.items()
    ]


def _published_row(p: Published) -> dict[str, Any]:
    parts = dict(zip(BODY_PARTS, p.parts or (np.nan,) * len(BODY_PARTS), strict=True))
    return {"network": p.network, "published": "yes", "people": np.nan} | parts | {"overall": p.overall}


def _percent(rate: float | None) -> float:
    return np.nan if rate is None else 100 * rate


def joint_table(scored: list[Scored]) -> pd.DataFrame:
    """Return a table with one row per split, measure, network and joint; rates are in per cent."""
    rows = [
        [f"{s.accuracy.title} {split}", measure, s.network, joint, _percent(rate)]
        for s in scored for split, metrics in s.accuracy.labelled.items()
        for measure, found in metrics.measures.items() for joint, rate in found.by_joint.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["split", "measure", "network", "joint", "rate"])


def compared(first: Scored, second: Scored, split: str) -> Difference | None:
    """Return by how much the second network is better than the first, by the dataset's first measure.

    Only the joints that both networks predict are compared.

    Returns None if the two networks were scored on different people.
    """
    a, b = (scored.hits(split, first.first_measure) for scored in (first, second))
    both = (a.counts.sum(axis=0) > 0) & (b.counts.sum(axis=0) > 0)
    a, b = a.only(both), b.only(both)
    same = np.array_equal(a.counts, b.counts) and np.array_equal(
        first.people(split)[1], second.people(split)[1], equal_nan=True
    )
    return difference(a, b) if same else None


def pair_table(pairs: list[tuple[Scored, Scored]]) -> pd.DataFrame:
    """Return a table of significance tests, one row per pair of networks and split: is the second network better than the
    first?

    Differences are in percentage points.
    """
    rows = []
    for first, second in pairs:
        for split in (name for name in first.accuracy.labelled if name in second.accuracy.labelled):
            d = compared(first, second, split)
            named = [f"{first.accuracy.title} {split}", first.first_measure, second.network]
            if d is None:
                rows.append([*named, "scored on other people", first.network, *[np.nan] * 5])
            else:
                verdict = "no difference shown" if d.p >= 0.05 else "better" if d.value > 0 else "worse"
                rows.append([*named, verdict, first.network, 100 * d.value, 100 * d.low, 100 * d.high, d.p, d.groups])
    columns = ["split", "measure", "network", "verdict", "than", "difference", "low", "high", "p", "groups"]
    return pd.DataFrame(rows, columns=columns)


def part_text(table: pd.DataFrame, form: str = "simple") -> str:
    """Return the result of `part_table` as text: one table for each split and measure; form = github means Markdown."""
    tables = []
    for (split, measure), rows in table.groupby(["split", "measure"], sort=False):
        shown = rows.assign(network=rows["network"] + np.where(rows["published"] == "yes", " *", ""))
        if "low" in shown and not shown["low"].isna().all():
            sure = [f"{low:.2f} to {high:.2f}" for low, high in zip(shown["low"], shown["high"], strict=True)]
            shown["95 %"] = np.where(shown["low"].isna(), "", sure)
        columns = ["network", "people", *BODY_PARTS, "overall", "95 %", "visible", "total", "auc", "pixels"]
        shown = shown[[name for name in columns if name in shown and not shown[name].isna().all()]]
        tables.append(f"{split}, {measure}\n\n{as_text(shown, form)}")
    if (table["published"] == "yes").any():
        tables.append("\\* published, not measured here" if form == "github" else "* published, not measured here")
    return "\n\n".join(tables)


def as_text(table: pd.DataFrame, form: str = "simple") -> str:
    """Return a table as plain text, or with form = github as Markdown."""
    shown = table.map(lambda v: ("" if np.isnan(v) else f"{v:.2f}") if isinstance(v, float) else v)
    for name, form_of in {"p": ".4f", "people": ".0f", "groups": ".0f"}.items():
        if name in table:
            shown[name] = ["" if np.isnan(value) else f"{value:{form_of}}" for value in table[name]]
    numbers = ["right" if table[name].dtype.kind in "fi" or name == "95 %" else "left" for name in table]
    return shown.to_markdown(index=False, tablefmt=form, colalign=numbers, disable_numparse=True)
