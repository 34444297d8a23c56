"""The trainings, and which networks the later stages use."""

from typing import Any

import luigi

from pipeline import config
from pipeline.data import DATASETS, FURTHER
from pipeline.fetch import FetchPrecomputed
from pipeline.stage import Stage
from stages.settings import Training

BEST = "best.safetensors"


class CacheCrops(Stage):
    """The people of a dataset's training images, cut out once for trainings that read them again and again."""

    dataset = luigi.ChoiceParameter(choices=list(DATASETS), description="whose people")

    @property
    def place(self) -> str:
        return f"{DATASETS[self.dataset].place}/crops"

    def settings(self) -> dict[str, Any]:
        return config.settings().input.significant()

    def requires(self) -> dict[str, Stage]:
        return DATASETS[self.dataset].stages()

    def work(self, folder, inputs, report):
        from stages.cache import cache_crops

        settings, data = config.settings(), DATASETS[self.dataset].open(inputs)
        return cache_crops(data, settings.input.resolution, folder, settings.workspace.workers, report)


def _data(dataset: str, cache: bool) -> dict[str, Stage]:
    """What a training on a dataset requires of it."""
    return DATASETS[dataset].stages() | ({"crops": CacheCrops(dataset=dataset)} if cache else {})


class Pretrain(Stage):
    """Train the hourglass on one dataset from random weights."""

    version = 2

    dataset = luigi.ChoiceParameter(choices=["penn_action", *FURTHER], description="what to train on")

    @property
    def place(self) -> str:
        return f"{DATASETS[self.dataset].place}/{config.settings().pretrain.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.network.significant() | settings.input.significant() | settings.pretrain.significant()

    def outside(self) -> dict[str, str]:
        return branched_from(config.settings().pretrain)

    def requires(self) -> dict[str, Stage]:
        return _data(self.dataset, config.settings().pretrain.cache)

    def work(self, folder, inputs, report):
        from stages.train import new_network, train

        settings, data = config.settings(), DATASETS[self.dataset].open(inputs)
        network = new_network(settings.network, len(data.skeleton.joints), settings.pretrain.seed)
        return train(folder, network, data, settings.input, settings.pretrain, settings.workspace, report)


class PretrainMpii(Pretrain):
    """Train the hourglass on MPII from random weights."""

    dataset = "mpii"


class Finetune(Stage):
    """Go on training the MPII network on another dataset, with the output layer replaced."""

    version = 2

    dataset = luigi.ChoiceParameter(choices=FURTHER, description="what to train on")

    @property
    def place(self) -> str:
        return f"{DATASETS[self.dataset].place}/{config.settings().finetune.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.input.significant() | settings.finetune.significant()

    def outside(self) -> dict[str, str]:
        return branched_from(config.settings().finetune)

    def requires(self) -> dict[str, Stage]:
        return _data(self.dataset, config.settings().finetune.cache) | {"model": pretrained()}

    def work(self, folder, inputs, report):
        from stages.train import network_for, train

        settings, data = config.settings(), DATASETS[self.dataset].open(inputs)
        network = network_for(inputs["model"] / BEST, data.skeleton, settings.finetune)
        return train(folder, network, data, settings.input, settings.finetune, settings.workspace, report)


class FinetunePenn(Finetune):
    """Go on training the MPII network on cropped Penn Action, with the output layer replaced."""

    dataset = "penn_action"


def branched_from(training: Training) -> dict[str, str]:
    """The checkpoint that a training goes on from, if it is a branch of another."""
    return {"branch_from": training.branch_file} if training.branch_from else {}


def pretrained() -> Stage:
    """The stage that gives the MPII network."""
    return PretrainMpii() if config.settings().models.source == "train" else FetchPrecomputed(dataset="mpii")


def finetuned() -> Stage:
    """The stage that gives the Penn Action network."""
    return FinetunePenn() if config.settings().models.source == "train" else FetchPrecomputed(dataset="penn_action")
