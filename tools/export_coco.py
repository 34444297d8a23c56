"""Write a converted dataset as COCO keypoints: python -m tools.export_coco DATASET [--split SPLIT]

The file names images below the dataset's folder of images, which is printed. mmpose and other programs train on both.
"""

import argparse
import sys
from pathlib import Path

from datasets.catalog import DATASETS
from datasets.errors import DataError
from pipeline import config
from pipeline.tasks.prepare import converted, files_of
from tools import program

SPLITS = ("train", "valid", "test")


@program
def main() -> None:
    """Write the file and print where it and the images are."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_coco", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--split", choices=SPLITS, default="valid", help="default: valid")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: DATASET-SPLIT.json")
    config.add_options(parser)
    options = parser.parse_args()
    config.use(options)
    export(options.dataset, options.split, options.out or Path(f"{options.dataset}-{options.split}.json"))


def export(name: str, split: str, out: Path) -> None:
    """Write a split. Raises DataError where the dataset is not converted, an image is damaged, or `out` cannot be written."""
    from PIL import Image

    from datasets.formats.coco import write_coco

    dataset = DATASETS[name]
    stages = converted(dataset)
    for stage in stages.values():
        if not stage.manifest():
            raise DataError(f"{stage.folder} is missing; make it with: {config.command('run ' + stage.name)}")
    data = files_of(dataset, {key: stage.folder for key, stage in stages.items()})
    rows, sizes = data.split(split), {}
    for image in dict.fromkeys(rows.images):
        try:
            with Image.open(data.images / image) as opened:
                sizes[image] = opened.size
        except OSError as error:
            raise DataError(f"the image {data.images / image} cannot be read ({error}); fetch the dataset again.") from None
    try:
        about = f"{dataset.title}, {split}. {dataset.origin.terms}"
        write_coco(out, rows, data.skeleton.joints, data.skeleton.limbs, sizes, about)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); give another file with --out.") from None
    print(f"{len(rows)} people on {len(sizes)} images are in {out}; the images are in {data.images}")


if __name__ == "__main__":
    sys.exit(main())
