"""Read and write accuracy.json, the results of an evaluation; only this module reads or writes the file."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.files import write_atomically

NAME = "accuracy.json"
Rate = float | None  # a hit rate in [0, 1]; None if there is no joint to score


class MeasureMetrics(BaseModel):
    """The results on one split, scored by one measure (`datasets.measures.Measure`)."""

    model_config = ConfigDict(extra="forbid")

    threshold: float  # largest distance of a hit, as a fraction of the reference length
    overall: Literal["mean", "total"]  # which of the fields `mean` and `total` is copied to `value`
    value: Rate  # the kind of hit rate that the dataset's owners report: `mean` or `total`, see `overall`
    visible: Rate  # `value`, computed from the visible joints only
    mean: Rate  # hit rate averaged over the joints listed in `in_mean`
    total: Rate  # number of hits / number of labels, of all joints listed in `in_mean`
    auc: Rate  # area under the curve of `total` from threshold 0 to `threshold`, divided by `threshold`
    curve: list[Rate]  # `value` at evenly spaced thresholds from 0 to `threshold`
    in_mean: list[str]  # names of the joints that count in `mean` and `total`
    by_joint: dict[str, Rate]  # hit rate of each joint that the network knows


class OksMetrics(BaseModel):
    """COCO's average precisions and recall by object keypoint similarity; see `stages.evaluation.oks`."""

    model_config = ConfigDict(extra="forbid")

    ap: float  # average precision: mean over the similarity thresholds 0.5, 0.55 ... 0.95
    ap50: float
    ap75: float
    ar: float  # average recall: mean over the thresholds 0.5, 0.55 ... 0.95


class SplitMetrics(BaseModel):
    """The results on one split."""

    model_config = ConfigDict(extra="forbid")

    people: int
    acc: Rate  # training accuracy, see `metrics.TrainingAccuracy`
    acc_joints: int  # number of joints that count in `acc`
    pixels: float | None  # mean distance in px from prediction to label; None if the split has no labels
    oks: OksMetrics | None = None  # only for datasets that are scored by object keypoint similarity
    measures: dict[str, MeasureMetrics]  # name of the measure -> results, in the order of the dataset's measures


class Accuracy(BaseModel):
    """The contents of accuracy.json: the results of a network on the splits of one dataset."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    title: str
    joints: list[str]  # names of the dataset's joints
    splits: dict[str, SplitMetrics]

    @property
    def labelled(self) -> dict[str, SplitMetrics]:
        """Return the results on the splits that have labels."""
        return {name: metrics for name, metrics in self.splits.items() if metrics.pixels is not None}

    @property
    def measures(self) -> list[str]:
        """Return the names of the measures, in the dataset's order."""
        return list(next(iter(self.splits.values())).measures)


def write(folder: Path, dataset: Dataset, splits: dict[str, SplitMetrics]) -> Accuracy:
    """Write the results on a dataset's splits to accuracy.json in a folder; return the contents of the file."""
    found = Accuracy(dataset=dataset.name, title=dataset.title, joints=list(dataset.skeleton.joints), splits=splits)
    write_atomically(folder / NAME, found.model_dump_json(indent=1).encode())
    return found


def read(folder: Path) -> Accuracy:
    """Return the contents of accuracy.json in the folder of an evaluation. Raises DataError for a missing or invalid file."""
    path = folder / NAME
    try:
        found = Accuracy.model_validate_json(path.read_bytes())
        names = {tuple(metrics.measures) for metrics in found.splits.values()}
        if len(names) != 1 or not found.measures:
            raise ValueError("its splits do not all have the same measures")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); evaluate again.") from None
    except (ValidationError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise DataError(
            f"{path} is not a valid result of an evaluation ({what}); evaluate again, or delete the file."
        ) from None
    return found
