"""The evaluation of converter, lifter and baselines: its tables, equal results when it is repeated, and refused networks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.errors import DataError
from datasets.mocap.clips import Clips
from stages.lifting import checkpoints
from stages.lifting.bodies import JOINTS
from stages.lifting.evaluate import evaluate, in_rows, read
from stages.lifting.network import ConverterNet, LifterNet
from stages.settings.lifting import Converter, ConverterTraining
from stages.settings.sections import Workspace
from tests.stages.lifting.made import standing

SIDE = 16
OPTIONS = Converter(features=8)
TRAINING = ConverterTraining(targets="subpixel", flip_probability=0, target_sigma=1, target_radius=3)
ALONE = Workspace(device="cpu")


def clips(lengths: list[int], seed: int = 0) -> Clips:
    first = np.r_[0, np.cumsum(lengths)]
    names = tuple(f"a/{'walk' if i % 2 else 'run'}_{i}" for i in range(len(lengths)))
    return Clips(JOINTS, standing(int(first[-1]), seed), first, names, np.ones(len(lengths), np.float32))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, network in (("res-16", ConverterNet(13, SIDE, OPTIONS)), ("lifter", LifterNet(13, SIDE, 16))):
        checkpoints.save(folder / f"{name}.safetensors", network.eval(), JOINTS, {})
    return {name: folder / f"{name}.safetensors" for name in ("res-16", "lifter")}


def test_clips_are_cut_into_poses_in_a_row() -> None:
    some = clips([35, 15, 16])
    rows = in_rows(some)
    assert rows.shape == (3, 16, 13, 3)
    np.testing.assert_array_equal(rows[1], some.poses[16:32])
    np.testing.assert_array_equal(rows[2], some.poses[50:])


def test_an_evaluation_writes_its_tables_and_repeats(tmp_path: Path, models: dict[str, Path]) -> None:
    data = {"train": clips([40]), "valid": clips([20, 18, 3], seed=1)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found = evaluate(tmp_path / name, models, data, None, OPTIONS, TRAINING, ALONE)
    for file in ("lifting.json", "lifting.csv", "lifting.txt", "tests.md", "actions.csv", "joints.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    accuracy = read(tmp_path / "a")
    assert accuracy.poses == 41 and accuracy.clips == 3
    methods = ["res-16", "lifter", "linear map", "nearest 2D pose", "mean pose"]
    assert all(list(by_method) == methods for by_method in accuracy.inputs.values()) and list(accuracy.inputs) == [
        "sharp",
        "noisy",
    ]
    metrics = accuracy.inputs["sharp"]["linear map"]
    assert metrics.low <= metrics.error_mm <= metrics.high and found["sharp"]["linear map"] == metrics.error_mm
    assert metrics.error_mm == pytest.approx(np.mean(list(metrics.by_joint.values())))
    assert set(metrics.by_action) == {"run", "walk"} and metrics.aligned_mm < metrics.error_mm
    # All people stand, and each joint deviates from the mean pose by 60 mm at random, so no method has a large error.
    assert metrics.error_mm < accuracy.inputs["sharp"]["mean pose"].error_mm < 600
    assert accuracy.inputs["noisy"]["linear map"].error_mm > metrics.error_mm
    table = pd.read_csv(tmp_path / "a/lifting.csv")
    assert table.shape == (10, 11) and set(pd.read_csv(tmp_path / "a/tests.csv")["method"]) == {"res-16"}


def test_clips_without_poses_in_a_row_have_no_steadiness(tmp_path: Path, models: dict[str, Path]) -> None:
    evaluate(tmp_path, models, {"train": clips([40]), "valid": clips([1, 1, 1])}, None, OPTIONS, TRAINING, ALONE)
    assert read(tmp_path).inputs["sharp"]["lifter"].limbs_percent is None


def test_networks_of_two_sizes_as_data_error(tmp_path: Path, models: dict[str, Path]) -> None:
    checkpoints.save(tmp_path / "other.safetensors", LifterNet(13, 32, 16), JOINTS, {})
    given = models | {"lifter": tmp_path / "other.safetensors"}
    with pytest.raises(DataError, match="sees heatmaps of 32 px, not of 16 px"):
        evaluate(tmp_path, given, {"train": clips([40]), "valid": clips([20])}, None, OPTIONS, TRAINING, ALONE)
    with pytest.raises(DataError, match="run EvaluateConverter again"):
        read(tmp_path)
