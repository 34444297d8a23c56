"""Penn Action: sequences of 15 actions, 13 joints in every frame. Zhang et al., ICCV 2013.

This module defines the window that each sequence is cropped to, the published split, and the annotations.

The distribution contains `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`. Coordinates in these files count from 1 (MATLAB); here
they count from 0. Windows, split and annotations follow pose-hg-train, branch image-play, which defined the cropped dataset.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from datasets.dataset import Conversion, Dataset, DatasetFiles, Split, require_images
from datasets.errors import DataError
from datasets.formats.annotations import Annotations, frame_box
from datasets.formats.image_play import write_image_play, write_valid_ind
from datasets.formats.penn_labels import Label, head, label_paths, read_label
from datasets.measures import TRAINING_METRIC, Measure, People, Published, joint_distance, people_by_image
from datasets.progress import Report
from datasets.section import Section, insignificant, setting
from datasets.skeletons import Skeleton
from datasets.sources import Origin, Part, Wanted

# Fraction of each action's training sequences that is used for validation (pose-hg-train, branch image-play).
VALID_SHARE = 0.092
SKELETON = Skeleton(
    joints=(
        "head", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow", "right_wrist", "left_wrist",
        "right_hip", "left_hip", "right_knee", "left_knee", "right_ankle", "left_ankle",
    ),
    scoring=(3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    limbs=(
        (0, 1), (0, 2), (1, 2), (1, 3), (3, 5), (2, 4), (4, 6), (1, 7), (2, 8), (7, 8), (7, 9), (9, 11), (8, 10),
        (10, 12),
    ),
)  # fmt: skip
JOINTS = len(SKELETON.joints)

ORIGIN = Origin(
    name="Penn Action",
    page="http://dreamdragon.github.io/PennAction/",
    owners="Weiyu Zhang, Menglong Zhu and Konstantinos G. Derpanis, University of Pennsylvania",
    terms=(
        "its owners publish no licence and ask for the citation below; the frames come from videos of others, so keep them "
        "to research and do not pass them on."
    ),
    bibtex="""\
@inproceedings{zhang13iccv,
  author = {Zhang, Weiyu and Zhu, Menglong and Derpanis, Konstantinos G.},
  title = {From Actemes to Action: A Strongly-Supervised Representation for Detailed Action Understanding},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2013},
  pages = {2248--2255}
}""",
)

SOURCES = {
    "archive": Wanted(
        r"(?:.*/)?(?P<to>frames/\d+/\d+\.jpg|labels/\d+\.mat)",
        "frames/NNNN/FFFFFF.jpg and labels/NNNN.mat",
        (Part("frames", r"\d+\.jpg", inner=r"\d+", named=True), Part("labels", r"\d+\.mat", named=True)),
        in_sample="Penn_Action.tar.gz",
    )
}


class PennAction(Section):
    """Settings of Penn Action: the source of the archive, and the JPEG quality of the crops."""

    intro = "Penn Action."

    archive: str = insignificant(
        "Penn_Action.tar.gz",
        "Source of Penn_Action.tar.gz, which has to be downloaded by hand (https://upenn.box.com/PennAction), or the unpacked "
        "folder; or `sample`.",
        min_length=1,
    )
    jpeg_quality: int = setting(95, "JPEG quality of the cropped frames, 1 to 100.", ge=1, le=100)


@dataclass(frozen=True)
class Window:
    """The rectangle that is cut out of all frames of a sequence, in 0-based px.

    The rectangle consists of the columns left to left + width - 1 and of the rows top to top + height - 1.
    """

    left: int
    top: int
    width: int
    height: int


def frame_name(frame: int) -> str:
    """Return the file name of the frame with this number, counted from 0: frame 0 is 000001.jpg."""
    return f"{frame + 1:06d}.jpg"


def round_half_away(value: float) -> int:
    """Return the nearest whole number, with halves rounded away from zero as by MATLAB (Python rounds halves to even)."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def crop_window(label: Label) -> Window:
    """Return the window around all boxes of a sequence, as published: from the least x1 and y1 to the greatest x2 and y2.

    The four values are rounded as by MATLAB, in coordinates counted from 1; the window includes the rounded columns and rows.
    All boxes are used, as published. Boxes without an area do not change the window, because they lie inside other boxes. The
    only inverted box (sequence 2173) lies in a corner of the image, and the window extends to this corner. A window of only a
    few pixels (sequence 1516) is not enlarged. A window that extends beyond the frame, for example by rounding, is cut off at
    the frame's edge. Raises DataError if the window lies outside the frame.
    """
    x1, y1 = (round_half_away(value + 1) - 1 for value in label.bbox[:, :2].min(axis=0))
    x2, y2 = (round_half_away(value + 1) - 1 for value in label.bbox[:, 2:].max(axis=0))
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, label.width - 1), min(y2, label.height - 1)
    if right < left or bottom < top:
        raise DataError(
            f"sequence {label.sequence}: its boxes span columns {x1} to {x2} and rows {y1} to {y2} (counted from 0),"
            f" nothing of its {label.width} x {label.height} px frames; field 'bbox' of its label is wrong."
        )
    return Window(left, top, right - left + 1, bottom - top + 1)


