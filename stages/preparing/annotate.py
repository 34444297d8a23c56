"""Writing the annotation files of every dataset, and checking the labels."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datasets import flic, lsp, mpii, mpii_published, penn_action
from datasets.errors import DataError
from datasets.files import csv_text
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.imaging.images import read_image
from datasets.progress import Report, silent
from datasets.skeletons import FLIC, MPII, PENN_ACTION, SKELETONS, Skeleton
from stages.machine.pool import each
from stages.preparing import label_checks as check

Summary = dict[str, dict[str, Any]]
SUSPICIOUS = "suspicious.csv"
PART = 64  # images that one process decodes at a time


def annotate_mpii(
    raw: Path,
    out: Path,
    split_file: Path | None,
    valid_fraction: float,
    seed: int,
    workers: int = 0,
    report: Report = silent,
) -> Summary:
    """Write MPII's annotation files into `out`; returns counts of each split.

    raw: folder with `images/` and the annotations: `mpii_human_pose_v1_u12_1.mat`, or a file of `mpii_published`, which defines
    its own split. split_file, valid_fraction, seed: see `mpii.split`; only for the .mat, and the last two only without a split
    file. workers: processes that decode every image (0: one per core), so that a damaged image is found before a training.
    The counts are rows, images, joints and suspicious rows (see `label_checks.check`), which `suspicious.csv` lists. Raises
    DataError for invalid annotations or an invalid split file, a missing or damaged image, and an empty train or valid split.
    """
    if (raw / mpii.MAT_NAME).is_file():
        splits = mpii.split(mpii.read(raw / mpii.MAT_NAME, report), split_file, valid_fraction, seed)
    elif split_file:
        raise DataError(
            f"[mpii] split_file = {split_file} needs {mpii.MAT_NAME} as [mpii] annotations. Other annotation files define "
            "their own split: leave split_file empty."
        )
    else:
        splits = mpii_published.read(raw)
    return _annotate(splits, raw / "images", out, MPII, workers, report)


def annotate_flic(raw: Path, out: Path, sides: flic.Sides, workers: int = 0, report: Report = silent) -> Summary:
    """Write FLIC's annotation files into `out`, from `raw` (`images/`, the published `annot/`); returns counts of each split.

    sides: see `flic.read`. Other arguments, counts and errors as in `annotate_mpii`.
    """
    return _annotate(flic.read(raw / "annot", sides), raw / "images", out, FLIC, workers, report)


def annotate_lsp(
    dataset: Literal["lsp", "lspet"],
    raw: Path,
    out: Path,
    valid_fraction: float,
    seed: int,
    workers: int = 0,
    report: Report = silent,
) -> Summary:
    """Write the annotation files of LSP or LSPET into `out`, from `raw` (`joints.mat`, `images/`); returns counts per split.

    valid_fraction, seed: see `lsp.split`. Other arguments, counts and errors as in `annotate_mpii`.
    """
    images = lsp.image_names(raw / "images")
    people = lsp.read(raw / lsp.MAT_NAME, images, lsp.ONE_MEANS[dataset])
    splits = lsp.split(people, len(images), valid_fraction, seed, test_half=dataset == "lsp")
    return _annotate(splits, raw / "images", out, SKELETONS[dataset], workers, report)


def annotate_penn(cropped: Path, out: Path, report: Report = silent) -> Summary:
    """Write the annotation files of the cropped Penn Action and `valid_ind.txt` into `out`, image-play's files into
    `out/penn-crop`.

    cropped: folder with `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`. Returns counts as `annotate_mpii`, and the number of
    sequences. Raises DataError for an invalid label, a missing frame, and an empty split.
    """
    paths = penn_action.label_paths(cropped)
    heads = []
    for done, path in enumerate(paths, 1):
        label = penn_action.read_label(path)
        frames = {entry.name for entry in _entries(cropped / "frames" / label.sequence)}
        needed = [penn_action.frame_name(frame) for frame in range(label.frames)]
        _check_present(needed, frames, cropped / "frames" / label.sequence)
        heads.append(penn_action.head(label))
        report(done, len(paths))
    summary = write_penn(heads, lambda head: penn_action.read_label(cropped / "labels" / f"{head.sequence}.mat"), out)
    if not summary["test"]["rows"]:
        raise DataError(f"{cropped}: the test split is empty; expected sequences whose label has train = -1.")
    return summary


def write_penn(heads: list[penn_action.Label], read: Callable[[penn_action.Label], penn_action.Label], out: Path) -> Summary:
    """Write the files of `annotate_penn`, sequence by sequence and without reading frames; returns the counts.

    heads: the labels of all cropped sequences in file order; coordinates are not needed (see `penn_action.head`). read: returns
    the complete label of a sequence.
    """
    offsets = np.cumsum([0] + [head.frames for head in heads]).tolist()
    first = {head.sequence: offset for head, offset in zip(heads, offsets, strict=False)}
    size = {head.sequence: (head.width, head.height) for head in heads}
    splits = penn_action.split(heads)

    def parts(members: list[penn_action.Label]) -> Iterator[Annotations]:
        yield penn_action.annotations([], first)  # so that an empty split has all fields
        for member in members:
            yield penn_action.annotations([read(member)], first)

    counted = {split: sum(int(head.counted.sum()) for head in members) for split, members in splits.items()}
    rows = ((split, counted[split], parts(members)) for split, members in splits.items())
    summary = _write_checked(out, rows, lambda image: size[image.split("/")[0]], PENN_ACTION)
    image_play = out / "penn-crop"
    image_play.mkdir(exist_ok=True)
    for split, members in splits.items():
        summary[split]["sequences"] = sum(bool(head.counted.any()) for head in members)
        ordered = sorted(members, key=lambda head: int(head.sequence))
        name = "val" if split == "valid" else split
        penn_action.write_image_play(image_play / f"{name}.h5", map(read, ordered), sum(head.frames for head in members))
    for folder in (out, image_play):
        penn_action.write_valid_ind(folder / "valid_ind.txt", splits["valid"])
    return summary


def _annotate(
    splits: dict[str, Annotations], images: Path, out: Path, skeleton: Skeleton, workers: int, report: Report
) -> Summary:
    """Write the annotation files of images in one folder, after decoding every image; returns counts of each split."""
    needed = sorted({image for people in splits.values() for image in people.images})
    _check_present(needed, {entry.name for entry in _entries(images)}, images)
    parts = [(images, needed[i : i + PART]) for i in range(0, len(needed), PART)]
    sizes: dict[str, tuple[int, int]] = {}
    for some in each(_sizes, parts, workers):
        sizes |= some
        report(len(sizes), len(needed), "decoding every image")
    rows = ((split, len(people), iter([people])) for split, people in splits.items())
    return _write_checked(out, rows, sizes.__getitem__, skeleton)


def _write_checked(
    out: Path,
    splits: Iterable[tuple[str, int, Iterator[Annotations]]],
    size: Callable[[str], tuple[int, int]],
    skeleton: Skeleton,
) -> Summary:
    """Write every split and check its labels; returns counts of each split.

    splits: (name, number of rows, the rows in parts that share no image); size: image -> (width, height) px. Suspicious rows
    (see `label_checks.check`) are counted, and listed in `suspicious.csv`: split, row in the split's h5 file (from 0), image,
    person, kind. Raises DataError for an empty train or valid split.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = {}
    with open(out / SUSPICIOUS, "w", newline="") as file:
        listing = csv.writer(file)
        listing.writerow(("split", "row", "image", "person", "what"))
        for split, count, parts in splits:
            if split != "test" and not count:
                raise DataError(
                    f"the {split} split of {out} has no labelled people: the dataset is too small or incomplete, or the "
                    "settings of the split leave nobody for it."
                )
            done, counts = 0, []
            with annotations.Writer(out, split, count, skeleton.name) as writer:
                for rows in parts:
                    writer.append(rows)
                    sizes = np.array([size(image) for image in rows.images], dtype=np.float64).reshape(-1, 2)
                    odd = check.check(rows, sizes, skeleton)
                    counts.append(_counts(rows, sizes, odd))
                    for row, kind in np.argwhere(np.column_stack(list(odd.values()))).tolist():
                        listing.writerow(
                            (split, done + row, csv_text(rows.images[row]), int(rows.person[row]), list(odd)[kind])
                        )
                    done += len(rows)
            summary[split] = _sum(counts)
    return summary


