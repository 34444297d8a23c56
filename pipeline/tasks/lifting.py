"""Stages for 3D poses: convert motion capture, record heatmaps, train the converter and the lifter, and evaluate them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.files import sha256
from datasets.links import follow
from datasets.progress import Report
from pipeline import config
from pipeline.engine.digests import Digests
from pipeline.engine.stage import Stage, with_inputs
from pipeline.tasks.base import ChainStage
from pipeline.tasks.fetch import SAMPLE, FetchConverter
from pipeline.tasks.prepare import converted
from pipeline.tasks.train import BEST, TrainingStage
from stages.settings.trainings import Training

PENN_ACTION = DATASETS["penn_action"]


class ConvertMocap(ChainStage):
    """Convert motion capture to training clips and validation clips with the joints of Penn Action."""

    result_path = "mocap/clips"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        sample = settings.sample.model_dump(include={"sequences", "frames", "seed"}) if self._sample() else {}
        return settings.mocap.significant() | sample

    def _sample(self) -> bool:
        return config.settings().mocap.source == SAMPLE

    def requires(self) -> dict[str, Stage]:
        return {}

    def external_inputs(self) -> dict[str, str]:
        return {} if self._sample() else {"source": config.settings().mocap.source}

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        from datasets.mocap.sources import files_of

        path = Path(source).expanduser()
        files = files_of(path) if path.exists() else [path]  # a deleted source keeps its last digest, so results stay valid
        if not files and path.is_dir():
            raise DataError(f"{path} contains no motion capture; correct [mocap] source.")
        if len(files) < 2 and not path.is_dir():
            return digests.of_file(path)
        folder = path if path.is_dir() else path.parent

        def identity(of: Callable[[Path], object]) -> str:
            return hashlib.sha256("\n".join(f"{file.relative_to(folder)} {of(file)}" for file in files).encode()).hexdigest()

        def size_and_time(file: Path) -> str:
            return f"{file.stat().st_size} {file.stat().st_mtime_ns}"

        return digests.of_listing(path, identity(size_and_time), lambda: identity(sha256))

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.lifting.convert import convert

        mocap, sample = config.settings().mocap, config.settings().sample
        source = Path(mocap.source).expanduser()
        if self._sample():
            from datasets.sample.motions import write_motions

            source = folder / "sample.npz"
            write_motions(source, sample.sequences, sample.frames, sample.seed, report)
        return convert(source, mocap.valid_beginnings, folder)


class RecordHeatmaps(ChainStage):
    """Record the heatmaps of a forecasting network on frames of Penn Action, for the converter's training."""

    heavy = True
    version = 2
    result_path = "mocap/heatmaps"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        names = ("starts", "repeated_weight", *(("stride",) if settings.forecast.starts == "fixed_rate" else ()))
        return {"precision": settings.evaluate.precision} | {name: getattr(settings.forecast, name) for name in names}

    def requires(self) -> dict[str, Stage]:
        return converted(PENN_ACTION)

    def external_inputs(self) -> dict[str, str]:
        network = config.settings().converter.heatmaps_from
        return {"network": str(follow(Path(network).expanduser()))} if network else {}

    def digest_external_inputs(self) -> dict[str, str]:
        """Return name -> digest of each external file.

        Raises DataError if heatmaps_from names the result of a training that itself needs the heatmaps of this stage.
        """
        settings = config.settings()
        own = config.exp() / PENN_ACTION.result_path / settings.forecast.experiment
        folder = Path(settings.converter.heatmaps_from).expanduser().parent
        if settings.forecaster.converter == "trained" and folder.absolute() == own.absolute():
            raise DataError(
                f"[converter] heatmaps_from = {settings.converter.heatmaps_from}: this is the result of a training that "
                "itself needs these heatmaps; give [forecast] another experiment name."
            )
        return super().digest_external_inputs()

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        if not self.external_inputs():
            raise DataError("[converter] heatmaps_from is empty; set it to a forecasting network.")
        from stages.forecasting.evaluate import ForecastFiles
        from stages.forecasting.record import record

        settings, data = config.settings(), ForecastFiles(inputs["annot"], inputs["images"])
        network = Path(self.external_inputs()["network"])
        return record(folder, network, data, settings.forecast, settings.evaluate, settings.workspace, report)


