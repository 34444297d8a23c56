"""The Luigi tasks and the command line; the only place that imports luigi.

config     luigi.cfg -> settings
settings_files   how Luigi reads them, and which were read
stage      Stage: fingerprint, atomic result, manifest, lock, state
fetch prepare train evaluate export compare   the tasks
links      the link exp/<place> of a stage, set right by `run` and `status`
trash      exp/.trash
clean      the command `clean`
data       the datasets by name: their stages, places and scored splits
__main__   python -m pipeline {run,status,why,rerun,clean}
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
from pipeline.tasks.fetch import FetchFlic, FetchLsp, FetchLspet, FetchMpii, FetchPennAction, FetchPrecomputed, MakeSample
from pipeline.tasks.prepare import AnnotateFlic, AnnotateLsp, AnnotateLspet, AnnotateMpii, AnnotatePenn, CropPenn
from pipeline.tasks.train import Finetune, FinetunePenn, Pretrain, PretrainMpii

__all__ = [
    "AnnotateFlic",
    "AnnotateLsp",
    "AnnotateLspet",
    "AnnotateMpii",
    "AnnotatePenn",
    "CompareAccuracy",
    "CropPenn",
    "Evaluate",
    "EvaluateMpii",
    "EvaluatePenn",
    "Export",
    "ExportWeights",
    "FetchFlic",
    "FetchLsp",
    "FetchLspet",
    "FetchMpii",
    "FetchPennAction",
    "FetchPrecomputed",
    "Finetune",
    "FinetunePenn",
    "MakeSample",
    "Pipeline",
    "Pretrain",
    "PretrainMpii",
]

quiet.no_tracebacks_for_bad_input()
progress.show_warnings_of_stages()
