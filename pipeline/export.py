"""The weights that forecasting networks load."""

from pipeline.prepare import AnnotatePenn, CropPenn
from pipeline.stage import Stage
from pipeline.train import BEST, finetuned, penn_data


class ExportWeights(Stage):
    """The Penn Action network as model.safetensors, model.json and model.onnx."""

    place = "export"

    def requires(self) -> dict[str, Stage]:
        return {"annot": AnnotatePenn(), "images": CropPenn(), "model": finetuned()}

    def work(self, folder, inputs, report):
        from stages.export import export

        return export(folder, inputs["model"] / BEST, penn_data(inputs), report)
