"""The weights that forecasting networks load."""

from pipeline.data import DATASETS
from pipeline.stage import Stage
from pipeline.train import BEST, finetuned

PENN = DATASETS["penn_action"]


class ExportWeights(Stage):
    """The Penn Action network as model.safetensors, model.json, model.onnx and best_model.t7."""

    place = "export"
    version = 2

    def requires(self) -> dict[str, Stage]:
        return PENN.stages() | {"model": finetuned()}

    def work(self, folder, inputs, report):
        from stages.export import export

        return export(folder, inputs["model"] / BEST, PENN.open(inputs), report)
