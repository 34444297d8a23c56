"""Read pictures from images, folders and videos, and write drawings of the predicted poses.

A source (`Images` or `Video`) yields its pictures in order and is iterated only once. Afterwards, `failed` lists the error
messages of images and frames that could not be read.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from datasets.errors import DataError
from datasets.imaging.images import PICTURES, looks_like_picture, read_upright
from stages.inference.video import VideoReader, VideoWriter

DRAWN = (".jpg", ".jpeg", ".png")  # image suffixes that drawings keep; a drawing of an image with another suffix is a PNG file
TABLES = ("poses.json", "poses.csv")  # names of the files with poses in a results folder


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video."""

    path: Path  # path of the image or video
    frame: int | None  # number of the frame in the video, from 0; None for an image
    time: float | None  # time of the frame in s since the video's start; None for an image
    pixels: np.ndarray  # (H, W, 3) uint8 RGB

    @property
    def name(self) -> str:
        """Return the name of the image or video file."""
        return self.path.name


def find_sources(paths: list[Path], out: Path) -> "list[tuple[Images | Video, Path]]":
    """Return the sources at the given paths, each with the folder for its results.

    The results of a single source, or of several images with different names, are written to `out`. Otherwise the results of
    each source are written to a folder in `out`, see `folder_names`. Raises DataError as `find_source` does, and for a path
    that is given twice.
    """
    if len(paths) == 1:
        return [(find_source(paths[0], out), out)]
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(f"{missing[0]} does not exist; give an image, a folder of images, or a video.")
    real = [path.resolve() for path in paths]
    if twice := [path for path, place in zip(paths, real, strict=True) if real.count(place) > 1]:
        raise DataError(f"{twice[0]} is given twice; give each image, folder and video once.")
    different = len({drawn_name(path.name) for path in paths}) == len(paths)
    if different and all(path.is_file() and is_image(path) for path in paths):
        return [(Images(paths, out), out)]
    return [(find_source(path, out / name), out / name) for path, name in zip(paths, folder_names(paths), strict=True)]


def folder_names(paths: list[Path]) -> list[str]:
    """Return a unique name of a results folder for each source: the name of the source without the suffix.

    If several sources have equal names, their paths below the common folder of all sources are used: x/cam.mp4 and y/cam.mp4
    get the names x_cam.mp4 and y_cam.mp4. Raises DataError if two of these longer names are equal, too.
    """
    full = [Path(os.path.abspath(path)) for path in paths]
    names = [path.name if path.is_dir() else path.stem for path in full]
    above = os.path.commonpath([path.parent for path in full])
    longer = ["_".join(path.relative_to(above).parts) for path in full]
    unique = [name if names.count(name) == 1 else long for name, long in zip(names, longer, strict=True)]
    for place, name in enumerate(unique):
        if name in unique[:place]:
            first = paths[unique.index(name)]
            raise DataError(
                f"{first} and {paths[place]} would both be written into a folder {name}; rename one, or give one at a time."
            )
    return unique


def is_image(path: Path) -> bool:
    """Return whether a file is a single image, by its suffix or its content; .gif does not count: it is often an animation."""
    return (path.suffix.lower() in PICTURES and path.suffix.lower() != ".gif") or looks_like_picture(path)


def find_source(path: Path, out: Path) -> "Images | Video":
    """Return the images or the video at a path. Raises DataError for any other path, or if `out` would overwrite the source."""
    if not path.exists():
        raise DataError(f"{path} does not exist; give an image, a folder of images, or a video.")
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if p.is_file()), key=lambda p: by_number(p.name))
        images = [p for p in files if p.suffix.lower() in PICTURES and not p.name.startswith("._")]
        if not images:
            raise DataError(f"{path} holds no image ({', '.join(PICTURES)}); give a folder of images, or a video by its name.")
        taken = set(images)
        if others := [p.name for p in files if p not in taken]:
            more = f" and {len(others) - 10} more" if len(others) > 10 else ""
            counted = f"{len(others)} file{'s' * (len(others) > 1)}"
            print(f"{counted} in {path} skipped, not an image: {', '.join(others[:10])}{more}")
        return Images(images, out)
    return Images([path], out) if is_image(path) else Video(path, out)


