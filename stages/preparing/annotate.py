"""Write the annotation files of a dataset, and check its labels."""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.dataset import Conversion, Dataset, Split, require_images
from datasets.errors import DataError
from datasets.files import csv_text
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.formats.skeleton_file import write_skeleton
from datasets.imaging.images import read_image
from datasets.progress import Report, silent
from datasets.section import Section
from stages.machine.pool import each
from stages.preparing import label_checks as check

Summary = dict[str, dict[str, Any]]
SUSPICIOUS = "suspicious.csv"
PART = 64  # number of images in one job of a worker process
_log = logging.getLogger(__name__)


def annotate(
    dataset: Dataset,
    raw: Path,
    out: Path,
    settings: Section,
    files: Mapping[str, Path] | None = None,
    workers: int = 0,
    report: Report = silent,
) -> Summary:
    """Read a dataset's own files in `raw`, and write its annotation files into `out`.

    settings, files: see `datasets.dataset.Reader`. Returns for each split the counts of rows, images, joints and suspicious
    rows (see `label_checks.check`); `suspicious.csv` lists the suspicious rows. Raises DataError if the dataset's files
    are wrong, an image is missing, or the train or valid split is empty. If the dataset's files do not state the sizes of the
    images, every image is decoded, in `workers` processes (0: one per core). So damaged images are found before a training.
    """
    found = dataset.read(raw, settings, files or {}, report)
    for note in found.notes:
        _log.warning(note)
    if dataset.with_skeleton and found.skeleton:
        dataset = dataset.with_skeleton(found.skeleton)
        out.mkdir(parents=True, exist_ok=True)
        write_skeleton(out, found.skeleton)
    if found.size is None:
        in_memory = {name: list(split.parts) for name, split in found.splits.items()}
        images = {image for parts in in_memory.values() for people in parts for image in people.images}
        sizes = _decoded_sizes(sorted(images), raw / dataset.images, workers, report)
        splits = {name: replace(found.splits[name], parts=parts) for name, parts in in_memory.items()}
        found = replace(found, splits=splits, size=sizes.__getitem__)
    return write_conversion(dataset, found, out)


def write_conversion(dataset: Dataset, found: Conversion, out: Path) -> Summary:
    """Write the annotation files of `found`, the contents of a dataset; return the counts that `annotate` returns.

    found.size must not be None.
    """
    assert found.size
    summary = _write_checked(out, found.splits, found.size, dataset)
    if found.also_write:
        found.also_write(out)
    return summary


def _decoded_sizes(needed: list[str], images: Path, workers: int, report: Report) -> dict[str, tuple[int, int]]:
    """Decode the images `needed` of the folder `images`; return image -> (width, height) px.

    Raises DataError for a missing or damaged image.
    """
    require_images(needed, images)
    parts = [(images, needed[i : i + PART]) for i in range(0, len(needed), PART)]
    sizes: dict[str, tuple[int, int]] = {}
    for some in each(_sizes, parts, workers):
        sizes |= some
        report(len(sizes), len(needed), "decoding every image")
    return sizes


def _write_checked(out: Path, splits: Mapping[str, Split], size: Callable[[str], tuple[int, int]], dataset: Dataset) -> Summary:
    """Write every split and check its labels; return split -> counts.

    size: image -> (width, height) px. Suspicious rows (see `label_checks.check`) are counted, and listed in `suspicious.csv`
    with split, row in the split's h5 file (from 0), image, person and kind of suspicion. Raises DataError
    for an empty train or valid split.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = {}
    with open(out / SUSPICIOUS, "w", newline="") as file:
        listing = csv.writer(file)
        listing.writerow(("split", "row", "image", "person", "what"))
        for name, split in splits.items():
            if name != "test" and not split.rows:
                raise DataError(
                    f"the {name} split of {out} has no labelled people: the dataset is too small or incomplete, or the "
                    "settings of the split leave nobody for it."
                )
            done, counts = 0, []
            with annotations.Writer(out, name, split.rows, dataset.name, dataset.one_person) as writer:
                for rows in split.parts:
                    writer.append(rows)
                    sizes = np.array([size(image) for image in rows.images], dtype=np.float64).reshape(-1, 2)
                    odd = check.check(rows, sizes, dataset.skeleton)
                    counts.append(_counts(rows, sizes, odd))
                    for row, kind in np.argwhere(np.column_stack(list(odd.values()))).tolist():
                        listing.writerow((name, done + row, csv_text(rows.images[row]), int(rows.person[row]), list(odd)[kind]))
                    done += len(rows)
            summary[name] = _sum(counts) | dict(split.counts)
    return summary


def _sum(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of a split: the sums of the counts of all its parts."""
    total = {name: sum(part[name] for part in counts) for name in counts[0] if name != "kinds"}
    kinds: Counter[str] = Counter()
    for part in counts:
        kinds.update(part["kinds"])
    return total | {"kinds": dict(kinds)}


def _counts(rows: Annotations, sizes: np.ndarray, odd: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the numbers of rows, images, joints and suspicious rows (in total and by kind); rows: a part of one split."""
    return {
        "rows": len(rows),
        "images": len(set(rows.images)),
        "joints_labelled": int((~np.isnan(rows.part).any(axis=2)).sum()),
        "joints_visible": int(rows.visible.sum()),
        "joints_outside": int(check.joints_outside(rows, sizes).sum()),
        "suspicious": int(np.any(list(odd.values()), axis=0).sum()),
        "kinds": {kind: int(mask.sum()) for kind, mask in odd.items() if mask.any()},
    }


def _sizes(folder: Path, images: list[str]) -> dict[str, tuple[int, int]]:
    """Return image -> (width, height) px. Raises DataError for a damaged image."""
    sizes = {}
    for image in images:
        height, width, _ = read_image(folder / image).shape
        sizes[image] = width, height
    return sizes
