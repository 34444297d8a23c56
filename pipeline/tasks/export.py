"""Define the tasks that export networks for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi

from datasets.progress import Report
from pipeline import config
from pipeline.engine.stage import Stage, with_inputs
from pipeline.tasks.base import ChainStage, DatasetName
from pipeline.tasks.evaluate import MODELS, evaluation
from pipeline.tasks.fetch import Fetch, FetchNetwork
from pipeline.tasks.prepare import Collect, converted, files_of
from pipeline.tasks.train import BEST

if TYPE_CHECKING:
    from stages.exporting.model_card import Step


class Export(ChainStage):
    """Export a network in all formats of `stages.exporting.export.FORMATS`, with a description and a model card."""

    version = 6
    dataset = DatasetName(config.datasets, "dataset on which the network is scored")
    model = luigi.ChoiceParameter(
        choices=MODELS, description="network to export: pretrained, finetuned or scratch, as for Evaluate"
    )

    leaf = "export-"

    @property
    def result_path(self) -> str:
        return f"{config.datasets()[self.dataset].result_path}/{self.leaf}{self.model}"

    def requires(self) -> dict[str, Stage]:
        scored = evaluation(self.dataset, self.model)
        return converted(config.datasets()[self.dataset]) | {"model": scored.model_stage(), "evaluation": scored}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.evaluation.accuracy import read
        from stages.exporting.export import export
        from stages.exporting.model_card import History

        accuracy = read(inputs["evaluation"])
        steps = tuple(_step(stage) for stage in with_inputs([self]))
        history = History(self.requires()["model"].result_path, accuracy, steps)
        return export(folder, inputs["model"] / BEST, files_of(config.datasets()[self.dataset], inputs), history, report)


class ExportWeights(Export):
    """Export the Penn Action network, whose weights the programs image-play and skeleton2d3d can load."""

    result_path = "export"
    dataset, model = "penn_action", "finetuned"


def _step(stage: Stage) -> "Step":
    from stages.exporting.model_card import Step

    origin, trained_by = None, ""
    if isinstance(stage, FetchNetwork):
        trained_by = stage.trained_by()
    # The model card lists the owners of the data; the built-in sample has no owner.
    elif isinstance(stage, Fetch) and stage.external_inputs():
        origin = stage.described.origin
    elif isinstance(stage, Collect):
        origin = config.dataset(stage.dataset).origin
    return Step(stage.name, stage.fingerprint, stage.settings(), stage.external_digests, origin, trained_by)
