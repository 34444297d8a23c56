"""The weights that forecasting networks load."""

import json
from typing import TYPE_CHECKING

from pipeline.data import DATASETS
from pipeline.evaluate import EvaluatePenn
from pipeline.fetch import Fetch, FetchPrecomputed
from pipeline.stage import Stage, with_inputs
from pipeline.train import BEST, finetuned

if TYPE_CHECKING:
    from stages.model_card import Step

PENN = DATASETS["penn_action"]


class ExportWeights(Stage):
    """The Penn Action network for other programs, in five formats, with a description and a model card."""

    place = "export"
    version = 3

    def requires(self) -> dict[str, Stage]:
        return PENN.stages() | {"model": finetuned(), "evaluation": EvaluatePenn(model="finetuned")}

    def work(self, folder, inputs, report):
        from stages.export import export
        from stages.model_card import History

        accuracy = json.loads((inputs["evaluation"] / "accuracy.json").read_text())["splits"]
        steps = tuple(_step(stage) for stage in with_inputs([self]))
        history = History(self.requires()["model"].place, accuracy, steps)
        return export(folder, inputs["model"] / BEST, PENN.open(inputs), history, report)


def _step(stage: Stage) -> "Step":
    from stages.model_card import Step

    dataset = trained_by = ""
    if isinstance(stage, FetchPrecomputed):
        trained_by = stage.trained_by()
    elif isinstance(stage, Fetch) and stage.outside():  # the sample is nobody's
        dataset = stage.dataset
    return Step(stage.name, stage.fingerprint, stage.settings(), stage.outside_digests, dataset, trained_by)
