"""Search for the best settings with Optuna, for `sweep --search`: each trial is one combination of settings, as in a sweep.

The trials are stored in trials.log in the folder of the search's results. From this file, a search continues after it was
stopped, or when it is repeated with a larger number of trials.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from datasets.errors import DataError
from datasets.files import lock_file
from pipeline import config
from pipeline.cli.combinations import Combination, Running, combination_of, run_each, scores_of, split_values
from pipeline.cli.find import find
from pipeline.cli.sweep import compare, folder_of, say_end, say_failures
from pipeline.config import UsageError
from pipeline.tasks.evaluate import Evaluate
from pipeline.tasks.train import TrainingStage

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

LOG_FACTOR = 10  # a range whose limits differ by this factor or more is searched on a log scale


def search(options: argparse.Namespace) -> int:
    """Let Optuna choose combinations until there are `options.search` trials; return the exit code.

    The trials are compared by their accuracy on the validation split. Failed trials are listed at the end, and the exit code is
    then 1. Raises UsageError if the stage's name does not select exactly one evaluation, if a range is invalid, or if `--prune`
    is given for trainings that the search cannot stop: jobs of Slurm, or networks that are not trained here. Raises DataError
    if Optuna is not installed, or if another command runs the same search.
    """
    try:
        import optuna
    except ImportError:
        raise DataError("A search needs Optuna, which is not installed; run: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not options.search:
        raise UsageError("--prune needs --search N.")
    stages = find(options.stage)
    if len(stages) != 1 or not isinstance(stages[0], Evaluate):
        raise UsageError(f"--search needs one evaluation, such as EvaluatePenn:finetuned, not {options.stage}.")
    if options.prune and config.settings().workspace.run_on == "slurm":
        raise UsageError("--prune cannot stop the jobs of Slurm; leave out --prune or --on slurm.")
    if options.prune and not isinstance(stages[0].requires()["model"], TrainingStage):
        raise UsageError(f"--prune needs an evaluation of a network that is trained here; {options.stage} is not one.")
    space = {text.partition("=")[0].strip(): _distribution(text) for text in options.vary}
    folder = folder_of(options.stage, options.vary)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file(folder / "lock", timeout=0):
            found = Search(options.stage, _study(folder / "trials.log"), space, folder, options.prune)
            return found.run(options.search, options.at_once)
    except Timeout:
        raise DataError(f"Another command is at work on this search ({folder}); wait until it has ended.") from None


def _distribution(text: str) -> "BaseDistribution":
    """Return the list or range of values from which Optuna chooses.

    text: a list such as `finetune.batch=4,6,8`, or a range such as `finetune.learning_rate=1e-5..1e-2`. Raises UsageError
    for an invalid range.
    """
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
            f"--vary {text}: give a range from a number to a larger number, such as finetune.learning_rate=1e-5..1e-2."
        ) from None


def _study(journal: Path) -> "Study":
    from optuna import create_study
    from optuna.pruners import MedianPruner
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
    return create_study(study_name="search", storage=storage, direction="maximize", pruner=MedianPruner(), load_if_exists=True)


class Search:
    """The trials of one Optuna study. Each trial runs a stage with one combination of settings, as in a sweep.

    A trial that was interrupted or failed stays unfinished. The next search runs this trial first, so that its training
    continues.
    """

    def __init__(self, stage: str, study: "Study", space: dict[str, "BaseDistribution"], folder: Path, prune: bool) -> None:
        """stage: name of the evaluation; space: name of a varied setting -> its values; folder: folder of the search's results.

        prune: whether to stop trainings whose validation accuracy falls behind that of the other trials.
        """
        self.stage, self.study, self.space, self.folder, self.prune = stage, study, space, folder, prune
        self.numbers: dict[Combination, list[int]] = {}  # running combinations -> numbers of their trials
        self.pruned = set[Combination]()
        self.reported: dict[Combination, int] = {}  # combinations -> numbers of epochs reported to Optuna
        self.places: dict[Combination, Path] = {}  # combinations -> folders of their unfinished trainings

    def run(self, count: int, at_once: int) -> int:
        """Run trials, `at_once` of them at the same time, until there are `count` trials; return the exit code."""
        failed = list[Running]()
        with closing(run_each(self.stage, self._trials(count), at_once, self.folder / "logs", self._watch)) as ended:
            for one in ended:
                numbers, pruned = self.numbers.pop(one.combination), one.combination in self.pruned
                self.pruned.discard(one.combination)  # Optuna may propose this combination again
                self.reported.pop(one.combination, None)
                if pruned and one.process.returncode:
                    print(f"{one.combination.name} fell behind the other trials and was stopped", flush=True)
                    self._tell(numbers, None)
                elif say_end(one):
                    failed.append(one)
                else:
                    self._tell(numbers, _accuracy(self.stage, one.combination))
        self._report()
        return say_failures(failed)

    def _trials(self, count: int) -> Iterator[Combination]:
        """Yield the combinations of unfinished trials, and then of new trials until there are `count` trials."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        unfinished = [(t.number, t.params) for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        while unfinished or len(self.study.trials) < count:
            if unfinished:
                number, params = unfinished.pop(0)
            else:
                # The seed is the trial's number, so that an interrupted search proposes the same trials as one without a break.
                self.study.sampler = TPESampler(seed=len(self.study.trials))
                asked = self.study.ask(self.space)
                number, params = asked.number, asked.params
            combination = _combination(params)
            self.numbers.setdefault(combination, []).append(number)
            # A combination that is already running for another trial is not run again: both trials get the same accuracy.
            if len(self.numbers[combination]) == 1:
                print(f"\ntrial {number + 1} of {max(count, number + 1)}: {combination.name}", flush=True)
                yield combination

    def _tell(self, numbers: list[int], accuracy: float | None) -> None:
        """Report the accuracy of trials to Optuna; accuracy None: the trials fell behind the other trials and were stopped."""
        from optuna.trial import TrialState

        for number in numbers:
            if accuracy is None:
                self.study.tell(number, state=TrialState.PRUNED)
            else:
                self.study.tell(number, accuracy)

    def _watch(self, one: Running) -> None:
        """Report the validation accuracy of each finished epoch to Optuna; stop the training if Optuna's pruner decides so."""
        from optuna.trial import Trial

        if not self.prune or one.combination in self.pruned:
            return
        epochs = self._epochs(one.combination)  # without the final epoch, after which there is nothing to stop
        if len(epochs) <= self.reported.get(one.combination, 0):
            return
        self.reported[one.combination] = len(epochs)
        frozen = self.study.trials[self.numbers[one.combination][0]]
        trial = Trial(self.study, frozen._trial_id)
        for epoch in sorted(epochs.keys() - frozen.intermediate_values.keys()):
            trial.report(epochs[epoch], epoch)
            if trial.should_prune():
                self.pruned.add(one.combination)
                one.process.terminate()
                return

    def _epochs(self, combination: Combination) -> dict[int, float]:
        """Return epoch -> validation accuracy of an unfinished training; {} if the training is finished.

        The accuracy of the training's final epoch is left out.
        """
        from stages.training.logs import read_metrics

        if combination not in self.places:
            (found,) = scores_of(self.stage, combination)
            assert found.unfinished, "`search` has checked that there is a training"
            self.places[combination] = found.unfinished
        rows = [row for row in read_metrics(self.places[combination]) if row["what"] == "valid"]
        return {int(row["epoch"]): float(row["acc"]) for row in rows if int(row["iteration"]) < int(row["iterations"])}

    def _report(self) -> None:
        """Print the accuracies of the finished trials, the best trial first, and tests of all other trials against the best."""
        from optuna.trial import TrialState

        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best_first = sorted(done, key=lambda trial: trial.value or 0.0, reverse=True)
        found = list(dict.fromkeys(_combination(trial.params) for trial in best_first))  # trials with equal settings count once
        if found:
            compare(self.folder, self.stage, found)
            print(f"best on the validation split: {found[0].name}, {100 * (best_first[0].value or 0.0):.2f} %")


def _combination(params: dict) -> Combination:
    named = [
        (*name.rpartition(".")[::2], f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in params.items()
    ]
    return combination_of(named)


def _accuracy(stage: str, combination: Combination) -> float:
    """Return the overall accuracy (0 to 1) on the validation split, by the dataset's first measure (`Scored.first_measure`).

    The accuracy is 0 if no joint was scored. Raises UsageError if the evaluation has no validation split.
    """
    from stages.evaluation.scores import Scored

    (found,) = scores_of(stage, combination)
    scored = Scored(combination.name, found.folder)
    if "valid" not in scored.accuracy.splits:
        raise UsageError(f"--search needs an evaluation on a validation split; {stage} has none.")
    return scored.accuracy.splits["valid"].measures[scored.first_measure].value or 0.0
