"""Define the task CompareAccuracy and the task Pipeline for the whole chain, and list the stages outside the chain."""

from itertools import product
from pathlib import Path
from typing import Any

import luigi

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.links import target
from datasets.progress import Report
from pipeline import config
from pipeline.engine.digests import without_reading
from pipeline.engine.stage import Stage, with_inputs
from pipeline.tasks.base import ChainStage
from pipeline.tasks.evaluate import MODELS, EvaluateStored, evaluation
from pipeline.tasks.export import Export, ExportWeights
from pipeline.tasks.fetch import CHAIN, further, precomputed
from pipeline.tasks.forecast import CompareForecasts, ExportForecast
from pipeline.tasks.lifting import EvaluateConverter, ExportConverter
from pipeline.tasks.prepare import converted, files_of
from pipeline.tasks.train import Pretrain, finetuned, pretrained


class CompareAccuracy(ChainStage):
    """Compare accuracies before and after fine-tuning: tables, significance tests, curves, and drawn predictions."""

    result_path = "compare"
    version = 5

    def networks(self) -> dict[str, Stage]:
        """Return name of a compared network in the table -> the stage that makes this network."""
        scratch = {"scratch": Pretrain(dataset="penn_action")} if config.settings().compare.scratch else {}
        return {"before": pretrained(), "after": finetuned()} | scratch

    def scores(self, column: str) -> dict[str, Stage]:
        """Return name of a dataset -> the stage that evaluates, on this dataset, the network of the table's column `column`."""
        if column == "scratch":
            return {"penn_action": evaluation("penn_action", "scratch")}
        model = "pretrained" if column == "before" else "finetuned"
        return {name: evaluation(name, model) for name in CHAIN}

    def settings(self) -> dict[str, Any]:
        return {"names": [stage.result_path for stage in self.networks().values()]}

    def requires(self) -> dict[str, Stage]:
        networks = self.networks()
        scores = {f"{column}-{name}": stage for column in networks for name, stage in self.scores(column).items()}
        data = {f"{name}-{part}": stage for name in CHAIN for part, stage in converted(DATASETS[name]).items()}
        stored = {"stored": EvaluateStored()} if config.settings().compare.predictions else {}
        return networks | scores | data | stored

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.reporting.compare import Experiment, compare

        experiments = [
            Experiment(column, stage.result_path, inputs[column], "mpii" if column == "before" else "penn_action",
                       {name: inputs[f"{column}-{name}"] for name in self.scores(column)})
            for column, stage in self.networks().items()
        ]  # fmt: skip
        results = {name: {part: inputs[f"{name}-{part}"] for part in ("annot", "images")} for name in CHAIN}
        data = {name: files_of(DATASETS[name], found) for name, found in results.items()}
        stored = {name: inputs["stored"] / name for name in config.settings().compare.files()}
        return compare(folder, experiments, data, stored)


class Pipeline(luigi.WrapperTask):
    """The task that makes the whole chain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config.check_or_exit()
        super().__init__(*args, **kwargs)

    def requires(self) -> list[Stage]:
        ends: list[Stage] = [CompareAccuracy(), ExportWeights()]
        settings = config.settings()
        # With precomputed networks, forecasts belong to the chain only if the setting [models] forecaster selects a network,
        # because otherwise a forecaster would have to be trained.
        if settings.models.source == "train" or settings.models.forecaster:
            ends += [CompareForecasts(), ExportForecast()]
        if settings.models.source == "train" and settings.forecaster.converter == "trained":
            ends.append(EvaluateConverter())
        return ends

    def stages(self) -> list[Stage]:
        """Return all stages of the chain, each after its inputs."""
        return with_inputs(self.requires())

    def complete(self) -> bool:
        """Return whether the chain is complete; point the symlink of each done stage at its result of the current settings."""
        for stage in self.stages():
            stage.complete()
        return super().complete()


def others() -> list[Stage]:
    """Return all stages outside the chain: further datasets, further networks, precomputed networks, the converter."""
    ends: list[Stage] = [*precomputed()]
    networks = [("mpii", "pretrained"), ("penn_action", "scratch"), *product(further(), MODELS)]
    ends += [Export(dataset=dataset, model=model) for dataset, model in networks]
    ends += [CompareForecasts(), ExportForecast(), EvaluateConverter(), ExportConverter()]
    chain = {stage.name for stage in Pipeline().stages()}
    return [stage for stage in with_inputs(ends) if stage.name not in chain]


def known() -> list[Stage]:
    """Return the stages of the chain, and the stages outside the chain that have a finished or unfinished result."""
    return Pipeline().stages() + [s for s in others() if s.link.exists() or any(s.link.parent.glob(f"{s.link.name}@*"))]


def result_at(source: str) -> str:
    """Select a stage by `source`; return the folder of the stage's result with the current settings.

    source: the path of the stage's symlink, or the end of this path: exp/export, export or hg-256. If no result or several are
    found, `source` itself is returned. Raises DataError if the stage has a result, but not of the current settings.
    """
    with without_reading():
        return _result_at(source)


def _result_at(source: str) -> str:
    path, made, elsewhere = Path(source), list[str](), ""
    for stage in known():
        named = not path.exists() and f"/{stage.result_path}".endswith(f"/{source}")
        if path.absolute() != stage.link.absolute() and not named:
            continue
        try:
            if stage.manifest():
                made.append(str(stage.folder))
            elif found := target(stage.link):
                elsewhere = elsewhere or (
                    f"{stage.name} is {stage.status().state}, and {stage.link} points at {found.name}, of other settings. To "
                    f"use that result, give its path {found}, or its settings by --config. To make the result of the current "
                    f"settings: {config.command('run ' + stage.name)}"
                )
        except DataError:  # no fingerprint, as when an external file is missing; `source` may still be the path of the symlink
            continue
    if not made and elsewhere:
        raise DataError(elsewhere)
    return made[0] if len(made) == 1 else source
