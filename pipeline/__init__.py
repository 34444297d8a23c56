"""Define the Luigi tasks and the command line; only this package imports luigi.

config          reads the settings from luigi.cfg and the command line
settings_files  reads settings files for Luigi, and records which files were read
engine          what all stages share: fingerprints, results, manifests, locks
tasks           the stages of the chain
cli             the commands of `python -m pipeline`, such as run, status, why, rerun and clean
"""

import sys

from datasets.errors import DataError
from pipeline import settings_files

try:
    settings_files.import_luigi()
except DataError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

from pipeline.engine import progress, quiet
from pipeline.tasks.compare import CompareAccuracy, Pipeline
from pipeline.tasks.evaluate import Evaluate, EvaluateMpii, EvaluatePenn
from pipeline.tasks.export import Export, ExportWeights
from pipeline.tasks.fetch import (
    Fetch,
    FetchConverter,
    FetchForecaster,
    FetchMpii,
    FetchPennAction,
    FetchPrecomputed,
    MakeSample,
)
from pipeline.tasks.forecast import CompareForecasts, EvaluateForecast, ExportForecast, Forecast, ForecastFromPoses
from pipeline.tasks.lifting import ConvertMocap, EvaluateConverter, ExportConverter, TrainConverter, TrainLifter
from pipeline.tasks.prepare import Annotate, AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.tasks.train import Finetune, FinetunePenn, Pretrain, PretrainMpii

__all__ = [
    "Annotate",
    "AnnotateMpii",
    "AnnotatePenn",
    "CompareAccuracy",
    "CompareForecasts",
    "ConvertMocap",
    "CropPenn",
    "Evaluate",
    "EvaluateMpii",
    "EvaluatePenn",
    "Export",
    "ExportConverter",
    "ExportForecast",
    "ExportWeights",
    "Fetch",
    "FetchConverter",
    "FetchForecaster",
    "FetchMpii",
    "FetchPennAction",
    "FetchPrecomputed",
    "EvaluateConverter",
    "EvaluateForecast",
    "Finetune",
    "FinetunePenn",
    "Forecast",
    "ForecastFromPoses",
    "MakeSample",
    "Pipeline",
    "Pretrain",
    "PretrainMpii",
    "TrainConverter",
    "TrainLifter",
]

quiet.no_tracebacks_for_bad_input()
progress.show_warnings_of_stages()
