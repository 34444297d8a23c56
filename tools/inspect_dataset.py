"""Print statistics of a dataset's annotations, and draw some of them: python -m tools.inspect_dataset DATASET [--split SPLIT]

The picture shows some rows of the split, each as the crop that the network sees. The person's right side is drawn in orange,
the left side in blue. Rings mark joints that are labelled but not visible. Rows are numbered from 0, as in SPLIT.h5.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.imaging import draw, geometry
from datasets.imaging.images import read_image
from datasets.skeletons import Skeleton
from pipeline import config
from pipeline.tasks.prepare import converted, files_of
from stages.preparing.annotate import SUSPICIOUS
from tools import program

SPLITS = ("train", "valid", "test")
SIDE, ACROSS = 256, 6  # side in px of a person's picture, and number of pictures per row
MEASURED = 200  # number of images whose sizes are measured


@program
def main() -> None:
    """Read the options, print the tables and write the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.inspect_dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or NAME of a section [dataset:NAME]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="default: valid")
    config.add_options(parser)
    parser.add_argument("--rows", type=int, nargs="+", metavar="ROW", help="rows to draw; default: a random choice")
    parser.add_argument("--action", help="draw only rows of this action (Penn Action)")
    parser.add_argument(
        "--suspicious",
        nargs="?",
        const="",
        metavar="KIND",
        help="draw only suspicious rows or, with KIND, only suspicious rows of this kind",
    )
    parser.add_argument("--count", type=int, default=24, help="number of rows to draw; default: 24")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice; default: 0")
    parser.add_argument("--out", type=Path, help="file of the picture; default: pictures/DATASET-SPLIT.png")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("--count must be at least 1")
    config.use(options)
    inspect(options)


def inspect(options: argparse.Namespace) -> None:
    """Print the tables and write the picture. Raises DataError for missing results, and if no row matches the options."""
    dataset = config.dataset(options.dataset)
    stages = converted(dataset)
    for stage in stages.values():
        if not stage.complete():  # `complete` also updates symlinks to images
            raise DataError(f"{stage.folder} is missing; make it with: {config.command('run ' + stage.name)}")
    data = files_of(dataset, {name: stage.folder for name, stage in stages.items()})
    splits = {split: annotations.read(data.annotations, split) for split in SPLITS}
    rows, odd = splits[options.split], pd.read_csv(data.annotations / SUSPICIOUS)
    actions = {s: pd.Series(dataset.people(data, r).actions, dtype=str) for s, r in splits.items()}
    actions = {s: of_rows for s, of_rows in actions.items() if any(of_rows)}
    for table in (by_split(splits, odd), by_action(actions), by_joint(rows, data.skeleton), sizes(rows, data.images, options)):
        if len(table):
            print(table.to_string(), end="\n\n")
    odd = odd[odd["split"] == options.split]
    chosen = choose(rows, odd, actions.get(options.split), options)
    kinds = odd.groupby("row")["what"].agg(", ".join)
    pictures = [picture(rows, row, data.images, data.skeleton, kinds.get(row, "")) for row in chosen]
    lines = [pictures[i : i + ACROSS] for i in range(0, len(pictures), ACROSS)]
    titles = [f"{options.dataset}, {options.split}: {len(chosen)} of {len(rows)} rows"] + [""] * (len(lines) - 1)
    out = options.out or Path("pictures", f"{options.dataset}-{options.split}.png")
    try:
        if not options.out:
            out.parent.mkdir(exist_ok=True)
        draw.write_png(out, draw.contact_sheet(lines, titles, SIDE))
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); give another file with --out.") from None
    print(f"{len(chosen)} rows are drawn in {out}")


