"""Small command-line programs, each with `python -m tools.NAME --help`.

bench               measures the speed of the workspace on this machine
compare_acc         compares the accuracies of any experiments, with tests and curves
decoders            prints the effect of decoders, flip and scales on a network's accuracy
describe            prints the layers and the cost of a preset or a checkpoint
export_labels       writes the labels of a dataset, or predictions, for other programs
forecast            forecasts the movement of people in images and videos
inspect_dataset     prints statistics of a dataset's annotations, and draws some of them
inspect_checkpoint  prints the description of a checkpoint
monitor             shows the progress of trainings in the terminal
outliers            finds frames on which a network is probably wrong, with labels to correct
predict             finds poses in images and videos
score               prints MPII's table for predictions of any program
score_forecasts     prints PCK by step for forecasts in image-play's files
"""

import functools
import os
import sys
from collections.abc import Callable

from datasets.errors import DataError


def program(main: Callable[[], int | None]) -> Callable[[], int]:
    """Return a tool's `main` as a program that returns an exit code.

    A DataError is printed as an error message and gives code 1. Ctrl-C gives code 130. A closed pipe, as in `| head`, gives 0.
    """

    @functools.wraps(main)
    def run() -> int:
        try:
            code = main() or 0
            sys.stdout.flush()
            return code
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # the reader of the output has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return run
