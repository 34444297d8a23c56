"""Collect the labels of a user-defined dataset as COCO keypoints, and its images in one folder."""

import json
import os
import re
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
    """The files and folders to which the settings of a section [dataset:NAME] point."""

    labels: dict[str, Path]  # setting (labels, valid, test) -> file, or folder of a DeepLabCut project
    images: Path | None  # folder of images or videos; None: the images are inside the file of labels
    section: str  # the section's name in brackets, for messages

    @classmethod
    def of(cls, settings: OwnDataset, section: str) -> "Sources":
        """Return the sources that a section gives. Raises DataError if `labels` is empty, and if `images` is a file."""
        if not settings.labels:
            raise DataError(f"{section} labels is empty; give the file of labels, or the folder of a DeepLabCut project.")
        given = {which: str(getattr(settings, which)) for which in LABELS}
        files = {which: text for which, text in given.items() if which == "labels" or (text and part_of(text) is None)}
        labels = {which: Path(text).expanduser() for which, text in files.items()}
        if projects := [path for path in labels.values() if path.name == "config.yaml"]:
            raise DataError(f"{section} {projects[0]} is the file of a DeepLabCut project; give the folder that it is in.")
        images = Path(settings.images).expanduser() if settings.images else None
        if images and images.is_file():
            raise DataError(f"{section} images = {images}: this is a file; give the folder of the images or videos.")
        if images is None and labels["labels"].is_dir():
            images = labels["labels"]
        return cls(labels, images, section)

    def paths(self) -> dict[str, Path]:
        """Return setting (labels, valid, test, images) -> path, for all files and folders that the result depends on."""
        return self.labels | ({"images": self.images} if self.images else {})

    @property
    def folder(self) -> Path:
        """Return the absolute path of the folder of images. Raises DataError if `images` is None."""
        if self.images is None:
            raise DataError(f"{self.section} images is empty; give the folder of the images that the labels name.")
        return self.images.absolute()


def collect(sources: Sources, out: Path, report: Report = silent) -> dict[str, Any]:
    """Write the files of labels, the given lists of images, and the folder images/ into `out`; return the number of frames.

    If all labels are of image files, images/ is a symlink to their folder, and the number of frames is 0. Else the labelled
    frames of videos, and images inside files of labels, are written to images/VIDEO/NUMBER.png. Raises DataError for labels
    that cannot be read, and for images and videos that do not exist.
    """
    read = dict[str, Labels]()
    for which, path in sources.labels.items():
        if path.suffix.lower() == ".txt" and which in LISTS:
            shutil.copyfile(path, out / LISTS[which])
        elif labelling.is_coco(path):
            shutil.copyfile(path, out / LABELS[which])
        else:
            read[which] = labelling.read(path)
    if all(frame.image for labels in read.values() for frame in labels.frames):
        images = {which: _in_place(labels.frames, which, sources) for which, labels in read.items()}
        point(out, {"images": sources.folder})
    else:
        _require_only_these(sources, read)
        taken = dict[str, str]()
        images = {
            which: _write_frames(labels.frames, which, sources, out / "images", taken, report) for which, labels in read.items()
        }
    for which, labels in read.items():
        (out / LABELS[which]).write_text(json.dumps(labelling.as_coco(labels, images[which]), allow_nan=False))
    return {"frames": 0 if (out / "images").is_symlink() else sum(map(len, images.values()))}


def _require_only_these(sources: Sources, read: dict[str, Labels]) -> None:
    """Raise DataError if some labels are of videos and others of image files, because images/ cannot contain both."""
    others = [path for which, path in sources.labels.items() if which not in read and path.suffix.lower() != ".txt"]
    others += [sources.labels[which] for which, labels in read.items() if any(frame.image for frame in labels.frames)]
    if others:
        raise DataError(
            f"{sources.section}: {others[0]} labels image files, but other labels are of videos; give all labels in one form."
        )


def _in_place(frames: list[LabelledFrame], which: str, sources: Sources) -> list[str]:
    """Return the path of each frame's image, relative to the folder of images.

    Raises DataError if an image does not exist, and if two different paths in the labels lead to one file.
    """
    places = dict[str, Path]()  # path relative to the folder of images -> path in the labels
    names = []
    for frame in frames:
        assert frame.image
        name = _below(frame.image, sources.folder, sources.labels[which])
        _require_one(places.setdefault(name, frame.image), frame.image, sources.folder / name, which, sources)
        names.append(name)
    return names


def _require_one(first: Path, second: Path, file: Path, which: str, sources: Sources) -> None:
    """Raise DataError if two different paths in the labels lead to one file: one of the paths must mean another file."""
    if first != second:
        raise DataError(
            f"{sources.labels[which]} labels both {first} and {second}, and in {sources.folder} both are {file}; set "
            "`images` to the folder above, in which the two are different files."
        )


def _below(wanted: Path, folder: Path, labels: Path) -> str:
    """Return the path of an image or a video, relative to a folder.

    If the path `wanted` does not lead to a file in the folder, the folder is searched for the last three, two or one parts of
    the path. Raises DataError if the folder does not contain the file.
    """
    if wanted.is_relative_to(folder) and wanted.is_file():
        return wanted.relative_to(folder).as_posix()
    for parts in (3, 2, 1):  # such as labeled-data/VIDEO/img001.png, VIDEO/img001.png, img001.png
        place = Path(*wanted.parts[-parts:])
        if not place.is_absolute() and (folder / place).is_file():
            return place.as_posix()
    raise DataError(f"{wanted}, which {labels} labels, is not in {folder}; set `images` to its folder.")


def _write_frames(
    frames: list[LabelledFrame], which: str, sources: Sources, folder: Path, taken: dict[str, str], report: Report
) -> list[str]:
    """Write each labelled frame to a PNG file; return the paths of these files, relative to `folder`.

    taken: name of a folder of frames -> the video that the frames are from; the calls for all files of labels share `taken`.
    Raises DataError for videos that do not exist, and if two different video paths in the labels lead to one file.
    """
    places, names = dict[str, str](), []  # video in the labels -> path relative to the folder of images
    for done, frame in enumerate(frames, 1):
        wanted = Path(*re.split(r"[/\\]", frame.video)) if frame.video else Path("video")
        if frame.video not in places:
            place = f"{which} {frame.video}" if frame.inside else _below(wanted, sources.folder, sources.labels[which])
            for other, same in places.items():
                if same == place and not frame.inside:
                    _require_one(Path(other), Path(frame.video), sources.folder / place, which, sources)
            places[frame.video] = place
        place = places[frame.video]
        name = labelling.plain_name(wanted.stem)
        while taken.setdefault(name, place) != place:  # another video already has a folder of this name
            name += "_"
        path = folder / name / f"{frame.number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            partial = path.with_suffix(".writing")
            labelling.write_png(partial, labelling.pixels_of(frame, None if frame.inside else sources.folder / place))
            os.replace(partial, path)
        names.append(path.relative_to(folder).as_posix())
        report(done, len(frames), "taking labelled frames out of videos")
    return names
