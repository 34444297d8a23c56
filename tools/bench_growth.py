"""Measure how long commands take when exp/ contains the results of many experiments."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from datasets.errors import DataError
from tools.bench_parts import seconds, show

PROFILE = "configs/demo.cfg"
EXP = Path("exp/demo")
RESULTS = 1000  # number of results that are added to the demo's results; a tenth of them are trainings, each with a new name


def measure() -> None:
    """Measure the time of commands when exp/ contains only the demo's results, and when it contains RESULTS more results.

    Raises DataError if the demo has not been run.
    """
    made = [path for path in sorted(EXP.glob("**/*@????????")) if (path / "manifest.json").exists()]
    trained = [path for path in made if (path / "best.safetensors").exists()]
    if not trained:
        raise DataError(f"{EXP} has no finished results; run make demo first.")
    with tempfile.TemporaryDirectory(dir=EXP.parent) as name:
        exp = Path(name, "exp")
        shutil.copytree(EXP, exp, symlinks=True, copy_function=os.link)
        measured = [_measure(exp)]
        for number in range(RESULTS):
            from_trainings = number % 10 == 0
            source = trained[number % len(trained)] if from_trainings else made[number % len(made)]
            _add(source, exp, number, f"experiment-{number}" if from_trainings else "")
        measured.append(_measure(exp))
    for command, alone in measured[0].items():
        beside = measured[1][command]
        show(f"{command}, with {RESULTS} more results", beside, "s", f"without them: {alone:.2f} s")


def _add(source: Path, exp: Path, number: int, name: str) -> None:
    """Copy the result `source` from EXP to `exp` with the fingerprint `number`, and with the name `name` unless it is empty."""
    path, old = source.name.split("@")
    new = f"{number:08x}"
    folder = exp / source.relative_to(EXP).with_name(f"{name or path}@{new}")
    folder.mkdir(parents=True)
    for file in ("files.csv", "train.log", "valid.log", "logs/metrics.csv", "best.safetensors", "accuracy.json"):
        if (source / file).exists():
            (folder / file).parent.mkdir(exist_ok=True)
            os.link(source / file, folder / file)
    (folder / "manifest.json").write_text((source / "manifest.json").read_text().replace(old, new))


def _measure(exp: Path) -> dict[str, float]:
    """Return the median time of each command (command -> s) on the results in the folder `exp`."""
    found = {}
    for command in ("status", "run", "report", "clean"):
        words = [sys.executable, "-m", "pipeline", command, "--config", PROFILE, "--set", f"workspace.exp={exp}"]

        def run(words: list[str] = words) -> None:
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        found[command] = seconds(run, 3)
    return found
