"""FLIC (Frames Labeled In Cinema) as published with pose-hg-train: annotation files for 5,003 people in film frames.

In `train.h5` and `valid.h5`, as in FLIC itself, `left` means the observer's right-hand side, as if everybody faced
the camera. `train_personcentric.h5` and `valid_personcentric.h5` differ from these files only for the 247 people who turn their
back to the camera: for them, left and right are exchanged, so that all sides are the person's own, as in the other datasets.
`normalize` is the length of the torso, from the person's own right shoulder to the left hip. Every box has a side of 440 px and
spans the height of the frame. Two people are in both splits: each split has its own label of each of them. There is no test
split.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from datasets.dataset import Conversion, Dataset, Split, require_joints
from datasets.formats import annotations
from datasets.measures import PCK_TORSO
from datasets.progress import Report
from datasets.section import NotSample, Section, insignificant, setting
from datasets.skeletons import Skeleton
from datasets.sources import Origin, Part, Wanted

# Value of the setting `sides` -> suffix in the names of the published files.
VARIANTS = {"person": "personcentric", "observer": ""}
_POSE_HG_TRAIN = "https://github.com/princeton-vl/pose-hg-train/archive/9442c50a97e15dc450c6c1f42032abcddf79b2d4.tar.gz"

# FLIC labels upper bodies only.
SKELETON = Skeleton(
    joints=(
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist", "left_hip",
        "right_hip", "left_eye", "right_eye", "nose",
    ),
    scoring=(1, 2, 4, 5, 6, 7),
    limbs=((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (0, 6), (3, 7), (6, 7), (8, 10), (9, 10)),
)  # fmt: skip

ORIGIN = Origin(
    name="FLIC, Frames Labeled in Cinema",
    page="https://bensapp.github.io/flic-dataset.html",
    owners="Ben Sapp and Ben Taskar, University of Pennsylvania; the films belong to their studios",
    terms="we know of no licence. The frames come from films, so keep them to research and do not pass them on.",
    bibtex="""\
@inproceedings{sapp13cvpr,
  author = {Sapp, Ben and Taskar, Ben},
  title = {{MODEC}: Multimodal Decomposable Models for Human Pose Estimation},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2013}
}""",
)

_FILES = r"(?:train|valid)(?:(?:_personcentric)?\.h5|_images\.txt)"
SOURCES = {
    "images": Wanted(r"(?:.*/)?(?P<to>images/[^/]+\.jpg)", "images/*.jpg", (Part("images", r"[^.].*\.jpg"),)),
    "annotations": Wanted(
        r"(?!.*mpii)(?:.*/)?(?P<to>" + _FILES + ")",
        "train.h5, train_personcentric.h5, train_images.txt and those of valid",
        copied=_FILES,
        into="annot",
    ),
}


class Flic(Section):
    """Settings of FLIC: the sources of the images and annotation files, and whether left is the person's or the observer's."""

    intro = "FLIC, a dataset outside the chain, for Pretrain, Finetune and Evaluate."

    images: NotSample = insignificant(
        "https://drive.google.com/uc?id=0B4K3PZp8xXDJN0Fpb0piVjQ3Y3M",
        "Source of FLIC.zip or the folder of images (https://bensapp.github.io/flic-dataset.html).",
        min_length=1,
    )
    annotations: NotSample = insignificant(
        _POSE_HG_TRAIN,
        "Source of a .zip or .tar.gz, or a folder, with train.h5, valid.h5 and so on as pose-hg-train publishes them.",
        min_length=1,
    )
    sides: Literal["person", "observer"] = setting(
        "person",
        "Whose left and right the joints mean: the person's, as in the other datasets, or the observer's, as in "
        "published results.",
    )


def read(folder: Path, settings: Flic, files: Mapping[str, Path], report: Report) -> Conversion:
    """Read the people of train and valid, with 11 joints, from the published files in `annot/`; the test split is empty.

    Raises DataError if a file is missing, damaged or of another dataset.
    """
    annot = folder / "annot"
    splits = {split: annotations.read(annot, split, VARIANTS[settings.sides]) for split in ("train", "valid")}
    for split, people in splits.items():
        require_joints(people, SKELETON, annot / f"{split}.h5")
    splits["test"] = splits["valid"].select(np.zeros(len(splits["valid"]), bool))
    return Conversion({name: Split.of(people) for name, people in splits.items()})


FLIC = Dataset(
    name="flic",
    title="FLIC",
    skeleton=SKELETON,
    origin=ORIGIN,
    settings=Flic,
    sources=SOURCES,
    read=read,
    measures=(PCK_TORSO,),
)
