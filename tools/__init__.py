"""Small command-line programs; `python -m tools.NAME --help` explains each of them.

bench               measures how fast trainings, predictions and other parts of the workspace run on this machine
compare_acc         compares the accuracies of any experiments, with significance tests and curves
decoders            prints a network's accuracy with each decoder, with and without flip test, and with several scales
describe            prints the layers of a network and its numbers of parameters and multiply-adds
export_labels       writes the labels of a dataset, or predictions, for other programs
forecast            forecasts the movement of people in images and videos
inspect_dataset     prints statistics of a dataset's annotations, and draws some of them
inspect_checkpoint  prints the description of a checkpoint
monitor             shows the progress of trainings in the terminal
outliers            finds frames on which a network is probably wrong, and writes the predictions as labels for you to correct
predict             finds poses in images and videos
score               prints PCKh on MPII's validation people for predictions of any program
score_forecasts     prints the PCK of each forecast step, for forecasts in the file format of image-play
"""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable

import stages  # noqa: F401  # before torch, which reads a variable that this package sets
from datasets.errors import DataError


def program(main: Callable[[], int | None]) -> Callable[[], int]:
    """Return a function that calls a tool's `main` and returns an exit code.

    After a DataError, the function prints the error message and returns 1. After Ctrl-C or SIGTERM it returns 130. If the
    output pipe was closed, as by `| head`, it returns 0.
    """

    @functools.wraps(main)
    def run() -> int:
        # SIGTERM, which queues and `timeout` send, ends a tool as Ctrl-C does, so that it completes its files.
        before = signal.signal(signal.SIGTERM, _interrupt) if _is_main_thread() else None
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
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    return run


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # only this thread may set signal handlers


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
