"""Run a stage with each of several combinations of settings, some at the same time, and find the results."""

import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from luigi.task_register import Register

from datasets.errors import DataError
from pipeline import config
from pipeline.cli.find import find
from pipeline.config import UsageError
from pipeline.engine.stage import Stage
from pipeline.tasks.evaluate import Evaluate
from pipeline.tasks.train import TrainingStage
from stages.machine.stopping import SIGNALS, Stop
from stages.settings.trainings import Training

Choice = tuple[str, str, str]  # section, setting and value


@dataclass(frozen=True)
class Combination:
    """One combination of values of the varied settings."""

    name: str  # the varied settings with their values, such as learning_rate=0.0003
    settings: tuple[str, ...]  # arguments of --set: the varied settings, and the names of the experiments
    values: tuple[Choice, ...]

    @property
    def file_name(self) -> str:
        """Return the name for use as a file name: illegal characters are replaced, and a long name is shortened."""
        return shortened(legal_name(self.name))


@dataclass(frozen=True)
class Scores:
    """An evaluation with the settings of a combination, and the training whose network the evaluation scores."""

    name: str  # name of the combination
    evaluation: str  # name of the evaluation
    folder: Path  # result folder of the evaluation
    training: Path | None  # result folder of the training; None if the network was not trained here
    unfinished: Path | None  # folder in which the training's result is made


def shortened(name: str) -> str:
    """Return a name of at most 100 characters: a longer name is cut, and 8 digits of its digest are appended."""
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def legal_name(text: str) -> str:
    return re.sub("[^A-Za-z0-9._=-]", "_", text)


def split_values(text: str) -> list[Choice]:
    """Return the values of one setting, given as `finetune.learning_rate=1e-4,3e-4`.

    Raises UsageError for a text without a setting or with fewer than two values.
    """
    name, _, values = text.partition("=")
    section, _, setting = name.strip().rpartition(".")
    each = [value.strip() for value in values.split(",") if value.strip()]
    if not section or not setting or len(set(each)) < 2:
        raise UsageError(f"--vary {text}: give a setting and at least two values, such as finetune.learning_rate=1e-4,3e-4.")
    return [(section, setting, value) for value in each]


def combination_of(chosen: Sequence[Choice]) -> Combination:
    """Return the combination that consists of one chosen value for each varied setting.

    If settings of a training vary, the experiment of this training gets a new name: the name from the settings, followed by the
    varied settings and their values. Raises UsageError for unknown settings and wrong values.
    """
    settings = [f"{section}.{setting}={value}" for section, setting, value in chosen]
    for section in dict.fromkeys(section for section, _, _ in chosen):
        training = getattr(config.settings(), section, None)
        if isinstance(training, Training):  # not a section such as [recipe:NAME] or [dataset:NAME]
            own = [f"{setting}-{value}" for of, setting, value in chosen if of == section]
            settings.append(
                f"{section}.experiment={shortened(legal_name('-'.join((training.experiment, *own))).replace('=', '_'))}"
            )
    try:
        with config.more_settings(settings):
            config.settings()  # checked now, so that not every combination fails later
    except DataError as error:
        raise UsageError(str(error)) from None
    return Combination(" ".join(f"{setting}={value}" for _, setting, value in chosen), tuple(settings), tuple(chosen))


@dataclass
class Running:
    """A stage that runs with the settings of a combination, in a process of its own."""

    combination: Combination
    process: subprocess.Popen
    log: Path | None  # file of its messages; None if they are printed on this terminal


def run_each(stage: str, combinations: Iterator[Combination], at_once: int, logs: Path,
             watch: Callable[[Running], object] = lambda _: None) -> Generator[Running]:  # fmt: skip
    """Run a stage with each combination, `at_once` of them at the same time; yield each when its process has ended.

    A combination is taken from the iterator only when its process can start. If several run at once, their messages are written
    to the folder `logs`. watch: called several times a second with each running combination. If this process is asked to stop,
    it asks the processes to stop, waits until they have, and raises KeyboardInterrupt.
    """
    running, more = list[Running](), True
    with Stop((*SIGNALS, signal.SIGHUP)) as stop, ExitStack() as stack:
        stack.callback(_end, running)
        while True:
            while more and len(running) < at_once:
                combination = next(combinations, None)
                more = combination is not None
                if combination:
                    running.append(_start(stage, combination, logs if at_once > 1 else None))
            if not running:
                return
            for one in running:
                watch(one)
            if stop.asked:
                raise KeyboardInterrupt
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                yield one
            time.sleep(0.2)


def _start(stage: str, combination: Combination, logs: Path | None) -> Running:
    words = shlex.split(config.command(f"run {stage}"))[1:]
    extra = [word for text in combination.settings for word in ("--set", text)]
    log = logs / f"{combination.file_name}.txt" if logs else None
    with ExitStack() as stack:
        file = None
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(log, "a"))
        # The process gets its own process group, so that Ctrl-C reaches only this program, which then asks the processes of all
        # combinations to stop.
        process = subprocess.Popen(
            [sys.executable, *words, *extra], stdin=subprocess.DEVNULL, stdout=file, stderr=file, process_group=0
        )
    return Running(combination, process, log)


def _end(running: list[Running]) -> None:
    """Ask the processes to stop, and wait until they have ended; a training first writes a checkpoint.

    After a second Ctrl-C, the processes are killed; the next run continues a killed training from its last checkpoint.
    """
    try:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.wait()
    except KeyboardInterrupt:
        for one in running:
            if one.process.poll() is None:
                os.killpg(one.process.pid, signal.SIGKILL)
        for one in running:
            one.process.wait()
        raise


def scores_of(stage: str, combination: Combination) -> list[Scores]:
    """Return the Scores of each evaluation that the name `stage` selects when the settings of the combination apply."""
    with config.more_settings(combination.settings):
        Register.clear_instance_cache()  # Luigi caches stages, and the cached stages have fingerprints of other settings
        found = [_scores(one, combination.name) for one in find(stage) if isinstance(one, Evaluate)]
    Register.clear_instance_cache()
    return found


def _scores(evaluation: Stage, name: str) -> Scores:
    model = evaluation.requires().get("model")
    if not isinstance(model, TrainingStage):
        return Scores(name, evaluation.name, evaluation.folder, None, None)
    return Scores(name, evaluation.name, evaluation.folder, model.folder, model.result.partial)
