"""Print PCKh of predictions for MPII's validation people, as in published tables: python -m tools.score TRUTH [PREDICTIONS ...]

TRUTH is detections_our_format.mat, which is published with several reimplementations of the hourglass network. The fields
pos_gt_src, jnt_missing and headboxes_src of this file are the labels, and the field pos_pred_src contains predictions, which
are scored first. PREDICTIONS are .mat, .h5, .npy or .json files for the people of TRUTH in TRUTH's order, such as
preds_valid.mat of an evaluation. A file contains either an array `preds`, whose axes are people, joints (16) and coordinates
(x, y and perhaps confidence) in any order, or MPII's annolist structs, or a list of people with keypoints. The tool
prints the layout that it recognised. Coordinates are 1-based px of the original images; only keypoints in .json are 0-based.

--people valid.h5 scores only the people in this annotation file (such as exp/mpii/annot/valid.h5). Use it if your network was
evaluated on only some of the validation people; then published predictions are scored on only these people, too. --people
needs --order, the published valid.h5, which lists the people of TRUTH. Each file of PREDICTIONS contains either all people of
TRUTH, in the order of TRUTH, or the people of --people, in the order of --people.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from tools import program

PARTS = ("head_top", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
CURVE = [k / 100 for k in range(51)]  # thresholds of the PCKh curve, as in MPII's evaluation program


@program
def main() -> None:
    """Read the options, score the predictions and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", type=Path, metavar="TRUTH")
    parser.add_argument("predictions", type=Path, nargs="*", metavar="PREDICTIONS")
    parser.add_argument("--people", type=Path, metavar="VALID.H5", help="score only the people in this annotation file")
    parser.add_argument(
        "--order", type=Path, metavar="VALID.H5", help="the published valid.h5, which lists the people of TRUTH in order"
    )
    options = parser.parse_args()
    if bool(options.people) != bool(options.order):
        parser.error("give --people and --order together")
    chosen = people_of(options.order, options.people) if options.people else None
    print_tables(options.truth, options.predictions, chosen)


@dataclass(frozen=True)
class Chosen:
    """The people of TRUTH that are scored."""

    rows: np.ndarray  # (N,) int64, rows of these people in TRUTH
    of: int  # number of people in the file of --order; must equal the number of people in TRUTH
    image: np.ndarray  # (N,) int64, number of each person's image; people of one image are not independent samples


def people_of(order: Path, people: Path) -> Chosen:
    """Return the row in the file `order` of each person in the file `people`, matched by image and number in the image.

    Raises DataError if a file cannot be read or a person of `people` is not in `order`.
    """
    from datasets.formats import annotations
    from stages.evaluation.stored import rows_in

    every, some = (annotations.read(path.parent, path.stem) for path in (order, people))
    return Chosen(rows_in(every, some, order, people), len(every), np.unique(some.images, return_inverse=True)[1])


