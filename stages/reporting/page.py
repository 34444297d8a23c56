"""Write the report, a folder with index.html, which opens from disk without a server, network access or scripts.

The folder has index.html, copies of the comparison's curves and pictures, copies of the evaluations' worst images, and the
manifests of all results in manifests/. If there are 3D forecasts, the folder also has the page movements3d.html, which contains
a script.
"""

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import jinja2

from datasets.catalog import dataset_named
from stages.evaluation.scores import Scored
from stages.reporting.compare import write_tables
from stages.reporting.curves import Training, draw_training

# Column name in a .csv file -> clearer heading of the column in the report.
HEADINGS = {
    "low": "95 % interval",
    "auc": "AUC", "pixels": "mean error, px", "p": "p-value",
    "median": "median error, px", "confused": "left and right confused, %", "rate": "correct, %", "value": "of",
}  # fmt: skip

STARTS = {"all": "from every frame", "first": "from first frames", "fixed_rate": "at a fixed rate"}

# FIRST: columns that directly follow a table's first column, in this order. MINOR: columns that are hidden on a phone.
FIRST, MINOR = ["verdict", "difference", "overall", "low", "rate"], ("people", "joints", "groups")


@dataclass(frozen=True)
class Made:
    """The contents of manifest.json in a result's folder."""

    version: int
    fingerprint: str
    content: str
    commit: str | None
    seconds: float
    finished: datetime
    libraries: dict[str, str | None]
    text: str  # text of manifest.json


@dataclass(frozen=True)
class StageFacts:
    """The state of a stage, and the manifest of its result if there is one."""

    name: str
    place: str  # path of the result below exp/
    state: str  # the state, a value of pipeline.engine.stage.Status
    why: str
    reads: list[str]  # names of the stages whose results this stage reads
    made: Made | None = None  # None: there is no result


@dataclass(frozen=True)
class Setting:
    """A setting of luigi.cfg as text."""

    name: str  # [section] name
    value: str
    published: str
    significant: bool

    @property
    def same(self) -> bool:
        """Return whether the setting has the published value."""
        return self.value == self.published


@dataclass(frozen=True)
class Evaluated:
    """An evaluation: the name of the network, and the folders of the network and of the evaluation."""

    network: str
    training: Path
    folder: Path


@dataclass(frozen=True)
class Facts:
    """The contents of a report."""

    title: str
    written: str  # date and time
    stages: list[StageFacts]
    settings: list[Setting]
    sources: list[tuple[str, str, str]]  # (stage, file or address, sha256 digest)
    sample: bool  # whether the data is the built-in sample, which consists of drawn people
    comparison: Path | None = None  # folder of CompareAccuracy's result
    forecasts: Path | None = None  # folder of CompareForecasts' result
    evaluations: dict[str, Path] = field(default_factory=dict)  # path of an evaluation below exp/ -> its folder
    further: list[Evaluated] = field(default_factory=list)  # evaluations that are not in the comparison


@dataclass(frozen=True)
class Table:
    """A table of text cells; numbers: whether each column has only numbers; bars: heading of the column drawn as bars."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    numbers: list[bool]
    bars: str = ""


@dataclass(frozen=True)
class Picture:
    """A file in the report's folder, an image or a page, and its caption."""

    file: str
    shows: str


def write(folder: Path, facts: Facts) -> Path:
    """Write the report into the empty `folder`; return the path of index.html."""
    (folder / "manifests").mkdir()
    for stage in facts.stages:
        if stage.made:
            (folder / "manifests" / manifest_name(stage)).write_text(stage.made.text)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"manifest_name": manifest_name, "duration": duration}
    failures = [
        (place, split, table, _worst(folder, place, split, evaluation))
        for place, evaluation in facts.evaluations.items() for split, table in _failures(place, evaluation)
    ]  # fmt: skip
    further = _write_further(folder / "further", facts.further)
    accuracies, tests = (_read(facts.comparison, f"{name}.csv") for name in ("accuracy", "tests"))
    page = environment.get_template("page.html").render(
        facts=facts, done=[s.made for s in facts.stages if s.state == "done" and s.made],
        accuracies=accuracies, accuracy=_table("Accuracies in per cent", accuracies) if accuracies else None,
        tests=_table("Differences in percentage points", tests) if tests else None,
        parts=_parts(facts.comparison) | _parts(further),
        curves=[*_pictures(folder, facts.comparison, "curves_*.svg", "Accuracy and loss by epoch of networks trained on {}"),
                *_pictures(folder, facts.comparison, "pck_*.svg", "Share of correct joints on {}, by threshold"),
                *_pictures(folder, further, "curves_*.svg", "Accuracy and loss by epoch of networks trained on {}")],
        predictions=_pictures(folder, facts.comparison, "predictions.png", "Labels and predictions of validation people"),
        failures=failures, minor=MINOR, forecasts=_forecasts(facts.forecasts),
        forecast_tests=[
            _table(f"{name}: differences of PCK@0.05 in percentage points", rows, ("forecaster",))
            for name, rows in _by(_read(facts.forecasts, "tests.csv"), "forecaster").items()
        ],
        forecast_curves=_pictures(folder, facts.forecasts, "forecasts.svg", "PCK@0.05 of forecasts by step, test split"),
        strips=_pictures(folder, facts.forecasts, "strips.png", "Test images with forecast poses, and the labels below them"),
        movements=_pictures(folder, facts.forecasts, "movement-*.gif", "A forecast movement, and the labels to its right"),
        strips3d=_pictures(folder, facts.forecasts, "movements3d.png", "Forecast poses in space, seen from three sides"),
        movements3d=_pictures(folder, facts.forecasts, "movements3d.html", "Turn and play the forecast poses in space"),
    )  # fmt: skip
    (folder / "index.html").write_text(page, encoding="utf-8")
    return folder / "index.html"


