"""Predict poses in images and videos: python -m tools.predict IMAGE|FOLDER|VIDEO [--model MODEL]

Draws the poses into copies of the images or of the video, and writes poses.json and poses.csv: x and y of each joint in px of
the upright image (rotated by its EXIF orientation), with 0 at the centre of the first pixel; the confidence of each joint; and
the time of a video's frame in seconds since the video's start. Each image should show one person who fills most of it. The
person's right side is drawn in orange, the left side in blue.
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

DRAWN = (".jpg", ".jpeg", ".png")  # formats that are kept for drawings; other formats become PNG
TABLES = ("poses.json", "poses.csv")


@program
def main() -> int:
    """Predict and draw; returns the exit code: 1 if an image could not be read, 130 after an interruption."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="an image, a folder of images, or a video")
    parser.add_argument("--model", default="export", help="folder, file or name for PosePredictor.load; default: export")
    config.add_options(parser)
    parser.add_argument(
        "--dataset", choices=DATASETS, default="", help="dataset of the training, for files that do not name their joints"
    )
    parser.add_argument("--out", type=Path, default=Path("poses"), help="folder of the results; default: poses")
    parser.add_argument("--threshold", type=float, default=0.2, help="smallest confidence of a drawn joint; default: 0.2")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image: twice as fast")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0], help="average over boxes enlarged by these factors")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="runtime of the network; default: torch")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="default: auto")
    parser.add_argument("--batch", type=int, default=8, help="images per batch; default: 8")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error("--batch must be at least 1")
    config.use(options)
    try:
        return predict(options)
    except OSError as error:
        name = str(error.filename or options.out).removeprefix("file:")  # a prefix of the video writer
        print(f"error: {name} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: the results so far are in {options.out}", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video."""

    name: str  # of the file
    frame: int | None  # from 0
    time: float | None  # of the frame, in s since the video's start
    pixels: np.ndarray  # (H, W, 3) uint8 RGB


def predict(options: argparse.Namespace) -> int:
    """Predict and draw; returns the exit code. Raises DataError for an invalid source, network or output folder."""
    source = find_source(options.source, options.out)  # before PyTorch is loaded, which takes seconds
    refuse_other_files(options.out, source.drawn)
    from stages.inference.predictor import PosePredictor, find
    from stages.machine import memory

    memory.keep_big_blocks()
    exported = os.path.join(options.model, "export")  # --model may be the folder of a complete run, such as exp/demo
    network = find(result_at(exported if os.path.lexists(exported) else options.model))
    predictor = PosePredictor.load(network, options.runtime, options.device, dataset=options.dataset)
    print(f"network: {os.path.relpath(os.path.realpath(network))}, {len(predictor.joints)} joints at {predictor.resolution} px")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (*source.drawn, *TABLES):  # remove an earlier run's files, so that none remain if this run ends early
        (options.out / name).unlink(missing_ok=True)
    drawn = draw_all(source, predictor, options)
    print(f"{drawn} of {source.count} {source.unit}s are drawn in {options.out}, with poses.json and poses.csv")
    for sentence in source.failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if source.failed else 0


def draw_all(source: "Images | Video", predictor: "PosePredictor", options: argparse.Namespace) -> int:
    """Predict and draw every picture, and write the tables; returns the number of drawn pictures."""
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

    # One thread reads the next batch, another draws the previous batch, both in order; they end before the files are closed.
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
    is_image = path.suffix.lower() in PICTURES and path.suffix.lower() != ".gif"  # a GIF is usually an animation
    return Images([path], out) if is_image or looks_like_picture(path) else Video(path, out)


def by_number(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that puts frame2 before frame10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def refuse_other_files(out: Path, drawn: list[str]) -> None:
    """Raise DataError if a folder holds files that are not from an earlier run on this source.

    Otherwise results would mix with other files, or old drawings with new poses. Hidden files are ignored.
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
    """One image or several, in order. Unreadable images are skipped, and their errors are appended to `failed`."""

    unit = "image"

    def __init__(self, paths: list[Path], out: Path) -> None:
        if out.resolve() == paths[0].resolve().parent:
            raise DataError(f"--out {out} is the folder of the images, which the drawings would replace; give another folder.")
        self.paths, self.count, self.failed = paths, len(paths), list[str]()
        self.drawn = [drawn_name(path.name) for path in paths]
        if len(set(self.drawn)) < len(paths):
            twice = next(name for name in self.drawn if self.drawn.count(name) > 1)
            raise DataError(f"two images in {paths[0].parent} would both be drawn as {twice}; rename one of them.")

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            try:
                yield Picture(path.name, None, None, read_upright(path))
            except DataError as error:
                self.failed.append(str(error))

    def copy(self, out: Path) -> "ImageFiles":
        """Return the writer of the drawings."""
        return ImageFiles(out)


def drawn_name(name: str) -> str:
    """Return the file name of an image's drawing; unsupported formats become PNG with a longer name, such as b.webp.png."""
    return name if Path(name).suffix.lower() in DRAWN else f"{name}.png"


class ImageFiles:
    """Writes drawings to files with the names of their images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "ImageFiles":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Write an (H, W, 3) RGB image in the format of its file name."""
        path = self.folder / drawn_name(picture.name)
        path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


class Video:
    """The frames of a video in order; afterwards `failed` lists the errors."""

    unit = "frame"

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self.drawn = path, [f"{path.stem}.mp4"]
        if (out / self.drawn[0]).resolve() == path.resolve():
            raise DataError(f"--out {out} is the folder of the video, which the drawn one would replace; give another folder.")
        self.reader = VideoReader(path)
        self.count, self.failed = self.reader.count, self.reader.failed

    def __iter__(self) -> Iterator[Picture]:
        number = -1
        for number, frame in enumerate(self.reader):
            yield Picture(self.path.name, number, frame.time, frame.pixels)
        self.count = number + 1 + self.reader.undecodable
        self.reader.close()

    def copy(self, out: Path) -> "VideoFile":
        """Return the writer of the drawings."""
        return VideoFile(out / self.drawn[0], self.reader.rate)


class VideoFile:
    """Writes drawings as a video."""

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
    """Writes poses.json, a list of images or frames, and poses.csv, a row for each; both are valid after an interruption.

    The files are line-buffered: after a kill, poses.csv is complete so far, and poses.json lacks its closing bracket.
    """

    def __init__(self, folder: Path, joints: tuple[str, ...]) -> None:
        self.joints = joints
        self.json = open(folder / "poses.json", "w", 1, encoding="utf-8")  # noqa: SIM115
        # A file name may contain any bytes; surrogateescape writes them unchanged.
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
        """Write one person's joints (J, 2) in px and confidences (J,)."""
        height, width = picture.pixels.shape[:2]
        values = np.column_stack((joints, confidence)).round(3).tolist()
        time = None if picture.time is None else round(picture.time, 6)
        about = {"image": picture.name, "frame": picture.frame, "time": time, "width": width, "height": height}
        self.json.write(self.between + json.dumps(about | {"joints": dict(zip(self.joints, values, strict=True))}))
        self.between = ",\n"
        self.rows.writerow([csv_text(picture.name), picture.frame, time, *(number for joint in values for number in joint)])


if __name__ == "__main__":
    sys.exit(main())
