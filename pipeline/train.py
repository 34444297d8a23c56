"""The two trainings, and which networks the later stages use."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import config
from pipeline.fetch import FetchMpii, FetchPrecomputed
from pipeline.prepare import AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.stage import Stage

if TYPE_CHECKING:
    from stages.loader import Data

BEST = "best.safetensors"


def mpii_data(inputs: dict[str, Path]) -> "Data":
    """MPII as the loader wants it, from the stages `annot` and `images`."""
    from datasets.skeletons import MPII
    from stages.loader import Data

    return Data(MPII, inputs["annot"], inputs["images"] / "images")


def penn_data(inputs: dict[str, Path]) -> "Data":
    """Cropped Penn Action as the loader wants it, from the stages `annot` and `images`."""
    from datasets.skeletons import PENN_ACTION
    from stages.loader import Data

    return Data(PENN_ACTION, inputs["annot"], inputs["images"] / "frames")


class PretrainMpii(Stage):
    """Train the hourglass on MPII from random weights."""

    @property
    def place(self) -> str:
        return f"mpii/{config.settings().pretrain.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.network.significant() | settings.input.significant() | settings.pretrain.significant()

    def requires(self) -> dict[str, Stage]:
        return {"annot": AnnotateMpii(), "images": FetchMpii()}

    def work(self, folder, inputs, report):
        from stages.train import Trainer, new_network

        settings, data = config.settings(), mpii_data(inputs)
        network = new_network(settings.network, len(data.skeleton.joints), settings.pretrain.seed)
        return Trainer(folder, network, data, settings.input, settings.pretrain, settings.workspace).run(report)


class FinetunePenn(Stage):
    """Go on training the MPII network on cropped Penn Action, with the output layer replaced."""

    @property
    def place(self) -> str:
        return f"penn_action_cropped/{config.settings().finetune.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.input.significant() | settings.finetune.significant()

    def requires(self) -> dict[str, Stage]:
        return {"annot": AnnotatePenn(), "images": CropPenn(), "model": pretrained()}

    def work(self, folder, inputs, report):
        from stages.train import Trainer, network_for

        settings, data = config.settings(), penn_data(inputs)
        network = network_for(inputs["model"] / BEST, data.skeleton, settings.finetune)
        return Trainer(folder, network, data, settings.input, settings.finetune, settings.workspace).run(report)


def pretrained() -> Stage:
    """The stage that gives the MPII network."""
    return PretrainMpii() if config.settings().models.source == "train" else FetchPrecomputed(dataset="mpii")


def finetuned() -> Stage:
    """The stage that gives the Penn Action network."""
    return FinetunePenn() if config.settings().models.source == "train" else FetchPrecomputed(dataset="penn_action")
