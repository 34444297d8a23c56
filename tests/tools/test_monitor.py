"""The table in which tools.monitor shows trainings."""

import sys

import pytest
from filelock import FileLock

from pipeline import config
from pipeline.engine.result import lock_of
from stages.training.logs import COLUMNS, METRICS
from tools import monitor

# 100 iterations in 20 s, a pause of an hour, and 100 iterations in 20 s. The pause must not change the pace of 0.2 s/iteration.
RUNNING = """\
1000.0,train,1,50,1000,0.4,0.1,0.001,5.00,0.5
1010.0,train,1,100,1000,0.3,0.2,0.001,10.00,0.25
1020.0,epoch,1,150,1000,0.35,0.15,0.001,,
1020.1,valid,1,150,1000,0.5,0.625,0.001,,
4620.0,train,2,200,1000,0.25,0.3,0.001,10.00,0.125
4630.0,train,2,250,1000,0.2,0.4,0.001,12.50,0.0625
"""
FINISHED = """\
1000.0,epoch,1,10,20,0.1,0.5,0.001,,
1000.1,valid,1,10,20,0.125,0.75,0.001,,
1001.0,epoch,2,20,20,0.0625,0.625,0.001,,
1001.1,valid,2,20,20,0.25,0.5,0.001,,
"""


@pytest.fixture
def exp(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "exp", lambda: tmp_path)
    folders = {"mpii/hg@00000001.partial": RUNNING, "mpii/hg-b@00000002": FINISHED, "lsp/hg@00000003.partial": ""}
    for name, rows in folders.items():
        path = tmp_path / name / METRICS
        path.parent.mkdir(parents=True)
        path.write_text(",".join(COLUMNS) + "\n" + rows)
    (tmp_path / "mpii/hg-b@00000002/manifest.json").touch()
    return tmp_path


def table(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["monitor", *arguments])
    assert monitor.main() == 0
    return [line.split() for line in capsys.readouterr().out.splitlines() if "@" in line]


def test_running_stopped_and_finished_trainings(exp, capsys, monkeypatch):
    own = exp / "own/fish/hg@00000004.partial"
    (own / METRICS).parent.mkdir(parents=True)
    (own / METRICS).write_text(",".join(COLUMNS) + "\n")
    with lock_of(exp / "mpii/hg@00000001", exp), lock_of(exp / "own/fish/hg@00000004", exp):
        rows = table(capsys, monkeypatch, "--once")
    assert rows == [
        ["lsp/hg@00000003", "stopped"],
        ["mpii/hg-b@00000002", "finished", "100%", "62.5%", "50.0%", "75.0%"],
        # The remaining 750 iterations take 0.2 s each.
        ["mpii/hg@00000001", "running", "25%", "40.0%", "62.5%", "62.5%", "12.5", "0:02:30"],
        ["own/fish/hg@00000004", "running"],
    ]  # fmt: skip


def test_a_training_that_has_only_validated_is_shown(exp, capsys, monkeypatch):
    (exp / "lsp/hg@00000003.partial" / METRICS).write_text(",".join(COLUMNS) + "\n" + FINISHED.splitlines()[1] + "\n")
    assert table(capsys, monkeypatch, "--once")[0] == ["lsp/hg@00000003", "stopped", "50%", "75.0%", "75.0%"]
    assert monitor.row(exp / "lsp/hg@00000003.partial")[3:6] == ["", "75.0%", "75.0%"]


def test_trainings_are_selected_by_name(exp, capsys, monkeypatch):
    assert [row[0] for row in table(capsys, monkeypatch, "--once", "hg-b")] == ["mpii/hg-b@00000002"]
    assert table(capsys, monkeypatch, "--once", "nobody") == []


def test_the_table_is_updated_until_interrupted(exp, capsys, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        with open(exp / "mpii/hg@00000001.partial" / METRICS, "a") as file:
            file.write(f"{4630 + 10 * len(looks)},train,2,{250 + 50 * len(looks)},1000,0.2,0.4,0.001,12.50,0.0625\n")
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(monitor.time, "sleep", sleep)
    rows = table(capsys, monkeypatch, "hg", "--every", "7")
    assert [row[2] for row in rows if row[0] == "mpii/hg@00000001"] == ["25%", "30%", "35%"]
    assert looks == [7, 7, 7]


def test_trainings_of_another_exp_below_are_found(exp, capsys, monkeypatch):
    (exp / "mpii/hg-b@00000002").rename(exp / "mpii/moved@00000004")
    path = exp / "demo/mpii/hg-64@00000005.partial" / METRICS
    path.parent.mkdir(parents=True)
    path.write_text(",".join(COLUMNS) + "\n" + FINISHED)
    (exp / "demo/.locks").mkdir()
    with FileLock(exp / "demo/.locks/00000005.lock"):
        assert ["demo/mpii/hg-64@00000005", "running"] in [row[:2] for row in table(capsys, monkeypatch, "--once")]


def test_tensorboard_gets_each_training_once(exp, monkeypatch):
    (exp / "mpii/hg-b").symlink_to("hg-b@00000002")
    called = []
    monkeypatch.setattr(monitor.subprocess, "call", lambda command: called.append(command[-1]) or 0)
    monkeypatch.setattr(sys, "argv", ["monitor", "--tensorboard", "hg", "hg-b"])
    monitor.main()
    names = ("lsp/hg@00000003", "mpii/hg-b@00000002", "mpii/hg@00000001")
    folders = (exp / "lsp/hg@00000003.partial/logs", exp / "mpii/hg-b@00000002/logs", exp / "mpii/hg@00000001.partial/logs")
    assert called == [",".join(f"{name}:{folder}" for name, folder in zip(names, folders, strict=True))]
