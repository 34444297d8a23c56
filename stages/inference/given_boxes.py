"""Assign boxes of people, read from a file, to the pictures in which poses are predicted."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.boxes import Box
from stages.inference.pictures import Images, Picture, Video


class GivenBoxes:
    """Boxes of people from a file, by picture. After prediction, `failed` has a message for each box outside of its picture."""

    def __init__(self, boxes: Iterable[Box], sources: "Sequence[Images | Video]") -> None:
        """Assign each box to an image or a video of the sources.

        `Box.image` is a file name, preceded by folders if several files have this name. For COCO results, it is the
        `image_id`: the file name without suffix, or the number at the end of this name, so that 42 means
        000000000042.jpg. Raises DataError for a name that fits no file or several files, for two names that fit one file, for
        a box in a video without a frame number, and for a box in an image with a frame number.
        """
        self.failed = list[str]()
        videos = {source.path for source in sources if isinstance(source, Video)}
        files = _Files(path for source in sources for path in source.paths)
        self._boxes = defaultdict[tuple[Path, int | None], list[Box]](list)
        for box in boxes:
            path = files.find(box)
            if path in videos and box.frame is None:
                raise DataError(f"{box.where} gives no frame of the video {path}; give a .csv with the column frame, from 0.")
            if path not in videos and box.frame is not None:
                raise DataError(f"{box.where} gives frame {box.frame} of the image {path}; leave the column frame empty.")
            self._boxes[path, box.frame].append(box)

    def of(self, picture: Picture) -> np.ndarray:
        """Return the boxes of a picture, (P, 4) float64, in the order of the file: left, top, right, bottom in 0-based px.

        Boxes outside of the picture are left out and reported in `failed`. Call this method only once for each picture: a
        second call returns no boxes.
        """
        height, width = picture.pixels.shape[:2]
        inside = []
        for box in self._boxes.pop((picture.path, picture.frame), ()):
            left, top, right, bottom = box.corners
            if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
                self.failed.append(
                    f"{box.where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies outside of {picture.path}"
                    f" of {width} x {height} px and was skipped; correct or remove it."
                )
            else:
                inside.append(box.corners)
        return np.array(inside, dtype=np.float64).reshape(-1, 4)

    def unused(self) -> list[str]:
        """Return a message for each video that lacks frames for which boxes were given.

        Call this method after the last picture.
        """
        left = defaultdict[Path, list[Box]](list)
        for (path, frame), boxes in self._boxes.items():
            if frame is not None:  # an image that cannot be read is reported by its source (`pictures.Images`), not here
                left[path] += boxes
        return [
            f"{boxes[0].where}: {path} has no frame {boxes[0].frame} that can be read, so {len(boxes)} of its boxes "
            f"{'was' if len(boxes) == 1 else 'were'} not used; correct or remove {'it' if len(boxes) == 1 else 'them'}."
            for path, boxes in left.items()
        ]


class _Files:
    """An index of the images and videos to which boxes may belong, by file name."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._by_name, self._by_id = defaultdict[str, list[Path]](list), defaultdict[str, list[Path]](list)
        self._by_stem = defaultdict[str, list[Path]](list)
        for path in paths:
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)
            if number := re.search(r"[0-9]+$", path.stem):
                self._by_id[str(int(number[0]))].append(path)
        self._found, self._names = dict[str, Path](), dict[Path, str]()

    def find(self, box: Box) -> Path:
        """Return the path of the image that a box belongs to. Raises DataError as `GivenBoxes.__init__` does."""
        if box.image not in self._found:
            path = self._fitting(box)
            if path in self._names:
                raise DataError(
                    f"{box.where}: {box.image} and {self._names[path]} both match {path}, the only file of this name among the "
                    "images and videos; add the other file to the command, or remove the boxes of one of the two."
                )
            self._found[box.image], self._names[path] = path, box.image
        return self._found[box.image]

    def _fitting(self, box: Box) -> Path:
        parts = re.split(r"[/\\]", box.image)
        paths = self._by_name.get(parts[-1]) or self._by_stem.get(box.image) or self._by_id.get(box.image)
        if not paths:
            raise DataError(
                f"{box.where}: {box.image} is none of the images and videos that are predicted; correct the name, or give this"
                " image or video, too."
            )
        shared = [_shared(parts, os.path.abspath(path).split(os.sep)) for path in paths]
        best = [path for path, length in zip(paths, shared, strict=True) if length == max(shared)]
        if len(best) > 1:
            raise DataError(f"{box.where}: {box.image} may be {best[0]} or {best[1]}; name its folder, too: FOLDER/NAME.")
        return best[0]


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many parts two paths have in common, counted from the ends of the paths."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
