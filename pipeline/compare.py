"""All accuracies side by side, and the whole chain."""

from typing import Any

import luigi

from pipeline import config
from pipeline.evaluate import EvaluateMpii, EvaluatePenn
from pipeline.export import ExportWeights
from pipeline.fetch import FetchMpii
from pipeline.prepare import AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.stage import Stage
from pipeline.train import finetuned, mpii_data, penn_data, pretrained


class CompareAccuracy(Stage):
    """Table of accuracies before and after fine-tuning, training curves, and predictions drawn on validation images."""

    place = "compare"

    def settings(self) -> dict[str, Any]:
        return {"names": [stage.place for stage in (pretrained(), finetuned())]}

    def requires(self) -> dict[str, Stage]:
        models: dict[str, Stage] = {"pretrained": pretrained(), "finetuned": finetuned()}
        scores: dict[str, Stage] = {}
        for model in models:
            scores |= {f"mpii-{model}": EvaluateMpii(model=model), f"penn-{model}": EvaluatePenn(model=model)}
        data: dict[str, Stage] = {
            "mpii-annot": AnnotateMpii(), "mpii-images": FetchMpii(),
            "penn-annot": AnnotatePenn(), "penn-images": CropPenn(),
        }  # fmt: skip
        return models | scores | data

    def work(self, folder, inputs, report):
        from stages.compare import compare

        mpii = mpii_data({"annot": inputs["mpii-annot"], "images": inputs["mpii-images"]})
        penn = penn_data({"annot": inputs["penn-annot"], "images": inputs["penn-images"]})
        return compare(folder, inputs, mpii, penn, self.settings()["names"])


class Pipeline(luigi.WrapperTask):
    """The whole chain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config.check_or_exit()
        super().__init__(*args, **kwargs)

    def requires(self) -> list[Stage]:
        return [CompareAccuracy(), ExportWeights()]

    def stages(self) -> list[Stage]:
        """All stages of the chain, each after those that it reads."""
        ordered: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            for needed in stage.requires().values():
                visit(needed)
            ordered.setdefault(stage.name, stage)

        for stage in self.requires():
            visit(stage)
        return list(ordered.values())

    def complete(self) -> bool:
        """Whether both ends are there; on the way, every stage's link follows the current settings."""
        for stage in self.stages():
            stage.complete()
        return super().complete()
