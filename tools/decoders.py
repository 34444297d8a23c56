"""Measure the effect of decoders, flip test and scales: python -m tools.decoders NETWORK ANNOTATIONS IMAGES

NETWORK is a .safetensors file, ANNOTATIONS is the folder with train.h5, valid.h5 and test.h5, and IMAGES is the folder of the
images. Example: exp/demo/mpii/hg-64/best.safetensors exp/demo/mpii/annot exp/demo/mpii/raw/images. For every decoder, the
program prints three rows of accuracies in per cent: without flip test, with flip test, and with flip test and several scales.
"""

import argparse
import sys
from pathlib import Path

from datasets.errors import DataError
from datasets.links import follow
from pipeline import config
from tools import program


@program
def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.decoders", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path, metavar="NETWORK")
    parser.add_argument("annotations", type=Path, metavar="ANNOTATIONS")
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--split", default="valid", choices=["train", "valid", "test"], help="default: valid")
    parser.add_argument(
        "--scales", default="1 0.85 1.15", help="factors of the box size for the rows with several scales; default: %(default)s"
    )
    config.add_options(parser)
    options = parser.parse_args()
    config.use(options)
    network, annotations, images = (follow(path) for path in (options.network, options.annotations, options.images))
    print_table(network, annotations, images, options.split, options.scales)


def print_table(model: Path, annotations: Path, images: Path, split: str, scales: str) -> None:
    """Score the network in the file `model` on a split, and print the table.

    For each setting of flip and scales, one pass over the images computes the heatmaps for all decoders.
    """
    import numpy as np
    from tabulate import tabulate
    from tqdm import tqdm

    from datasets.dataset import DatasetFiles
    from datasets.formats.hdf5 import open_h5
    from datasets.imaging.heatmaps import DECODERS
    from datasets.skeletons import matching_joints, mirrored
    from stages.evaluation.evaluate import BATCH, Predictions, heatmaps_of
    from stages.evaluation.measures import score
    from stages.loading.loader import PoseDataset
    from stages.network.checkpoints import load_network
    from stages.settings.sections import Evaluation, Input, Workspace

    with open_h5(annotations / f"{split}.h5") as file:
        name = str(file.attrs.get("name", ""))
    known = config.datasets()
    if name not in known:
        raise DataError(
            f"{annotations / split}.h5 has the dataset name {name!r}, expected one of {', '.join(known)}; give the annotation "
            "files of this workspace, and by --config the profile with the section of your own dataset."
        )
    data = DatasetFiles(known[name], annotations, images)
    network, description = load_network(model)
    samples, people = PoseDataset(data, split, Input(resolution=description.resolution)), data.people(split)
    if np.isnan(people.rows.part).all():
        raise DataError(f"{annotations / split}.h5 has no labels; choose another --split.")
    channels = matching_joints(description.joints, data.skeleton.joints)
    rows = []
    for flip, boxes in ((False, "1"), (True, "1"), (True, scales)):
        evaluation = Evaluation(flip_test=flip, test_scales=boxes, precision="auto")
        found = {decoder: Predictions(samples, channels, decoder) for decoder in reversed(DECODERS)}
        stream = heatmaps_of(network, samples, mirrored(description.joints), evaluation, Workspace())
        bar = tqdm(stream, f"scales {boxes}", -(-len(samples) // BATCH), leave=False, disable=not sys.stderr.isatty())
        for batch, maps in bar:
            for predictions in found.values():
                predictions.add(batch, maps.numpy())
        for decoder, predictions in found.items():
            rates = [metrics.value for metrics in score(people, predictions.preds, data.dataset).values()]
            rows.append([decoder, "yes" if flip else "no", boxes, *(np.nan if r is None else 100 * r for r in rates)])
    print(f"{name} {split}: {len(people.rows)} people, {model}\n")
    print(tabulate(rows, ["decoder", "flip", "scales", *(measure.name for measure in data.dataset.measures)], floatfmt=".2f"))


if __name__ == "__main__":
    sys.exit(main())
