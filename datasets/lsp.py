"""Leeds Sports Pose (LSP) and its extended training set (LSPET) as distributed: `joints.mat` and numbered images.

The array `joints` is 3 x 14 x N in LSP and 14 x 3 x N in LSPET; both orders are accepted for both datasets. The three numbers
of a joint are x and y in pixels counted from 1 (MATLAB), and a flag with opposite meanings in the two datasets. In LSP, flag 1
marks an occluded joint, whose coordinates are labelled nevertheless. In LSPET, flag 1 marks a visible joint, and a joint with
flag 0 has no label: its coordinates are meaningless. The i-th of the N people is in the i-th image in the order of the
numbers in the file names. HR-LSPET has the photographs of LSPET in full size, but lacks some images and their labels.
The first half of LSP is for training, the second half for testing. LSPET is for training only. Some photographs are in both
datasets.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from datasets.dataset import Conversion, Dataset, Split
from datasets.errors import DataError
from datasets.formats.annotations import Annotations, framed_by_joints, hold_out
from datasets.formats.hdf5 import LARGEST
from datasets.formats.matlab import read_mat
from datasets.measures import PCK_TORSO
from datasets.progress import Report
from datasets.section import NotSample, Section, insignificant, setting
from datasets.skeletons import Skeleton
from datasets.sources import Origin, Part, Wanted

MAT_NAME = "joints.mat"
PHOTOGRAPHS = "we know of no licence. The photographs come from Flickr, so keep them to research and do not pass them on."

# The published program (pose-hg-train) does not train on LSP, so the scoring joints are chosen as for MPII.
SKELETON = Skeleton(
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    scoring=(0, 1, 2, 3, 4, 5, 6, 7, 10, 11),
    limbs=(
        (0, 1), (1, 2), (3, 4), (4, 5), (2, 3), (6, 7), (7, 8), (9, 10), (10, 11), (8, 12), (9, 12), (2, 8), (3, 9),
        (12, 13),
    ),
)  # fmt: skip
JOINTS = len(SKELETON.joints)

ORIGIN = Origin(
    name="Leeds Sports Pose",
    page="http://sam.johnson.io/research/lsp.html",
    owners="Sam Johnson and Mark Everingham, University of Leeds; the photographs belong to members of Flickr",
    terms=PHOTOGRAPHS,
    bibtex="""\
@inproceedings{johnson10bmvc,
  author = {Johnson, Sam and Everingham, Mark},
  title = {Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation},
  booktitle = {British Machine Vision Conference (BMVC)},
  year = {2010}
}""",
)

ORIGIN_LSPET = Origin(
    name="Leeds Sports Pose Extended",
    page="http://sam.johnson.io/research/lspet.html",
    owners="Sam Johnson and Mark Everingham, University of Leeds; the photographs belong to members of Flickr",
    terms=PHOTOGRAPHS,
    bibtex="""\