def by_split(splits: dict[str, Annotations], odd: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the following numbers for each split: rows, images, labelled joints per row, and suspicious rows."""
    labelled = {split: ~np.isnan(rows.part).any(axis=2) for split, rows in splits.items()}
    return pd.DataFrame({
        "rows": {split: len(rows) for split, rows in splits.items()},
        "images": {split: len(set(rows.images)) for split, rows in splits.items()},
        "labelled joints per row": {split: joints.sum() / max(len(joints), 1) for split, joints in labelled.items()},
        "suspicious rows": odd.groupby("split")["row"].nunique().reindex(list(splits), fill_value=0),
    }).round(2)  # fmt: skip


def by_action(actions: dict[str, pd.Series]) -> pd.DataFrame:
    """Return a table with the number of rows of each action in each split; empty for a dataset without actions."""
    return (
        pd.DataFrame({f"{split} rows": series.value_counts(sort=False) for split, series in actions.items()})
        .fillna(0)
        .astype(int)
    )


def by_joint(rows: Annotations, skeleton: Skeleton) -> pd.DataFrame:
    """Return a table with the percentages of rows in which each joint is labelled and in which it is visible."""
    labelled, count = ~np.isnan(rows.part).any(axis=2), max(len(rows), 1)
    shares = {"labelled %": labelled.sum(axis=0) / count, "visible %": rows.visible.sum(axis=0) / count}
    return (100 * pd.DataFrame(shares, index=list(skeleton.joints))).round(1)


def sizes(rows: Annotations, folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Return a table of quantiles of the boxes' sides, and of the width and height of some images, in px."""
    images = sorted(set(rows.images))
    some = np.random.default_rng(options.seed).permutation(images)[:MEASURED].tolist()
    shapes = np.array([read_image(folder / image).shape[:2] for image in some]).reshape(-1, 2)
    columns: dict[str, Any] = {"box side": 200 * rows.scale}
    columns |= {f"width of {len(some)} images": shapes[:, 1], f"height of {len(some)} images": shapes[:, 0]}
    levels = {"minimum": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "maximum": 1}
    table = {
        name: {level: np.quantile(values, q) for level, q in levels.items()} for name, values in columns.items() if len(values)
    }
    return pd.DataFrame(table).round(1)


def choose(rows: Annotations, odd: pd.DataFrame, actions: pd.Series | None, options: argparse.Namespace) -> list[int]:
    """Return the numbers of the rows that match the options. Raises DataError if no row matches."""
    wanted = pd.Index(range(len(rows)) if options.rows is None else options.rows)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(rows):
        raise DataError(f"--rows: give rows from 0 to {len(rows) - 1}, the rows of the {options.split} split.")
    if options.action is not None:
        if actions is None or options.action not in set(actions):
            raise DataError(
                f"--action {options.action}: the {options.split} split has no such action; the actions are "
                f"{', '.join(sorted(set(actions))) if actions is not None else 'unknown'}."
            )
        wanted = wanted.intersection(actions.index[actions == options.action])
    if options.suspicious is not None:
        wanted = wanted.intersection(odd["row"][odd["what"].str.contains(options.suspicious, regex=False)])
    if not len(wanted):
        raise DataError(f"no row of the {options.split} split matches --rows, --action and --suspicious; leave one option out.")
    if options.rows is None and options.count < len(wanted):
        wanted = np.random.default_rng(options.seed).choice(wanted, options.count, replace=False)
    return sorted(map(int, wanted))


def picture(rows: Annotations, row: int, folder: Path, skeleton: Skeleton, kinds: str) -> np.ndarray:
    """Return a person's crop with drawn skeleton and text: row, image, number of the person, and why the row is suspicious."""
    affine = geometry.image_to_crop(rows.center[row], rows.scale[row], SIDE)
    crop = cv2.warpAffine(read_image(folder / rows.images[row]), affine, (SIDE, SIDE))
    drawn = draw.draw_person(crop, geometry.apply(affine, rows.part[row]), skeleton, rows.visible[row])
    for top, words in ((0, f"{row}: {rows.images[row]} {rows.person[row]}"), (SIDE - 16, kinds)):
        if words:
            drawn[top : top + 16] = 0
            cv2.putText(drawn, words, (4, top + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
