"""Small programs for people, each `python -m tools.NAME --help`.

bench               measures the speed of the parts on this machine
compare_acc         accuracies of any experiments side by side, with tests and curves
decoders            prints what decoders, flip and scales add to a network's accuracy
describe            prints the layers and the cost of a preset or a checkpoint
inspect_dataset     prints what a dataset's annotations hold, and draws some of them
inspect_checkpoint  prints what a checkpoint says of itself
monitor             follows trainings in the terminal
predict             finds poses in images and videos
score               prints MPII's table for predictions of any program
"""

import functools
import os
import sys
from collections.abc import Callable

from datasets.errors import DataError


def program(main: Callable[[], int | None]) -> Callable[[], int]:
    """A tool's `main` as a program: a DataError ends it with a sentence and code 1, Ctrl-C with 130, `| head` quietly."""

    @functools.wraps(main)
    def run() -> int:
        try:
            code = main() or 0
            sys.stdout.flush()
            return code
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return run
