"""Show the progress of trainings until Ctrl-C: python -m tools.monitor [NAME ...] [--once | --tensorboard] [--config FILE]

Columns of the table:
acc    mean training accuracy over the last 50 iterations or, right after the end of an epoch, over this epoch
valid  accuracy of the last validation
best   highest accuracy of all validations
per s  number of training samples per second
left   remaining time, estimated from the speed in the last rows of the training's log, metrics.csv
"""

import argparse
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from tabulate import tabulate

from pipeline import config
from pipeline.engine.manifest import MANIFEST
from pipeline.engine.result import is_locked
from stages.training.logs import METRICS, read_metrics
from tools import program

HEADS = ("experiment", "state", "done", "acc", "valid", "best", "per s", "left")
NAME_WIDTH = 22  # largest number of characters of a name, so that the table fits a terminal of 80 characters
PACE = 20  # number of rows of metrics.csv over which the median speed is computed


@program
def main() -> int:
    """Read the options and print the table repeatedly until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.monitor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names of experiments, such as hg-256; default: all experiments below exp/"
    )
    config.add_options(parser)
    parser.add_argument("--once", action="store_true", help="print the table once")
    parser.add_argument("--every", type=float, default=2, metavar="SECONDS", help="time between two updates; default: 2")
    parser.add_argument("--tensorboard", action="store_true", help="show the trainings in TensorBoard instead of the table")
    options = parser.parse_args()
    config.use(options)
    with suppress(KeyboardInterrupt):
        if options.tensorboard:
            return show_in_tensorboard(trainings(config.exp(), options.names))
        follow(config.exp(), options.names, options.once, options.every)
    return 0


def follow(exp: Path, names: list[str], once: bool, seconds: float) -> None:
    """Print the table of the trainings below `exp` with these names; unless `once`, update the table every `seconds` s."""
    while True:
        rows = [row(folder) for folder in trainings(exp, names)]
        widths = [NAME_WIDTH, *[None] * 7] if sys.stdout.isatty() else None
        table = tabulate(
            rows, HEADS, disable_numparse=True, colalign=("left", "left", *["right"] * 6), maxcolwidths=widths
        ) if rows else f"There is no training{' of this name' * bool(names)} in {exp}."  # fmt: skip
        if once or not sys.stdout.isatty():
            print(table, flush=True)
        else:
            width = shutil.get_terminal_size().columns
            # Each line ends with the escape code that clears the rest of the terminal's line.
            lines = [line[:width] + "\033[K\n" for line in table.splitlines()]
            print("\033[H" + "".join(lines) + "\033[J", end="", flush=True)
        if once:
            return
        time.sleep(seconds)


def trainings(exp: Path, names: list[str]) -> list[Path]:
    """Return the folders of the trainings with these names in `exp` and in its subfolders, such as exp/demo.

    Without names, return the folders of all trainings.
    """
    folders = [path.parents[1] for below in ("", "[!.]*/") for path in exp.glob(f"{below}[!.]*/*@*/{METRICS}")]
    return sorted(folder for folder in folders if not names or folder.name.partition("@")[0] in names)


def row(folder: Path) -> list[str]:
    """Return the table's row for the training in a folder."""
    name = name_of(folder)
    rows = read_metrics(folder)
    if not rows:
        return [name, state(folder), *[""] * 6]
    last, valid = rows[-1], [row for row in rows if row["what"] == "valid"]
    trained = next((row for row in reversed(rows) if row["what"] != "valid"), None)
    speeds = [row for row in rows if row["what"] == "train"]
    done, total = int(last["iteration"]), int(last["iterations"])
    running = state(folder) == "running"
    return [
        name, state(folder), f"{done / total:.0%}", f"{float(trained['acc']):.1%}" if trained else "",
        f"{float(valid[-1]['acc']):.1%}" if valid else "",
        f"{max(float(row['acc']) for row in valid):.1%}" if valid else "",
        f"{float(speeds[-1]['samples_per_second']):.1f}" if speeds else "",
        str(timedelta(seconds=round((total - done) * pace(rows)))) if running else "",
    ]  # fmt: skip


def name_of(folder: Path) -> str:
    """Return a training's name, which is its path below exp/, such as demo/mpii/hg-64@01234567."""
    return str(folder.relative_to(config.exp())).removesuffix(".partial")


def show_in_tensorboard(folders: list[Path]) -> int:
    """Run TensorBoard until Ctrl-C on the given folders of trainings; return TensorBoard's exit code.

    If TensorBoard got exp/ instead of the folders, it would show trainings twice, because of the symlinks in exp/.
    """
    logs = ",".join(f"{name_of(folder)}:{folder / METRICS}" for folder in folders).replace(f"/{Path(METRICS).name}", "")
    return subprocess.call([sys.executable, "-m", "tensorboard.main", "--logdir_spec", logs])


def state(folder: Path) -> str:
    """Return the state of a training: finished, running or stopped."""
    if (folder / MANIFEST).exists():
        return "finished"
    result = folder.with_name(folder.name.removesuffix(".partial"))
    # The folder of all results, which has the locks; with [workspace] exp = exp, it may also be a subfolder such as exp/demo.
    exp = next((place for place in folder.parents if (place / ".locks").is_dir()), config.exp())
    return "running" if is_locked(result, exp) else "stopped"


def pace(rows: list[dict[str, str]]) -> float:
    """Return the time per iteration in s: a median over the last rows, so that a pause in the training has little effect."""
    steps = [
        (float(b["time"]) - float(a["time"])) / (int(b["iteration"]) - int(a["iteration"]))
        for a, b in pairwise(rows[-PACE:])
        if b["iteration"] != a["iteration"]
    ]
    return median(steps) if steps else 0.0


if __name__ == "__main__":
    sys.exit(main())