def crop_label(label: Label, window: Window) -> Label:
    """Return the label of the frames cut to `window`: the window's corner is the new origin of all joints and boxes."""
    corner = np.array([window.left, window.top], dtype=np.float64)
    return replace(
        label,
        joints=label.joints - corner,
        bbox=label.bbox - np.tile(corner, 2),
        width=window.width,
        height=window.height,
    )


def split(labels: Sequence[Label], counted_only: bool = True) -> dict[str, list[Label]]:
    """Return the sequences of `train`, `valid` and `test`, by the published rule.

    The labels state whether a sequence is for training or for testing. The last 9.2 % of each action's training sequences, in
    file order, are used for validation; the number of these sequences is rounded, halves up. `valid` is ordered by action, and
    the actions by their first appearance; `train` and `test` have the order of `labels`.

    counted_only: if true, the 9.2 % are taken from the training sequences with a counted frame (`Label.counted`), as in
    pose-hg-train, which has 115 validation sequences of Penn Action. If false, the 9.2 % are taken from all training sequences,
    as in the program image-play, which has 116 validation sequences.
    """
    actions: dict[str, list[Label]] = {}
    for label in labels:
        candidates = actions.setdefault(label.action, [])
        if label.train and (label.counted.any() or not counted_only):
            candidates.append(label)
    valid = []
    for candidates in actions.values():
        valid += candidates[len(candidates) - round_half_away(VALID_SHARE * len(candidates)) :]
    chosen = {label.sequence for label in valid}
    return {
        "train": [label for label in labels if label.train and label.sequence not in chosen],
        "valid": valid,
        "test": [label for label in labels if not label.train],
    }


def annotations(labels: Sequence[Label], first: dict[str, int]) -> Annotations:
    """Return annotations with a row for every counted frame (`Label.counted`) of cropped sequences.

    first: sequence -> number of the sequence's first frame; the frames of all sequences are numbered together, from 0. The
    person is assumed to fill the frame: `frame_box` gives the box. The published converter exchanges the frame's width and
    height when it computes the box, which misplaces the centre of crops that are not square; this function does not exchange
    them. Joints that are not visible count as not labelled (NaN). `normalize` and `torsoangle` are -1.
    """
    counted = [(label, np.flatnonzero(label.counted)) for label in labels]
    rows = np.array([len(frames) for _, frames in counted], dtype=np.int64)
    size = np.array([(label.width, label.height) for label in labels], dtype=np.float64).reshape(-1, 2)
    center, scale = frame_box(size)
    # The lists begin with empty arrays, which give the right shapes and dtypes if there are no labels.
    visible = np.concatenate([np.zeros((0, JOINTS), bool), *(label.visible[frames] for label, frames in counted)])
    part = np.concatenate([np.zeros((0, JOINTS, 2)), *(label.joints[frames] for label, frames in counted)])
    part[~visible] = np.nan
    index = np.concatenate([np.zeros(0, np.int64), *(first[label.sequence] + frames for label, frames in counted)])
    return Annotations(
        images=[f"{label.sequence}/{frame_name(frame)}" for label, frames in counted for frame in frames.tolist()],
        index=index,
        person=np.zeros(rows.sum(), np.int64),
        center=np.repeat(center, rows, axis=0),
        scale=np.repeat(scale, rows),
        part=part,
        visible=visible,
        normalize=np.full(rows.sum(), -1.0),
        torsoangle=np.full(rows.sum(), -1.0),
    )


def read(folder: Path, settings: PennAction, files: Mapping[str, Path], report: Report) -> Conversion:
    """Read the cropped sequences, `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`.

    Only one sequence's joints are in memory at a time.
    Raises DataError if a label is wrong, a frame is missing, or the test split is empty.
    """
    paths = label_paths(folder)
    heads = []
    for done, path in enumerate(paths, 1):
        label = read_label(path)
        require_images([frame_name(frame) for frame in range(label.frames)], folder / "frames" / label.sequence)
        heads.append(head(label))
        report(done, len(paths))
    if not any(not label.train and label.counted.any() for label in heads):
        raise DataError(f"{folder}: the test split is empty; expected sequences whose label has train = -1.")
    return conversion(heads, lambda label: read_label(folder / "labels" / f"{label.sequence}.mat"))


