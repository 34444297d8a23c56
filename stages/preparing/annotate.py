"""Write the annotation files of every dataset, and check what was written."""

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
    """Annotation files of MPII from `raw` (`images/` and the annotations) in `out`; see `mpii.split`.

    The annotations are `mpii_human_pose_v1_u12_1.mat`, or one of the kinds of `mpii_published`, which bring a split of their
    own. `valid_fraction` and `seed` matter only for the .mat, and without a split file. Returns for each split the counts of
    rows, images, joints and odd rows (see `check.check`), which `suspicious.csv` lists. Raises DataError where the annotations
    or the split file are wrong, an image is missing or no image, or a split to train with is empty. Every image is decoded, in
    `workers` processes (0: one per core), so that a damaged one is found now and not in the middle of a training.
    """
    if (raw / mpii.MAT_NAME).is_file():
        splits = mpii.split(mpii.read(raw / mpii.MAT_NAME, report), split_file, valid_fraction, seed)
    elif split_file:
        raise DataError(
            f"[mpii] split_file = {split_file} needs {mpii.MAT_NAME} as [mpii] annotations; other annotation files bring "
            "their own split: leave split_file empty."
        )
    else:
        splits = mpii_published.read(raw)
    return _annotate(splits, raw / "images", out, MPII, workers, report)


def annotate_flic(raw: Path, out: Path, sides: flic.Sides, workers: int = 0, report: Report = silent) -> Summary:
    """Annotation files of FLIC from `raw` (`images/`, the published `annot/`) in `out`; see `flic.read`, `annotate_mpii`."""
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
    """Annotation files of LSP or LSPET from `raw` (`joints.mat`, `images/`) in `out`; see `lsp` and `annotate_mpii`."""
    images = lsp.image_names(raw / "images")
    people = lsp.read(raw / lsp.MAT_NAME, images, lsp.ONE_MEANS[dataset])
    splits = lsp.split(people, len(images), valid_fraction, seed, test_half=dataset == "lsp")
    return _annotate(splits, raw / "images", out, SKELETONS[dataset], workers, report)


def annotate_penn(cropped: Path, out: Path, report: Report = silent) -> Summary:
    """Annotation files of the cropped Penn Action, its `valid_ind.txt`, and image-play's own files in `out/penn-crop`.

    `cropped` holds `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`. Returns counts as `annotate_mpii`, and of sequences.
    Raises DataError where a label is wrong, a frame is missing, or a split is empty.
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
    """What `annotate_penn` writes, sequence by sequence; looks at no frame.

    heads: the labels of all cropped sequences in file order, of which coordinates do not matter (`penn_action.head`); read:
    the whole label of one of them.
    """
    offsets = np.cumsum([0] + [head.frames for head in heads]).tolist()
    first = {head.sequence: offset for head, offset in zip(heads, offsets, strict=False)}
    size = {head.sequence: (head.width, head.height) for head in heads}
    splits = penn_action.split(heads)

    def parts(members: list[penn_action.Label]) -> Iterator[Annotations]:
        yield penn_action.annotations([], first)  # an empty split has the fields, too
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
    """Write the annotation files of images in one folder, every one of which is decoded."""
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
    """Write every split, so many rows in parts that share no image, and check it. A split to train with has rows.

    size: image -> (width, height) px. What is odd (`check.check`) is counted in the summary and listed in `suspicious.csv`:
    split, row in its h5 file (from 0), image, person, and the kind of oddity.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = {}
    with open(out / SUSPICIOUS, "w", newline="") as file:
        listing = csv.writer(file)
        listing.writerow(("split", "row", "image", "person", "what"))
        for split, count, parts in splits:
            if split != "test" and not count:
                raise DataError(
                    f"the {split} split of {out} is empty; expected labelled people in it: the dataset is too small or"
                    " incomplete, or the split leaves it nobody."
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
    """The counts of all parts together."""
    total = {name: sum(part[name] for part in counts) for name in counts[0] if name != "kinds"}
    kinds: Counter[str] = Counter()
    for part in counts:
        kinds.update(part["kinds"])
    return total | {"kinds": dict(kinds)}


def _counts(rows: Annotations, sizes: np.ndarray, odd: dict[str, np.ndarray]) -> dict[str, Any]:
    """Counts of rows of one split: rows, images, joints; odd rows, and of them those of each kind that occurs."""
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
            " give the whole dataset, and the annotations of its images."
        )


def _sizes(folder: Path, images: list[str]) -> dict[str, tuple[int, int]]:
    """Image -> (width, height) px; DataError for one that is damaged."""
    sizes = {}
    for image in images:
        height, width, _ = read_image(folder / image).shape
        sizes[image] = width, height
    return sizes
