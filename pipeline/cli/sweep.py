"""The command `sweep`: run a stage with every combination of some settings, and compare the results."""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from luigi.task_register import Register

from pipeline import config
from pipeline.cli.find import find
from pipeline.config import UsageError
from pipeline.tasks.evaluate import Evaluate
from stages.settings.trainings import Training

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Combination:
    """One combination of values of the varied settings."""

    name: str  # the varied settings with their values, such as learning_rate=0.0003
    settings: tuple[str, ...]  # arguments of --set: the varied settings, and the names of the experiments


Choice = tuple[str, str, str]  # section, setting and value


def combinations(varied: list[str]) -> list[Combination]:
    """Return all combinations of values; varied: texts such as `finetune.learning_rate=1e-4,3e-4`.

    Raises UsageError for a text without a setting or with fewer than two values.
    """
    return [combination_of(chosen) for chosen in product(*map(split_values, varied))]


def split_values(text: str) -> list[Choice]:
    """Return the values of one setting, given as `finetune.learning_rate=1e-4,3e-4`. Raises UsageError as `combinations`."""
    name, _, values = text.partition("=")
    section, _, setting = name.strip().rpartition(".")
    each = [value.strip() for value in values.split(",") if value.strip()]
    if not section or not setting or len(set(each)) < 2:
        raise UsageError(f"--vary {text}: give a setting and at least two values, such as finetune.learning_rate=1e-4,3e-4.")
    return [(section, setting, value) for value in each]


def combination_of(chosen: Sequence[Choice]) -> Combination:
    """Return the combination of one value of each setting.

    If settings of a training vary, the combination gets its own name for the experiment of this training: the current name with
    the varied settings and their values.
    """
    settings = [f"{section}.{setting}={value}" for section, setting, value in chosen]
    for section in dict.fromkeys(section for section, _, _ in chosen):
        training = config.settings().section(section)
        if isinstance(training, Training):
            own = [f"{setting}-{value}" for of, setting, value in chosen if of == section]
            settings.append(f"{section}.experiment={re.sub('[^A-Za-z0-9._-]', '_', '-'.join((training.experiment, *own)))}")
    return Combination(" ".join(f"{setting}={value}" for _, setting, value in chosen), tuple(settings))


def sweep(options: argparse.Namespace) -> int:
    """Run a stage with all combinations, one after another, and print a comparison of the results; return the exit code.

    The other combinations run even if a combination fails. Failed combinations are listed at the end, and the exit code is then
    1.
    """
    all_of_them, failed = combinations(options.vary), []
    for number, combination in enumerate(all_of_them, 1):
        print(f"\n{number} of {len(all_of_them)}: {combination.name}", flush=True)
        if run_combination(options.stage, combination):
            failed.append(combination.name)
    scored = [(c.name, place) for c in all_of_them if c.name not in failed for place in evaluations(options.stage, c)]
    if scored:
        print_comparison(scored)
    for name in failed:
        print(f"error: {name} failed; its messages are above. To continue it, repeat the same command.", file=sys.stderr)
    return 1 if failed else 0


def run_combination(stage: str, combination: Combination) -> int:
    """Run a stage with the settings of a combination; return the exit code."""
    words = shlex.split(config.command(f"run {stage}"))[1:]
    extra = [word for text in combination.settings for word in ("--set", text)]
    return subprocess.call([sys.executable, *words, *extra])


def evaluations(stage: str, combination: Combination) -> list[Path]:
    """Return the result folders of the evaluations that the name `stage` selects, with the settings of a combination."""
    with config.more_settings(combination.settings):
        Register.clear_instance_cache()  # Luigi caches stages, and the cached stages have fingerprints of other settings
        folders = [found.folder for found in find(stage) if isinstance(found, Evaluate)]
    Register.clear_instance_cache()
    return folders


def print_comparison(scored: list[tuple[str, Path]]) -> None:
    """Print accuracies of evaluations, and tests of each against the first; scored: pairs of name and result folder."""
    from stages.evaluation.scores import Scored, as_text, pair_table, part_table, part_text

    found: dict[str, list[Scored]] = {}
    for name, folder in scored:
        one = Scored(name, folder)
        found.setdefault(one.accuracy.dataset, []).append(one)
    print("\n" + part_text(part_table([one for those in found.values() for one in those])))
    tests = pair_table([(first, other) for first, *others in found.values() for other in others])
    if len(tests):
        print("\n" + as_text(holm(tests)))


def holm(tests: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table of tests whose p-values and verdicts are corrected for the number of tests (Holm, 1979).

    Networks that were scored on different people have a row without a p-value. This row stays unchanged, and does not count as
    a test.
    """
    found, worst = tests.copy(), 0.0
    ranked = found["p"].dropna().sort_values(kind="stable")
    for rank, (row, p) in enumerate(ranked.items()):
        worst = max(worst, min(1.0, p * (len(ranked) - rank)))
        found.loc[row, "p"] = worst
        if worst >= 0.05:
            found.loc[row, "verdict"] = "no difference shown"
    return found
