"""Combine several converted datasets into one dataset with the joints of the first dataset, to train on all people."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.formats.skeleton_file import write_skeleton
from datasets.progress import Report, silent
from datasets.skeletons import Skeleton, matching_joints


def combine(first: DatasetFiles, others: Mapping[str, DatasetFiles], out: Path, report: Report = silent) -> dict[str, Any]:
    """Write annotation files to `out`; return dataset -> number of training people.

    The training split has the people of all datasets; the splits valid and test are those of the first dataset. The name of
    each image gets the prefix DATASET/. Joints are matched by name: joints of the first dataset that another dataset lacks have
    no label in the rows of that dataset. The fields `normalize` and `torsoangle` (see `Annotations`) are -1 for the people of
    all datasets but the first. Raises DataError for a dataset that has no joint in common with the first dataset.
    """
    name, joints = first.dataset.name, first.skeleton.joints
    parts = {name: _named(name, first.split("train"))}
    for other, data in others.items():
        parts[other] = _named(
            other, _with_joints(data.split("train"), data.skeleton, joints, data.dataset.title, first.dataset.title)
        )
        report(len(parts), len(others) + 1, "combining")
    annotations.write(out, "train", _together(list(parts.values())), name)
    for split in ("valid", "test"):
        annotations.write(out, split, _named(name, annotations.read(first.annotations, split)), name)
    if first.dataset.with_skeleton:
        write_skeleton(out, first.skeleton)
    return {other: len(people) for other, people in parts.items()}


def _together(parts: list[Annotations]) -> Annotations:
    """Return the people of all datasets in one object; `index` is shifted, so that no two datasets share an image number."""
    starts = np.cumsum([0, *(int(part.index.max()) + 1 for part in parts)])
    numbered = [replace(part, index=part.index + start) for part, start in zip(parts, starts, strict=False)]
    arrays = {
        f.name: np.concatenate([getattr(part, f.name) for part in numbered]) for f in fields(Annotations) if f.name != "images"
    }
    return Annotations(images=[image for part in parts for image in part.images], **arrays)


def _named(dataset: str, people: Annotations) -> Annotations:
    return replace(people, images=[f"{dataset}/{image}" for image in people.images])


def _with_joints(people: Annotations, skeleton: Skeleton, joints: tuple[str, ...], title: str, first: str) -> Annotations:
    """Return the people with the joints `joints` instead of those of `skeleton`; joints that `skeleton` lacks are NaN.

    title, first: titles of the people's dataset and of the first dataset, for messages. Raises DataError if `skeleton` has none
    of the joints.
    """
    sources = matching_joints(skeleton.joints, joints)
    if all(source is None for source in sources):
        raise DataError(
            f"{title} labels none of the joints of {first}, so one network cannot be trained on both; leave it out."
        )
    part = np.full((len(people), len(joints), 2), np.nan)
    visible = np.zeros((len(people), len(joints)), bool)
    for joint, source in enumerate(sources):
        if source is not None:
            part[:, joint], visible[:, joint] = people.part[:, source], people.visible[:, source]
    unknown = np.full(len(people), -1.0)
    return replace(people, part=part, visible=visible, normalize=unknown, torsoangle=unknown)