def manifest_name(stage: StageFacts) -> str:
    """Return the name under which a stage's manifest is stored in the folder manifests/ of the report."""
    return stage.place.replace("/", "-") + ".json"


def duration(seconds: float) -> str:
    """Return a duration in seconds as text: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _read(folder: Path | None, name: str) -> list[dict[str, str]]:
    """Return the rows of a .csv table, with numbers rounded for display; no rows if the file does not exist."""
    if folder is None or not (folder / name).is_file():
        return []
    with open(folder / name, newline="") as file:
        return [{column: _shown(column, cell) for column, cell in row.items()} for row in csv.DictReader(file)]


def _shown(column: str, cell: str) -> str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    if column in ("people", "groups", "joints", "step"):
        return f"{number:.0f}"
    return f"{number:.4f}" if column == "p" else f"{number:.2f}"


def _table(caption: str, rows: list[dict[str, str]], leave_out: tuple[str, ...] = (), bars: str = "") -> Table:
    """Return the rows as a table, without empty columns and without the columns listed in `leave_out`."""
    if any(row.get("low") for row in rows):
        rows = [row | {"low": f"{row['low']} to {row['high']}" if row["low"] else ""} for row in rows]
    columns = [name for name in rows[0] if name not in leave_out and name != "high" and any(row[name] for row in rows)]
    columns = columns[:1] + sorted(columns[1:], key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    numbers = [HEADINGS.get(n) != bars and all(_is_number(row[n]) for row in rows) for n in columns]
    return Table(caption, [HEADINGS.get(n, n) for n in columns], [[row[n] for n in columns] for row in rows], numbers, bars)


def _is_number(cell: str) -> bool:
    return all(part.replace(".", "", 1).removeprefix("-").isdigit() for part in re.split(" to |/", cell) if part)


def _parts(comparison: Path | None) -> dict[str, list[Table]]:
    """Return split -> tables, one per measure: the training metric, then the dataset's measures in their order."""
    tables: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in _read(comparison, "parts.csv"):
        row["network"] += " (published)" if row["published"] else ""
        tables.setdefault(row["split"], {}).setdefault(row["measure"], []).append(row)
    return {
        split: [_table(f"{split}: {name}, %", rows, ("split", "measure", "published")) for name, rows in measures.items()]
        for split, measures in tables.items()
    }


def _forecasts(comparison: Path | None) -> list[Table]:
    """Return one table for each kind of start frames (a key of STARTS), with the PCK of each forecast step."""
    return [
        _table(f"PCK@0.05 in per cent by step, {STARTS.get(kind, kind)}", rows, ("starts",))
        for kind, rows in _by(_read(comparison, "forecasts.csv"), "starts").items()
    ]


def _by(rows: list[dict[str, str]], column: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows grouped by their value in a column: value -> rows, in the given order."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def _write_further(folder: Path, evaluated: list[Evaluated]) -> Path:
    """Write tables of the evaluations, and training curves; return `folder`.

    Curves are drawn only for networks that were trained on the dataset on which they are evaluated.
    """
    folder.mkdir()
    if evaluated:
        scored = [Scored(one.network, one.folder) for one in evaluated]
        write_tables(folder, scored)
        trainings: dict[str, list[Training]] = {}
        for one, found in zip(evaluated, scored, strict=True):
            if one.training.parent == one.folder.parent:  # only if the network was trained on the dataset on which it is scored
                trainings.setdefault(found.accuracy.dataset, []).append(Training(one.network, one.training))
        for dataset, those in trainings.items():
            draw_training(folder / f"curves_{dataset}", those)
    return folder


def _failures(place: str, evaluation: Path) -> Iterator[tuple[str, Table]]:
    """Yield (split, table) for each error analysis in an evaluation's folder; place: path of the evaluation below exp/."""
    for path in sorted(evaluation.glob("failures_*.csv"), reverse=True):
        split = path.stem.removeprefix("failures_")
        rows = [row | {"value": f"{row['by']}: {row['value']}".replace("_", " ")} for row in _read(evaluation, path.name)]
        if rows:
            caption = f"{place}, {split}, {rows[0]['measure']}: by joint, action, visibility and size"
            yield split, _table(caption, rows, ("by", "measure"), HEADINGS["rate"])


def _worst(folder: Path, place: str, split: str, evaluation: Path) -> Picture | None:
    """Copy the picture of a split's largest errors to the report; return it as a Picture, None if the file does not exist."""
    source, name = evaluation / f"worst_{split}.png", f"worst-{place.replace('/', '-')}-{split}.png"
    if not source.is_file():
        return None
    shutil.copyfile(source, folder / name)
    return Picture(name, f"{place}, {split}: labels above predictions of the people with the largest errors")


def _pictures(folder: Path, comparison: Path | None, pattern: str, shows: str) -> list[Picture]:
    """Copy the comparison's files whose names match `pattern` to the report; return them as pictures.

    shows: the caption, in which {} is replaced by the title of the dataset in a file's name.
    """
    found = sorted(comparison.glob(pattern)) if comparison else []
    for path in found:
        shutil.copyfile(path, folder / path.name)
    datasets = [path.stem.partition("_")[2] for path in found]
    known = [dataset_named(name) for name in datasets]
    titles = [dataset.title if dataset else name for dataset, name in zip(known, datasets, strict=True)]
    return [Picture(path.name, shows.format(title)) for path, title in zip(found, titles, strict=True)]
