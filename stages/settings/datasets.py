"""The settings of each dataset: where its archives come from, and how it is split and cropped."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from stages.settings.section import Section, insignificant, setting

_POSE_HG_TRAIN = "https://github.com/princeton-vl/pose-hg-train/archive/9442c50a97e15dc450c6c1f42032abcddf79b2d4.tar.gz"
_MPII_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"


class Sample(Section):
    """The built-in sample data that a source named `sample` stands for."""

    intro = "The built-in sample: drawn people, used where a source is the word `sample`."

    people: int = setting(1200, "Number of people in the MPII sample.", ge=20, le=100_000)
    sequences: int = setting(12, "Number of sequences of each action in the Penn Action sample.", ge=10, le=1000)
    frames: int = setting(20, "Smallest number of frames of a sequence; the largest is 4 more.", ge=4, le=600)
    seed: int = setting(1, "Seed of the drawings.", ge=0, lt=2**32)


class Mpii(Section):
    """MPII Human Pose. A source is a path, addresses, or the word `sample`; a path counts by content, not by place."""

    intro = (
        "MPII Human Pose. A source is a path, an address, or several addresses of the same file, separated by "
        "spaces and tried in this order. Each may end in #sha256=... (64 hexadecimal digits, or the first 8 or "
        "more); a file with another digest is refused. Archives are .zip, .7z, .tar, .tar.gz, .tar.bz2, .tar.xz "
        "or .tar.zst. A path may also be the folder of an unpacked dataset, which is read in place. A file is "
        "identified by its content, so moving it changes no result."
    )

    images: str = insignificant(
        _MPII_SITE + "mpii_human_pose_v1.tar.gz",
        "Source of the images: the archive or the folder of images; `sample` draws a small dataset instead.",
        min_length=1,
    )
    annotations: str = insignificant(
        _MPII_SITE + "mpii_human_pose_v1_u12_2.zip",
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


class PennAction(Section):
    """Penn Action: the archive's source, and how crops are written."""

    intro = "Penn Action."

    archive: str = insignificant(
        "Penn_Action.tar.gz",
        "Source of Penn_Action.tar.gz or the unpacked folder; its owners want a person to download it "
        "(https://upenn.box.com/PennAction). Or `sample`.",
        min_length=1,
    )
    jpeg_quality: int = setting(95, "JPEG quality of the cropped frames, 1 to 100.", ge=1, le=100)


def _not_sample(source: str) -> str:
    if source == "sample":
        raise ValueError("it should be a path or an address: the built-in sample has only MPII and Penn Action")
    return source


_Archive = Annotated[str, AfterValidator(_not_sample)]


class Flic(Section):
    """FLIC: the sources of its images and of the published annotation files, and whose left and right the joints mean."""

    intro = "FLIC, a dataset outside the chain, for Pretrain, Finetune and Evaluate."

    images: _Archive = insignificant(
        "https://drive.google.com/uc?id=0B4K3PZp8xXDJN0Fpb0piVjQ3Y3M",
        "Source of FLIC.zip or the folder of images (https://bensapp.github.io/flic-dataset.html).",
        min_length=1,
    )
    annotations: _Archive = insignificant(
        _POSE_HG_TRAIN,
        "Source of a .zip or .tar.gz, or a folder, with train.h5, valid.h5 and so on as pose-hg-train publishes them.",
        min_length=1,
    )
    sides: Literal["person", "observer"] = setting(
        "person",
        "Whose left and right the joints mean: the person's, as in the other datasets, or the observer's, as in "
        "published results.",
    )


class Lsp(Section):
    """Leeds Sports Pose: the archive's source, and the part of the training images that validates."""

    intro = "Leeds Sports Pose, a dataset outside the chain."

    archive: _Archive = insignificant(
        "http://sam.johnson.io/research/lsp_dataset.zip",
        "Source of lsp_dataset.zip or lsp_dataset_original.zip, or the unpacked folder.",
        min_length=1,
    )
    valid_fraction: float = setting(0.1, "Fraction of the training images that is used for validation.", gt=0, le=0.9)
    split_seed: int = setting(3, "Seed of the random split.", ge=0, lt=2**32)


class Lspet(Lsp):
    """Leeds Sports Pose Extended."""

    intro = "Leeds Sports Pose Extended, a dataset outside the chain."

    archive: _Archive = insignificant(
        "http://sam.johnson.io/research/lspet_dataset.zip",
        "Source of lspet_dataset.zip or hr-lspet.zip, or the unpacked folder (http://datasets.d2.mpi- "
        "inf.mpg.de/hr-lspet/hr-lspet.zip).",
        min_length=1,
    )
