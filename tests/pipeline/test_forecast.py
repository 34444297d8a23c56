"""Forecasts from the command line, on the tiny chain: training, evaluation, comparison, export and pictures."""

import csv
import json
import re
import shutil
import tarfile

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.pipeline.conftest import Place
from tests.published_networks import Published3D


@pytest.fixture(scope="module")
def forecast(chain_in_3d, tmp_path_factory) -> Place:
    """A copy of the chain with forecasts in 3D for the tests of this module, which only add files to this copy."""
    return Place(shutil.copytree(chain_in_3d, tmp_path_factory.mktemp("forecast") / "place", symlinks=True))


def test_the_comparison_has_the_network_and_its_baselines_for_every_kind_of_start(forecast):
    folder = forecast.exp / "penn_action_cropped/forecast-comparison"
    with open(folder / "forecasts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["starts"] for row in rows} >= {"all", "first"}
    names = [row["forecaster"] for row in rows if row["starts"] == "all"]
    network = "hg-256-res-clstm"
    assert names[:3] == [network, f"{network}, projected 3D joints", "zero velocity, from the predicted pose"]
    assert names[3:5] == ["zero velocity", "NN-all"]
    zero = next(row for row in rows if row["forecaster"] == "zero velocity")
    assert float(zero["1"]) == 100 and 0 < float(zero["16"]) < 100
    with open(folder / "tests.csv", newline="") as file:
        assert {row["than"] for row in csv.DictReader(file)} == {"zero velocity", "mean of 50 nearest"}
    assert cv2.imread(str(folder / "strips.png")).shape[1] == 10 * 182 + 6  # a row shows the image and nine steps
    with Image.open(folder / "movement-1.gif") as animation:
        assert animation.n_frames == 16


def test_the_drawn_sequences_have_true_3d_poses_against_which_forecasts_are_scored(forecast):
    folder = forecast.exp / "penn_action_cropped/forecast-comparison"
    with open(folder / "space.csv", newline="") as file:
        rows = {(row["forecaster"], row["alignment"]): row for row in csv.DictReader(file)}
    true = rows["zero velocity, from the true pose", "none"]
    assert float(true["1"]) == 0 and 20 < float(true["8"]) < 400  # errors in mm, above 0 because the people move
    network = rows["hg-256-res-clstm", "none"]
    assert float(network["1"]) == float(rows["zero velocity, from the predicted pose", "none"]["1"]) > 0
    assert float(network["low"]) <= float(network["mean"]) <= float(network["high"])
    assert float(rows["hg-256-res-clstm", "Procrustes"]["mean"]) < float(network["mean"])
    assert "error in 3D, mm" in (folder / "summary.txt").read_text()
    assert "squat" in (folder / "movements3d.html").read_text()
    assert cv2.imread(str(folder / "movements3d.png")).shape[1] == 10 * 182 + 6


def test_steps_are_logged_and_scored(forecast):
    training = forecast.exp / "penn_action_cropped/hg-256-res-clstm"
    head, *rows = [line.split("\t") for line in (training / "train.log").read_text().splitlines()]
    trained = [sum(row[head.index(f"loss_{step}")] != "nan" for step in range(1, 17)) for row in rows]
    assert trained == [2, 4, 8]  # the curriculum doubles the number of trained steps in each epoch
    found = json.loads((forecast.exp / "penn_action_cropped/forecast-scores/forecast.json").read_text())["splits"]
    assert found["test"]["first"]["starts"] == found["test"]["first"]["sequences"] == found["test"]["all"]["sequences"]


def test_the_exported_files_forecast_what_the_network_does(forecast):
    folder = forecast.exp / "export-forecast"
    told = json.loads((folder / "forecaster.json").read_text())
    assert set(told["largest_difference_of_heatmaps"]) == {"forecaster.safetensors", "forecaster.onnx"}
    session = onnxruntime.InferenceSession(str(folder / "forecaster.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["joints"].split(",") == told["joints"]
    images = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    maps, joints = session.run(["heatmaps", "joints"], {"images": images})
    assert maps.shape == (3, 16, 13, 16, 16) and joints.shape == (3, 16, 13, 2)
    largest = np.stack(np.unravel_index(maps.reshape(3, 16, 13, -1).argmax(-1), (16, 16))[::-1], axis=-1)
    np.testing.assert_allclose(joints, (largest + 0.5) * 4 - 0.5)
    card = (folder / "MODEL_CARD.md").read_text()
    assert "PCK@0.05 in per cent at each step" in card and "`focal`, the focal length" in card
    repos, trans, focal = session.run(["repos", "trans", "focal"], {"images": images})
    assert repos.shape == (3, 16, 13, 3) and trans.shape == (3, 16, 3) and focal.shape == (3, 16)
    assert set(told["largest_difference_of_poses"]) == {"forecaster.safetensors", "forecaster.onnx"} and told["converter"]


def test_pictures_of_one_s_own(forecast):
    frames = forecast.exp / "penn_action_cropped/data/frames/0001"
    (forecast.folder / "mine").mkdir()
    for name in ("000001.jpg", "000003.jpg"):
        (forecast.folder / "mine" / name).write_bytes((frames / name).read_bytes())
    (forecast.folder / "mine/broken.jpg").write_bytes(b"no image")
    code, out, err = forecast.call("tools.forecast", "mine", "--box", "2", "2", "40", "60")
    assert code == 1 and "2 forecasts" in out and "broken.jpg" in err and "Traceback" not in err
    told = json.loads((forecast.folder / "forecasts/000003.jpg.json").read_text())
    assert len(told["steps"]) == 16 and len(told["steps"][0]["left_knee"]) == 3
    assert (forecast.folder / "forecasts/000001.jpg.gif").exists() and (forecast.folder / "forecasts/000001.jpg.png").exists()
    assert len(told["space"]) == 16 and len(told["space"][0]["joints"]["left_knee"]) == 3
    first, last = (told["space"][step] for step in (0, 15))
    assert first["focal"] == last["focal"] > 0 and first["mean"][2] > 0
    page = (forecast.folder / "forecasts/000001.jpg.html").read_text()
    assert "Forecast from 000001.jpg" in page and "://" not in page.replace("http://www.w3.org", "")
    code, out, err = forecast.call("tools.forecast", "nowhere")
    assert code == 1 and "nowhere does not exist" in err


def test_forecasts_go_out_as_image_play_s_files_and_come_back_with_the_same_score(forecast):
    code, out, err = forecast.call("tools.score_forecasts", "eval_test", "--write", "eval_test")
    assert code == 0, err
    files = sorted(path.name for path in (forecast.folder / "eval_test").iterdir())
    assert files[0] == "00001.mat" and f"{len(files)} files are in eval_test" in out
    with open(forecast.exp / "penn_action_cropped/forecast-comparison/forecasts.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["forecaster"] == "hg-256-res-clstm")
    assert [line for line in out.splitlines() if line.startswith("eval_test")][0].split()[1:] == [
        f"{float(row[column]):.2f}" for column in [*map(str, range(1, 17)), "mean"]
    ]
    (forecast.folder / "eval_test/99999.mat").write_bytes((forecast.folder / "eval_test/00001.mat").read_bytes())
    code, out, err = forecast.call("tools.score_forecasts", "eval_test")
    assert code == 1 and "holds 99999.mat, but the split has" in err
    for name in ("99999.mat", "00002.mat"):
        (forecast.folder / "eval_test" / name).unlink()
    code, out, err = forecast.call("tools.score_forecasts", "eval_test")
    assert code == 1 and "lacks 00002.mat, but the split has" in err
    code, out, err = forecast.call("tools.score_forecasts", "--write", "eval_test")
    assert code == 1 and "the folder is not empty" in err
    code, out, err = forecast.call("tools.score_forecasts", "--write", "eval_train", "--split", "train")
    assert code == 2 and "--write needs --split valid or test" in err


def test_published_networks_forecast_without_a_training(forecast, tmp_path):
    """A published network is read and scored; then a training is planned, from the hourglass and converter of a second file."""
    Published3D("hg-256-res-clstm-res-64", joints=13, frozen=True).write(tmp_path / "model_4.t7")
    with tarfile.open(forecast.folder / "implay.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "model_4.t7", "exp/penn-crop/hg-256-res-clstm-res-64/model_4.t7")
    options = ["--models", "precomputed", "--set", "models.forecaster=hg-256-res-clstm-res-64 implay.tar.gz"]
    before = set(forecast.results())
    forecast.run("run", "EvaluateForecast", *options)
    made = {name.partition("@")[0].removeprefix("penn_action_cropped/") for name in set(forecast.results()) - before}
    assert made == {"precomputed-forecaster", "forecast-scores"}
    scores = json.loads((forecast.exp / "penn_action_cropped/forecast-scores/forecast.json").read_text())
    assert scores["splits"]["test"] and scores["projected"]["test"]
    plan = forecast.run("run", "CompareForecasts", "--dry-run", *options)
    assert re.findall(r"^(\S+) +(?:missing|stale)", plan, re.MULTILINE) == ["CompareForecasts"]
    assert "ExportForecast" in forecast.run("run", "--dry-run", *options)  # a run of the whole chain makes forecasts, too

    both = ["--set", "models.penn_action=both.t7", "--set", "models.converter=both.t7", "--set", "models.forecaster="]
    Published3D("hg-256-res-64", joints=13).write(forecast.folder / "both.t7")
    plan = forecast.run("run", "Forecast", "--dry-run", "--models", "precomputed", *both)
    found = set(re.findall(r"^(\S+) +(?:missing|stale)", plan, re.MULTILINE))
    assert found == {"FetchPrecomputed:penn_action", "FetchConverter", "Forecast"}
