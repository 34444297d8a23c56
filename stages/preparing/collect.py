"""Collecting the labels of a dataset of your own as COCO keypoints, and its images in one folder."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.formats import labelling
from datasets.formats.labelling import LabelledFrame, Labels
from datasets.own import LABELS, LISTS, OwnDataset, part_of
from datasets.progress import Report, silent
from stages.fetching.folders import point


@dataclass(frozen=True)
class Sources:
    """The files and folders that a section [dataset:NAME] names."""

    labels: dict[str, Path]  # labels, valid, test -> file, or folder of a DeepLabCut project
    images: Path | None  # folder of images or videos; None: the images are inside the file of labels
    section: str

    @classmethod
    def of(cls, settings: OwnDataset, section: str) -> "Sources":
        """Return the sources of a section. Raises DataError without labels, and for files in place of folders."""
        if not settings.labels:
            raise DataError(f"{section} labels is empty; give the file of labels, or the folder of a DeepLabCut project.")
        given = {which: getattr(settings, which) for which in LABELS}
        labels = {which: Path(text).expanduser() for which, text in given.items() if text and part_of(text) is None}
        images = Path(settings.images).expanduser() if settings.images else None
        if images and images.is_file():
            raise DataError(f"{section} images = {images}: this is a file; give the folder of the images or videos.")
        if images is None and labels["labels"].is_dir():
            images = labels["labels"]
        return cls(labels, images, section)

    def paths(self) -> dict[str, Path]:
        """Return name -> path of all that a result depends on."""
        return self.labels | ({"images": self.images} if self.images else {})

    @property
    def folder(self) -> Path:
        """The folder of images. Raises DataError if the settings name none."""
        if self.images is None:
            raise DataError(f"{self.section} images is empty; give the folder of the images that the labels name.")
        return self.images.absolute()


def collect(sources: Sources, out: Path, report: Report = silent) -> dict[str, Any]:
    """Write labels.json, lists of splits, and images/ into a folder; return the number of frames that were written.

    Where all labels are of images below the folder of images, `images` is a symlink to that folder. Else the labelled frames of
    videos, and images inside files of labels, are written as images/VIDEO/NUMBER.png. Raises DataError for labels that cannot
    be read, and for images and videos that are not there.
    """
    read = dict[str, Labels]()
    for which, path in sources.labels.items():
        if path.suffix.lower() == ".txt":
            shutil.copyfile(path, out / LISTS[which])
        elif labelling.is_coco(path):
            shutil.copyfile(path, out / LABELS[which])
        else:
            read[which] = labelling.read(path)
    if all(frame.image for labels in read.values() for frame in labels.frames):
        images = {
            which: [_below(frame.image, sources) for frame in labels.frames if frame.image] for which, labels in read.items()
        }
        point(out, {"images": sources.folder})
    else:
        _require_only_these(sources, read)
        taken = dict[str, str]()
        images = {which: _write_frames(labels.frames, sources, out / "images", taken, report) for which, labels in read.items()}
    for which, labels in read.items():
        (out / LABELS[which]).write_text(json.dumps(labelling.as_coco(labels, images[which]), allow_nan=False))
    return {"frames": 0 if (out / "images").is_symlink() else sum(map(len, images.values()))}


def _require_only_these(sources: Sources, read: dict[str, Labels]) -> None:
    """Raise DataError where frames of videos are written and other labels name images in place: one folder holds all images."""
    others = [path for which, path in sources.labels.items() if which not in read and path.suffix.lower() != ".txt"]
    if others:
        raise DataError(
            f"{sources.section}: {others[0]} names images, and the labels of other splits are of videos; give all in one form."
        )


def _below(image: Path, sources: Sources) -> str:
    """Return the path of an image below the folder of images, by its last parts. Raises DataError if it is not there."""
    folder = sources.folder
    if image.is_relative_to(folder) and image.is_file():
        return image.relative_to(folder).as_posix()
    for parts in (3, 2, 1):  # labeled-data/VIDEO/img001.png, VIDEO/img001.png, img001.png
        place = Path(*image.parts[-parts:])
        if not place.is_absolute() and (folder / place).is_file():
            return place.as_posix()
    raise DataError(f"{image}, which {sources.labels['labels']} labels, is not in {folder}; set `images` to its folder.")


def _write_frames(
    frames: list[LabelledFrame], sources: Sources, folder: Path, taken: dict[str, str], report: Report
) -> list[str]:
    """Write each labelled frame as a PNG file; return the frames' paths below the folder.

    taken: name of a video's folder -> the video, of the frames that were written before, too.
    """
    names = []
    for done, frame in enumerate(frames, 1):
        name = labelling.plain_name(Path(frame.video).stem)
        while taken.setdefault(name, frame.video) != frame.video:  # another video of the same name, in another folder
            name += "_"
        path = folder / name / f"{frame.number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            partial = path.with_suffix(".writing")
            labelling.write_png(partial, labelling.pixels_of(frame, sources.images))
            os.replace(partial, path)
        names.append(path.relative_to(folder).as_posix())
        report(done, len(frames), "taking labelled frames out of videos")
    return names
