"""Sweeps from the command line: every combination of settings is an experiment of its own."""

import numpy as np
import pandas as pd
import pytest

from pipeline import config
from pipeline.cli.sweep import combinations, holm
from pipeline.config import UsageError
from tests.pipeline.conftest import Place


def test_every_combination_has_a_name_of_its_own():
    found = combinations(["finetune.learning_rate=1e-4,3e-4", "pretrain.batch=4,6", "evaluate.decoder=argmax,quarter"])
    assert [one.name for one in found][:2] == [
        "learning_rate=1e-4 batch=4 decoder=argmax", "learning_rate=1e-4 batch=4 decoder=quarter",
    ]  # fmt: skip
    assert len({one.name for one in found}) == len({one.settings for one in found}) == 8
    assert set(found[0].settings) == {
        "finetune.learning_rate=1e-4", "pretrain.batch=4", "evaluate.decoder=argmax",
        "finetune.experiment=hg-256-ft-learning_rate-1e-4", "pretrain.experiment=hg-256-batch-4",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["finetune.batch", "finetune.batch=4", "finetune.batch=4,4", "batch=1,2", "=1,2"])
def test_a_setting_without_several_values_is_refused(text):
    with pytest.raises(UsageError, match="give a setting and at least two values"):
        combinations([text])


def test_settings_are_added_for_a_while():
    before = config.settings().finetune.batch
    with config.more_settings(["finetune.batch=77", "dataset:x.labels=a"]):
        assert config.settings().finetune.batch == 77 and "x" in config.datasets()
    assert config.settings().finetune.batch == before and "x" not in config.datasets() and not config.single


def test_p_values_are_those_of_holm():
    tests = pd.DataFrame({"p": [0.01, np.nan, 0.04, 0.03], "verdict": ["better", "scored on other people", "worse", "better"]})
    found = holm(tests)
    np.testing.assert_allclose(found["p"], [0.03, np.nan, 0.06, 0.06])  # Holm: 3 p1, 2 p2, max(2 p2, p3)
    assert found["verdict"].tolist() == ["better", "scored on other people", "no difference shown", "no difference shown"]


def test_a_sweep_runs_compares_and_carries_on(place: Place):
    before = place.results()
    words = ("sweep", "EvaluateMpii:finetuned", "--vary", "finetune.learning_rate=0.001,0.003,none")
    said = place.run(*words, code=1)
    assert "1 of 3: learning_rate=0.001" in said and "learning_rate = none" in said
    assert "error: learning_rate=none failed" in said
    made = place.results()
    assert {name: made[name] for name in before} == before
    trained = {name.partition("@")[0] for name in made.keys() - before.keys() if "hg-256-ft" in name}
    assert trained == {f"penn_action_cropped/hg-256-ft-learning_rate-{value}" for value in ("0.001", "0.003")}
    table = said[said.index("MPII valid, PCKh@0.5") :]
    assert "learning_rate=0.001" in table and "learning_rate=0.003" in table and "than" in table
    said = place.run("sweep", "EvaluateMpii:finetuned", "--vary", "finetune.learning_rate=0.001,0.003")
    assert "done in" not in said and place.results() == made