def print_tables(path: Path, predictions: list[Path], chosen: Chosen | None = None) -> None:
    """Print a table for each file of predictions: a row for each threshold, and a row of mean errors in px.

    chosen: the people to score; None for all. If `chosen` is given, also print 95 % intervals of the mean PCKh@0.5, and test
    the last file against each other file; intervals and tests resample images.
    """
    from tabulate import tabulate

    from datasets.formats.matlab import read_mat
    from datasets.mpii import MPII
    from stages.evaluation import metrics
    from stages.evaluation.measures import joints_in_mean, known_joints
    from stages.evaluation.prediction_files import arranged

    content = read_mat(path, "pos_gt_src", "jnt_missing", "headboxes_src", "pos_pred_src")
    found = {name: _numbers(value, path, name) for name, value in content.items()}
    people = found["jnt_missing"].shape[-1]
    for name, shape in {"pos_gt_src": (16, 2), "jnt_missing": (16,), "headboxes_src": (2, 2)}.items():
        if found[name].shape != (*shape, people):
            raise DataError(f"{path}: {name} is of shape {found[name].shape}, expected {(*shape, people)}.")
    truth = found["pos_gt_src"].transpose(2, 0, 1).copy()
    truth[found["jnt_missing"].T != 0] = np.nan
    head = 0.6 * np.linalg.norm(found["headboxes_src"][1] - found["headboxes_src"][0], axis=0)
    if chosen and chosen.of != people:
        raise DataError(f"{path} has {people} people, but --order {chosen.of}; give the valid.h5 that belongs to TRUTH.")
    rows = chosen.rows if chosen else np.arange(people)
    # If --people lists all people in another order than TRUTH, it would be unclear which order PREDICTIONS has.
    if len(rows) == people and (rows != np.arange(people)).any():
        raise DataError("--people contains all people of TRUTH in another order than TRUTH; leave --people and --order out.")
    files = {path: arranged(path, "pos_pred_src", found["pos_pred_src"], people)}
    files |= {file: _read(file, people, len(rows)) for file in predictions}
    truth, head = truth[rows], head[rows]
    files = {file: (preds if len(preds) == len(rows) else preds[rows], layout) for file, (preds, layout) in files.items()}
    for file, (preds, layout) in files.items():
        # As in EvaluateMpii, a joint that is predicted for nobody is left out of the mean.
        in_mean = joints_in_mean(preds, MPII.skeleton)
        pck, curve = (metrics.Pck(t, 16, in_mean) for t in (metrics.PCKH_THRESHOLDS, CURVE))
        for one in (pck, curve):
            one.update(preds, truth, head)
        result = pck.result()
        parts = metrics.by_part(result.joints, MPII.skeleton.joints)
        columns = [100 * rates for rates in (*(parts[part] for part in PARTS), result.mean, result.total)]
        lines = [[f"@{t:g}", *row] for t, row in zip(result.thresholds, np.stack(columns, axis=1), strict=True)]
        pixels = metrics.by_part(result.pixels, MPII.skeleton.joints)
        lines.append(["mean error, px", *(pixels[part] for part in PARTS), None, result.mean_pixels])
        names = [part.removesuffix("_top") for part in PARTS]
        print(f"{file}: {layout}")
        known = set(known_joints(preds).tolist())
        if missing := [name for joint, name in enumerate(MPII.skeleton.joints) if joint not in known]:
            print(f"not predicted, and left out of the mean: {', '.join(missing)}")
        print(f"{len(rows)} people, area under the total's PCKh curve up to threshold 0.5: {100 * curve.result().auc():.2f}\n")
        print(tabulate(lines, ["PCKh", *names, "mean", "total"], floatfmt=".2f"), end="\n\n")
    if chosen:
        distances = {file: np.linalg.norm(preds - truth, axis=2) for file, (preds, _) in files.items()}
        labelled = ~np.isnan(truth).any(axis=2)
        missed = {file: np.where(labelled & np.isnan(distance), np.inf, distance) for file, distance in distances.items()}
        counted = {file: joints_in_mean(preds, MPII.skeleton) for file, (preds, _) in files.items()}
        _print_tests(missed, counted, head, chosen.image)


def _read(file: Path, people: int, chosen: int) -> tuple[np.ndarray, str]:
    """Return a file's predictions and their layout. Raises DataError for an invalid file.

    people: number of people in TRUTH; chosen: number of chosen people. The file contains predictions for all
    people of TRUTH or for only the chosen people.
    """
    from stages.evaluation.prediction_files import read_predictions

    try:
        return read_predictions(file, people)
    except DataError:
        if chosen == people:
            raise
    return read_predictions(file, chosen)


def _print_tests(distances: dict[Path, np.ndarray], in_mean: dict[Path, list[int]], head: np.ndarray,
                 image: np.ndarray) -> None:  # fmt: skip
    """Print the mean PCKh@0.5 of each file with its 95 % interval, and test the last file against each other file.

    Two files are compared on the joints that count in the means of both. distances: (N, 16) px, NaN for a joint without label,
    infinite for a joint that was not found; in_mean: the joints that count in the mean of each file; head: (N,) head sizes in
    px; image: (N,) number of each person's image.
    """
    from tabulate import tabulate

    from stages.evaluation.significance import Hits, difference, hits_by_group, interval

    def hits(file: Path, joints: set[int]) -> Hits:
        counted = np.isin(np.arange(16), list(joints))
        return hits_by_group(distances[file], head, 0.5, image, counted, "mean")

    last, lines = list(distances)[-1], []
    for file in distances:
        one, common = hits(file, set(in_mean[file])), set(in_mean[file]) & set(in_mean[last])
        found = [100 * one.rate(), *(100 * end for end in interval(one))]
        if file != last:
            than = difference(hits(file, common), hits(last, common))
            found += [100 * than.value, 100 * than.low, 100 * than.high, than.p]
        lines.append([file, *found])
    print(f"Mean PCKh@0.5 with 95 % intervals over images, and the difference {last} minus each of the other files:\n")
    print(tabulate(lines, ["file", "mean", "from", "to", "difference", "from", "to", "p"], floatfmt=("", *[".2f"] * 6, ".4f")))


def _numbers(value: object, path: Path, name: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} does not hold numbers; give detections_our_format.mat.")
    return value.astype(np.float64)


if __name__ == "__main__":
    sys.exit(main())
