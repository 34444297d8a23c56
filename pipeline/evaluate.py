"""Accuracies of the two networks on both datasets."""

from typing import Any

import luigi

from pipeline import config
from pipeline.fetch import FetchMpii
from pipeline.prepare import AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.stage import Stage
from pipeline.train import BEST, finetuned, mpii_data, penn_data, pretrained


class Evaluate(Stage):
    """Score one network on one dataset: accuracy.json and predictions."""

    model = luigi.ChoiceParameter(choices=["pretrained", "finetuned"], description="the MPII or the Penn Action network")

    def model_stage(self) -> Stage:
        """The stage whose network is scored."""
        return pretrained() if self.model == "pretrained" else finetuned()

    def settings(self) -> dict[str, Any]:
        return config.settings().evaluate.significant()

    def work_on(self, data, splits, folder, inputs, report):
        from stages.evaluate import evaluate

        settings = config.settings()
        return evaluate(folder, inputs["model"] / BEST, data, splits, settings.evaluate, settings.workspace, report)


class EvaluateMpii(Evaluate):
    """Score a network on MPII's validation split."""

    @property
    def place(self) -> str:
        return f"mpii/evaluate-{self.model}"

    def requires(self) -> dict[str, Stage]:
        return {"annot": AnnotateMpii(), "images": FetchMpii(), "model": self.model_stage()}

    def work(self, folder, inputs, report):
        return self.work_on(mpii_data(inputs), ["valid"], folder, inputs, report)


class EvaluatePenn(Evaluate):
    """Score a network on Penn Action's validation and test splits."""

    @property
    def place(self) -> str:
        return f"penn_action_cropped/evaluate-{self.model}"

    def requires(self) -> dict[str, Stage]:
        return {"annot": AnnotatePenn(), "images": CropPenn(), "model": self.model_stage()}

    def work(self, folder, inputs, report):
        return self.work_on(penn_data(inputs), ["valid", "test"], folder, inputs, report)
