"""Searches with Optuna: what is proposed, and that a stopped search continues."""

import math

import pytest

from pipeline.cli import search
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


def run(journal, count, monkeypatch, broken_at=None):
    """Search with an accuracy that is highest at a learning rate of 1e-3; the names of the trials that ran."""
    names = []

    def run_combination(stage, combination):
        names.append(combination.name)
        if len(names) == broken_at:
            raise KeyboardInterrupt
        return 0

    def accuracy(stage, combination):
        rate = float(combination.settings[0].partition("=")[2])
        return 1 - abs(math.log10(rate) + 3) / 10

    monkeypatch.setattr(search, "run_combination", run_combination)
    monkeypatch.setattr(search, "_accuracy", accuracy)
    monkeypatch.setattr(search, "_report", lambda *_: None)
    space = {text.partition("=")[0]: search._distribution(text) for text in SPACE}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search._until(count, search._study(journal), space, "EvaluatePenn:finetuned")
    return names


def test_a_stopped_search_proposes_what_an_undisturbed_one_does(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole.log", 15, monkeypatch)
    assert len(whole) == 15 and len(set(whole)) > 12
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped.log", 15, monkeypatch, broken_at=12)
    assert run(tmp_path / "stopped.log", 15, monkeypatch) == whole[11:]
    assert run(tmp_path / "stopped.log", 15, monkeypatch) == []
    assert len(run(tmp_path / "stopped.log", 16, monkeypatch)) == 1


def test_a_search_from_the_command_line(place: Place):
    words = ("sweep", "EvaluateMpii:finetuned", "--vary", "finetune.learning_rate=1e-4..1e-2", "--search")
    said = place.run(*words, "1")
    assert "trial 1 of 1: learning_rate=0.0" in said and "best on the validation split: learning_rate=0.0" in said
    made = place.results()
    said = place.run(*words, "1")
    assert "trial" not in said and "best on the validation split" in said and place.results() == made
    assert "--search needs one evaluation" in place.run("sweep", "EvaluateMpii", *words[2:], "1", code=2)
