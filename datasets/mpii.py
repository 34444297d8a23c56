"""MPII Human Pose: people in YouTube videos, 16 joints. Andriluka et al., CVPR 2014.

The people are read from MPII's own `mpii_human_pose_v1_u12_1.mat`, or from files that other projects made from this file
(`datasets.formats.mpii_published`). The files of other projects define their own split into train, valid and test.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.dataset import Conversion, Dataset, DatasetFiles, Split
from datasets.errors import DataError
from datasets.formats import mpii_published, mpii_release
from datasets.formats.annotations import Annotations
from datasets.formats.mpii_release import MAT_NAME
from datasets.formats.mpii_split import split
from datasets.measures import TRAINING_METRIC, Measure, Published, normalize
from datasets.progress import Report
from datasets.section import Section, insignificant, setting
from datasets.skeletons import Skeleton
from datasets.sources import JSON, JSON_GZ, MATLAB, Origin, Part, Wanted

_NO_HEADS = (
    "mpii_annotations.json has no head boxes, so PCKh cannot be computed and stays empty; for PCKh, give the published "
    ".mat or .h5 files as [mpii] annotations."
)
_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"

# The order of the joints and the choice of scoring joints are those of the annotation files published with pose-hg-train.
SKELETON = Skeleton(
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    scoring=(0, 1, 2, 3, 4, 5, 10, 11, 14, 15),
    limbs=(
        (0, 1), (1, 2), (2, 6), (5, 4), (4, 3), (3, 6), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (15, 14), (14, 13), (13, 7),
    ),
    not_in_mean=("pelvis", "thorax"),
)  # fmt: skip

ORIGIN = Origin(
    name="MPII Human Pose",
    page="http://human-pose.mpi-inf.mpg.de",
    owners="Max Planck Institute for Informatics, Saarbrücken",
    terms=(
        "annotations and code are under the Simplified BSD License, free for research. The images come from YouTube videos "
        "whose rights the institute does not hold: no commercial use; ask its authors about any other purpose."
    ),
    bibtex="""\
