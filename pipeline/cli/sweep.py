"""Run the command `sweep`: run a stage with every combination of some settings, and compare the results.

A sweep writes these files to the folder exp/sweeps/<stage>-<8 digits>; the same command writes them again:
    parts.*, joints.csv    accuracies of all combinations, see `stages.reporting.compare`
    tests.csv, .md, .txt   significance tests of all other combinations against the first, corrected for the number of tests
    curves_<dataset>.*     loss and accuracy by epoch of the trainings, if a setting of a training varies
    tensorboard/           the settings and the accuracies for TensorBoard's tab HPARAMS
    logs/                  messages of the combinations, if several run at the same time
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import config
from pipeline.cli.combinations import Combination, Running, Scores, combination_of, run_each, scores_of, split_values
from pipeline.cli.find import find

if TYPE_CHECKING:
    import pandas as pd


def combinations(varied: list[str]) -> list[Combination]:
    """Return all combinations of values; varied: texts such as `finetune.learning_rate=1e-4,3e-4`.

    Raises UsageError for a text without a setting or with fewer than two values.
    """
    return [combination_of(chosen) for chosen in product(*map(split_values, varied))]


def folder_of(stage: str, varied: list[str]) -> Path:
    """Return the folder of a sweep's or a search's results, which depends on the stage, all settings and the varied values."""
    fingerprints = [found.fingerprint for found in find(stage)]
    key = hashlib.sha256(json.dumps([stage, fingerprints, sorted(varied)]).encode()).hexdigest()
    return config.exp() / "sweeps" / f"{stage.replace(':', '-')}-{key[:8]}"


def sweep(options: argparse.Namespace) -> int:
    """Run a stage with all combinations, and print a comparison of the results; return the exit code.

    The other combinations run even if a combination fails. Failed combinations are listed at the end, and the exit code is then
    1.
    """
    all_of_them, failed = combinations(options.vary), list[Running]()
    folder = folder_of(options.stage, options.vary)

    def announced() -> Iterator[Combination]:
        for number, combination in enumerate(all_of_them, 1):
            print(f"\n{number} of {len(all_of_them)}: {combination.name}", flush=True)
            yield combination

    with closing(run_each(options.stage, announced(), options.at_once, folder / "logs")) as ended:
        failed += [one for one in ended if say_end(one)]
    names = {one.combination.name for one in failed}
    compare(folder, options.stage, [one for one in all_of_them if one.name not in names])
    return say_failures(failed)


def say_end(one: Running) -> int:
    """Print that a combination has ended, if its messages go to a file; return its exit code."""
    code = one.process.returncode
    if one.log:
        print(f"{one.combination.name} {'failed' if code else 'is done'}; its messages are in {one.log}", flush=True)
    return code


def say_failures(failed: list[Running]) -> int:
    """Print an error for each failed combination; return the exit code of the command."""
    for one in failed:
        place = f"in {one.log}" if one.log else "above"
        print(
            f"error: {one.combination.name} failed; its messages are {place}. To continue it, repeat the same command.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def compare(folder: Path, stage: str, chosen: list[Combination]) -> None:
    """Print the combinations' accuracies, and tests of all others against the first; write tables and curves to `folder`."""
    from stages.evaluation.scores import Scored, as_text, pair_table, part_text
    from stages.reporting.compare import write_tables, write_tests

    made = [(combination, found) for combination in chosen for found in scores_of(stage, combination)]
    if not made:
        return
    folder.mkdir(parents=True, exist_ok=True)
    by_dataset: dict[str, list[Scored]] = {}
    for one in [Scored(found.name, found.folder) for _, found in made]:
        by_dataset.setdefault(one.accuracy.dataset, []).append(one)
    print("\n" + part_text(write_tables(folder, [one for those in by_dataset.values() for one in those])))
    tests = holm(pair_table([(first, other) for first, *others in by_dataset.values() for other in others]))
    if len(tests):
        write_tests(folder, tests)
        print("\n" + as_text(tests))
    _draw_curves(folder, [found for _, found in made])
    _write_hparams(folder / "tensorboard", made)
    print(f"\ntables and curves are in {folder}; for TensorBoard: tensorboard --logdir {folder / 'tensorboard'}")


def _draw_curves(folder: Path, made: list[Scores]) -> None:
    from stages.reporting import curves

    by_dataset: dict[str, dict[Path, curves.Training]] = {}
    for found in made:
        if found.training:
            those = by_dataset.setdefault(found.training.parent.name, {})
            those.setdefault(found.training, curves.Training(found.name, found.training))
    for dataset, trainings in by_dataset.items():
        if len(trainings) > 1:
            curves.draw_training(folder / f"curves_{dataset}", list(trainings.values()))


def _write_hparams(folder: Path, made: list[tuple[Combination, Scores]]) -> None:
    """Write the settings and accuracies of each combination for TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    from stages.evaluation.scores import Scored

    shutil.rmtree(folder, ignore_errors=True)
    accuracies: dict[Combination, dict[str, float]] = {}
    for combination, found in made:
        one = Scored(found.name, found.folder)
        for split, metrics in one.accuracy.labelled.items():
            value = metrics.measures[one.first_measure].value
            name = f"{found.evaluation} {split}, {one.first_measure} in %"
            accuracies.setdefault(combination, {})[name] = float("nan") if value is None else 100 * value
    with SummaryWriter(str(folder)) as writer:
        for combination, rates in accuracies.items():
            settings = {f"{section}.{name}": _number_or_text(value) for section, name, value in combination.values}
            writer.add_hparams(settings, rates, run_name=combination.file_name)


def _number_or_text(value: str) -> float | str:
    with suppress(ValueError):
        return float(value)
    return value


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
