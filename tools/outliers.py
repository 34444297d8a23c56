"""Find frames on which a network is probably wrong: python -m tools.outliers IMAGE_FOLDER|VIDEO [--model MODEL]

The program chooses frames by several measures in turn: the lowest confidence, the largest jump of a joint between frames
(flicker), the largest difference from the prediction on the mirrored image, and with --second the largest difference between
the two networks' predictions. It writes these frames into images/, and the predictions as labels for you to correct:
labels.json (COCO keypoints, for CVAT and other programs) and, if sleap-io is installed, labels.slp (SLEAP). The corrected
labels can be used as a dataset of your own: see docs/own_data.md. Each image should show one person who fills most of it.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets.errors import DataError
from datasets.files import csv_text
from pipeline import config
from pipeline.tasks.compare import result_at
from stages.inference.pictures import Picture, find_source
from tools import program

if TYPE_CHECKING:
    from datasets.skeletons import Skeleton
    from stages.inference.predictor import PosePredictor

BATCH = 8
ACROSS = 6  # number of pictures per row of outliers.png


@dataclass(frozen=True)
class Predicted:
    """The names, sizes and predictions of all N frames; the pixels are not kept."""

    names: list[str]
    numbers: list[int | None]  # number of each frame in the video; None for image files
    size: np.ndarray  # (N, 2) px, width and height
    joints: np.ndarray  # (N, J, 2) px
    measures: dict[str, np.ndarray]  # name of a measure, such as flicker -> its values (N,)


@program
def main() -> int:
    """Write the frames, the labels, outliers.csv and outliers.png; return the exit code: 1 if a frame could not be read."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.outliers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a folder of images, or a video")
    parser.add_argument(
        "--model", default="export", help="folder, file or name of the network, as for tools.predict; default: export"
    )
    parser.add_argument(
        "--second", metavar="MODEL", help="a second network, whose predictions are compared with those of the first"
    )
    config.add_options(parser)
    parser.add_argument("--count", type=int, default=20, help="number of frames; default: 20")
    parser.add_argument(
        "--apart", type=int, default=5, help="smallest distance, in frames, between chosen frames of a video; default: 5"
    )
    parser.add_argument("--out", type=Path, default=Path("outliers"), help="folder of the results; default: outliers")
    options = parser.parse_args()
    config.use(options)
    if options.count < 1 or options.apart < 1:
        raise DataError(f"--count {options.count}, --apart {options.apart}: both should be at least 1.")
    try:
        return find_outliers(options)
    except OSError as error:
        raise DataError(f"{error.filename or options.out} cannot be written ({error.strerror}); give another folder.") from None


def find_outliers(options: argparse.Namespace) -> int:
    """Predict all frames, choose outliers and write the results; return the exit code.

    Raises DataError for a source, network or folder that cannot be used.
    """
    source = find_source(options.source, options.out)
    if options.out.exists() and any(options.out.iterdir()):
        raise DataError(f"--out {options.out} is not empty; give another folder, so that corrected labels are not replaced.")
    options.out.mkdir(parents=True, exist_ok=True)  # create the folder before the long work, so that errors appear at once
    from stages.inference import outliers
    from stages.inference.predictor import PosePredictor

    networks = [PosePredictor.load(result_at(name)) for name in (options.model, options.second) if name]
    found = predict_all(tqdm(source, "predicting", source.count, disable=not sys.stderr.isatty()), networks)
    is_video = found.numbers[0] is not None
    measures = found.measures if is_video else {name: m for name, m in found.measures.items() if name != "flicker"}
    chosen = outliers.choose(measures, options.count, options.apart if is_video else 1)
    again = find_source(options.source, options.out)
    write(options.out, again, found, chosen, networks[0].skeleton)
    print(f"{len(chosen)} of {len(found.names)} frames are in {options.out}, with labels to correct in labels.json")
    for sentence in source.failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if source.failed else 0


