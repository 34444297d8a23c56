"""Poses in pictures: python -m tools.predict IMAGE|FOLDER|VIDEO [--model MODEL]

Draws the poses into copies of the images, or of the video, and writes poses.json and poses.csv beside them: x and y in
pixels of the image as it is shown (upright, where a camera noted how it was held), counted from 0 at the centre of its first
pixel, and the confidence of each joint. Each image is taken as a whole and should show one person, whose right side is drawn
orange and the left blue.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from datasets.errors import DataError
from datasets.images import read_upright
from pipeline import config
from pipeline.compare import result_at
from stages import draw, memory
from stages.predictor import PosePredictor
from stages.runtimes import RUNTIMES
from tools import program

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


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
        print(f"error: {error.filename or options.out} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: what was done until now stands in {options.out}", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video."""

    name: str  # of the file
    frame: int | None  # from 0
    pixels: np.ndarray  # (H, W, 3) uint8 RGB


def predict(options: argparse.Namespace) -> int:
    """What `main` does; returns the exit code. Raises DataError."""
    is_video = options.source.suffix.lower() in VIDEOS and not options.source.is_dir()
    source: Video | Images = (Video if is_video else Images)(options.source, options.out)
    memory.keep_big_blocks()
    predictor = PosePredictor.load(result_at(options.model), options.runtime, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    drawn, pictures = 0, iter(source)
    bar = tqdm(total=source.count, unit=source.unit, disable=not sys.stderr.isatty())
    with source.copy(options.out) as drawings, Table(options.out, predictor.joints) as table, bar:
        while chunk := list(islice(pictures, options.batch)):
            poses = predictor.predict([p.pixels for p in chunk], flip=not options.no_flip, sizes=options.sizes)
            for picture, joints, confidence in zip(chunk, poses.joints, poses.confidence, strict=True):
                shown = np.where(confidence[:, None] >= options.threshold, joints, np.nan)
                drawings.add(picture.name, draw.draw_person(picture.pixels, shown, predictor.skeleton))
                table.add(picture, joints, confidence)
            drawn += len(chunk)
            bar.update(len(chunk))
    print(f"{drawn} of {source.count} {source.unit}s are drawn in {options.out}, with poses.json and poses.csv")
    for sentence in source.failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if source.failed else 0


class Images:
    """One image or those of a folder, by name. What cannot be read is left out and told in `failed`."""

    unit = "image"

    def __init__(self, path: Path, out: Path) -> None:
        if path.is_dir():
            self.paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES and p.is_file())
            if not self.paths:
                raise DataError(f"{path} holds no image ({', '.join(IMAGES)}); give a folder of images.")
        elif path.exists():
            self.paths = [path]
        else:
            raise DataError(f"{path} is not there; give an image, a folder of images, or a video.")
        if out.resolve() == self.paths[0].resolve().parent:
            raise DataError(f"--out {out} is where the images are, and the drawings would replace them; name another folder.")
        self.count, self.failed = len(self.paths), list[str]()

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            try:
                yield Picture(path.name, None, read_upright(path))
            except DataError as error:
                self.failed.append(str(error))

    def copy(self, out: Path) -> "ImageFiles":
        """Where the drawings go."""
        return ImageFiles(out)


class ImageFiles:
    """Drawings in files of their images' names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "ImageFiles":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: str, image: np.ndarray) -> None:
        """An (H, W, 3) RGB image, in the format that the name says."""
        suffix = Path(name).suffix if Path(name).suffix.lower() in IMAGES else ".png"
        path = (self.folder / name).with_suffix(suffix)
        path.write_bytes(cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


class Video:
    """The frames of a video, one after the other."""

    unit = "frame"

    def __init__(self, path: Path, out: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path} is not there; give an image, a folder of images, or a video.")
        self.path, self.failed = path, list[str]()
        self.capture = cv2.VideoCapture(str(path))
        read, first = self.capture.read()
        if not read:
            raise DataError(f"{path} cannot be read as a video; it may be damaged, or of a kind that OpenCV cannot read.")
        self.first, self.size = first, (first.shape[1], first.shape[0])
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.count = max(1, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # as the file says
        if self.target(out).resolve() == path.resolve():
            raise DataError(f"--out {out} is where the video is, and the drawn one would replace it; name another folder.")

    def __iter__(self) -> Iterator[Picture]:
        frame, number, read = self.first, 0, True
        while read:
            yield Picture(self.path.name, number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            read, frame = self.capture.read()
            number += 1
        if number < self.count:
            self.failed.append(f"{self.path} ends after {number} of {self.count} frames; it may be damaged.")
        self.count = max(self.count, number)  # some kinds of video only estimate it

    def target(self, out: Path) -> Path:
        return out / f"{self.path.stem}.mp4"

    def copy(self, out: Path) -> "VideoFile":
        """Where the drawings go."""
        return VideoFile(self.target(out), self.rate, self.size)


class VideoFile:
    """Drawings as a video (MPEG-4), which can be played also where its making is interrupted."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self.writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self.writer.isOpened():
            raise DataError(f"{path} cannot be written as a video; choose another folder with --out.")

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.release()

    def add(self, _: str, image: np.ndarray) -> None:
        """The next frame (H, W, 3) RGB."""
        self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


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
        self.rows.writerow(["image", "frame", *(f"{joint}_{part}" for joint in joints for part in ("x", "y", "confidence"))])
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
        about = {"image": picture.name, "frame": picture.frame, "width": width, "height": height}
        self.json.write(self.between + json.dumps(about | {"joints": dict(zip(self.joints, values, strict=True))}))
        self.between = ",\n"
        self.rows.writerow([picture.name, picture.frame, *(number for joint in values for number in joint)])


if __name__ == "__main__":
    sys.exit(main())
