"""Poses drawn into images and videos from the command line."""

import csv
import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch

from datasets.skeletons import PENN_ACTION
from stages.checkpoints import save_network
from stages.hourglass import HourglassNet
from stages.predictor import PosePredictor
from stages.settings import Network
from tools import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    save_network(path, HourglassNet(Network(stem="4 8 8", features=8, depth=2), 13), PENN_ACTION.joints, 64, {})
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def noise(count, height=48, width=64):
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three images, and a file that is none; a.png and a.jpg differ in their ending alone."""
    place = tmp_path / "in"
    place.mkdir()
    for name, image in zip(("a.jpg", "a.png", "c.JPG"), noise(3), strict=True):
        (place / name).write_bytes(cv2.imencode(name[1:].lower(), image)[1].tobytes())
    (place / "b.jpg").write_bytes((place / "a.jpg").read_bytes()[:500])
    (place / "notes.txt").write_text("no image")
    return place


def test_a_folder_is_done_without_the_image_that_is_damaged(model, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, folder, "--model", model, "--out", out, "--threshold", "-9", "--batch", "2") == 1
    said = capsys.readouterr()
    assert "3 of 4 images are drawn" in said.out and "b.jpg is damaged" in said.err and "Traceback" not in said.err
    assert {path.name for path in out.iterdir()} == {"a.jpg", "a.png", "c.JPG", "poses.json", "poses.csv"}
    image, drawn = (cv2.imread(str(place / "a.png")) for place in (folder, out))
    assert drawn.shape == image.shape and (drawn != image).any()
    poses = PosePredictor.load(model).predict([folder / name for name in ("a.jpg", "a.png", "c.JPG")])
    found = json.loads((out / "poses.json").read_text())
    rows = list(csv.DictReader((out / "poses.csv").open()))
    assert [entry["image"] for entry in found] == [row["image"] for row in rows] == ["a.jpg", "a.png", "c.JPG"]
    for entry, row, joints, confidence in zip(found, rows, poses.joints, poses.confidence, strict=True):
        assert entry["width"] == 64 and entry["height"] == 48 and entry["frame"] is None
        x, y, sure = entry["joints"]["left_knee"]
        at = PENN_ACTION.joints.index("left_knee")
        assert np.allclose((x, y, sure), (*joints[at], confidence[at]), atol=0.02)
        assert float(row["left_knee_x"]) == x and float(row["left_knee_confidence"]) == sure


def test_files_with_names_that_are_no_text(model, folder, tmp_path, monkeypatch):
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "a.png").rename(folder / name)
    assert run(monkeypatch, folder / name, "--model", model, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / name).exists() and b"\r\ncaf\xe9.png," in (tmp_path / "out/poses.csv").read_bytes()
    assert json.loads((tmp_path / "out/poses.json").read_text())[0]["image"] == name


def test_joints_below_the_threshold_are_not_drawn(model, folder, tmp_path, monkeypatch):
    assert run(monkeypatch, folder / "a.png", "--model", model, "--out", tmp_path / "out", "--threshold", "99") == 0
    assert (cv2.imread(str(tmp_path / "out/a.png")) == cv2.imread(str(folder / "a.png"))).all()


def test_a_video_is_drawn_frame_by_frame(model, tmp_path, monkeypatch, capsys):
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for value in range(5):
        video.write(np.full((48, 64, 3), 50 * value, np.uint8))
    video.release()
    arguments = ("--model", model, "--out", tmp_path / "out", "--threshold", "99", "--batch", "2", "--no-flip")
    assert run(monkeypatch, tmp_path / "v.avi", *arguments) == 0
    assert [entry["frame"] for entry in json.loads((tmp_path / "out/poses.json").read_text())] == [0, 1, 2, 3, 4]
    drawn = cv2.VideoCapture(str(tmp_path / "out/v.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    for value in range(5):
        frame = drawn.read()[1]
        assert frame.shape == (48, 64, 3) and abs(frame.mean() - 50 * value) < 4
    assert not drawn.read()[0]
    (tmp_path / "v.avi").write_bytes((tmp_path / "v.avi").read_bytes()[:100])
    assert run(monkeypatch, tmp_path / "v.avi", *arguments) == 1
    assert "v.avi cannot be read as a video" in capsys.readouterr().err


def test_a_batch_of_nothing_is_wrong_usage(model, folder, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, folder, "--model", model, "--batch", "0")
    assert "--batch should be 1 or more" in capsys.readouterr().err


def test_an_interruption_leaves_what_is_done(model, folder, tmp_path, monkeypatch, capsys):
    (folder / "b.jpg").unlink()
    predict_images, calls = PosePredictor.predict, []

    def interrupted(self, images, **options):
        calls.append(images)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict_images(self, images, **options)

    monkeypatch.setattr(PosePredictor, "predict", interrupted)
    assert run(monkeypatch, folder, "--model", model, "--out", tmp_path / "out", "--batch", "1") == 130
    assert "interrupted" in capsys.readouterr().err
    assert [entry["image"] for entry in json.loads((tmp_path / "out/poses.json").read_text())] == ["a.jpg", "a.png"]
    assert len((tmp_path / "out/poses.csv").read_text().splitlines()) == 3 and (tmp_path / "out/a.png").exists()


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("nowhere", {}, "nowhere is not there"),
        ("nowhere.mp4", {}, "nowhere.mp4 is not there"),
        ("empty", {}, "holds no image"),
        ("in", {"--out": "in"}, "would replace them"),
        ("in", {"--model": "nothing"}, "nothing is neither a file"),
    ],
)
def test_wrong_places_are_said_in_a_sentence(model, folder, monkeypatch, capsys, source, options, words):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    options = {"--model": model} | options
    assert run(monkeypatch, source, *(word for pair in options.items() for word in pair)) == 1
    assert words in capsys.readouterr().err
