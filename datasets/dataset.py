"""Define Dataset, which contains all facts about one dataset, and DatasetFiles, the folders of its converted files."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.formats.skeleton_file import read_skeleton
from datasets.measures import Measure, People, Published, people_by_image
from datasets.progress import Report
from datasets.section import Section
from datasets.skeletons import Skeleton
from datasets.sources import Origin, Wanted


@dataclass(frozen=True)
class Split:
    """The people of one split, divided into parts. Only one part is in memory at a time, and no two parts share an image."""

    rows: int  # number of people in all parts
    parts: Iterable[Annotations]  # at least one part, which may be empty
    # Name -> count, such as the number of sequences, for the summary of a conversion.
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, people: Annotations) -> "Split":
        """Return a split with a single part: people who are already in memory."""
        return cls(len(people), [people])


@dataclass(frozen=True)
class Conversion:
    """The contents of a dataset's original files, ready to be written as annotation files."""

    splits: Mapping[str, Split]  # train, valid, test; test may be empty
    # Function that returns the (width, height) of an image in px. None: the images must be decoded to find their sizes.
    size: Callable[[str], tuple[int, int]] | None = None
    # Function that writes further files into the folder of the annotation files.
    also_write: Callable[[Path], None] | None = None
    notes: tuple[str, ...] = ()  # messages for the user about information that the dataset's files lack
    skeleton: Skeleton | None = None  # the skeleton, for datasets whose labels define it (see `Dataset.with_skeleton`)


class Reader(Protocol):
    """A function that reads a dataset's original files."""

    def __call__(self, folder: Path, settings: Any, files: Mapping[str, Path], report: Report) -> Conversion:
        """Return the people of all splits from a folder of fetched files.

        settings: the dataset's section of luigi.cfg; files: for each setting in `Dataset.split_sources` that is not empty, the
        file that this setting specifies. Raises DataError if files are missing or damaged.
        """


def _by_image(files: "DatasetFiles", rows: Annotations) -> People:
    return people_by_image(rows)


@dataclass(frozen=True)
class Dataset:
    """All facts about one dataset. The stages, settings and reports of every dataset are derived from this object."""

    name: str  # name of the section in luigi.cfg, also used in names of stages such as Pretrain:lsp
    title: str  # the dataset's full name, as its owners write it
    skeleton: Skeleton
    origin: Origin
    settings: type[Section]  # the dataset's section of luigi.cfg
    # Name of a setting -> the files that are needed from the archive, folder or file that the setting specifies.
    sources: Mapping[str, Wanted]
    read: Reader
    measures: tuple[Measure, ...]  # the measures that the dataset's owners use; comparisons show the first measure
    scored: tuple[str, ...] = ("valid",)  # the splits on which networks are scored
    oks: bool = False  # whether evaluations also compute object keypoint similarity (OKS), COCO's measure
    # Function that writes predictions of the test people, (N, J, 2) in 0-based px, as files for the evaluation of the dataset's
    # owners.
    submit: Callable[[Path, "DatasetFiles", Annotations, np.ndarray], None] | None = None
    images: str = "images"  # name of the folder of images within a result
    cropped: bool = False  # whether the images are frames that the stage CropPenn first crops to the person
    split_sources: tuple[str, ...] = ()  # names of the settings that may specify a file that defines the split
    folder: str = ""  # path of the dataset's results below exp/; empty: the dataset's name
    published: tuple[Published, ...] = ()
    people: Callable[["DatasetFiles", Annotations], People] = _by_image
    # Advice at the end of the error message for a missing source.
    remedy: str = "put the file in this place or correct its path in the settings"
    # True if each image shows one person. The annotation files then lack the fields `person` and `imgname`, as the dataset's
    # published annotation files do.
    one_person: bool = False
    # For datasets whose labels define the joints: function that returns the dataset with a given skeleton. None for other
    # datasets.
    with_skeleton: Callable[[Skeleton], "Dataset"] | None = None

    @property
    def result_path(self) -> str:
        """The path of the dataset's results below exp/."""
        return self.folder or self.name


@dataclass(frozen=True)
class DatasetFiles:
    """The folders of a converted dataset: annotation files, images, and cached crops if there are any."""

    dataset: Dataset
    annotations: Path
    images: Path
    crops: Path | None = None

    @classmethod
    def of(cls, dataset: Dataset, annotations: Path, images: Path, crops: Path | None = None) -> "DatasetFiles":
        """Return a converted dataset; if its labels define the skeleton, read the skeleton from skeleton.json in `annotations`.

        Raises DataError if skeleton.json is needed and cannot be read.
        """
        if dataset.with_skeleton:
            dataset = dataset.with_skeleton(read_skeleton(annotations))
        return cls(dataset, annotations, images, crops)

    @property
    def skeleton(self) -> Skeleton:
        """The dataset's skeleton."""
        return self.dataset.skeleton

    def split(self, name: str) -> Annotations:
        """Read the annotations of train, valid or test. Raises DataError if the split is empty or cannot be read."""
        split = annotations.read(self.annotations, name)
        if not len(split.images):
            raise DataError(f"{self.annotations / name}.h5 holds no person; nothing can be trained or scored on it.")
        return split

    def people(self, name: str) -> People:
        """Read the people of train, valid or test, with all data that scoring needs. Raises DataError as `split` does."""
        return self.dataset.people(self, self.split(name))


def require_images(needed: list[str], folder: Path) -> None:
    """Raise DataError if a folder or one of the needed images in it is missing; needed: paths relative to the folder."""
    if not folder.is_dir():
        raise DataError(f"the folder {folder} is missing; unpack or crop the dataset again.")
    present = set[str]()
    for below in {image.rpartition("/")[0] for image in needed}:
        if (folder / below).is_dir():
            with os.scandir(folder / below) as entries:
                present.update(f"{below}/{entry.name}" if below else entry.name for entry in entries)
    missing = [image for image in needed if image not in present]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(needed)} images that are annotated, such as {missing[0]};"
            " give the whole dataset, and the annotations of its images."
        )


def require_joints(people: Annotations, skeleton: Skeleton, file: Path) -> None:
    """Raise DataError if the number of joints in annotations differs from the skeleton's; file: path for the error message."""
    found, expected = people.part.shape[1], len(skeleton.joints)
    if found != expected:
        raise DataError(f"{file} has {found} joints, expected {expected}; it is another dataset's annotation file.")
