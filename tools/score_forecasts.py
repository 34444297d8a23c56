"""Print PCK@0.05 of each step for forecasts in image-play's files: python -m tools.score_forecasts [FOLDER ...] [--split SPLIT]

FOLDER is a folder eval_<split> that the published program image-play wrote. Each of its files, 00001.mat, 00002.mat and so on,
contains the forecast from one frame of the split; a forecast has sixteen steps. The forecasts are scored with the labels of
cropped Penn Action (stages AnnotatePenn and CropPenn). The first row of the table is the baseline zero velocity; each further
row is for one FOLDER. --write writes the forecasts of the stage EvaluateForecast in image-play's format.
"""

import argparse
import sys
from pathlib import Path

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error
from pipeline import config
from pipeline.tasks.fetch import DATASETS
from pipeline.tasks.forecast import EvaluateForecast
from pipeline.tasks.prepare import converted
from tools import program


@program
def main() -> None:
    """Read the options; print the table, or write forecasts into a folder, or do both."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score_forecasts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--split", choices=["train", "valid", "test"], default="test", help="default: test")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the forecasts of EvaluateForecast into this folder")
    config.add_options(parser)
    options = parser.parse_args()
    config.use(options)
    if options.write and options.split == "train":
        parser.error("--write needs --split valid or test, because EvaluateForecast makes no forecasts of the training split")
    if options.write:
        with disk_trouble_as_data_error(options.write):
            write(options.write, options.split)
    if options.folders or not options.write:
        score(options.folders, options.split)


def score(folders: list[Path], split: str) -> None:
    """Print the table for folders of forecasts. Raises DataError if labels or forecasts are missing."""
    from stages.evaluation.scores import as_text
    from stages.forecast_comparison import eval_files
    from stages.forecast_comparison.baselines import zero_velocity
    from stages.forecast_comparison.compare import count, table
    from stages.forecasting.evaluate import ForecastFiles
    from stages.forecasting.movements import published_starts

    stages = converted(DATASETS["penn_action"])
    for stage in stages.values():
        if not stage.manifest():
            raise DataError(f"{stage.folder} is missing; make it with: {config.command('run ' + stage.name)}")
    movements = ForecastFiles(stages["annot"].folder, stages["images"].folder).movements(split)
    starts = published_starts(movements)
    query = movements.joints[starts.rows[:, 0]]
    found = {"zero velocity": count(movements, starts, lambda: zero_velocity(query))}
    found |= {str(folder): eval_files.count(folder, movements) for folder in folders}
    print(as_text(table({"all": found}).drop(columns="starts")))


def write(folder: Path, split: str) -> None:
    """Write the forecasts of EvaluateForecast into a folder. Raises DataError if EvaluateForecast has not been run."""
    from stages.forecast_comparison.eval_files import write_forecasts

    stage = EvaluateForecast()
    source = stage.folder / f"forecasts_{split}.h5"
    if not source.is_file():
        raise DataError(f"{source} is missing; make it with: {config.command('run EvaluateForecast')}")
    print(f"{write_forecasts(source, folder)} files are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
