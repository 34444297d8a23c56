"""Dataset: all that is true of one dataset, in one object; and its converted files."""

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
    """The people of one split, in parts that share no image, so that memory holds one part."""

    rows: int
    parts: Iterable[Annotations]  # one part at least, even if it is empty
    counts: Mapping[str, int] = field(default_factory=dict)  # further counts for the summary, such as of sequences

    @classmethod
    def of(cls, people: Annotations) -> "Split":
        """Return a split of people who all stand in memory."""
        return cls(len(people), [people])


@dataclass(frozen=True)
class Conversion:
    """A dataset as it is read from its own files, ready to be written as annotation files."""

    splits: Mapping[str, Split]  # train, valid, test; test may be empty
    size: Callable[[str], tuple[int, int]] | None = None  # image -> (width, height) px; None: every image is decoded
    also_write: Callable[[Path], None] | None = None  # writes further files into the folder of the annotation files
    notes: tuple[str, ...] = ()  # sentences for the user about what the dataset's files lack
    skeleton: Skeleton | None = None  # of a dataset whose labels name their joints, see `Dataset.with_skeleton`


class Reader(Protocol):
    """Reads a dataset's own files."""

    def __call__(self, folder: Path, settings: Any, files: Mapping[str, Path], report: Report) -> Conversion:
        """Return the people of all splits from a folder of fetched files.

        settings: the dataset's section; files: setting -> the file that one of the dataset's `split_sources` gives. Raises
        DataError where files are missing or damaged.
        """


def _by_image(files: "DatasetFiles", rows: Annotations) -> People:
    return people_by_image(rows)


@dataclass(frozen=True)
class Dataset:
    """All that is true of one dataset. Whatever is done for each dataset is derived from these objects."""

    name: str  # of its section in luigi.cfg, and in names of stages: Pretrain:lsp
    title: str  # as its owners write it
    skeleton: Skeleton
    origin: Origin
    settings: type[Section]
    sources: Mapping[str, Wanted]  # setting -> which files are needed of the archive, folder or file that it names
    read: Reader
    measures: tuple[Measure, ...]  # as its owners score it; the first is the one that comparisons show
    scored: tuple[str, ...] = ("valid",)  # splits
    oks: bool = False  # whether evaluations also score object keypoint similarity, as COCO does
    # Writes predictions (N, J, 2), 0-based px, of the test people into a folder, in the format that the dataset's owners score.
    submit: Callable[[Path, "DatasetFiles", Annotations, np.ndarray], None] | None = None
    images: str = "images"  # folder of the images in the result that holds them
    cropped: bool = False  # whether frames are first cut to the people, which gives the images: stage CropPenn
    split_sources: tuple[str, ...] = ()  # settings that name a file which defines the split; "" is none
    folder: str = ""  # of its results below exp/; "": its name
    published: tuple[Published, ...] = ()
    people: Callable[["DatasetFiles", Annotations], People] = _by_image
    remedy: str = "put the file in this place or correct its path in the settings"  # where a source is missing
    one_person: bool = False  # an image; its annotation files then have no fields `person` and `imgname`, as published
    # Returns the dataset with the skeleton that its labels name; None: `skeleton` is known without them.
    with_skeleton: Callable[[Skeleton], "Dataset"] | None = None

    @property
    def result_path(self) -> str:
        """The folder of its results below exp/."""
        return self.folder or self.name


@dataclass(frozen=True)
class DatasetFiles:
    """A converted dataset: its annotation folder, its image folder and, if they were made, its cached crops."""

    dataset: Dataset
    annotations: Path
    images: Path
    crops: Path | None = None

    @classmethod
    def of(cls, dataset: Dataset, annotations: Path, images: Path, crops: Path | None = None) -> "DatasetFiles":
        """Return a converted dataset with the skeleton of its labels. Raises DataError where that is needed and missing."""
        if dataset.with_skeleton:
            dataset = dataset.with_skeleton(read_skeleton(annotations))
        return cls(dataset, annotations, images, crops)

    @property
    def skeleton(self) -> Skeleton:
        """The dataset's skeleton."""
        return self.dataset.skeleton

    def split(self, name: str) -> Annotations:
        """Read the annotations of train, valid or test. Raises DataError where the split is empty or cannot be read."""
        split = annotations.read(self.annotations, name)
        if not len(split.images):
            raise DataError(f"{self.annotations / name}.h5 holds no person; nothing can be trained or scored on it.")
        return split

    def people(self, name: str) -> People:
        """Read the people of train, valid or test as they are scored. Raises DataError as `split` does."""
        return self.dataset.people(self, self.split(name))


def require_images(needed: list[str], folder: Path) -> None:
    """Raise DataError where a folder, or images that are needed in it, are missing."""
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
    """Raise DataError where annotations that were read from a file have another number of joints than the skeleton."""
    found, expected = people.part.shape[1], len(skeleton.joints)
    if found != expected:
        raise DataError(f"{file} has {found} joints, expected {expected}; it is another dataset's annotation file.")
