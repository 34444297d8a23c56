"""Write a converted dataset as COCO keypoints: python -m tools.export_coco DATASET [--split SPLIT] [--predictions MODEL]

The file names images below the dataset's folder of images, which is printed. mmpose and other programs train on both. With
--predictions, the joints that a network predicted are written as COCO results, for pycocotools' evaluation and other programs.
"""

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from datasets.catalog import DATASETS
from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from pipeline import config
from pipeline.engine.stage import Stage
from pipeline.tasks.evaluate import MODELS, evaluation
from pipeline.tasks.prepare import converted, files_of
from tools import program

SPLITS = ("train", "valid", "test")
Finished = TypeVar("Finished", bound=Stage)


@program
def main() -> None:
    """Write the file and print where it and the images are."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_coco", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or NAME of a section [dataset:NAME]")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="default: valid")
    parser.add_argument(
        "--predictions", choices=MODELS, metavar="MODEL", help=f"write the predictions of a network: {', '.join(MODELS)}"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: DATASET-SPLIT.json, or DATASET-SPLIT-MODEL.json")
    config.add_options(parser)
    options = parser.parse_args()
    config.use(options)
    name = "-".join(filter(None, (options.dataset, options.split, options.predictions)))
    out = options.out or Path(f"{name}.json")
    try:
        if options.predictions:
            export_predictions(options.dataset, options.split, options.predictions, out)
        else:
            export(options.dataset, options.split, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); give another file with --out.") from None


def export(name: str, split: str, out: Path) -> None:
    """Write the labels of a split. Raises DataError if the dataset is not converted or an image is damaged."""
    from PIL import Image

    from datasets.formats.coco import write_coco

    data = _files(name)
    rows, sizes = data.split(split), {}
    for image in dict.fromkeys(rows.images):
        try:
            with Image.open(data.images / image) as opened:
                sizes[image] = opened.size
        except OSError as error:
            raise DataError(f"the image {data.images / image} cannot be read ({error}); fetch the dataset again.") from None
    about = f"{data.dataset.title}, {split}. {data.dataset.origin.terms}"
    write_coco(out, rows, data.skeleton.joints, data.skeleton.limbs, sizes, about)
    print(f"{len(rows)} people on {len(sizes)} images are in {out}; the images are in {data.images}")


def export_predictions(name: str, split: str, model: str, out: Path) -> None:
    """Write the predictions of an evaluation. Raises DataError if the evaluation has not been run, or not on the split."""
    import h5py

    from datasets.formats.coco import write_coco_results

    stage = _finished(evaluation(name, model))
    source = stage.folder / f"preds_{split}.h5"
    if not source.is_file():
        raise DataError(f"{stage.name} has no predictions of {split}; it scores {', '.join(stage.splits())}.")
    with h5py.File(source) as file:
        preds, confidence = file["preds"][()] - 1, file["confidence"][()]  # the file counts pixels from 1
    write_coco_results(out, _files(name).split(split), preds, confidence)
    print(f"the predictions of {stage.name} for {len(preds)} people are in {out}")


def _files(name: str) -> DatasetFiles:
    """Return the converted files of a dataset. Raises DataError if it is not converted."""
    dataset = config.dataset(name)
    return files_of(dataset, {key: _finished(stage).folder for key, stage in converted(dataset).items()})


def _finished(stage: Finished) -> Finished:
    """Return a stage. Raises DataError if it has no result."""
    if not stage.manifest():
        raise DataError(f"{stage.folder} is missing; make it with: {config.command('run ' + stage.name)}")
    return stage


if __name__ == "__main__":
    sys.exit(main())
