"""Poses in pictures: python -m tools.predict IMAGE|FOLDER|VIDEO [--model MODEL]

Draws the poses into copies of the images, or of the video, and writes poses.json and poses.csv beside them: x and y in
pixels of the image as it is shown (upright, where a camera noted how it was held), counted from 0 at the centre of its first
pixel; the confidence of each joint; and the time of a video's frame, in seconds since the video's start. Each image is taken
as a whole and should show one person, whose right side is drawn orange and the left blue.
"""

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.files import csv_text
from datasets.imaging.images import PICTURES, looks_like_picture, read_upright
from pipeline import config
from pipeline.tasks.compare import result_at
from stages.inference.video import VideoReader, VideoWriter
from stages.settings.sections import RUNTIMES
from tools import program

if TYPE_CHECKING:
    from stages.inference.predictor import PosePredictor, Poses

DRAWN = (".jpg", ".jpeg", ".png")  # kinds of pictures that are drawn as the same kind; others become PNG
TABLES = ("poses.json", "poses.csv")


@program
def main() -> int:
    """Predict and draw; returns the exit code: 1 where an image could not be read, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="an image, a folder of images, or a video")
    parser.add_argument(
        "--model", default="export", help="what PosePredictor.load takes: a folder, file or name; default: export"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=[], action="append", help="whose networks, as for python -m pipeline"
    )
    parser.add_argument(
        "--dataset", choices=DATASETS, default="", help="on which it was trained; for files that do not name their joints"
    )
    parser.add_argument("--out", type=Path, default=Path("poses"), help="folder of the results; default: poses")
    parser.add_argument("--threshold", type=float, default=0.2, help="least confidence of a joint that is drawn; default: 0.2")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image: twice as fast")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0], help="average over boxes so many times as large")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="what computes; default: torch")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="default: auto")
    parser.add_argument("--batch", type=int, default=8, help="images that are computed at a time; default: 8")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error("--batch should be 1 or more")
    for profile in options.config:
        config.use_profile(profile)
    try:
        return predict(options)
    except OSError as error:
        name = str(error.filename or options.out).removeprefix("file:")  # as the writer of videos calls it
        print(f"error: {name} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: what was done until now stands in {options.out}", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video."""

    name: str  # of the file
    frame: int | None  # from 0
    time: float | None  # of the frame, in s since the video's start
    pixels: np.ndarray  # (H, W, 3) uint8 RGB


def predict(options: argparse.Namespace) -> int:
    """What `main` does; returns the exit code. Raises DataError."""
    source = find_source(options.source, options.out)  # before PyTorch is loaded, which takes seconds
    refuse_other_files(options.out, source.drawn)
    from stages.inference.predictor import PosePredictor, find
    from stages.machine import memory

    memory.keep_big_blocks()
    exported = os.path.join(options.model, "export")  # of a whole run's folder, such as exp/demo
    network = find(result_at(exported if os.path.lexists(exported) else options.model))
    predictor = PosePredictor.load(network, options.runtime, options.device, dataset=options.dataset)
    print(f"network: {os.path.relpath(os.path.realpath(network))}, {len(predictor.joints)} joints at {predictor.resolution} px")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (*source.drawn, *TABLES):  # an earlier run's; where this one ends early, nothing of that stays beside it
        (options.out / name).unlink(missing_ok=True)
    drawn = draw_all(source, predictor, options)
    print(f"{drawn} of {source.count} {source.unit}s are drawn in {options.out}, with poses.json and poses.csv")
    for sentence in source.failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if source.failed else 0


