"""Predict poses in images and videos: python -m tools.predict IMAGE|FOLDER|VIDEO ... [--model MODEL]

Draws the poses into copies of the images or of the video, and writes poses.json and poses.csv: x and y of each joint in px of
the upright image (rotated by its EXIF orientation), with 0 at the centre of the first pixel; the confidence of each joint; and
the time of a video's frame in seconds since the video's start. A person's right side is drawn in orange, the left side in blue.

Without --boxes and --detector, each image should show one person who fills most of it. With one of these options, images may
show any number of people; in a video, people whose boxes overlap from frame to frame keep their number. Given several sources,
the program writes a subfolder of --out for each source.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat, takewhile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.formats.boxes import Key, read_boxes
from pipeline import config
from pipeline.tasks.compare import result_at
from stages.inference.pictures import TABLES, Images, Picture, Video, find_sources, refuse_other_files
from stages.inference.pose_tables import Table
from stages.settings.sections import RUNTIMES
from tools import program

if TYPE_CHECKING:
    from stages.inference.predictor import PosePredictor, Poses

ALSO = {"slp": "poses.slp", "nwb": "poses.nwb", "deeplabcut": "poses_deeplabcut.csv"}
Boxes = Callable[[Picture], np.ndarray]  # the boxes (P, 4) of the people in a picture: left, top, right, bottom in 0-based px


@program
def main() -> int:
    """Read the options, predict and draw; return the exit code: 1 if an image could not be read, 130 after an interruption."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="+", help="an image, a folder of images, or a video")
    parser.add_argument("--model", default="export", help="folder, file or name for PosePredictor.load; default: export")
    config.add_options(parser)
    parser.add_argument(
        "--dataset", choices=DATASETS, default="", help="dataset of the training, for files that do not name their joints"
    )
    parser.add_argument("--out", type=Path, default=Path("poses"), help="folder of the results; default: poses")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="people's boxes: .csv with image,left,top,right,bottom[,frame], or COCO .json",
    )
    parser.add_argument("--detector", type=Path, metavar="FILE", help="an .onnx network that finds people; docs/predicting.md")
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
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image: twice as fast")
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
        name = str(error.filename or options.out).removeprefix("file:")  # a prefix of the video writer
        print(f"error: {name} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: the results so far are in {options.out}", file=sys.stderr)
        return 130


def predict(options: argparse.Namespace) -> int:
    """Predict and draw all sources; return the exit code. Raises DataError for an unusable source, network or output folder."""
    sources = find_sources(options.source, options.out)  # before PyTorch is loaded, which takes seconds
    for source, out in sources:
        refuse_other_files(out, [*source.drawn, *ALSO.values()])
        if "nwb" in options.also and isinstance(source, Images):
            raise DataError("--also nwb: NWB files are of videos; give a video, or another format.")
    given = read_boxes(options.boxes) if options.boxes else {}
    boxes = _boxes(options, sources, given)
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
        for name in (
            *source.drawn,
            *TABLES,
            *ALSO.values(),
        ):  # remove an earlier run's files, so that none remain if this run ends early
            (out / name).unlink(missing_ok=True)
        drawn = draw_all(source, out, predictor, boxes, options)
        for kind in options.also:
            _write_also(out / ALSO[kind], source, out, predictor)
        print(f"{drawn} of {source.count} {source.unit}s are drawn in {out}, with poses.json and poses.csv")
        failed += source.failed
    if given:
        name, frame = next(iter(given))
        where = f"{name}{'' if frame is None else f', frame {frame}'}"
        failed.append(f"{options.boxes} has boxes of {len(given)} images or frames that were not read, such as {where}.")
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if failed else 0


