"""Searches with Optuna: the settings that a search proposes, and the continuation of a stopped search."""

import math

import numpy as np
import pytest

from pipeline.cli import search
from pipeline.cli.combinations import Running
from pipeline.config import UsageError
from tests.pipeline.conftest import Place

optuna = pytest.importorskip("optuna", reason="Optuna is an optional requirement")
SPACE = ["finetune.learning_rate=1e-5..1e-2", "finetune.batch=2,4", "finetune.epochs=1..3"]


def test_ranges_and_choices():
    rate, batch, epochs = map(search._distribution, SPACE)
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-2, True)
    assert batch.choices == ("2", "4") and (epochs.low, epochs.high) == (1, 3)
    assert not search._distribution("recipe.flip_probability=0.5..1").log


@pytest.mark.parametrize("text", ["finetune.batch=4..x", "finetune.batch=9..4", "batch=1..4", "finetune.batch=4"])
def test_a_wrong_range_is_refused(text):
    with pytest.raises(UsageError, match="--vary"):
        search._distribution(text)


class Process:
    """A simulated process that has ended; its exit code is 0, or 130 if it was asked to end."""

    def __init__(self) -> None:
        self.returncode, self.asked = 0, False

    def terminate(self) -> None:
        self.returncode, self.asked = 130, True


def run(folder, count, monkeypatch, broken_at=None, epochs=1, prune=False):
    """Search with a simulated accuracy, highest at a learning rate of 1e-3; return the names of the trials that ran."""
    names, known = [], {}

    def run_each(stage, combinations, at_once, logs, watch):
        for combination in combinations:
            names.append(combination.name)
            if len(names) == broken_at:
                raise KeyboardInterrupt
            one = Running(combination, Process(), None)
            for epoch in range(1, epochs + 1):
                if not one.process.asked:
                    known.setdefault(combination, {})[epoch] = epoch * accuracy(stage, combination)
                    watch(one)
            yield one

    def accuracy(stage, combination):
        rate = float(combination.settings[0].partition("=")[2])
        return 1 - abs(math.log10(rate) + 3) / 10

    monkeypatch.setattr(search, "run_each", run_each)
    monkeypatch.setattr(search, "_accuracy", accuracy)
    monkeypatch.setattr(search, "compare", lambda *_: None)
    monkeypatch.setattr(search.Search, "_epochs", lambda _, combination: known[combination])
    space = {text.partition("=")[0]: search._distribution(text) for text in SPACE}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(exist_ok=True)
    search.Search("EvaluatePenn:finetuned", search._study(folder / "trials.log"), space, folder, prune).run(count, 1)
    return names


def test_a_stopped_search_proposes_what_an_undisturbed_one_does(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", 15, monkeypatch)
    assert len(whole) == 15 and len(set(whole)) > 12
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", 15, monkeypatch, broken_at=12)
    assert run(tmp_path / "stopped", 15, monkeypatch) == whole[11:]
    assert run(tmp_path / "stopped", 15, monkeypatch) == []
    assert len(run(tmp_path / "stopped", 16, monkeypatch)) == 1


def test_trainings_that_fall_behind_are_stopped(tmp_path, monkeypatch):
    names = run(tmp_path, 15, monkeypatch, epochs=3, prune=True)
    trials = search._study(tmp_path / "trials.log").trials
    assert len(names) == len(trials) == 15
    finished = []
    for trial in trials:
        first = trial.intermediate_values[1]
        # after five trials, the median pruner stops a trial if its first accuracy is below the median of earlier trials
        behind = len(finished) >= 5 and first < np.median(finished)
        assert trial.state.name == ("PRUNED" if behind else "COMPLETE"), trial
        assert list(trial.intermediate_values) == ([1] if behind else [1, 2, 3])
        finished.append(first)
    assert any(trial.state.name == "PRUNED" for trial in trials)


def test_a_search_from_the_command_line(place: Place):
    words = ("sweep", "EvaluateMpii:finetuned", "--vary", "finetune.learning_rate=1e-4..1e-2", "--search")
    said = place.run(*words, "1")
    assert "trial 1 of 1: learning_rate=0.0" in said and "best on the validation split: learning_rate=0.0" in said
    made = place.results()
    said = place.run(*words, "1")
    assert "trial 1" not in said and "best on the validation split" in said and place.results() == made
    assert "--search needs one evaluation" in place.run("sweep", "EvaluateMpii", *words[2:], "1", code=2)
    assert "--prune needs --search N" in place.run("sweep", "EvaluateMpii:finetuned", *words[2:-1], "--prune", code=2)
    fetched = ("sweep", "EvaluateMpii:pretrained", *words[2:-1], "--models", "precomputed", "--search", "1", "--prune")
    assert "--prune cannot stop the jobs of Slurm" in place.run(*fetched, "--on", "slurm", code=2)
    assert "--prune needs an evaluation of a network that is trained" in place.run(*fetched, code=2)
    assert "0 is no whole number of at least 1" in place.run(*words, "0", code=2)
