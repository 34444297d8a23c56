"""accuracy.json: what an evaluation found, read and written here alone."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.files import write_atomically

NAME = "accuracy.json"
Rate = float | None  # in [0, 1]; None where nothing counts


class MeasureFigures(BaseModel):
    """A split's figures by one measure (`datasets.measures.Measure`)."""

    model_config = ConfigDict(extra="forbid")

    threshold: float  # times the reference length
    overall: Literal["mean", "total"]  # which of the two `value` is
    value: Rate  # as the dataset's owners report it
    visible: Rate  # the same over visible joints only
    mean: Rate  # of the joints' rates
    total: Rate  # hits of all joints / labelled joints
    auc: Rate  # area under the curve of `total` up to the threshold
    curve: list[Rate]  # of `value`, at evenly spaced thresholds from 0 on
    in_mean: list[str]  # the joints that enter `mean` and `total`
    by_joint: dict[str, Rate]  # of those that the network knows


class SplitFigures(BaseModel):
    """The figures of one split."""

    model_config = ConfigDict(extra="forbid")

    people: int
    acc: Rate  # the published training's accuracy
    acc_joints: int  # how many joints enter it
    pixels: float | None  # mean distance in px; None: the split has no labels
    measures: dict[str, MeasureFigures]  # by name, in the dataset's order


class Accuracy(BaseModel):
    """What accuracy.json holds: a network's figures on the splits of one dataset."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    title: str
    joints: list[str]  # of the dataset
    splits: dict[str, SplitFigures]

    @property
    def labelled(self) -> dict[str, SplitFigures]:
        """The figures of the splits that have labels."""
        return {name: figures for name, figures in self.splits.items() if figures.pixels is not None}

    @property
    def measures(self) -> list[str]:
        """Names of the measures, in the dataset's order."""
        return list(next(iter(self.splits.values())).measures)


def write(folder: Path, dataset: Dataset, splits: dict[str, SplitFigures]) -> Accuracy:
    """Write accuracy.json of a dataset's splits into a folder; return what it holds."""
    found = Accuracy(dataset=dataset.name, title=dataset.title, joints=list(dataset.skeleton.joints), splits=splits)
    write_atomically(folder / NAME, found.model_dump_json(indent=1).encode())
    return found


def read(folder: Path) -> Accuracy:
    """Read accuracy.json of an evaluation's folder. Raises DataError where it is missing or of another kind."""
    path = folder / NAME
    try:
        found = Accuracy.model_validate_json(path.read_bytes())
        names = {tuple(figures.measures) for figures in found.splits.values()}
        if len(names) != 1 or not found.measures:
            raise ValueError("its splits have no measures in common")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); evaluate again.") from None
    except (ValidationError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise DataError(f"{path} is not what an evaluation writes ({what}); evaluate again, or remove it.") from None
    return found