def by_number(name: str) -> tuple[list[str | int], str]:
    """Return a sort key of a name that sorts numbers in names by value: frame2 before frame10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def refuse_other_files(out: Path, drawn: list[str]) -> None:
    """Raise DataError if the folder `out` holds files that are not from an earlier run on this source.

    Such files would mix with the results: old drawings with new poses, for example. drawn: names of the files with drawings
    that a run on this source writes. Hidden files are ignored.
    """
    found = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    others = sorted(found - {*drawn, *TABLES}, key=by_number)
    if found and TABLES[0] not in found:
        others = sorted(found, key=by_number)
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise DataError(
            f"--out {out} holds files that are not from an earlier run on this source: {', '.join(others[:3])}{more}; "
            "give another folder, or empty this one."
        )


class Images:
    """A source of one or several images, in the given order. Unreadable images are skipped; `failed` lists their errors."""

    unit = "image"

    def __init__(self, paths: list[Path], out: Path) -> None:
        if any(out.resolve() == path.resolve().parent for path in paths):
            raise DataError(f"--out {out} is the folder of the images, which the drawings would replace; give another folder.")
        self.paths, self.count, self.failed = paths, len(paths), list[str]()
        self.drawn = [drawn_name(path.name) for path in paths]
        if len(set(self.drawn)) < len(paths):
            twice = next(name for name in self.drawn if self.drawn.count(name) > 1)
            raise DataError(
                f"the drawings of two images, such as one in {paths[0].parent}, would have the same name {twice}; rename one "
                "of them."
            )

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            try:
                yield Picture(path, None, None, read_upright(path))
            except DataError as error:
                self.failed.append(str(error))

    def copy(self, out: Path) -> "ImageFiles":
        """Return a writer that writes drawings of these images to the folder `out`."""
        return ImageFiles(out)


def drawn_name(name: str) -> str:
    """Return the file name of an image's drawing: the image's name, or, for suffixes not in DRAWN, with .png added."""
    return name if Path(name).suffix.lower() in DRAWN else f"{name}.png"


class ImageFiles:
    """A writer of drawings to image files, which are named by `drawn_name`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "ImageFiles":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Write the drawing `image`, (H, W, 3) uint8 RGB, to a file; the suffix of the file's name determines the format."""
        path = self.folder / drawn_name(picture.name)
        path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


class Video:
    """A source of the frames of a video, in order. After iteration, `failed` lists the errors of unreadable frames."""

    unit = "frame"

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self.paths, self.drawn = path, [path], [f"{path.stem}.mp4"]
        if (out / self.drawn[0]).resolve() == path.resolve():
            raise DataError(f"--out {out} is the folder of the video, which the drawn one would replace; give another folder.")
        reader = VideoReader(path)  # closed at once, because many open videos would need much memory
        self.count, self.rate, self.failed = reader.count, reader.rate, list[str]()
        reader.close()

    def __iter__(self) -> Iterator[Picture]:
        reader, number = VideoReader(self.path), -1
        self.failed = reader.failed
        for number, frame in enumerate(reader):
            yield Picture(self.path, number, frame.time, frame.pixels)
        self.count = number + 1 + reader.undecodable
        reader.close()

    def copy(self, out: Path) -> "VideoFile":
        """Return a writer that writes drawn frames to a video in the folder `out`."""
        return VideoFile(out / self.drawn[0], self.rate)


class VideoFile:
    """A writer of drawings as the frames of a video."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.writer = VideoWriter(path, rate)

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Write the drawing `image`, (H, W, 3) uint8 RGB, as the next frame, at the time of the picture."""
        self.writer.add(image, picture.time or 0.0)