def conversion(heads: list[Label], whole: Callable[[Label], Label]) -> Conversion:
    """Return the conversion of cropped sequences to annotation files, and to files for the program image-play in `penn-crop/`.

    heads: the labels of all sequences in file order, without coordinates (see `penn_labels.head`); whole: a function that
    takes a label from `heads` and returns the complete label of this sequence.
    """
    offsets = np.cumsum([0] + [label.frames for label in heads]).tolist()
    first = {label.sequence: offset for label, offset in zip(heads, offsets, strict=False)}
    sizes = {label.sequence: (label.width, label.height) for label in heads}
    splits = split(heads)

    def parts(members: list[Label]) -> Iterator[Annotations]:
        yield annotations([], first)  # even an empty split needs one part, which defines the fields of its file
        for member in members:
            yield annotations([whole(member)], first)

    rows = {
        name: Split(
            sum(int(label.counted.sum()) for label in members),
            parts(members),
            {"sequences": sum(bool(label.counted.any()) for label in members)},
        )
        for name, members in splits.items()
    }
    of_image_play = split(heads, counted_only=False)
    return Conversion(rows, lambda image: sizes[image.split("/")[0]], partial(_write_image_play, splits, of_image_play, whole))


def _write_image_play(
    ours: Mapping[str, list[Label]], theirs: Mapping[str, list[Label]], whole: Callable[[Label], Label], folder: Path
) -> None:
    """Write `valid_ind.txt` of our split into `folder`, and the files for the program image-play into `penn-crop/` in `folder`.

    The files in `penn-crop/` follow image-play's split. The .h5 files contain every frame; sequences are ordered by number.
    ours: our split, {name of the split: labels of its sequences}; theirs: image-play's split; whole: see `conversion`.
    """
    image_play = folder / "penn-crop"
    image_play.mkdir(exist_ok=True)
    for name, members in theirs.items():
        ordered = (whole(label) for label in sorted(members, key=lambda label: int(label.sequence)))
        sequences = ((int(label.sequence), label.joints, label.visible) for label in ordered)
        frames = sum(label.frames for label in members)
        write_image_play(image_play / f"{'val' if name == 'valid' else name}.h5", sequences, frames)
    for place, splits in ((folder, ours), (image_play, theirs)):
        write_valid_ind(place / "valid_ind.txt", [int(label.sequence) for label in splits["valid"]])


def people(files: DatasetFiles, rows: Annotations) -> People:
    """Return the people of a split for scoring, with the actions and boxes of Penn Action's label files."""
    by_sequence = people_by_image(rows)
    names = [image.rpartition("/")[0] for image in rows.images]
    labels = {name: read_label(files.images.parent / "labels" / f"{name}.mat") for name in sorted(set(names))}
    frames = [int(image.rpartition("/")[2].removesuffix(".jpg")) - 1 for image in rows.images]
    # In two sequences, the last frame has no box, and the previous frame's box is used, as in evaluations by others.
    boxes = np.array(
        [labels[name].bbox[min(frame, len(labels[name].bbox) - 1)] for name, frame in zip(names, frames, strict=True)]
    )
    actions = [labels[name].action for name in names]
    return replace(by_sequence, actions=actions, box=(boxes[:, 2:] - boxes[:, :2]).max(axis=1))


def _longer_side(people: People) -> np.ndarray:
    """Return the longer sides (N,) in px of the cropped frames; the side of a person's box is 1.25 times as long."""
    return people.rows.scale * 200 / 1.25


def _box(people: People) -> np.ndarray:
    return people.box


def _torso(people: People) -> np.ndarray:
    shoulder, hip = SKELETON.joints.index("left_shoulder"), SKELETON.joints.index("right_hip")
    return joint_distance(people.rows.part, shoulder, hip)


PENN_ACTION = Dataset(
    name="penn_action",
    title="Penn Action",
    skeleton=SKELETON,
    origin=ORIGIN,
    settings=PennAction,
    sources=SOURCES,
    read=read,
    images="frames",
    cropped=True,
    one_person=True,
    folder="penn_action_cropped",
    scored=("valid", "test"),
    people=people,
    # image-play scores forecasts by PCK@0.05 of the longer side of the cropped frame. Pose estimators, such as LSTM Pose
    # Machines, are scored by PCK@0.2 of the label's box or of the torso.
    measures=(
        Measure("PCK@0.05", 0.05, _longer_side, "total"),
        Measure("PCK@0.2 of the box", 0.2, _box, "total"),
        Measure("PCK@0.2 of the torso", 0.2, _torso, "total"),
    ),
    # Source of the accuracies: the README of pose-hg-train, branch image-play.
    published=(
        Published("valid", 8721, TRAINING_METRIC, "hg-256-ft, best epoch (pose-hg-train, image-play)", 91.52),
        Published("valid", 8721, TRAINING_METRIC, "hg-256-ft, last epoch (pose-hg-train, image-play)", 91.20),
        Published("test", 76206, TRAINING_METRIC, "hg-256-ft, last epoch (pose-hg-train, image-play)", 91.10),
    ),
    remedy=(
        "open https://upenn.box.com/PennAction in a browser, download Penn_Action.tar.gz (3 GB) and put it in this place, or "
        "give its path in [penn_action] archive"
    ),
)