@inproceedings{andriluka14cvpr,
  author = {Andriluka, Mykhaylo and Pishchulin, Leonid and Gehler, Peter and Schiele, Bernt},
  title = {{2D} Human Pose Estimation: New Benchmark and State of the Art Analysis},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2014}
}""",
)

_FILES = r"mpii_human_pose_v1_u12_1\.mat|mpii_annotations\.json(?:\.gz)?|(?:train|valid|test)(?:\.h5|_images\.txt)"
SOURCES = {
    "images": Wanted(
        r"(?:.*/)?(?P<to>images/[^/]+\.jpg)",
        "images/*.jpg",
        (Part("images", r"[^.].*\.jpg"),),
        in_sample="mpii_human_pose_v1.tar.gz",
    ),
    "annotations": Wanted(
        r"(?!.*(?:flic|penn-crop)/)(?:.*/)?(?P<to>" + _FILES + ")",
        "mpii_human_pose_v1_u12_1.mat, mpii_annotations.json or train.h5 and valid.h5",
        copied=_FILES,
        single=((MATLAB, MAT_NAME), (JSON, "mpii_annotations.json"), (JSON_GZ, "mpii_annotations.json.gz")),
        in_sample="mpii_human_pose_v1_u12_2.zip",
    ),
}


class Mpii(Section):
    """Settings of MPII Human Pose. A source is a path, one or more addresses, or `sample`; moving a file changes no result."""

    intro = (
        "MPII Human Pose. A source is a path, an address, or several addresses of the same file, separated by "
        "spaces and tried in this order. Each may end in #sha256=... (64 hexadecimal digits, or the first 8 or "
        "more); a file with another digest is refused. Archives are .zip, .7z, .tar, .tar.gz, .tar.bz2, .tar.xz "
        "or .tar.zst. A path may also be the folder of an unpacked dataset, which is read in place. A file is "
        "identified by its content, so moving it changes no result."
    )

    images: str = insignificant(
        _SITE + "mpii_human_pose_v1.tar.gz",
        "Source of the images: the archive or the folder of images; `sample` means a small dataset of drawn people instead.",
        min_length=1,
    )
    annotations: str = insignificant(
        _SITE + "mpii_human_pose_v1_u12_2.zip",
        "Source of the annotations: the .zip, the .mat in it, mpii_annotations.json, or a folder that holds one "
        "of these or the published train.h5, valid.h5 and image lists, which define their own split; or `sample`.",
        min_length=1,
    )
    split_file: str = insignificant(
        "",
        "Source of a file that lists the validation people: a published valid.h5, an mpii_annotations.json, "
        "HRNet's valid.json, mmpose's mpii_val.json, or a text file of image names. Empty: a random part of the "
        "images.",
    )
    valid_fraction: float = setting(
        0.12, "Fraction of the training images that a random split uses for validation.", gt=0, le=0.9
    )
    split_seed: int = setting(3, "Seed of the random split.", ge=0, lt=2**32)

    def significant(self) -> dict:
        """Return the settings that change a result: those of the random split, unless a file defines the split."""
        return {} if self.split_file else super().significant()


def read(folder: Path, settings: Mpii, files: Mapping[str, Path], report: Report) -> Conversion:
    """Read the people of all splits; see `datasets.dataset.Reader`.

    folder: contains `images/`, and the annotations as `mpii_human_pose_v1_u12_1.mat` or as the files that `mpii_published`
    reads. files: `files["split_file"]` is the file that lists the validation people (see `mpii_split.split`); this entry is
    missing if the setting `split_file` is empty.
    """
    split_file = files.get("split_file")
    if (folder / MAT_NAME).is_file():
        release = mpii_release.read(folder / MAT_NAME, report)
        splits = split(release, split_file, settings.valid_fraction, settings.split_seed)
    elif split_file:
        raise DataError(
            f"[mpii] split_file = {settings.split_file} needs {MAT_NAME} as [mpii] annotations; other annotation files bring "
            "their own split: leave split_file empty."
        )
    else:
        splits = mpii_published.read(folder)
    heads = any((people.normalize > 0).any() for people in splits.values())
    return Conversion({name: Split.of(people) for name, people in splits.items()}, notes=() if heads else (_NO_HEADS,))


def submit(folder: Path, files: DatasetFiles, people: Annotations, preds: np.ndarray) -> None:
    """Write predictions (N, 16, 2), 0-based px, of the test people as pred_keypoints_mpii.mat, for MPII's evaluation."""
    mpii_release.write_predictions(folder / "pred_keypoints_mpii.mat", files.images.parent / MAT_NAME, people, preds)


# Sources of the accuracies: the READMEs of pose-hg-train (branch image-play), of anibali/pytorch-stacked-hourglass (derived
# from bearpaw/pytorch-pose), of princeton-vl/pytorch_stacked_hourglass, and of a fork of princeton-vl's program that adds mean
# normalisation and cutout.
_VALID = "valid", 2958
PUBLISHED = (
    Published(*_VALID, TRAINING_METRIC, "hg-256 (pose-hg-train, image-play)", 80.58),
    Published(*_VALID, "PCKh@0.5", "2 stacks (anibali, PyTorch)", 87.33,
              (96.15, 94.89, 88.14, 83.78, 87.43, 82.19, 77.87)),
    Published(*_VALID, "PCKh@0.5", "2 stacks (princeton-vl, PyTorch)", 88.5),
    Published(*_VALID, "PCKh@0.5", "2 stacks, regularised (fork of princeton-vl, PyTorch)", 88.7),
    Published(*_VALID, "PCKh@0.5", "8 stacks (princeton-vl, PyTorch)", 90.1),
    Published(*_VALID, "PCKh@0.5", "8 stacks, regularised (fork of princeton-vl, PyTorch)", 90.6),
)  # fmt: skip

MPII = Dataset(
    name="mpii",
    title="MPII",
    skeleton=SKELETON,
    origin=ORIGIN,
    settings=Mpii,
    sources=SOURCES,
    read=read,
    split_sources=("split_file",),
    # Published tables for the validation split show the mean of the joints' accuracies. MPII's own evaluation of the test
    # split shows the accuracy of all joints together.
    measures=(
        Measure("PCKh@0.5", 0.5, normalize, "mean"),
        Measure("PCKh@0.1", 0.1, normalize, "mean"),
    ),
    published=PUBLISHED,
    submit=submit,
)
