"""Write the labels of a converted dataset for other programs: python -m tools.export_labels DATASET [--out FILE]

The suffix of FILE selects the format: .json for COCO keypoints, .slp for a SLEAP project. In the file, paths of images are
relative to the dataset's folder of images, which is printed. With --predictions, a network's predictions are written instead of
the labels. The formats of predictions are .json for COCO results (for the evaluation by pycocotools), .slp, and .csv for
DeepLabCut's table of predictions.
"""

import argparse
import sys
from pathlib import Path

from datasets.catalog import DATASETS
from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats.annotations import Annotations
from pipeline import config
from pipeline.engine.stage import Stage
from pipeline.tasks.evaluate import MODELS, evaluation
from pipeline.tasks.prepare import converted, files_of
from tools import program

SPLITS = ("train", "valid", "test")


@program
def main() -> None:
    """Read the options, write the file, and print the paths of the file and the images."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or NAME of a section [dataset:NAME]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="default: valid")
    parser.add_argument(
        "--predictions", choices=MODELS, metavar="MODEL", help=f"write the predictions of a network: {', '.join(MODELS)}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file, ending in .json, .slp or .csv; default: labels/DATASET-SPLIT.json, or labels/DATASET-SPLIT-MODEL.json",
    )
    config.add_options(parser)
    options = parser.parse_args()
    config.use(options)
    name = "-".join(filter(None, (options.dataset, options.split, options.predictions)))
    if options.out and options.out.exists():
        raise DataError(f"--out {options.out} exists and may contain your labels; give another name, or delete the file.")
    out = options.out or Path("labels", f"{name}.json")
    legal = (".json", ".slp", ".csv") if options.predictions else (".json", ".slp")
    if out.suffix.lower() not in legal:
        raise DataError(
            f"--out {out}: the name should end in {' or '.join(legal)}{'' if options.predictions else ' for labels'}."
        )
    try:
        if not options.out:
            out.parent.mkdir(exist_ok=True)
        if options.predictions:
            export_predictions(options.dataset, options.split, options.predictions, out)
        else:
            export(options.dataset, options.split, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); give another file with --out.") from None


def export(name: str, split: str, out: Path) -> None:
    """Write the labels of a split to a file. Raises DataError if the dataset is not converted or an image is damaged."""
    from datasets.formats import labelling
    from datasets.formats.coco import write_coco

    data = _files(name)
    rows = data.split(split)
    if out.suffix.lower() == ".slp":
        labelling.write_slp(out, *_frames(data, rows), list(rows.part), data.skeleton)
        print(f"{len(rows)} people on {len(set(rows.images))} images are in {out}; the images are in {data.images}")
        return
    sizes = _sizes(data.images, rows.images)
    about = f"{data.dataset.title}, {split}. {data.dataset.origin.terms}"
    write_coco(out, rows, data.skeleton.joints, data.skeleton.limbs, sizes, about)
    print(f"{len(rows)} people on {len(sizes)} images are in {out}; the images are in {data.images}")


def export_predictions(name: str, split: str, model: str, out: Path) -> None:
    """Write the predictions of an evaluation to a file.

    Raises DataError if the evaluation has not been run, or does not include the split.
    """
    import h5py

    from datasets.formats import labelling
    from datasets.formats.coco import write_coco_results

    stage = evaluation(name, model)
    source = _require_result(stage) / f"preds_{split}.h5"
    if not source.is_file():
        raise DataError(f"{stage.name} has no predictions of {split}; it scores {', '.join(stage.splits())}.")
    with h5py.File(source) as file:
        preds, confidence = file["preds"][()] - 1, file["confidence"][()]  # the evaluation's file counts pixels from 1
    data = _files(name)
    rows = data.split(split)
    if out.suffix.lower() == ".slp":
        labelling.write_slp(out, *_frames(data, rows), list(preds), data.skeleton, list(confidence))
    elif out.suffix.lower() == ".csv":
        numbers = labelling.numbers_within(rows.images)
        labelling.write_deeplabcut(out, stage.name, rows.images, preds, confidence, data.skeleton.joints, numbers)
    else:
        write_coco_results(out, rows, preds, confidence)
    print(f"the predictions of {stage.name} for {len(preds)} people are in {out}")


def _frames(data: DatasetFiles, rows: Annotations) -> tuple[list[Path], list[int]]:
    """Return the image files without duplicates, and for each person the index of the person's image in this list."""
    places = {image: place for place, image in enumerate(dict.fromkeys(rows.images))}
    return [data.images / image for image in places], [places[image] for image in rows.images]


def _sizes(folder: Path, images: list[str]) -> dict[str, tuple[int, int]]:
    """Return image -> (width, height) px. Raises DataError for an image that cannot be read."""
    from PIL import Image

    sizes = {}
    for image in dict.fromkeys(images):
        try:
            with Image.open(folder / image) as opened:
                sizes[image] = opened.size
        except OSError as error:
            raise DataError(f"the image {folder / image} cannot be read ({error}); fetch the dataset again.") from None
    return sizes


def _files(name: str) -> DatasetFiles:
    """Return the converted files of a dataset. Raises DataError if the dataset is not converted yet."""
    dataset = config.dataset(name)
    return files_of(dataset, {key: _require_result(stage) for key, stage in converted(dataset).items()})


def _require_result(stage: Stage) -> Path:
    """Return the folder of a stage's result. Raises DataError if the stage has no result."""
    if not stage.complete():  # `complete` also updates symlinks to images
        raise DataError(f"{stage.folder} is missing; make it with: {config.command('run ' + stage.name)}")
    return stage.folder


if __name__ == "__main__":
    sys.exit(main())
