"""Train the converter and the lifter with the training loop of `stages.training`."""

import shutil
from pathlib import Path

import torch

from datasets.progress import Report, silent
from stages.lifting.bodies import JOINTS
from stages.lifting.convert import read_split
from stages.lifting.network import ConverterNet, LifterNet
from stages.lifting.objective import LiftingObjective
from stages.lifting.recordings import Recordings, read
from stages.settings.sections import Settings
from stages.training.train import Job, train

LIFTER = "lifter.safetensors"  # file of the trained lifter in the result folder


def train_converter(folder: Path, clips: Path, heatmaps: Path | None, settings: Settings,
                    report: Report = silent) -> dict[str, float]:  # fmt: skip
    """Train the converter that [converter] defines; return the best epoch's metrics. For the files in `folder` see `train`.

    clips: the folder that `convert` wrote; heatmaps: the folder that `stages.forecasting.record` wrote, or None: all heatmaps
    are drawn. Raises DataError for damaged files, and if the converter cannot halve the side of the heatmaps HALVINGS times.
    """
    training = settings.train_converter
    torch.manual_seed(training.seed)
    network = ConverterNet(len(JOINTS), settings.input.heatmap, settings.converter)
    recordings = read_recordings(heatmaps, "train", settings)
    objective = LiftingObjective(network, read_split(clips), settings.converter, training, recordings)
    return train(Job(folder, objective, training, settings.workspace), report)


def train_lifter(folder: Path, clips: Path, heatmaps: Path | None, settings: Settings,
                 report: Report = silent) -> dict[str, float]:  # fmt: skip
    """Train the lifter on the samples that [converter] defines, with normalised outputs; return the best epoch's metrics.

    Writes the network to lifter.safetensors, and the files of its training to logs/lifter. clips, heatmaps: as for
    `train_converter`. Raises DataError for damaged files.
    """
    training = settings.lifter.training()
    torch.manual_seed(training.seed)
    network = LifterNet(len(JOINTS), settings.input.heatmap, settings.lifter.width)
    options = settings.converter.model_copy(update={"outputs": "normalised"})
    recordings = read_recordings(heatmaps, "train", settings)
    objective = LiftingObjective(network, read_split(clips), options, training, recordings)
    # The digest of the result leaves out the files in logs/, so the times in the log of the training do not change the digest.
    place = folder / "logs" / "lifter"
    place.mkdir(parents=True)
    # A GPU would not be faster than the CPU for this small network.
    alone = settings.workspace.model_copy(update={"device": "cpu", "processes": 1, "machines": 1})
    found = train(Job(place, objective, training, alone), report)
    shutil.copyfile(place / "best.safetensors", folder / LIFTER)
    return found


def read_recordings(heatmaps: Path | None, split: str, settings: Settings) -> Recordings | None:
    """Return the recorded heatmaps of a split; None if `heatmaps` is None. Raises DataError; see `recordings.read`."""
    return read(heatmaps / f"{split}.npz", len(JOINTS), settings.input.heatmap) if heatmaps else None
