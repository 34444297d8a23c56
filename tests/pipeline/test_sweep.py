"""Sweeps from the command line: every combination of settings is an experiment of its own."""

import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import config
from pipeline.cli.combinations import Combination, Running, combination_of, run_each
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


def test_sections_that_are_no_trainings_can_be_varied():
    texts = "recipe:modern.learning_rate=0.001", "dataset:x.split_seed=2", "slurm:PretrainMpii.cpus=4"
    with config.more_settings(["dataset:x.labels=a"]):
        for text in texts:
            section, _, setting = text.partition("=")[0].rpartition(".")
            assert combination_of([(section, setting, text.partition("=")[2])]).settings == (text,)
    with pytest.raises(UsageError, match=r"section \[pretrian\]"):
        combination_of([("pretrian", "learning_rate", "0.1")])
    with pytest.raises(UsageError, match="nix"):
        combination_of([("pretrain", "nix", "1")])


def test_p_values_are_those_of_holm():
    tests = pd.DataFrame({"p": [0.01, np.nan, 0.04, 0.03], "verdict": ["better", "scored on other people", "worse", "better"]})
    found = holm(tests)
    np.testing.assert_allclose(found["p"], [0.03, np.nan, 0.06, 0.06])  # Holm: 3 p1, 2 p2, max(2 p2, p3)
    assert found["verdict"].tolist() == ["better", "scored on other people", "no difference shown", "no difference shown"]


def test_a_sweep_runs_compares_and_carries_on(place: Place):
    before = place.results()
    words = ("sweep", "EvaluateMpii:finetuned", "--vary")
    said = place.run(*words, "finetune.learning_rate=0.001,none", code=2)
    assert "learning_rate = none" in said and "1 of 2" not in said  # refused before anything runs
    said = place.run(*words, "finetune.learning_rate=0.001,0.003,10", code=1)
    assert "1 of 3: learning_rate=0.001" in said and "The loss became" in said
    assert "error: learning_rate=10 failed" in said
    made = place.results()
    assert {name: made[name] for name in before} == before
    trained = {name.partition("@")[0] for name in made.keys() - before.keys() if "hg-256-ft" in name}
    assert trained == {f"penn_action_cropped/hg-256-ft-learning_rate-{value}" for value in ("0.001", "0.003")}
    table = said[said.index("MPII valid, PCKh@0.5") :]
    assert "learning_rate=0.001" in table and "learning_rate=0.003" in table and "than" in table
    said = place.run(*words, "finetune.learning_rate=0.001,0.003", "--at-once", "2")
    assert "learning_rate=0.003 is done" in said and place.results() == made
    folder = next(path for path in place.exp.glob("sweeps/EvaluateMpii-finetuned-*") if (path / "logs").exists())
    assert {path.name for path in folder.glob("logs/*")} == {"learning_rate=0.001.txt", "learning_rate=0.003.txt"}
    assert pd.read_csv(folder / "tests.csv")["network"].tolist() == ["learning_rate=0.003"]
    assert (folder / "curves_penn_action_cropped.png").stat().st_size > 10_000
    found = hparams(folder / "tensorboard")
    assert {name: settings for name, (settings, _) in found.items()} == {
        f"learning_rate={value}": {"finetune.learning_rate": value} for value in (0.001, 0.003)
    }
    parts = pd.read_csv(folder / "parts.csv").query("measure == 'PCKh@0.5'").set_index("network")["overall"]
    for name, (_, accuracies) in found.items():
        assert accuracies == {"EvaluateMpii:finetuned valid, PCKh@0.5 in %": pytest.approx(parts[name], abs=1e-4)}


def hparams(folder: Path) -> dict[str, tuple[dict, dict]]:
    """Return a dict: run -> (settings, accuracies), as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found = {}
    for run in (path for path in folder.iterdir() if path.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        given = metadata.parse_session_start_info_plugin_data(content).hparams
        settings = {name: value.number_value or value.string_value for name, value in given.items()}
        found[run.name] = settings, {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    return found


def test_combinations_run_at_the_same_time_and_stop_together(tmp_path, monkeypatch):
    """First, three processes wait for each other. Then a SIGTERM stops two processes before a third is started."""
    monkeypatch.setattr("pipeline.cli.combinations.config.command", lambda words: f"x -c '{MEET}' {tmp_path} {words}")
    these = [Combination(f"a={i}", (f"x.a={i}",), (("x", "a", str(i)),)) for i in range(3)]
    with closing(run_each("Stage", iter(these), 3, tmp_path / "logs")) as ended:
        assert [one.process.returncode for one in ended] == [0, 0, 0]
    assert (tmp_path / "logs/a=1.txt").read_text() == "run Stage --set x.a=1\n"
    monkeypatch.setattr("pipeline.cli.combinations.config.command", lambda words: "x -c 'import time; time.sleep(60)'")
    begun = []
    with pytest.raises(KeyboardInterrupt), closing(run_each("S", iter(these), 2, tmp_path, begun.append)) as ended:
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        list(ended)
    assert {one.combination.name for one in begun} == {"a=0", "a=1"}
    assert all(one.process.returncode == -signal.SIGTERM for one in begun)


def test_a_second_interrupt_kills_the_combinations(tmp_path, monkeypatch):
    """Two processes that ignore SIGTERM, as a training does while it writes a checkpoint."""
    words = "x -c 'import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)'"
    monkeypatch.setattr("pipeline.cli.combinations.config.command", lambda _: words)
    these = [Combination(f"a={i}", (), (("x", "a", str(i)),)) for i in range(2)]
    begun = dict[str, Running]()

    def interrupt_twice(one: Running) -> None:
        begun[one.combination.name] = one
        if len(begun) == 2 and all(one.log.read_text() for one in begun.values()):
            threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(run_each("S", iter(these), 2, tmp_path, interrupt_twice)) as ended:
        list(ended)
    assert [one.process.returncode for one in begun.values()] == 2 * [-signal.SIGKILL]


MEET = """
import sys, time
from pathlib import Path
folder, *words = sys.argv[1:]
print(*words)
Path(folder, words[-1]).touch()
end = time.monotonic() + 60
while len(list(Path(folder).glob("x.a=*"))) < 3 and time.monotonic() < end:
    time.sleep(0.05)
sys.exit(len(list(Path(folder).glob("x.a=*"))) < 3)
"""
