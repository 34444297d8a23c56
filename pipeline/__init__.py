"""The Luigi tasks and the command line; the only place that imports luigi.

config     luigi.cfg -> settings
stage      Stage: fingerprint, atomic result, manifest, lock, state
fetch prepare train evaluate export compare   the tasks
__main__   python -m pipeline {run,status,why,rerun,clean}
"""

import configparser
import sys

try:
    import luigi  # noqa: F401
except (configparser.Error, UnicodeDecodeError) as error:  # Luigi reads luigi.cfg when it is imported
    print(f"error: The settings cannot be read: {error}", file=sys.stderr)
    sys.exit(2)

from pipeline import quiet
from pipeline.compare import CompareAccuracy, Pipeline
from pipeline.evaluate import EvaluateMpii, EvaluatePenn
from pipeline.export import ExportWeights
from pipeline.fetch import FetchMpii, FetchPennAction, FetchPrecomputed, MakeSample
from pipeline.prepare import AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.train import FinetunePenn, PretrainMpii

__all__ = [
    "AnnotateMpii",
    "AnnotatePenn",
    "CompareAccuracy",
    "CropPenn",
    "EvaluateMpii",
    "EvaluatePenn",
    "ExportWeights",
    "FetchMpii",
    "FetchPennAction",
    "FetchPrecomputed",
    "FinetunePenn",
    "MakeSample",
    "Pipeline",
    "PretrainMpii",
]

quiet.no_tracebacks_for_bad_input()
