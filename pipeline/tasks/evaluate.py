"""Define the tasks that score networks on datasets."""

from pathlib import Path
from typing import Any

import luigi

from datasets.own import OwnDataset
from datasets.progress import Report
from pipeline import config
from pipeline.engine.digests import Digests
from pipeline.engine.stage import Stage
from pipeline.tasks.base import ChainStage, DatasetName
from pipeline.tasks.fetch import further
from pipeline.tasks.prepare import converted, files_of
from pipeline.tasks.train import BEST, Finetune, Pretrain, finetuned, pretrained

MODELS = ("pretrained", "finetuned", "scratch")


class Evaluate(ChainStage):
    """Score one network on one dataset; write accuracy.json, the predictions and the failures."""

    version = 7
    dataset = DatasetName(further, "dataset on which the network is scored")
    model = luigi.ChoiceParameter(
        choices=MODELS,
        description="the MPII network, this network fine-tuned on the dataset, or a network trained on the dataset alone",
    )

    leaf = "evaluate-"
    heavy = True

    @property
    def result_path(self) -> str:
        return f"{config.datasets()[self.dataset].result_path}/{self.leaf}{self.model}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings().evaluate.significant()
        section = config.settings().datasets[self.dataset]
        measure = section.scoring() if isinstance(section, OwnDataset) else {}
        return {name: value for name, value in settings.items() if name != "mpii_test"} | measure

    def splits(self) -> list[str]:
        """Return the names of the splits to predict and score; a split without public labels is predicted only."""
        return list(config.datasets()[self.dataset].scored)

    def model_stage(self) -> Stage:
        """Return the stage whose network is scored."""
        if self.model == "pretrained":
            return pretrained()
        return Pretrain(dataset=self.dataset) if self.model == "scratch" else Finetune(dataset=self.dataset)

    def requires(self) -> dict[str, Stage]:
        return converted(config.datasets()[self.dataset]) | {"model": self.model_stage()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.evaluation.evaluate import evaluate

        settings, dataset = config.settings(), config.datasets()[self.dataset]
        data, model = files_of(dataset, inputs), inputs["model"] / BEST
        return evaluate(folder, model, data, self.splits(), settings.evaluate, settings.workspace, report)


class EvaluateMpii(Evaluate):
    """Score a network on MPII's validation split, and predict its test split if mpii_test is set."""

    dataset = "mpii"
    model = luigi.ChoiceParameter(
        choices=["pretrained", "finetuned"], description="network to score: the MPII network or the Penn Action network"
    )

    def settings(self) -> dict[str, Any]:
        return config.settings().evaluate.significant()

    def splits(self) -> list[str]:
        return [*super().splits(), *(["test"] if config.settings().evaluate.mpii_test else [])]

    def model_stage(self) -> Stage:
        return pretrained() if self.model == "pretrained" else finetuned()


class EvaluatePenn(Evaluate):
    """Score a network on Penn Action's validation and test splits."""

    dataset = "penn_action"

    def model_stage(self) -> Stage:
        return finetuned() if self.model == "finetuned" else super().model_stage()


class EvaluateStored(ChainStage):
    """Score stored predictions of other programs on MPII's validation people."""

    version = 3
    result_path = "mpii/evaluate-stored"

    def settings(self) -> dict[str, Any]:
        return {"names": list(config.settings().compare.files())}

    def external_inputs(self) -> dict[str, str]:
        compare = config.settings().compare
        return {name: str(Path(path).expanduser()) for name, path in (compare.files() | {"order": compare.order}).items()}

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        return digests.of_file(Path(source))

    def requires(self) -> dict[str, Stage]:
        return converted(config.datasets()["mpii"])

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.evaluation.stored import score_stored

        files = {name: Path(path) for name, path in self.external_inputs().items()}
        order = files.pop("order")
        return score_stored(folder, files, order, files_of(config.datasets()["mpii"], inputs))


def evaluation(dataset: str, model: str) -> Evaluate:
    """Return the stage that scores a network on a dataset, both given by name."""
    of_the_chain: dict[str, type[Evaluate]] = {"mpii": EvaluateMpii, "penn_action": EvaluatePenn}
    return of_the_chain[dataset](model=model) if dataset in of_the_chain else Evaluate(dataset=dataset, model=model)