def predict_all(pictures: Iterable[Picture], networks: "list[PosePredictor]") -> Predicted:
    """Return the first network's predictions and, for each frame, the measures by which outliers are found.

    Raises DataError if no frame could be read.
    """
    from stages.inference import outliers

    first = networks[0]
    names, numbers, size, joints, confidence, mirror, second = list[str](), list[int | None](), [], [], [], [], []
    mirrored = first.skeleton.mirrored()
    ours, theirs = outliers.common(first.joints, networks[-1].joints)
    if not ours:
        raise DataError("the two networks have no joint in common, so they cannot be compared.")
    stream = iter(pictures)
    while chunk := list(islice(stream, BATCH)):
        images = [picture.pixels for picture in chunk]
        width, height = (np.array([image.shape[axis] for image in images], float) for axis in (1, 0))
        found, plain = first.predict(images), first.predict(images, flip=False)
        reflected = first.predict([np.ascontiguousarray(image[:, ::-1]) for image in images], flip=False)
        longer = np.maximum(width, height)
        mirror.append(outliers.disagreement(plain.joints, outliers.mirrored_back(reflected.joints, width, mirrored), longer))
        if len(networks) > 1:
            other = networks[1].predict(images)
            second.append(outliers.disagreement(found.joints[:, ours], other.joints[:, theirs], longer))
        names += [picture.name for picture in chunk]
        numbers += [picture.frame for picture in chunk]
        size.append(np.column_stack((width, height)))
        joints.append(found.joints)
        confidence.append(found.confidence)
    if not names:
        raise DataError("no frame could be read.")
    sizes, points = np.concatenate(size), np.concatenate(joints)
    measures = {
        "unsure": outliers.unsure(np.concatenate(confidence)),
        "flicker": outliers.flicker(points, sizes.max(axis=1)),
        "mirror": np.concatenate(mirror),
    } | ({"second": np.concatenate(second)} if second else {})
    return Predicted(names, numbers, sizes, points, measures)


def write(out: Path, source: Iterable[Picture], found: Predicted, chosen: list[tuple[int, str]], skeleton: "Skeleton") -> None:
    """Write the chosen frames, their predictions as labels, a table of all frames, and a picture of the chosen frames.

    chosen: pairs of a frame's index and the name of the measure for which the frame was chosen.
    """
    from datasets.formats import labelling
    from datasets.formats.annotations import framed_by_joints
    from datasets.formats.coco import write_coco
    from datasets.imaging import draw

    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    reasons, pictures, images = dict(chosen), dict[int, np.ndarray](), dict[int, str]()
    for frame, picture in enumerate(source):
        if frame in reasons:
            stem, number = labelling.plain_name(Path(picture.name).stem), picture.frame
            images[frame] = f"{stem}-{number:06d}.png" if number is not None else f"{frame:06d}-{stem}.png"
            labelling.write_png(folder / images[frame], picture.pixels)
            pictures[frame] = draw.draw_person(picture.pixels, found.joints[frame], skeleton)
    frames = sorted(images)
    joints = found.joints[frames]
    rows = framed_by_joints([images[frame] for frame in frames], joints, np.ones(joints.shape[:2], bool))
    sizes = {images[frame]: (int(found.size[frame, 0]), int(found.size[frame, 1])) for frame in frames}
    write_coco(out / "labels.json", rows, skeleton.joints, skeleton.limbs, sizes, "Predictions to correct.")
    try:
        labelling.write_slp(
            out / "labels.slp", [folder / name for name in rows.images], list(range(len(rows))), list(rows.part), skeleton
        )
    except DataError as error:
        print(f"labels.slp is not written: {error}")
    table = pd.DataFrame({"image": [csv_text(name) for name in found.names], "frame": found.numbers} | found.measures)
    table["chosen for"] = [reasons.get(frame, "") for frame in range(len(table))]
    table.round(4).to_csv(out / "outliers.csv", index=False)
    shown = [frame for frame, _ in chosen if frame in pictures]
    lines = [shown[start : start + ACROSS] for start in range(0, len(shown), ACROSS)]
    titles = [", ".join(f"{frame}: {reasons[frame]}" for frame in line) for line in lines]
    draw.write_png(out / "outliers.png", draw.contact_sheet([[pictures[frame] for frame in line] for line in lines], titles))


if __name__ == "__main__":
    sys.exit(main())