def draw_all(source: "Images | Video", predictor: "PosePredictor", options: argparse.Namespace) -> int:
    """Predict and draw every picture, and write the tables; returns how many there were."""
    from datasets.imaging import draw
    from stages.machine.pool import in_order

    drawn, pictures = 0, iter(source)
    bar = tqdm(total=source.count, unit=source.unit, disable=not sys.stderr.isatty())

    def predicted(chunk: list[Picture]) -> tuple[list[Picture], "Poses"]:
        return chunk, predictor.predict([p.pixels for p in chunk], flip=not options.no_flip, sizes=options.sizes)

    def write(chunk: list[Picture], poses: "Poses") -> int:
        for picture, joints, confidence in zip(chunk, poses.joints, poses.confidence, strict=True):
            shown = np.where(confidence[:, None] >= options.threshold, joints, np.nan)
            drawings.add(picture, draw.draw_person(picture.pixels, shown, predictor.skeleton))
            table.add(picture, joints, confidence)
        return len(chunk)

    # A thread reads the next batch and one draws the last, each in order; both end before the files are closed.
    with (
        source.copy(options.out) as drawings,
        Table(options.out, predictor.joints) as table,
        bar,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        chunks = takewhile(len, in_order(reader, lambda: list(islice(pictures, options.batch)), repeat(()), 1))
        for count in in_order(writer, write, map(predicted, chunks), 1):
            drawn += count
            bar.update(count)
    return drawn


def find_source(path: Path, out: Path) -> "Images | Video":
    """The images or the video that a path means. Raises DataError for a path that is neither, or that `out` would overwrite."""
    if not path.exists():
        raise DataError(f"{path} is not there; give an image, a folder of images, or a video.")
    if path.is_dir():
        there = sorted((p for p in path.iterdir() if p.is_file()), key=lambda p: by_number(p.name))
        images = [p for p in there if p.suffix.lower() in PICTURES and not p.name.startswith("._")]
        if not images:
            raise DataError(f"{path} holds no image ({', '.join(PICTURES)}); give a folder of images, or a video by its name.")
        taken = set(images)
        if others := [p.name for p in there if p not in taken]:
            more = f" and {len(others) - 10} more" if len(others) > 10 else ""
            files = f"{len(others)} file{'s' * (len(others) > 1)}"
            print(f"{files} in {path} not read, being no image: {', '.join(others[:10])}{more}")
        return Images(images, out)
    is_image = path.suffix.lower() in PICTURES and path.suffix.lower() != ".gif"  # which as a rule moves
    return Images([path], out) if is_image or looks_like_picture(path) else Video(path, out)


def by_number(name: str) -> tuple[list[str | int], str]:
    """A key that puts frame2 before frame10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def refuse_other_files(out: Path, drawn: list[str]) -> None:
    """Raises DataError where a folder holds anything that does not come from an earlier run on the same source.

    What a run writes would stand among such files, and old drawings beside new poses. Hidden files are the system's.
    """
    there = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    others = sorted(there - {*drawn, *TABLES}, key=by_number)
    if there and TABLES[0] not in there:
        others = sorted(there, key=by_number)
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise DataError(
            f"--out {out} holds files that are not of an earlier run on this source: {', '.join(others[:3])}{more}; "
            "name another folder, or empty this one."
        )


class Images:
    """One image or several, in their order. What cannot be read is left out and told in `failed`."""

    unit = "image"

    def __init__(self, paths: list[Path], out: Path) -> None:
        if out.resolve() == paths[0].resolve().parent:
            raise DataError(f"--out {out} is where the images are, and the drawings would replace them; name another folder.")
        self.paths, self.count, self.failed = paths, len(paths), list[str]()
        self.drawn = [drawn_name(path.name) for path in paths]
        if len(set(self.drawn)) < len(paths):
            twice = next(name for name in self.drawn if self.drawn.count(name) > 1)
            raise DataError(f"two of the images in {paths[0].parent} would both be drawn as {twice}; rename one of them.")

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            try:
                yield Picture(path.name, None, None, read_upright(path))
            except DataError as error:
                self.failed.append(str(error))

    def copy(self, out: Path) -> "ImageFiles":
        """Where the drawings go."""
        return ImageFiles(out)


def drawn_name(name: str) -> str:
    """The name of an image's drawing; a kind that we do not write becomes a PNG, b.webp.png beside a b.png."""
    return name if Path(name).suffix.lower() in DRAWN else f"{name}.png"


class ImageFiles:
    """Drawings in files of their images' names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "ImageFiles":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Write an (H, W, 3) RGB image in the format that its name says."""
        path = self.folder / drawn_name(picture.name)
        path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


class Video:
    """The frames of a video, one after the other."""

    unit = "frame"

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self.drawn = path, [f"{path.stem}.mp4"]
        if (out / self.drawn[0]).resolve() == path.resolve():
            raise DataError(f"--out {out} is where the video is, and the drawn one would replace it; name another folder.")
        self.reader = VideoReader(path)
        self.count, self.failed = self.reader.count, self.reader.failed

    def __iter__(self) -> Iterator[Picture]:
        number = -1
        for number, frame in enumerate(self.reader):
            yield Picture(self.path.name, number, frame.time, frame.pixels)
        self.count = number + 1 + self.reader.undecodable
        self.reader.close()

    def copy(self, out: Path) -> "VideoFile":
        """Where the drawings go."""
        return VideoFile(out / self.drawn[0], self.reader.rate)


class VideoFile:
    """Drawings as a video."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.writer = VideoWriter(path, rate)

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Write an (H, W, 3) RGB image as the next frame."""
        self.writer.add(image, picture.time or 0.0)


class Table:
    """poses.json, a list of images or frames, and poses.csv, a row for each; whole as far as they got, where it is interrupted.

    Each line is on its way to the disk when it is written: a kill leaves poses.csv whole, and poses.json without its end.
    """

    def __init__(self, folder: Path, joints: tuple[str, ...]) -> None:
        self.joints = joints
        self.json = open(folder / "poses.json", "w", 1, encoding="utf-8")  # noqa: SIM115
        # The name of a file may be of any bytes: they come out as they are.
        self.csv = open(folder / "poses.csv", "w", 1, "utf-8", "surrogateescape", newline="")  # noqa: SIM115
        self.rows = csv.writer(self.csv)
        self.rows.writerow(
            ["image", "frame", "time", *(f"{joint}_{part}" for joint in joints for part in ("x", "y", "confidence"))]
        )
        self.json.write("[")
        self.between = "\n"

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self.json.write("\n]\n")
        self.json.close()
        self.csv.close()

    def add(self, picture: Picture, joints: np.ndarray, confidence: np.ndarray) -> None:
        """One person's joints (J, 2) and confidences (J,)."""
        height, width = picture.pixels.shape[:2]
        values = np.column_stack((joints, confidence)).round(3).tolist()
        time = None if picture.time is None else round(picture.time, 6)
        about = {"image": picture.name, "frame": picture.frame, "time": time, "width": width, "height": height}
        self.json.write(self.between + json.dumps(about | {"joints": dict(zip(self.joints, values, strict=True))}))
        self.between = ",\n"
        self.rows.writerow([csv_text(picture.name), picture.frame, time, *(number for joint in values for number in joint)])


if __name__ == "__main__":
    sys.exit(main())
