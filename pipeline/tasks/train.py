"""Define the training tasks, and choose the networks that later stages use."""

from pathlib import Path
from typing import Any

import luigi

from datasets.errors import DataError
from datasets.links import follow
from datasets.progress import Report
from pipeline import config
from pipeline.engine.result import is_locked
from pipeline.engine.stage import Stage
from pipeline.tasks.base import ChainStage, DatasetName
from pipeline.tasks.fetch import FetchPrecomputed, further
from pipeline.tasks.prepare import JOINED, converted, files_of, named
from stages.settings.trainings import Training

BEST = "best.safetensors"


class CacheCrops(ChainStage):
    """Crop the people of a dataset's training images once and store the crops, which trainings then read in every epoch."""

    names = luigi.Parameter(description="dataset, or several such as mpii+lspet, whose people are cropped")

    leaf = "crops"
    heavy = True

    @property
    def result_path(self) -> str:
        first, *others = named(self.names)
        return f"{first.result_path}/{'-'.join((self.leaf, *(dataset.name for dataset in others)))}"

    def settings(self) -> dict[str, Any]:
        return config.settings().input.significant()

    def requires(self) -> dict[str, Stage]:
        first, *others = named(self.names)
        return converted(first, [dataset.name for dataset in others])

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.loading.crop_cache import cache_crops

        settings, data = config.settings(), files_of(named(self.names)[0], inputs)
        return cache_crops(data, settings.input.resolution, folder, settings.workspace.workers, report)


def _data(dataset: str, training: Training) -> dict[str, Stage]:
    """Return name -> stage for the stages that make a training's data: its datasets and, if `cache` is set, the crop cache."""
    further = [name for name in training.further if name != dataset]
    crops = {"crops": CacheCrops(names=JOINED.join((dataset, *further)))} if training.cache else {}
    return converted(config.datasets()[dataset], further) | crops


class TrainingStage(ChainStage):
    """The base class of all trainings; a training may start from a checkpoint of another training (`branch_from`)."""

    reads_at_once = True
    remade_unasked = False
    heavy = True
    on_several_machines = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config.check_or_exit(self._check_experiment)

    def _check_experiment(self) -> None:
        """Raise DataError if the experiment has the same name as the result of another stage."""
        name, taken = self.training().experiment, reserved_names()
        if name.lower().startswith(tuple(t for t in taken if t.endswith("-"))) or name.lower() in taken:
            names = ", ".join(f"{t}..." if t.endswith("-") else t for t in sorted(taken))
            raise DataError(
                f"experiment = {name}: the result of another stage has this name; the names of stages' results are {names}."
            )

    def training(self) -> Training:
        """Return the settings of the training."""
        raise AttributeError(f"{type(self).__name__} has no training")

    def external_inputs(self) -> dict[str, str]:
        file = self.training().branch_file
        return {"branch_from": str(follow(Path(file).expanduser()))} if file else {}

    def digest_external_inputs(self) -> dict[str, str]:
        """Return name -> digest of each external file. Raises DataError if a file is missing.

        Also raises DataError for a checkpoint that a running training still changes, because each change would
        also change the fingerprint of this training, which starts from the checkpoint.
        """
        for source in self.external_inputs().values():
            file, exp = Path(source).expanduser(), config.exp().resolve()
            named = Path(self.training().branch_file).expanduser().parent
            if named.absolute() == self.link.absolute():
                raise DataError(f"{named} is the result of this training itself; give the branch another experiment name.")
            origin = Path(str(file.resolve().parent).removesuffix(".partial"))
            changes = file.name == "last.safetensors" and origin.is_relative_to(exp)
            if changes and is_locked(config.exp() / origin.relative_to(exp), config.exp()):
                raise DataError(
                    f"{file} belongs to a training that is still running; branch off from an epoch that keep_last "
                    "kept (last-NNN.safetensors in the same folder), or wait until the training has ended."
                )
        return super().digest_external_inputs()


class Pretrain(TrainingStage):
    """Train the hourglass on one dataset from random weights."""

    version = 2

    dataset = DatasetName(lambda: ["penn_action", *further()], "dataset on which the network is trained")

    @property
    def result_path(self) -> str:
        return f"{config.datasets()[self.dataset].result_path}/{config.settings().pretrain.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.network.significant() | settings.input.significant() | settings.pretrain.significant()

    def training(self) -> Training:
        return config.settings().pretrain

    def requires(self) -> dict[str, Stage]:
        return _data(self.dataset, config.settings().pretrain)

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.training.heatmaps import HeatmapObjective, new_network
        from stages.training.train import Job, train

        settings, data = config.settings(), files_of(config.datasets()[self.dataset], inputs)
        network = new_network(settings.network, len(data.skeleton.joints), settings.pretrain.seed)
        objective = HeatmapObjective(network, data, settings.input, settings.pretrain)
        return train(Job(folder, objective, settings.pretrain, settings.workspace), report)


class PretrainMpii(Pretrain):
    """Train the hourglass on MPII from random weights."""

    dataset = "mpii"


class Finetune(TrainingStage):
    """Fine-tune the MPII network on another dataset, with a new output layer."""

    version = 2

    dataset = DatasetName(further, "dataset on which the network is trained")

    @property
    def result_path(self) -> str:
        return f"{config.datasets()[self.dataset].result_path}/{config.settings().finetune.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.input.significant() | settings.finetune.significant()

    def training(self) -> Training:
        return config.settings().finetune

    def requires(self) -> dict[str, Stage]:
        return _data(self.dataset, config.settings().finetune) | {"model": pretrained()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.training.heatmaps import HeatmapObjective, network_for
        from stages.training.train import Job, train

        settings, data = config.settings(), files_of(config.datasets()[self.dataset], inputs)
        network = network_for(inputs["model"] / BEST, data.skeleton, settings.finetune)
        objective = HeatmapObjective(network, data, settings.input, settings.finetune)
        return train(Job(folder, objective, settings.finetune, settings.workspace), report)


class FinetunePenn(Finetune):
    """Fine-tune the MPII network on cropped Penn Action, with a new output layer."""

    dataset = "penn_action"


def reserved_names() -> set[str]:
    """Return the names that stages other than trainings give to their results: no experiment may have such a name.

    A name that ends in - represents all names that begin with it.
    """
    names, kinds = set[str](), list[type[Stage]]([Stage])
    while kinds:
        kind = kinds.pop()
        if not issubclass(kind, TrainingStage):
            kinds += kind.__subclasses__()
            path = kind.__dict__.get("result_path")
            names.add(kind.leaf or (path.rpartition("/")[2] if isinstance(path, str) and "/" in path else ""))
    return names - {""}


def pretrained() -> Stage:
    """Return the stage whose result is the MPII network."""
    return PretrainMpii() if config.settings().models.source == "train" else FetchPrecomputed(dataset="mpii")


def finetuned() -> Stage:
    """Return the stage whose result is the Penn Action network."""
    return FinetunePenn() if config.settings().models.source == "train" else FetchPrecomputed(dataset="penn_action")
