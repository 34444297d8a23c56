"""All accuracies side by side, the whole chain, and what stands beside it."""

from collections.abc import Iterable
from typing import Any

import luigi

from pipeline import config
from pipeline.data import DATASETS, FURTHER
from pipeline.evaluate import MODELS, Evaluate, EvaluateMpii, EvaluatePenn
from pipeline.export import ExportWeights
from pipeline.fetch import FetchPrecomputed
from pipeline.stage import Stage
from pipeline.train import finetuned, pretrained

SETS = {"mpii": DATASETS["mpii"], "penn": DATASETS["penn_action"]}


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
        data = {f"{name}-{part}": stage for name, dataset in SETS.items() for part, stage in dataset.stages().items()}
        return models | scores | data

    def work(self, folder, inputs, report):
        from stages.compare import compare

        mpii, penn = (
            dataset.open({part: inputs[f"{name}-{part}"] for part in ("annot", "images")}) for name, dataset in SETS.items()
        )
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
        return with_inputs(self.requires())

    def complete(self) -> bool:
        """Whether both ends are there; on the way, every stage's link follows the current settings."""
        for stage in self.stages():
            stage.complete()
        return super().complete()


def with_inputs(stages: Iterable[Stage]) -> list[Stage]:
    """The stages and all that they read, directly or not; each once, and after those that it reads."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for needed in stage.requires().values():
            visit(needed)
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        visit(stage)
    return list(ordered.values())


def others() -> list[Stage]:
    """All stages that are not in the chain: those of further datasets, training from scratch, precomputed networks."""
    ends: list[Stage] = [FetchPrecomputed(dataset=dataset) for dataset in ("mpii", "penn_action")]
    ends += [EvaluatePenn(model="scratch"), *(Evaluate(dataset=d, model=m) for d in FURTHER for m in MODELS)]
    chain = {stage.name for stage in Pipeline().stages()}
    return [stage for stage in with_inputs(ends) if stage.name not in chain]