@inproceedings{johnson11cvpr,
  author = {Johnson, Sam and Everingham, Mark},
  title = {Learning Effective Human Pose Estimation from Inaccurate Annotation},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2011}
}""",
)

SOURCES = {
    "archive": Wanted(
        r"(?!.*visualized)(?:.*/)?(?:(?P<images>im\d+\.(?:jpg|png))|(?P<to>joints\.mat))",
        "joints.mat and im*.jpg",
        (Part("images", r"im\d+\.(?:jpg|png)"),),
        copied=r"joints\.mat",
    )
}


class Lsp(Section):
    """Settings of Leeds Sports Pose: the source of the archive, and the fraction of training images used for validation."""

    intro = "Leeds Sports Pose, a dataset outside the chain."

    archive: NotSample = insignificant(
        "http://sam.johnson.io/research/lsp_dataset.zip",
        "Source of lsp_dataset.zip or lsp_dataset_original.zip, or the unpacked folder.",
        min_length=1,
    )
    valid_fraction: float = setting(0.1, "Fraction of the training images that is used for validation.", gt=0, le=0.9)
    split_seed: int = setting(3, "Seed of the random split.", ge=0, lt=2**32)


class Lspet(Lsp):
    """Settings of Leeds Sports Pose Extended."""

    intro = "Leeds Sports Pose Extended, a dataset outside the chain."

    archive: NotSample = insignificant(
        "http://sam.johnson.io/research/lspet_dataset.zip",
        "Source of lspet_dataset.zip or hr-lspet.zip, or the unpacked folder (http://datasets.d2.mpi-"
        "inf.mpg.de/hr-lspet/hr-lspet.zip).",
        min_length=1,
    )


def image_names(folder: Path) -> list[str]:
    """Return the names of the images in `folder`, in the order of their numbers. Raises DataError if `folder` is missing."""
    if not folder.is_dir():
        raise DataError(f"the folder {folder} is missing; unpack the dataset again.")
    matches = filter(None, (re.fullmatch(r"im(\d+)\.(?:jpg|png)", path.name) for path in folder.iterdir()))
    return [match[0] for match in sorted(matches, key=lambda match: (int(match[1]), match[0]))]


def read_people(path: Path, images: list[str], one_means: Literal["occluded", "visible"]) -> Annotations:
    """Return the people of the file joints.mat at `path`.

    images: names of the images, in the order of their numbers; each image shows one person. one_means: the meaning of flag 1
    (see the module's docstring). A person's box is a square around the centre of the joints' bounding box; its side is 1.25 x
    the longer side of the bounding box. People without two joints at different positions have no box and are left out.
    `normalize` is the length of the torso (see `torso`), `torsoangle` is -1. Raises DataError if the file is damaged, has a
    wrong shape, does not match the images, or seems to be LSPET's instead of LSP's or vice versa.
    """
    x, y, flag = _columns(path)
    if len(x) != len(images):
        raise DataError(f"{path} labels {len(x)} images, but {len(images)} exist; the archive is incomplete: fetch it again.")
    if not np.isin(flag, (0, 1)).all():
        raise DataError(f"{path}: the third number of a joint is neither 0 nor 1; this is not joints.mat of LSP or LSPET.")
    visible = (flag == 1) == (one_means == "visible")
    if visible.size and visible.mean() < 0.5:
        raise DataError(
            f"{path} marks most joints as {'occluded' if one_means == 'occluded' else 'not labelled'}; the marks of LSP"
            " and LSPET have opposite meanings: give LSP's archive in the section [lsp], and LSPET's in [lspet]."
        )
    part = np.stack([x, y], axis=2) - 1
    unlabelled = (part == -1).all(axis=2)  # (0, 0) in the file
    if one_means == "visible":
        unlabelled |= ~visible
    part[unlabelled] = np.nan
    if not (np.abs(part[~unlabelled]) < LARGEST).all():
        raise DataError(f"{path}: a labelled joint is a NaN or too large a number; the file is damaged: fetch it again.")
    people = framed_by_joints(images, part, visible & ~unlabelled)
    return replace(people, normalize=torso(people.part))


def split(people: Annotations, images: int, fraction: float, seed: int, test_half: bool) -> dict[str, Annotations]:
    """Return the people of `train`, `valid` and `test`, each in file order.

    images: number of images; test_half: if true, the people on the second half of the images are the test split (LSP); if
    false, the test split is empty. `valid` has the people on a random fraction `fraction` of the images outside the test split,
    drawn by `annotations.hold_out`; `train` has all other people.
    """
    test = people.index >= images // 2 if test_half else np.zeros(len(people), bool)
    valid = np.zeros(len(people), bool)
    valid[~test] = hold_out(people.index[~test], fraction, seed)
    return {"train": people.select(~test & ~valid), "valid": people.select(valid), "test": people.select(test)}


def torso(part: np.ndarray) -> np.ndarray:
    """Return the lengths (N,) in px of the torsos of people with joints (N, 14, 2) px; -1 if unknown.

    The length is measured from the left shoulder to the right hip, as for LSP's PCK@0.2, or, if one of these joints is not
    labelled, from the right shoulder to the left hip.
    """
    names = SKELETON.joints

    def distance(first: str, second: str) -> np.ndarray:
        return np.linalg.norm(part[:, names.index(first)] - part[:, names.index(second)], axis=1)

    usual, other = distance("left_shoulder", "right_hip"), distance("right_shoulder", "left_hip")
    return np.nan_to_num(np.where(np.isnan(usual), other, usual), nan=-1.0)


def _columns(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and flag of all joints in joints.mat, each (N, 14) float64; x and y are pixels counted from 1."""
    joints = read_mat(path, "joints")["joints"]
    if not isinstance(joints, np.ndarray) or joints.ndim not in (2, 3):
        raise DataError(f"{path}: joints is not an array of 3 x 14 x N numbers; it is another kind of file.")
    if joints.ndim == 2:  # add the last axis for N = 1, because MATLAB drops a last dimension of size 1
        joints = joints[:, :, None]
    if joints.shape[:2] == (JOINTS, 3):
        joints = joints.swapaxes(0, 1)
    if joints.shape[:2] != (3, JOINTS):
        raise DataError(f"{path}: joints has the shape {joints.shape}, expected 3 x 14 x N or 14 x 3 x N.")
    x, y, flag = joints.astype(np.float64).swapaxes(1, 2)
    return x, y, flag


def read(
    one_means: Literal["occluded", "visible"], test_half: bool, folder: Path, settings: Lsp, files: Mapping[str, Path],
    report: Report,
) -> Conversion:  # fmt: skip
    """Read the people of all splits from `joints.mat` and the numbered images in `images/`; see `read_people` and `split`."""
    images = image_names(folder / "images")
    people = read_people(folder / MAT_NAME, images, one_means)
    splits = split(people, len(images), settings.valid_fraction, settings.split_seed, test_half)
    return Conversion({name: Split.of(chosen) for name, chosen in splits.items()})


LSP = Dataset(
    name="lsp",
    title="LSP",
    skeleton=SKELETON,
    origin=ORIGIN,
    settings=Lsp,
    sources=SOURCES,
    read=partial(read, "occluded", True),
    measures=(PCK_TORSO,),
    scored=("valid", "test"),
)

LSPET = replace(
    LSP,
    name="lspet",
    title="LSPET",
    origin=ORIGIN_LSPET,
    settings=Lspet,
    read=partial(read, "visible", False),
    scored=("valid",),
)
