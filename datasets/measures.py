"""Types for scoring: the people of a split, accuracy measures (PCK), and published accuracies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datasets.formats.annotations import ENLARGED, Annotations

# The body parts, which are the usual columns of published tables.
BODY_PARTS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
TRAINING_METRIC = "training metric"  # name of the accuracy that the published training computes by comparing heatmaps


@dataclass(frozen=True)
class People:
    """The N people of one split, with the data that scoring needs."""

    rows: Annotations
    # (N,) int64: people of one image, or of one sequence, have the same number, because they are not independent samples.
    groups: np.ndarray
    actions: list[str]  # action of each person's sequence; "" if the dataset has no actions
    box: np.ndarray  # (N,) px, longer side of the box in the dataset's own labels; NaN if the labels have no boxes


@dataclass(frozen=True)
class Measure:
    """An accuracy measure: the percentage of correct keypoints (PCK).

    A predicted joint is correct if its distance from the labelled joint is at most `threshold` times the person's reference
    length.
    """

    name: str
    threshold: float
    # Function that returns the reference lengths (N,) in px; a person with NaN or a length <= 0 is not scored. The function
    # must not be a lambda, because datasets are pickled when they are sent to other processes.
    reference: Callable[[People], np.ndarray]
    # How the overall accuracy is computed: mean = mean of the joints' accuracies; total = correct joints / labelled joints.
    overall: Literal["mean", "total"]


@dataclass(frozen=True)
class Published:
    """The accuracy that others published for a network, in per cent: overall and, if known, for each body part."""

    split: str
    people: int  # number of people that were scored; accuracies on different people cannot be compared
    measure: str
    network: str
    overall: float
    parts: tuple[float, ...] = ()  # accuracies of the body parts in the order of BODY_PARTS; empty if unknown


def people_by_image(rows: Annotations) -> People:
    """Return the people of a split, grouped by the folder of each person's image.

    An image without a folder is a group by itself; so is each image if all images are in one folder.
    """
    names = [image.rpartition("/")[0] or image for image in rows.images]
    if len(set(names)) < 2:
        names = rows.images
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return People(rows, groups, [""] * len(rows), np.full(len(rows), np.nan))


def joint_distance(points: np.ndarray, first: int, second: int) -> np.ndarray:
    """Return the distances (N,) in px between the joints numbered `first` and `second` of points (N, J, 2).

    NaN if one of the two joints is not labelled.
    """
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def normalize(people: People) -> np.ndarray:
    """Return the reference lengths (N,) in px stored in the annotation files: head size (MPII) or torso length (FLIC, LSP)."""
    return people.rows.normalize


def person_box(people: People) -> np.ndarray:
    """Return the longer sides (N,) in px of the labelled boxes; the boxes that the network sees are 1.25 times as large."""
    return people.rows.scale * 200 / ENLARGED


def one_pixel(people: People) -> np.ndarray:
    """Return ones (N,), the reference lengths of a measure whose threshold is given in px."""
    return np.ones(len(people.rows))


# The torso's length is the distance from a shoulder to the opposite hip.
PCK_TORSO = Measure("PCK@0.2 of the torso", 0.2, normalize, "total")
