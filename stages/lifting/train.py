"""The trainings of the converter and of the lifter, in the one training loop."""

import shutil
from pathlib import Path

import torch

from datasets.progress import Report, silent
from stages.lifting.bodies import JOINTS
from stages.lifting.convert import read_split
from stages.lifting.network import ConverterNet, LifterNet
from stages.lifting.objective import LiftingObjective
from stages.settings.sections import Settings
from stages.training.train import Job, train

LIFTER = "lifter.safetensors"


def train_converter(folder: Path, clips: Path, settings: Settings, report: Report = silent) -> dict[str, float]:
    """Train the converter of [converter] on the clips that `convert` wrote; the folder is that of a training.

    Raises DataError where the clips are damaged or the heatmaps are too small for the network.
    """
    training = settings.train_converter
    torch.manual_seed(training.seed)
    network = ConverterNet(len(JOINTS), settings.input.heatmap, settings.converter)
    objective = LiftingObjective(network, read_split(clips), settings.converter, training)
    return train(Job(folder, objective, training, settings.workspace), report)


def train_lifter(folder: Path, clips: Path, settings: Settings, report: Report = silent) -> dict[str, float]:
    """Train the lifter on the samples of [converter], with normalised outputs; leaves lifter.safetensors and logs/lifter.

    Raises DataError where the clips are damaged.
    """
    training = settings.lifter.training()
    torch.manual_seed(training.seed)
    network = LifterNet(len(JOINTS), settings.input.heatmap, settings.lifter.width)
    options = settings.converter.model_copy(update={"outputs": "normalised"})
    objective = LiftingObjective(network, read_split(clips), options, training)
    place = folder / "logs" / "lifter"  # of the training only the network counts as the result, not the times that it logs
    place.mkdir(parents=True)
    alone = settings.workspace.model_copy(update={"device": "cpu", "processes": 1, "machines": 1})  # a GPU would not be faster
    found = train(Job(place, objective, training, alone), report)
    shutil.copyfile(place / "best.safetensors", folder / LIFTER)
    return found
