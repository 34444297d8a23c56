"""The converter from the command line: conversion of motion capture, training of converter and lifter, and evaluation."""

import csv
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.progress import silent
from pipeline.engine.digests import Digests
from pipeline.tasks.lifting import ConvertMocap
from tests.datasets.mocap.test_mocap import write_human36m
from tests.datasets.mocap.test_recordings import frames, write_acclaim, write_bvh
from tests.pipeline.conftest import Place


@pytest.fixture(scope="module")
def lifted(chain_in_3d: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the chain that forecasts in 3D; this chain contains the converter."""
    return Place(shutil.copytree(chain_in_3d, tmp_path_factory.mktemp("lifting") / "place", symlinks=True))


def test_the_evaluation_compares_the_converter_with_its_rivals(lifted: Place) -> None:
    folder = lifted.exp / "mocap/converter-scores"
    with open(folder / "lifting.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    methods = ["res-64", "lifter", "linear map", "nearest 2D pose", "mean pose"]
    assert [row["method"] for row in rows] == 2 * methods and {row["heatmaps"] for row in rows} == {"sharp", "noisy"}
    assert all(float(row["low"]) <= float(row["mm"]) <= float(row["high"]) for row in rows)
    assert float(rows[2]["mm"]) < float(rows[4]["mm"])  # the linear map is better than the mean pose
    with open(folder / "actions.csv", newline="") as file:
        assert {row["action"] for row in csv.DictReader(file)} >= {"pushup", "squat", "everyday"}
    training = lifted.exp / "mocap/res-64"
    head, *rows_of_log = (training / "valid.log").read_text().splitlines()
    assert head.split("\t")[4:] == ["error_mm", "repos", "trans", "focal"] and len(rows_of_log) == 2


@pytest.mark.parametrize(
    ("setting", "affected"),
    [
        ("lifter.iterations=5", {"TrainLifter", "EvaluateConverter"}),
        ("train_converter.seed=4", {"TrainConverter", "EvaluateConverter"}),
        ("converter.features=10", {"TrainConverter", "EvaluateConverter"}),  # the lifter does not use this setting
        ("train_converter.experiment=other", {"EvaluateConverter"}),  # the tables of the evaluation contain this name
    ],
)
def test_only_what_is_affected_runs_again(lifted: Place, setting: str, affected: set[str]) -> None:
    plan = lifted.run("run", "EvaluateConverter", "--dry-run", "--set", setting)
    assert set(re.findall(r"^(\w+) +(?:stale|missing)", plan, flags=re.M)) == affected


def test_the_converter_is_a_part_of_the_chain_if_the_forecasts_use_it(lifted: Place) -> None:
    plan = lifted.run("run", "--dry-run", "--set", "forecaster.converter=none")
    assert "EvaluateForecast" in plan and "Converter" not in plan


def test_the_converter_learns_from_the_heatmaps_of_a_forecasting_network(lifted: Place) -> None:
    network = "exp/penn_action_cropped/hg-256-res-clstm/best.safetensors"
    given = ("--set", f"converter.heatmaps_from={network}", "--set", "train_converter.experiment=recorded")
    said = lifted.run("run", "RecordHeatmaps", *given, code=30)
    assert "this is the result of a training that itself needs these heatmaps" in said
    given += ("--set", "forecaster.converter=none")
    lifted.run("run", "EvaluateConverter", *given)
    maps = np.load(lifted.exp / "mocap/heatmaps/train.npz")
    assert maps["maps"].shape[1:] == (13, 16, 16) and (len(maps["maps"]), 13, 2) == maps["points"].shape
    assert ((maps["points"] > -0.5) & (maps["points"] < 15.5)).all()
    with open(lifted.exp / "mocap/converter-scores/lifting.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["heatmaps"] for row in rows[::5]] == ["sharp", "noisy", "forecast"] and rows[10]["method"] == "recorded"
    assert float(rows[12]["mm"]) != float(rows[2]["mm"])  # joints in forecast heatmaps are not where sharp heatmaps show them
    assert "Nothing would be made" in lifted.run("run", "RecordHeatmaps", *given, "--dry-run")


def test_human36m_is_read_from_a_folder_and_a_changed_file_is_noticed(empty: Place) -> None:
    folder = empty.folder / "h36m"
    folder.mkdir()
    write_human36m(folder / "train.mat", [[1, 2, 1, 6], [1, 2, 1, 16]])
    write_human36m(folder / "val.mat", [[5, 2, 1, 6]])
    settings = ("--set", "mocap.source=h36m")
    empty.run("run", "ConvertMocap", *settings)
    (first,) = empty.results()
    summary = json.loads((empty.exp / first / "manifest.json").read_text())["summary"]
    assert summary == {"train": {"clips": 1, "poses": 2}, "valid": {"clips": 1, "poses": 1}}
    write_human36m(folder / "val.mat", [[5, 2, 1, 6], [6, 2, 1, 6]])
    empty.run("run", "ConvertMocap", *settings)
    assert len(empty.results()) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mocap.source": "missing.npz"}, "missing.npz does not exist"),
        ({"mocap.source": "https://example.org/a.npz"}, "motion capture is not downloaded"),
        ({"mocap.source": "."}, "contains no motion capture; correct [mocap] source"),
        ({"mocap.source": "luigi.cfg"}, "luigi.cfg is none of these: a .npz file, a folder with train.mat"),
        ({"mocap.valid_clips": "nobody"}, "no clip has a name that begins with nobody"),
        ({"input.resolution": "32"}, "resolution = 32 gives heatmaps of 8 px, which the converter cannot halve 4 times"),
        ({"converter.preset": "res-65"}, "unknown preset res-65. Did you mean res-64?"),
        ({"converter.heatmaps_from": "missing.safetensors"}, "missing.safetensors does not exist"),
        ({"train_converter.experiment": "clips"}, "the result of another stage has this name"),
    ],
)
def test_wrong_settings_as_data_error(empty: Place, settings: dict[str, str], said: str) -> None:
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    process = empty.start("-m", "pipeline", "run", "TrainConverter", *options)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (2, 30) and said in out + err and "Traceback" not in out + err, out + err


def test_what_is_written_stays_in_exp(lifted: Place) -> None:
    assert {path.name for path in lifted.folder.iterdir()} <= {"luigi.cfg", "exp", "output.txt", "done"}


def test_the_digest_of_recordings_is_that_of_their_contents_and_bodies(tmp_path: Path) -> None:
    (tmp_path / "mocap/b").mkdir(parents=True)
    write_bvh(tmp_path / "mocap/a.bvh", frames(2))
    write_acclaim(tmp_path / "mocap/b", 2)
    body, memory = tmp_path / "mocap/b/07.asf", tmp_path / "digests.json"

    def digests_of_all() -> list[str]:
        sources = [tmp_path / "mocap", tmp_path / "mocap/b/07_02.amc", tmp_path / "mocap/a.bvh"]
        return [ConvertMocap().digest_of("source", str(path), Digests(memory, silent, "")) for path in sources]

    first = digests_of_all()
    assert first[2] == hashlib.sha256((tmp_path / "mocap/a.bvh").read_bytes()).hexdigest()
    os.utime(body, (1, 1))
    assert digests_of_all() == first
    body.write_text(body.read_text().replace(":version 1.10", ":version 1.20"))
    second = digests_of_all()
    assert second[0] != first[0] and second[1] != first[1] and second[2] == first[2]
    shutil.rmtree(tmp_path / "mocap")
    assert digests_of_all() == second  # results made from files that no longer exist stay valid
