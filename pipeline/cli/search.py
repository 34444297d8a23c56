"""Search settings with Optuna, for `sweep --search`: each trial is a combination like those of a sweep.

The trials are kept in exp/.searches, so that a search that was stopped, or is given more trials, continues.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from datasets.errors import DataError
from datasets.files import lock_file
from pipeline import config
from pipeline.cli.find import find
from pipeline.cli.sweep import Combination, combination_of, evaluations, print_comparison, run_combination, split_values
from pipeline.config import UsageError
from pipeline.tasks.evaluate import Evaluate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

LOG_FACTOR = 10  # a range whose limits differ by this factor or more is searched on a log scale


def search(options: argparse.Namespace) -> int:
    """Let Optuna choose combinations, one after the other, until there are `options.search` trials; return the exit code.

    The trials are compared by their accuracy on the validation split. Failed trials are listed at the end, and make the exit
    code 1. Raises UsageError for a stage that is no single evaluation and for a wrong range, and DataError without Optuna.
    """
    try:
        import optuna
    except ImportError:
        raise DataError("A search needs Optuna, which is not installed; run: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stages = find(options.stage)
    if len(stages) != 1 or not isinstance(stages[0], Evaluate):
        raise UsageError(f"--search needs one evaluation, such as EvaluatePenn:finetuned, not {options.stage}.")
    space = {text.partition("=")[0].strip(): _distribution(text) for text in options.vary}
    key = hashlib.sha256(json.dumps([options.stage, stages[0].fingerprint, sorted(options.vary)]).encode()).hexdigest()
    journal = config.exp() / ".searches" / f"{key[:8]}.log"
    journal.parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file(journal.with_suffix(".lock"), timeout=0):
            return _until(options.search, _study(journal), space, options.stage)
    except Timeout:
        raise DataError(f"Another command is at work on this search ({journal}); wait until it has ended.") from None


def _distribution(text: str) -> "BaseDistribution":
    """Return the values of a setting, given as `finetune.batch=4,6,8` or `finetune.learning_rate=1e-5..1e-2`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    name, _, values = text.partition("=")
    if ".." not in values or not name.strip().rpartition(".")[0]:
        return CategoricalDistribution([value for _, _, value in split_values(text)])
    low, high = values.split("..", 1)
    try:
        if low.strip().isdigit() and high.strip().isdigit():
            return IntDistribution(int(low), int(high))
        limits = float(low), float(high)
        return FloatDistribution(*limits, log=limits[0] > 0 and limits[1] >= LOG_FACTOR * limits[0])
    except ValueError:
        raise UsageError(
            f"--vary {text}: give a range from a number to a larger one, such as finetune.learning_rate=1e-5..1e-2."
        ) from None


def _study(journal: Path) -> "Study":
    from optuna import create_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
    return create_study(study_name="search", storage=storage, direction="maximize", load_if_exists=True)


def _until(count: int, study: "Study", space: dict[str, "BaseDistribution"], stage: str) -> int:
    """Run trials until there are `count`; print their comparison, and return the exit code.

    A trial that was interrupted or failed stays unfinished; the next command runs it first, so that its training continues.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    failed = dict[int, str]()
    while True:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        unfinished = [trial for trial in running if trial.number not in failed]
        if unfinished:
            number, params = unfinished[0].number, unfinished[0].params
        elif len(study.trials) < count:
            # The seed depends on the trial, so that an interrupted search proposes what an uninterrupted one does.
            study.sampler = TPESampler(seed=len(study.trials))
            asked = study.ask(space)
            number, params = asked.number, asked.params
        else:
            break
        combination = _combination(params)
        print(f"\ntrial {number + 1} of {max(count, number + 1)}: {combination.name}", flush=True)
        if run_combination(stage, combination):
            failed[number] = combination.name
        else:
            study.tell(number, _accuracy(stage, combination))
    _report(study, stage)
    for name in failed.values():
        print(f"error: {name} failed; its messages are above. To continue it, repeat the same command.", file=sys.stderr)
    return 1 if failed else 0


def _combination(params: dict) -> Combination:
    named = [
        (*name.rpartition(".")[::2], f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in params.items()
    ]
    return combination_of(named)


def _accuracy(stage: str, combination: Combination) -> float:
    """Return the overall accuracy on the validation split, by the dataset's first measure; 0 if no joint counts.

    Raises UsageError if the evaluation has no validation split.
    """
    from stages.evaluation.scores import Scored

    (folder,) = evaluations(stage, combination)
    scored = Scored(combination.name, folder)
    if "valid" not in scored.accuracy.splits:
        raise UsageError(f"--search needs an evaluation on a validation split; {stage} has none.")
    return scored.accuracy.splits["valid"].measures[scored.first_measure].value or 0.0


def _report(study: "Study", stage: str) -> None:
    """Print the accuracies of the finished trials, the best first, and tests of the others against the best."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best_first = sorted(done, key=lambda trial: trial.value or 0.0, reverse=True)
    found = {one.name: one for one in (_combination(trial.params) for trial in best_first)}  # two trials may be equal
    scored = [(name, folder) for name, one in found.items() for folder in evaluations(stage, one)]
    if scored:
        print_comparison(scored)
        print(f"\nbest on the validation split: {scored[0][0]}, {100 * (best_first[0].value or 0.0):.2f} %")