def _boxes(
    options: argparse.Namespace, sources: "list[tuple[Images | Video, Path]]", given: dict[Key, np.ndarray]
) -> Boxes | None:
    """Return a function that returns the boxes of a picture; None without --boxes and --detector.

    given: the boxes in the file of --boxes. The function removes the boxes that it returns from `given`, so that only boxes of
    pictures that were not read remain. Raises DataError if the file names an image or video that is not among the sources.
    """
    if options.detector:
        from stages.inference.detector import Detector

        detector = Detector(options.detector, options.detector_score, options.detector_label)
        return lambda picture: detector.detect(picture.pixels)
    if not options.boxes:
        return None
    names = {name for source, _ in sources for name in source.names}
    found = {(PurePath(name).name, frame): boxes for (name, frame), boxes in given.items()}
    if others := sorted({name for name, _ in found} - names):
        raise DataError(f"{options.boxes} has boxes of {others[0]}, which is none of the images or videos; correct the file.")
    given.clear()
    given.update(found)
    return lambda picture: given.pop((picture.name, picture.frame), np.empty((0, 4)))


def _write_also(path: Path, source: "Images | Video", out: Path, predictor: "PosePredictor") -> None:
    """Write the poses of poses.csv in the format that the name of `path` means (`ALSO`).

    Raises DataError if a package that the format needs, such as sleap-io, is not installed.
    """
    import pandas as pd

    from datasets.files import csv_cell
    from datasets.formats import labelling
    from datasets.formats.nwb import write_nwb

    table = pd.read_csv(
        out / "poses.csv", keep_default_na=False, na_values={"frame": "", "time": ""}, encoding_errors="surrogateescape"
    )
    values = table.iloc[:, 4:].to_numpy(np.float64).reshape(len(table), len(predictor.joints), 3)
    preds, confidence, people = values[..., :2], values[..., 2], table["person"].astype(int).tolist()
    if isinstance(source, Video) and path.name == ALSO["nwb"]:
        times = table["time"].to_numpy(np.float64)
        write_nwb(path, source.path, times, preds, confidence, np.array(people), predictor.skeleton)
        return
    names = [csv_cell(name) for name in table["image"].astype(str)]
    frames = table["frame"].astype(int).tolist() if isinstance(source, Video) else [source.names.index(name) for name in names]
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
    from datasets.imaging import draw
    from stages.inference.tracks import Smoother, Tracker
    from stages.machine.pool import in_order

    drawn, pictures, tracker = 0, iter(source), Tracker()
    smoother = Smoother(source.rate) if options.smooth and isinstance(source, Video) else None
    bar = tqdm(total=source.count, unit=source.unit, disable=not sys.stderr.isatty())

    def predicted(chunk: list[Picture]) -> tuple[list[Picture], list[np.ndarray] | None, "Poses"]:
        around = [boxes(picture) for picture in chunk] if boxes else None
        found = predictor.predict(
            [p.pixels for p in chunk], boxes=around, flip=not options.no_flip, sizes=options.sizes, batch=options.batch
        )
        return chunk, around, found

    def write(chunk: list[Picture], around: list[np.ndarray] | None, poses: "Poses") -> int:
        for place, picture in enumerate(chunk):
            rows, image = np.flatnonzero(poses.image == place), picture.pixels
            numbers = list(range(len(rows)))
            if around is not None and isinstance(source, Video):
                numbers = tracker.update(around[place])
            for at, (row, number) in enumerate(zip(rows, numbers, strict=True)):
                joints, confidence = poses.joints[row], poses.confidence[row]
                if smoother:
                    joints = smoother.smooth(number, joints, picture.time or 0.0)
                shown = np.where(confidence[:, None] >= options.threshold, joints, np.nan)
                if around is not None:
                    image = draw.draw_box(image, around[place][at], number)
                image = draw.draw_person(image, shown, predictor.skeleton)
                table.add(picture, number, joints, confidence)
            drawings.add(picture, image)
        return len(chunk)

    # One thread reads the next batch while another thread draws the previous batch, both in order. The threads end before the
    # files are closed.
    with (
        source.copy(out) as drawings,
        Table(out, predictor.joints) as table,
        bar,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        chunks = takewhile(len, in_order(reader, lambda: list(islice(pictures, options.batch)), repeat(()), 1))
        for count in in_order(writer, write, map(predicted, chunks), 1):
            drawn += count
            bar.update(count)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