def _sum(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of the counts of all parts."""
    total = {name: sum(part[name] for part in counts) for name in counts[0] if name != "kinds"}
    kinds: Counter[str] = Counter()
    for part in counts:
        kinds.update(part["kinds"])
    return total | {"kinds": dict(kinds)}


def _counts(rows: Annotations, sizes: np.ndarray, odd: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return counts of some rows of one split: rows, images, joints, suspicious rows in total and by kind."""
    return {
        "rows": len(rows),
        "images": len(set(rows.images)),
        "joints_labelled": int((~np.isnan(rows.part).any(axis=2)).sum()),
        "joints_visible": int(rows.visible.sum()),
        "joints_outside": int(check.joints_outside(rows, sizes).sum()),
        "suspicious": int(np.any(list(odd.values()), axis=0).sum()),
        "kinds": {kind: int(mask.sum()) for kind, mask in odd.items() if mask.any()},
    }


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the folder {folder} is missing; unpack or crop the dataset again.") from None


def _check_present(needed: list[str], present: set[str], folder: Path) -> None:
    missing = [image for image in needed if image not in present]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(needed)} images that are annotated, such as {missing[0]};"
            " give the complete dataset, and annotations that belong to its images."
        )


def _sizes(folder: Path, images: list[str]) -> dict[str, tuple[int, int]]:
    """Return image -> (width, height) px. Raises DataError for a damaged image."""
    sizes = {}
    for image in images:
        height, width, _ = read_image(folder / image).shape
        sizes[image] = width, height
    return sizes
