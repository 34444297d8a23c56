"""Datasets of your own; each section [dataset:NAME] of luigi.cfg defines one dataset.

The labels are COCO keypoints or files of a labelling program. The stage Collect converts them to a folder with images/ and COCO
keypoints: labels.json, and valid.json and test.json for splits whose labels are given in a separate file.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import AfterValidator

from datasets.dataset import Conversion, Dataset, Split
from datasets.errors import DataError
from datasets.files import decode_text
from datasets.formats.annotations import Annotations, hold_out
from datasets.formats.coco import CocoPeople, read_coco
from datasets.measures import Measure, People, joint_distance, one_pixel, person_box
from datasets.progress import Report
from datasets.section import Section, insignificant, setting
from datasets.skeletons import Skeleton, standard_names
from datasets.sources import Origin

ORIENTATION = 0x0112  # number of the EXIF tag for the orientation
PREFIX = "dataset:"  # beginning of the names of the sections [dataset:NAME], which define datasets
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Setting that specifies a labels file -> name of the copy of this file in the collected dataset.
LABELS = {"labels": "labels.json", "valid": "valid.json", "test": "test.json"}
# Suffixes of image files; "" is for files without a suffix.
PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", "")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".flv", ".3gp")
# If an external input is a folder, only its files with these suffixes count in the result's fingerprint.
SUFFIXES = {"images": (*PICTURES, *VIDEOS), "labels": (*PICTURES, *VIDEOS, ".csv", ".yaml")}
LISTS = {"valid": "valid.txt", "test": "test.txt"}  # split -> file in Collect's result that lists the split's images
# Name of a reference length -> the pairs of joints between which it is measured. The first pair whose two joints are in
# the skeleton and labelled is used.
LENGTHS = {
    "torso": (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")),
    "head": (("head_top", "upper_neck"), ("head_top", "neck"), ("head", "neck")),
}


def _renaming(text: str) -> str:
    renames(text)
    return text


def _part_or_file(text: str) -> str:
    part_of(text)
    return text


def renames(text: str) -> dict[str, str]:
    """Return the mapping (name in the labels -> new name) of a text such as `ear1: left_ear, ear2: right_ear`.

    Raises ValueError for a text of another form.
    """
    pairs = [pair.partition(":") for pair in text.split(",") if pair.strip()]
    found = {old.strip(): new.strip() for old, _, new in pairs}
    if len(found) < len(pairs) or not all(old and new for old, new in found.items()):
        raise ValueError("it should be pairs like `ear1: left_ear, ear2: right_ear`, each name once")
    return found


def part_of(text: str) -> float | None:
    """Return the fraction in a text such as `0.2`; None for a text that is not a number but a path.

    Raises ValueError for a number that is not between 0 and 1.
    """
    try:
        part = float(text)
    except ValueError:
        return None
    if not 0 < part < 1:
        raise ValueError("it should be a number between 0 and 1, or a file")
    return part


Renaming = Annotated[str, AfterValidator(_renaming)]
PartOrFile = Annotated[str, AfterValidator(_part_or_file)]


class OwnDataset(Section):
    """Settings of a dataset of your own: its labels and images, its splits, and its accuracy measure."""

    intro = (
        "A dataset of your own: a section [dataset:NAME] with these settings gives the stages Annotate:NAME, Pretrain:NAME, "
        "Finetune:NAME, Evaluate:NAME:MODEL and Export:NAME:MODEL. NAME has lower-case letters, digits and _."
    )

    labels: str = insignificant(
        "",
        "The labels: COCO keypoints (.json), a DeepLabCut project (its folder) or CollectedData_*.csv, a SLEAP file (.slp), or "
        "another file that sleap-io reads (NWB, Label Studio ...).",
    )
    images: str = insignificant(
        "",
        "The folder of the images or videos that the labels name. Empty: the project's folder, or images inside the .slp file.",
    )
    title: str = insignificant("", "The name that tables show. Empty: NAME.", max_length=60)
    valid: PartOrFile = setting(
        "0.2",
        "The validation people: a fraction of the images or folders that is drawn at random, such as 0.2; a file of labels; or "
        "a .txt file that lists images or folders of images, one per line.",
        min_length=1,
    )
    test: PartOrFile = setting("", "The test people, given in the same ways as `valid` and drawn first. Empty: no test people.")
    split_by: Literal["image", "folder"] = setting(
        "image", "What a random split draws: image (single images) or folder (whole folders, such as all frames of a video)."
    )
    split_seed: int = setting(1, "Seed of the random split.", ge=0, lt=2**32)
    category: str = setting("", "The COCO category to read, if several categories of the labels have joints.")
    rename: Renaming = setting(
        "",
        "Joints to rename, as `ear1: left_ear, ear2: right_ear`. Joints whose names begin with left_ and right_ are pairs. "
        "Joints with MPII's names can keep their output weights in fine-tuning (head = matching). LeftEar, ear_L and similar "
        "names are recognised as left_ear.",
    )
    reference: str = insignificant(
        "box",
        "The reference length of PCK: box (longer side of the person's box), torso (left shoulder to right hip), head (top of "
        "the head to neck), px (1 pixel), or two joints, such as `nose tail_base`.",
        min_length=1,
    )
    threshold: float = insignificant(
        0.2, "A joint is correct within this many reference lengths. mmpose uses 0.2 of the box for hands.", gt=0, le=1e4
    )

    def scoring(self) -> dict[str, Any]:
        """Return the settings that affect no results except accuracies."""
        return {"reference": self.reference, "threshold": self.threshold}


def own_dataset(name: str, settings: OwnDataset, skeleton: Skeleton | None = None) -> Dataset:
    """Return the dataset that the section [dataset:`name`] defines.

    skeleton: the skeleton from the converted files; None before the conversion, when accuracies cannot be computed yet. Raises
    DataError if the setting `reference` is invalid or needs joints that the skeleton does not have.
    """
    title = settings.title or name
    measure = _measure(settings, skeleton or Skeleton((), (), ()), f"[{PREFIX}{name}]")
    return Dataset(
        name=name,
        title=title,
        skeleton=skeleton or Skeleton((), (), ()),
        origin=Origin(title, settings.labels, "not stated", "not stated.", ""),
        settings=OwnDataset,
        sources={},
        read=read,
        measures=(measure,),
        scored=("valid", "test") if settings.test else ("valid",),
        oks=True,
        folder=f"own/{name}",
        with_skeleton=partial(own_dataset, name, settings),
    )


def _measure(settings: OwnDataset, skeleton: Skeleton, section: str) -> Measure:
    limit, reference = f"PCK@{settings.threshold:g}", settings.reference
    if reference == "box":
        return Measure(f"{limit} of the box", settings.threshold, person_box, "mean")
    if reference == "px":
        return Measure(f"{limit} px", settings.threshold, one_pixel, "mean")
    ends = LENGTHS.get(reference) or (tuple(reference.replace(",", " ").split()),)
    if not all(len(pair) == 2 for pair in ends):
        raise DataError(f"{section} reference = {reference}: it should be box, torso, head, px, or the names of two joints.")
    joints = skeleton.joints
    numbers = [(joints.index(pair[0]), joints.index(pair[1])) for pair in ends if set(pair) <= set(joints)]
    if skeleton.joints and not numbers:
        wanted = " or ".join(" and ".join(pair) for pair in ends)
        raise DataError(
            f"{section} reference = {reference} needs the joints {wanted}; the labels have {', '.join(skeleton.joints)}. "
            "Name two of them, or set reference = box."
        )
    name = reference if reference in LENGTHS else "-".join(ends[0])
    return Measure(f"{limit} of the {name}", settings.threshold, partial(_length, numbers), "mean")


def _length(ends: list[tuple[int, int]], people: People) -> np.ndarray:
    """Return each person's distance (N,) in px between the first pair of joints that are both labelled.

    ends: pairs of joint numbers, such as those of both hips. The result is NaN for a person for whom no pair is labelled.
    """
    found = np.full(len(people.rows), np.nan)
    for first, second in ends:
        found = np.where(np.isnan(found), joint_distance(people.rows.part, first, second), found)
    return found


def read(folder: Path, settings: OwnDataset, files: Mapping[str, Path], report: Report) -> Conversion:
    """Read the people of all splits from a folder that the stage Collect has written.

    Raises DataError for wrong labels; the text of the error states the file, the record and the remedy.
    """
    found = {which: _renamed(read_coco(folder / name, settings.category), settings)
             for which, name in LABELS.items() if (folder / name).is_file()}  # fmt: skip
    skeleton = found["labels"].skeleton
    for which, people in found.items():
        if people.skeleton.joints != skeleton.joints:
            raise DataError(
                f"the labels of {which} have the joints {', '.join(people.skeleton.joints)}, and `labels` has "
                f"{', '.join(skeleton.joints)}; give labels with the same joints in the same order."
            )
        _check_images(folder / "images", people)
    splits = _split(folder, settings, {which: people.rows for which, people in found.items()})
    notes = _notes(skeleton, sum(people.left_out for people in found.values()))
    return Conversion({name: Split.of(rows) for name, rows in splits.items()}, skeleton=skeleton, notes=notes)


def _notes(skeleton: Skeleton, left_out: int) -> tuple[str, ...]:
    notes = []
    mirrored = skeleton.mirrored()
    alone = [name for joint, name in enumerate(skeleton.joints) if mirrored[joint] == joint]
    if len(alone) < len(skeleton.joints):
        pairs = [name.removeprefix("left_") for name in skeleton.joints if name.startswith("left_")]
        notes.append(f"Left-right pairs: {', '.join(pairs)}. Joints without a partner: {', '.join(alone) or 'none'}.")
    else:
        notes.append(
            "No joint has a left or right partner, so mirrored images keep their labels. If some joints are left-right "
            "pairs, name them left_... and right_... with `rename`."
        )
    if left_out:
        notes.append(
            f"{left_out} people are left out: they have no `bbox`, and their labelled joints lie at one place, so that their "
            "size is not known."
        )
    return tuple(notes)


def _renamed(people: CocoPeople, settings: OwnDataset) -> CocoPeople:
    """Return the people with joints renamed by the setting `rename`, and then brought to standard form by `standard_names`.

    Raises DataError for unknown names, and for left-right pairs in the labels whose names do not show that they are pairs.
    """
    new, names = renames(settings.rename), people.skeleton.joints
    if unknown := set(new) - set(names):
        raise DataError(
            f"the setting `rename` contains {', '.join(sorted(unknown))}, but the labels have no joint of that name; their "
            f"joints are {', '.join(names)}."
        )
    given = [new.get(name, name) for name in names]
    for name in given:
        if len(same := [old for old, called in zip(names, given, strict=True) if called == name]) > 1:
            raise DataError(f"with the setting `rename`, the joints {' and '.join(same)} would both be called {name}.")
    joints = standard_names(given)
    skeleton = replace(people.skeleton, joints=joints)
    mirrored = skeleton.mirrored()
    for first, second in people.pairs:
        if mirrored[first] != second:
            raise DataError(
                f"{names[first]} and {names[second]} are a left and right pair in the labels, but their names do not show it; "
                f"add them to `rename`, such as {names[first]}: left_ear, {names[second]}: right_ear."
            )
    return replace(people, skeleton=skeleton)


def _split(folder: Path, settings: OwnDataset, labels: Mapping[str, Annotations]) -> dict[str, Annotations]:
    """Return the people of train, valid and test. A split is listed in a file or drawn at random."""
    rest, splits = labels["labels"], dict[str, Annotations]()
    named = {which: set(labels[which].images if which in labels else _listed(folder / LISTS[which], which, rest.images))
             for which in LISTS if part_of(getattr(settings, which)) is None}  # fmt: skip
    if both := sorted(named.get("valid", set()) & named.get("test", set())):
        raise DataError(f"{len(both)} images, such as {both[0]}, are in valid and in test; list each image in one split.")
    for which, images in named.items():
        chosen = np.isin(rest.images, sorted(images))
        splits[which], rest = labels.get(which) or rest.select(chosen), rest.select(~chosen)
    for number, which in enumerate(("test", "valid")):
        if which not in splits:
            part = part_of(getattr(settings, which)) or 0.0
            chosen = hold_out(_groups(rest.images, settings.split_by), part, settings.split_seed + number)
            splits[which], rest = rest.select(chosen), rest.select(~chosen)
    return {"train": rest, "valid": splits["valid"], "test": splits["test"]}


def _groups(images: list[str], split_by: str) -> np.ndarray:
    names = [image.rpartition("/")[0] if split_by == "folder" else image for image in images]
    return np.unique(names, return_inverse=True)[1]


def _listed(path: Path, which: str, images: list[str]) -> list[str]:
    """Return the images that the list file of the setting `which` selects; [] if there is no file.

    Raises DataError for a line that matches no image.
    """
    if not path.is_file():
        return []
    # Path of an image or of a folder -> the image itself, or all images in the folder.
    below = defaultdict[str, list[str]](list)
    for image in images:
        for place in (image, *map(str, PurePosixPath(image).parents)):
            below[place].append(image)
    found: list[str] = []
    for number, line in enumerate(decode_text(path.read_bytes()).splitlines(), 1):
        if name := line.strip().rstrip("/"):
            if name not in below:
                raise DataError(
                    f"the list in `{which}`, line {number}: no labelled image is, or lies in, {name}; correct the list."
                )
            found += below[name]
    return found


def _check_images(folder: Path, people: CocoPeople) -> None:
    """Raise DataError for an image that is turned by its EXIF orientation, or whose size is not the size in the labels.

    Programs disagree on whether the labels of such an image refer to the stored or to the displayed pixels.
    """
    for image in dict.fromkeys(people.rows.images):
        try:
            with Image.open(folder / image) as opened:
                size, turned = opened.size, opened.getexif().get(ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError):  # a missing or damaged image is reported later, when all images are decoded
            continue
        if turned not in (0, 1):
            raise DataError(
                f"{folder / image} is stored turned (EXIF orientation {turned}), and programs disagree whether its "
                "labels are of the turned image; store all images upright (mogrify -auto-orient), and check the labels."
            )
        stated = people.sizes.get(image, size)
        if size != stated:
            raise DataError(
                f"{folder / image} has {size[0]} x {size[1]} px, but the labels state {stated[0]} x {stated[1]} px; "
                "give the images that were labelled."
            )
