"""Predict poses in images and videos: python -m tools.predict IMAGE|FOLDER|VIDEO ... [--model MODEL]

The program draws the poses into copies of the images or of the video, and writes poses.json and poses.csv. These files contain
x and y of each joint in px of the upright image (rotated by its EXIF orientation), with 0 at the centre of the first pixel; the
confidence of each joint; and the time of a video's frame in seconds since the video's start. A person's right side is
drawn in orange, the left side in blue.

Without --boxes and --detector, each image should show one person who fills most of it. With --boxes or --detector, images may
show any number of people; each person of a video is numbered, and keeps this number if the person's boxes in successive frames
overlap. Given several sources, the program writes a subfolder of --out for each source.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import islice, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.formats.boxes import read_boxes
from pipeline import config
from pipeline.tasks.compare import result_at
from stages.inference.given_boxes import GivenBoxes
from stages.inference.pictures import (
    TABLES,
    ImageFiles,
    Images,
    Picture,
    Video,
    VideoFile,
    find_sources,
    refuse_other_files,
)
from stages.inference.pose_tables import Table
from stages.settings.sections import RUNTIMES
from tools import program

if TYPE_CHECKING:
    from datasets.skeletons import Skeleton
    from stages.inference.predictor import PosePredictor, Poses

ALSO = {"slp": "poses.slp", "nwb": "poses.nwb", "deeplabcut": "poses_deeplabcut.csv"}
NEEDS = {"slp": "sleap_io", "nwb": "ndx_pose"}  # format -> module that it needs; pip install sleap-io installs both
Boxes = Callable[[Picture], np.ndarray]  # the boxes (P, 4) of the people in a picture: left, top, right, bottom in 0-based px


@program
def main() -> int:
    """Read the options, predict and draw; return the exit code: 1 if an image could not be read, 130 after an interruption."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="+", help="an image, a folder of images, or a video")
    parser.add_argument(
        "--model", default="export", help="folder of an export or of a training, or file of a network; default: export"
    )
    config.add_options(parser)
    parser.add_argument(
        "--dataset", choices=DATASETS, default="", help="dataset of the training, for network files without joint names"
    )
    parser.add_argument("--out", type=Path, default=Path("poses"), help="folder of the results; default: poses")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="people's boxes: .csv with image,left,top,right,bottom[,frame], or COCO .json",
    )
    parser.add_argument(
        "--detector", type=Path, metavar="FILE", help="an .onnx network that detects people; see docs/predicting.md"
    )
    parser.add_argument("--detector-score", type=float, default=0.5, help="smallest score of a person; default: 0.5")
    parser.add_argument("--detector-label", type=int, help="the detector's class of people; default: all classes")
    parser.add_argument(
        "--also",
        choices=ALSO,
        nargs="+",
        default=[],
        help="also write the poses for SLEAP, as NWB (of videos), or for DeepLabCut",
    )
    parser.add_argument("--smooth", action="store_true", help="smooth the joints of people in videos (One Euro filter)")
    parser.add_argument("--threshold", type=float, default=0.2, help="smallest confidence of a drawn joint; default: 0.2")
    parser.add_argument("--no-flip", action="store_true", help="leave out the prediction on the mirrored image: twice as fast")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0], help="average over boxes enlarged by these factors")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="runtime of the network; default: torch")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="default: auto")
    parser.add_argument("--batch", type=int, default=8, help="images per batch; default: 8")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error("--batch must be at least 1")
    if options.boxes and options.detector:
        parser.error("give --boxes or --detector, not both")
    config.use(options)
    try:
        return predict(options)
    except OSError as error:
        # The video writer puts the prefix "file:" before file names; the message leaves this prefix out.
        name = str(error.filename or options.out).removeprefix("file:")
        print(f"error: {name} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        so_far = f": the results so far are in {options.out}" if options.out.is_dir() else ""
        print(f"interrupted{so_far}", file=sys.stderr)
        return 130


def predict(options: argparse.Namespace) -> int:
    """Predict and draw all sources; return the exit code. Raises DataError for an unusable source, network or output folder."""
    sources = find_sources(options.source, options.out)  # check the options before PyTorch is loaded, which takes seconds
    for source, out in sources:
        refuse_other_files(out, [*source.drawn, *ALSO.values()])
        if "nwb" in options.also and isinstance(source, Images):
            raise DataError("--also nwb: NWB files are of videos; give a video, or another format.")
    for kind in options.also:
        if kind in NEEDS and not find_spec(NEEDS[kind]):  # report this before predicting, which may take hours
            raise DataError(f"--also {kind} needs {NEEDS[kind]}, which is not installed; run: pip install sleap-io")
    if options.smooth and not any(isinstance(source, Video) for source, _ in sources):
        raise DataError("--smooth is for videos, and no source is one; leave it out.")
    given = None
    if options.boxes:
        found = read_boxes(options.boxes, options.detector_score, options.detector_label)
        given = GivenBoxes(found, [source for source, _ in sources])
        print(f"boxes: {len(found)} people in {options.boxes}")
    boxes = given.of if given else _detector(options)
    from stages.inference.predictor import PosePredictor, find
    from stages.machine import memory

    memory.keep_big_blocks()
    exported = os.path.join(options.model, "export")  # --model may be the folder of a complete run, such as exp/demo
    network = find(result_at(exported if os.path.lexists(exported) else options.model))
    predictor = PosePredictor.load(network, options.runtime, options.device, dataset=options.dataset)
    print(f"network: {os.path.relpath(os.path.realpath(network))}, {len(predictor.joints)} joints at {predictor.resolution} px")
    failed = []
    for source, out in sources:
        out.mkdir(parents=True, exist_ok=True)
        # Remove the files of an earlier run first, so that none remain if this run ends early.
        for name in (*source.drawn, *TABLES, *ALSO.values()):
            (out / name).unlink(missing_ok=True)
        drawn = draw_all(source, out, predictor, boxes, options)
        for kind in options.also:
            _write_also(out / ALSO[kind], source, out, predictor)
        print(f"{drawn} of {source.count} {source.unit}s are drawn in {out}, with poses.json and poses.csv")
        failed += source.failed
    if given:
        failed += given.failed + given.unused()
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if failed else 0


def _detector(options: argparse.Namespace) -> Boxes | None:
    """Return a function that detects people in a picture; None without --detector. Raises DataError for an invalid detector."""
    if not options.detector:
        return None
    from stages.inference.detector import Detector

    detector = Detector(options.detector, options.detector_score, options.detector_label)
    return lambda picture: detector.detect(picture.pixels)


def _write_also(path: Path, source: "Images | Video", out: Path, predictor: "PosePredictor") -> None:
    """Write the poses of poses.csv to `path`, whose file name selects the format (see `ALSO`).

    Raises DataError if a package that the format needs, such as sleap-io, is not installed.
    """
    import pandas as pd

    from datasets.files import csv_cell
    from datasets.formats import labelling
    from datasets.formats.nwb import write_nwb

    table = pd.read_csv(
        out / "poses.csv",
        dtype={"image": str},
        keep_default_na=False,
        na_values={"frame": "", "time": ""},
        encoding_errors="surrogateescape",
    )
    values = table.iloc[:, 4:].to_numpy(np.float64).reshape(len(table), len(predictor.joints), 3)
    preds, confidence, people = values[..., :2], values[..., 2], table["person"].astype(int).tolist()
    if isinstance(source, Video) and path.name == ALSO["nwb"]:
        times = table["time"].to_numpy(np.float64)
        write_nwb(path, source.path, times, preds, confidence, np.array(people), predictor.skeleton)
        return
    names = [csv_cell(name) for name in table["image"].astype(str)]
    numbers = {image.name: number for number, image in enumerate(source.paths)}
    frames = table["frame"].astype(int).tolist() if isinstance(source, Video) else [numbers[name] for name in names]
    if path.name == ALSO["deeplabcut"]:
        keys = frames if isinstance(source, Video) else names
        labelling.write_deeplabcut(path, "pose-workspace", keys, preds, confidence, predictor.joints, people)
    elif isinstance(source, Video):
        labelling.write_slp(path, source.path, frames, list(preds), predictor.skeleton, list(confidence), people)
    else:
        labelling.write_slp(path, source.paths, frames, list(preds), predictor.skeleton, list(confidence))


def draw_all(
    source: "Images | Video", out: Path, predictor: "PosePredictor", boxes: Boxes | None, options: argparse.Namespace
) -> int:
    """Predict and draw every picture of a source, and write the tables; return the number of drawn pictures."""
    from stages.machine.pool import in_order

    drawn, pictures = 0, iter(source)
    bar = tqdm(total=source.count, unit=source.unit, disable=not sys.stderr.isatty())

    def predicted(chunk: list[Picture]) -> tuple[list[Picture], list[np.ndarray] | None, "Poses"]:
        around = [boxes(picture) for picture in chunk] if boxes else None
        found = predictor.predict(
            [p.pixels for p in chunk], boxes=around, flip=not options.no_flip, sizes=options.sizes, batch=options.batch
        )
        return chunk, around, found

    # One thread reads the next batch while another thread draws the previous batch; the batches stay in order. The threads
    # end before the files are closed.
    with (
        source.copy(out) as drawings,
        Table(out, predictor.joints) as table,
        bar,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        people = People(source, drawings, table, predictor.skeleton, options)
        chunks = takewhile(len, in_order(reader, lambda: list(islice(pictures, options.batch)), repeat(()), 1))
        for count in in_order(writer, people.write, map(predicted, chunks), 1):
            drawn += count
            bar.update(count)
    return drawn


class People:
    """Numbers the people in the pictures of a source, smooths their joints, draws them, and writes them to the tables."""

    def __init__(
        self,
        source: "Images | Video",
        drawings: ImageFiles | VideoFile,
        table: Table,
        skeleton: "Skeleton",
        options: argparse.Namespace,
    ) -> None:
        from stages.inference.tracks import Smoother, Tracker

        self.drawings, self.table, self.skeleton, self.threshold = drawings, table, skeleton, options.threshold
        self.tracker = Tracker() if isinstance(source, Video) else None
        self.smoother = Smoother(float(source.rate)) if isinstance(source, Video) and options.smooth else None

    def write(self, pictures: list[Picture], around: list[np.ndarray] | None, poses: "Poses") -> int:
        """Draw and write a batch; return the number of pictures in the batch.

        around: for each picture, the boxes (P, 4) of its people; None if each whole picture is the box of one person.
        """
        from datasets.imaging import draw

        for place, picture in enumerate(pictures):
            of_picture, image = poses.image == place, picture.pixels
            boxes = self._whole(picture) if around is None else around[place]
            numbers = self.tracker.update(boxes) if self.tracker else list(range(len(boxes)))
            for number, box, joints, confidence in zip(
                numbers, boxes, poses.joints[of_picture], poses.confidence[of_picture], strict=True
            ):
                if self.smoother:
                    joints = self.smoother.smooth(number, joints, picture.time or 0.0, max(box[2:] - box[:2]))
                shown = np.where(confidence[:, None] >= self.threshold, joints, np.nan)
                image = draw.draw_person(image, shown, self.skeleton)
                if around is not None:
                    image = draw.draw_box(image, box, number)
                self.table.add(picture, number, joints, confidence)
            if self.smoother and self.tracker:
                self.smoother.keep(self.tracker.known())
            self.drawings.add(picture, image)
        return len(pictures)

    def _whole(self, picture: Picture) -> np.ndarray:
        height, width = picture.pixels.shape[:2]
        return np.array([[0.0, 0.0, width, height]])


if __name__ == "__main__":
    sys.exit(main())
