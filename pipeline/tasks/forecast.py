"""Define the tasks that train, score, compare and export networks that forecast human movement."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from datasets.catalog import DATASETS
from datasets.progress import Report
from pipeline import config
from pipeline.engine.stage import Stage, with_inputs
from pipeline.tasks.base import ChainStage
from pipeline.tasks.fetch import SAMPLE, Fetch, FetchForecaster, FetchNetwork
from pipeline.tasks.lifting import converter
from pipeline.tasks.prepare import converted
from pipeline.tasks.train import BEST, TrainingStage, finetuned
from stages.settings.trainings import Training

if TYPE_CHECKING:
    import numpy as np

    from stages.forecasting.evaluate import ForecastFiles

PENN_ACTION = DATASETS["penn_action"]
SPLITS = ("valid", "test")


def _files(inputs: dict[str, Path]) -> "ForecastFiles":
    from stages.forecasting.evaluate import ForecastFiles

    return ForecastFiles(inputs["annot"], inputs["images"])


class Forecast(TrainingStage):
    """Train the network that forecasts 16 poses from one image, starting from the pose network for Penn Action."""

    version = 2

    @property
    def result_path(self) -> str:
        return f"{PENN_ACTION.result_path}/{config.settings().forecast.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        training = settings.forecast.significant()
        if settings.forecast.starts == "published":
            training.pop("stride")  # it would affect nothing
        return settings.input.significant() | settings.forecaster.significant() | training

    def training(self) -> Training:
        return config.settings().forecast

    def requires(self) -> dict[str, Stage]:
        lifting = {"converter": converter()} if config.settings().forecaster.converter == "trained" else {}
        return converted(PENN_ACTION) | {"model": finetuned()} | lifting

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.forecasting.network import new_forecaster
        from stages.forecasting.objective import ForecastObjective
        from stages.training.train import Job, train

        settings, files = config.settings(), _files(inputs)
        training = settings.forecast
        lifting = inputs["converter"] / BEST if "converter" in inputs else None
        network = new_forecaster(inputs["model"] / BEST, settings.forecaster, training.seed, lifting)
        movements = {split: files.movements(split) for split in ("train", "valid")}
        objective = ForecastObjective(network, movements, files.frames, settings.input, training)
        return train(Job(folder, objective, training, settings.workspace), report)


def forecaster() -> Stage:
    """Return the stage whose result is the forecasting network."""
    models = config.settings().models
    return FetchForecaster() if models.source == "precomputed" and models.forecaster else Forecast()


class EvaluateForecast(ChainStage):
    """Forecast from every frame of Penn Action's validation and test splits, and score the forecasts of each step."""

    heavy = True
    version = 2
    result_path = f"{PENN_ACTION.result_path}/forecast-scores"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        names = ("flip_test", "decoder", "precision")
        return {name: getattr(settings.evaluate, name) for name in names} | {"stride": settings.forecast.stride}

    def requires(self) -> dict[str, Stage]:
        return converted(PENN_ACTION) | {"model": forecaster()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.forecasting.evaluate import evaluate

        settings, model = config.settings(), inputs["model"] / BEST
        return evaluate(
            folder, model, _files(inputs), list(SPLITS), settings.forecast, settings.evaluate, settings.workspace, report
        )


class ForecastFromPoses(ChainStage):
    """Train the pose-only forecasters: they forecast the poses of all steps from the joints of one frame, without its image."""

    heavy = True
    result_path = f"{PENN_ACTION.result_path}/pose-only"

    def settings(self) -> dict[str, Any]:
        return config.settings().pose_only.significant()

    def requires(self) -> dict[str, Stage]:
        return converted(PENN_ACTION)

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.forecast_comparison.pose_only import train_both

        settings = config.settings()
        return train_both(folder, _files(inputs), settings.pose_only, settings.workspace, report)


class CompareForecasts(ChainStage):
    """Compare the network's forecasts with baselines: tables and curves by step, significance tests, pictures, animations."""

    result_path = f"{PENN_ACTION.result_path}/forecast-comparison"

    def settings(self) -> dict[str, Any]:
        return {"name": forecaster().result_path.rpartition("/")[2], "stride": config.settings().forecast.stride}

    def requires(self) -> dict[str, Stage]:
        return converted(PENN_ACTION) | {"evaluation": EvaluateForecast(), "poses": ForecastFromPoses()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.forecast_comparison.compare import compare

        name, stride = self.settings()["name"], self.settings()["stride"]
        return compare(folder, inputs["evaluation"], name, inputs["poses"], _files(inputs), stride, _truth(), report)


def _truth() -> "dict[int, np.ndarray] | None":
    """Return number of a drawn sequence -> true 3D poses (T, J, 3) in mm; None for the real Penn Action."""
    if config.settings().datasets[PENN_ACTION.name].archive != SAMPLE:  # type: ignore[attr-defined]
        return None
    from datasets.sample.motions import penn_poses

    sample = config.settings().sample
    return penn_poses(sample.sequences, sample.lengths, sample.seed)


class ExportForecast(ChainStage):
    """Export the forecasting network as safetensors and ONNX for other programs, with a description and a model card."""

    version = 3
    result_path = "export-forecast"

    def settings(self) -> dict[str, Any]:
        training = config.settings().forecast
        # A network of others was trained by the published rule.
        fixed = isinstance(forecaster(), Forecast) and training.starts == "fixed_rate"
        return {"stride": training.stride} if fixed else {}

    def requires(self) -> dict[str, Stage]:
        return converted(PENN_ACTION) | {"model": forecaster(), "evaluation": EvaluateForecast()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.forecasting.evaluate import read
        from stages.forecasting.export import Upstream, export

        upstream = tuple(
            Upstream(
                stage.name,
                stage.fingerprint,
                stage.described.origin if _fetched(stage) else None,
                stage.trained_by() if isinstance(stage, FetchNetwork) else "",
            )
            for stage in with_inputs([self])
        )
        training, accuracy = config.settings().forecast, read(inputs["evaluation"])
        stride = self.settings().get("stride")
        return export(folder, inputs["model"] / BEST, _files(inputs), training, accuracy, upstream, stride, report)


def _fetched(stage: Stage) -> TypeGuard[Fetch]:
    """Return whether a stage fetches a real dataset, and not the built-in sample."""
    return isinstance(stage, Fetch) and bool(stage.external_inputs())
