"""What the accuracy of a dataset is measured by: people to score, measures, and published accuracies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datasets.formats.annotations import ENLARGED, Annotations

BODY_PARTS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")  # columns of tables of the field
TRAINING_METRIC = "training metric"  # of the published training, which compares heatmaps


@dataclass(frozen=True)
class People:
    """The people of one split as they are scored; N rows."""

    rows: Annotations
    groups: np.ndarray  # (N,) int64: people of one image or one sequence, who are no independent samples, share a number
    actions: list[str]  # of the sequence; "" where the dataset has none
    box: np.ndarray  # (N,) px, longer side of the label's own box; NaN where the dataset has none


@dataclass(frozen=True)
class Measure:
    """A PCK: a predicted joint is correct within `threshold` times the reference length of its person."""

    name: str
    threshold: float
    # (N,) px; not positive or NaN: the person cannot be scored. A named function: processes send each other datasets.
    reference: Callable[[People], np.ndarray]
    overall: Literal["mean", "total"]  # what its owners report: the mean of the joints' rates, or all joints counted alike


@dataclass(frozen=True)
class Published:
    """A published accuracy in per cent, overall and where known of body parts: not measured here."""

    split: str
    people: int  # how many it was measured on; accuracies on other people cannot be compared with it
    measure: str
    network: str
    overall: float
    parts: tuple[float, ...] = ()  # in the order of BODY_PARTS


def people_by_image(rows: Annotations) -> People:
    """Return the people of a split grouped by their image's folder, or by their image where all stand in one folder."""
    names = [image.rpartition("/")[0] or image for image in rows.images]
    if len(set(names)) < 2:
        names = rows.images
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return People(rows, groups, [""] * len(rows), np.full(len(rows), np.nan))


def joint_distance(points: np.ndarray, first: int, second: int) -> np.ndarray:
    """Return the distance (N,) in px between two joints, by number, of points (N, J, 2); NaN where one is not labelled."""
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def normalize(people: People) -> np.ndarray:
    """Return the lengths (N,) in px that the annotation files hold: the head's size (MPII), the torso's length (FLIC, LSP)."""
    return people.rows.normalize


def person_box(people: People) -> np.ndarray:
    """Return the longer sides (N,) in px of the labelled boxes, which the boxes that the network sees exceed by a quarter."""
    return people.rows.scale * 200 / ENLARGED


def one_pixel(people: People) -> np.ndarray:
    """Return ones (N,): the threshold of the measure is in px."""
    return np.ones(len(people.rows))


PCK_TORSO = Measure("PCK@0.2 of the torso", 0.2, normalize, "total")  # from a shoulder to the opposite hip
