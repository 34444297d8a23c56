"""Print PCKh of predictions for MPII's validation people, as published tables: python -m tools.score TRUTH [PREDICTIONS ...]

TRUTH is detections_our_format.mat, which is published with several hourglass ports (pos_gt_src, jnt_missing, headboxes_src;
its own predictions pos_pred_src are shown first). PREDICTIONS are .mat, .h5, .npy or .json files for the people of TRUTH in
their order, such as preds_valid.mat of an evaluation. A file holds an array `preds` with the axes people, 16 joints, x and y
(and confidence) in any order, MPII's annolist structs, or a list of people with keypoints. The tool prints the layout that it
recognised. Coordinates are 1-based px of the original images; keypoints in .json are 0-based.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from tools import program

PARTS = ("head_top", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
CURVE = [k / 100 for k in range(51)]  # the thresholds of MPII's own evaluation


@program
def main() -> None:
    """Score the predictions and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", type=Path, metavar="TRUTH")
    parser.add_argument("predictions", type=Path, nargs="*", metavar="PREDICTIONS")
    options = parser.parse_args()
    print_tables(options.truth, options.predictions)


def print_tables(path: Path, predictions: list[Path]) -> None:
    """Print a table for each file of predictions: a row for each threshold, and a row of mean errors in px."""
    from tabulate import tabulate

    from datasets.formats.matlab import read_mat
    from datasets.mpii import MPII
    from stages.evaluation import metrics
    from stages.evaluation.prediction_files import arranged, read_predictions

    content = read_mat(path, "pos_gt_src", "jnt_missing", "headboxes_src", "pos_pred_src")
    found = {name: _numbers(value, path, name) for name, value in content.items()}
    people = found["jnt_missing"].shape[-1]
    for name, shape in {"pos_gt_src": (16, 2), "jnt_missing": (16,), "headboxes_src": (2, 2)}.items():
        if found[name].shape != (*shape, people):
            raise DataError(f"{path}: {name} is of shape {found[name].shape}, expected {(*shape, people)}.")
    truth = found["pos_gt_src"].transpose(2, 0, 1).copy()
    truth[found["jnt_missing"].T != 0] = np.nan
    head = 0.6 * np.linalg.norm(found["headboxes_src"][1] - found["headboxes_src"][0], axis=0)
    files = {path: arranged(path, "pos_pred_src", found["pos_pred_src"], people)}
    files |= {file: read_predictions(file, people) for file in predictions}
    for file, (preds, layout) in files.items():
        pck, curve = (metrics.Pck(t, 16, metrics.pckh_joints(MPII.skeleton)) for t in (metrics.PCKH_THRESHOLDS, CURVE))
        for one in (pck, curve):
            one.update(preds, truth, head)
        result = pck.result()
        parts = metrics.by_part(result.joints, MPII.skeleton.joints)
        columns = [100 * rates for rates in (*(parts[part] for part in PARTS), result.mean, result.total)]
        rows = [[f"@{t:g}", *row] for t, row in zip(result.thresholds, np.stack(columns, axis=1), strict=True)]
        pixels = metrics.by_part(result.pixels, MPII.skeleton.joints)
        rows.append(["mean error, px", *(pixels[part] for part in PARTS), None, result.mean_pixels])
        names = [part.removesuffix("_top") for part in PARTS]
        print(f"{file}: {layout}")
        print(f"{people} people, area under the curve of the total to 0.5: {100 * curve.result().auc():.2f}\n")
        print(tabulate(rows, ["PCKh", *names, "mean", "total"], floatfmt=".2f"), end="\n\n")


def _numbers(value: object, path: Path, name: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} does not hold numbers; give detections_our_format.mat.")
    return value.astype(np.float64)


if __name__ == "__main__":
    sys.exit(main())