def _clips_and_heatmaps() -> dict[str, Stage]:
    """Return name -> stage for the stages that make the converter's training data: clips and, if set, recorded heatmaps."""
    found: dict[str, Stage] = {"clips": ConvertMocap()}
    return found | {"heatmaps": RecordHeatmaps()} if config.settings().converter.heatmaps_from else found


class TrainConverter(TrainingStage):
    """Train the converter, which maps heatmaps to 3D poses, on synthetic samples of motion capture."""

    @property
    def result_path(self) -> str:
        return f"mocap/{config.settings().train_converter.experiment}"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.input.significant() | settings.converter.significant() | settings.train_converter.significant()

    def training(self) -> Training:
        return config.settings().train_converter

    def requires(self) -> dict[str, Stage]:
        return _clips_and_heatmaps()

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.lifting.train import train_converter

        return train_converter(folder, inputs["clips"], inputs.get("heatmaps"), config.settings(), report)


def converter() -> Stage:
    """Return the stage whose result is the converter."""
    models = config.settings().models
    return FetchConverter() if models.source == "precomputed" and models.converter else TrainConverter()


class TrainLifter(ChainStage):
    """Train the lifter, which maps 2D joints to 3D poses; the evaluation compares it with the converter."""

    heavy = True
    result_path = "mocap/lifter"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        return settings.input.significant() | settings.converter.of_samples() | settings.lifter.significant()

    def requires(self) -> dict[str, Stage]:
        return _clips_and_heatmaps()

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.lifting.train import train_lifter

        return train_lifter(folder, inputs["clips"], inputs.get("heatmaps"), config.settings(), report)


class EvaluateConverter(ChainStage):
    """Score the converter, the lifter and the baselines on the validation clips of motion capture: errors in mm and px."""

    heavy = True
    version = 2
    result_path = "mocap/converter-scores"

    def settings(self) -> dict[str, Any]:
        settings = config.settings()
        names = ("targets", "target_sigma", "target_radius", "flip_probability", "seed")
        samples = {name: getattr(settings.train_converter, name) for name in names}
        return settings.converter.of_samples() | samples | {"name": converter().result_path.rpartition("/")[2]}

    def requires(self) -> dict[str, Stage]:
        return _clips_and_heatmaps() | {"converter": converter(), "lifter": TrainLifter()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.lifting.convert import read_split
        from stages.lifting.evaluate import evaluate
        from stages.lifting.train import LIFTER, read_recordings

        settings = config.settings()
        models = {self.settings()["name"]: inputs["converter"] / BEST, "lifter": inputs["lifter"] / LIFTER}
        clips, recordings = read_split(inputs["clips"]), read_recordings(inputs.get("heatmaps"), "valid", settings)
        training = settings.train_converter
        return evaluate(folder, models, clips, recordings, settings.converter, training, settings.workspace, report)


class ExportConverter(ChainStage):
    """Export the converter as safetensors, ONNX and, if possible, Torch7, with a description and a model card."""

    version = 3
    result_path = "export-converter"

    def settings(self) -> dict[str, Any]:
        names = ("targets", "target_sigma", "target_radius")
        return {name: getattr(config.settings().train_converter, name) for name in names}

    def requires(self) -> dict[str, Stage]:
        return {"clips": ConvertMocap(), "converter": converter()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        from stages.lifting.convert import read_split
        from stages.lifting.export import export

        settings, stages = config.settings(), with_inputs(list(self.requires().values()))
        made_by = {stage.name: f"`{stage.fingerprint}`" for stage in stages}
        for stage in stages:
            if isinstance(stage, FetchConverter):
                made_by["authors"] = stage.trained_by()
        if settings.mocap.source == SAMPLE:
            made_by["motion capture"] = "the movements of the drawn people in this workspace's sample"
        return export(folder, inputs["converter"] / BEST, read_split(inputs["clips"]), settings.train_converter, made_by)
