"""tools.predict from the command line: poses drawn into images and videos."""

import csv
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.penn_action import PENN_ACTION
from stages.inference.predictor import PosePredictor
from stages.inference.video import VideoReader, VideoWriter
from stages.network.checkpoints import save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tools import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    save_network(path, HourglassNet(Network(stem="4 8 8", features=8, depth=2), 13), PENN_ACTION.skeleton.joints, 64, {})
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def noise(count, height=48, width=64):
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the images a.jpg, a.png and c.JPG, the truncated image b.jpg and a text file."""
    place = tmp_path / "in"
    place.mkdir()
    for name, image in zip(("a.jpg", "a.png", "c.JPG"), noise(3), strict=True):
        (place / name).write_bytes(cv2.imencode(name[1:].lower(), image)[1].tobytes())
    (place / "b.jpg").write_bytes((place / "a.jpg").read_bytes()[:500])
    (place / "notes.txt").write_text("no image")
    return place


def test_a_damaged_image_in_a_folder_is_skipped(model, folder, tmp_path, monkeypatch, capsys):
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
        assert entry["width"] == 64 and entry["height"] == 48 and entry["frame"] is None and entry["time"] is None
        x, y, sure = entry["joints"]["left_knee"]
        at = PENN_ACTION.skeleton.joints.index("left_knee")
        assert np.allclose((x, y, sure), (*joints[at], confidence[at]), atol=0.02)
        assert float(row["left_knee_x"]) == x and float(row["left_knee_confidence"]) == sure


def test_file_names_that_are_no_valid_text(model, folder, tmp_path, monkeypatch):
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "a.png").rename(folder / name)
    assert run(monkeypatch, folder / name, "--model", model, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / name).exists() and b"\r\ncaf\xe9.png," in (tmp_path / "out/poses.csv").read_bytes()
    assert json.loads((tmp_path / "out/poses.json").read_text())[0]["image"] == name


def test_a_whole_runs_folder_means_its_export(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in ("mpii/hg-256", "export@01234567"):
        (tmp_path / "exp/demo" / place).mkdir(parents=True)
        shutil.copy(model, tmp_path / "exp/demo" / place / "model.safetensors")
    (tmp_path / "exp/demo/export").symlink_to("export@01234567")
    assert run(monkeypatch, folder / "a.png", "--model", "exp/demo") == 0
    assert "network: exp/demo/export@01234567/model.safetensors, 13 joints at 64 px\n" in capsys.readouterr().out


def test_joints_below_the_threshold_are_not_drawn(model, folder, tmp_path, monkeypatch):
    assert run(monkeypatch, folder / "a.png", "--model", model, "--out", tmp_path / "out", "--threshold", "99") == 0
    assert (cv2.imread(str(tmp_path / "out/a.png")) == cv2.imread(str(folder / "a.png"))).all()


def test_pictures_of_many_kinds_are_drawn_in_natural_order(model, tmp_path, monkeypatch, capsys):
    place = tmp_path / "in"
    place.mkdir()
    names = ("frame2.webp", "frame10.TIF", "frame11.avif", "frame100.jpg", "other.png")
    for name, image in zip(names, noise(5), strict=True):
        Image.fromarray(image).save(place / name, "TIFF" if name.endswith("TIF") else None)
    for name in ("._frame2.webp", ".DS_Store", *(f"{i}.cr2" for i in range(7, 12))):
        (place / name).write_bytes(b"\0\5\x16\7\0")
    assert run(monkeypatch, place, "--model", model, "--out", tmp_path / "out", "--threshold", "-9") == 0
    said = capsys.readouterr().out
    assert "7 files" in said and "7.cr2, 8.cr2, 9.cr2, 10.cr2, 11.cr2, .DS_Store, ._frame2.webp\n" in said
    assert [entry["image"] for entry in json.loads((tmp_path / "out/poses.json").read_text())] == list(names)
    drawn = {"frame2.webp.png", "frame10.TIF.png", "frame11.avif.png", "frame100.jpg", "other.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == drawn | {"poses.json", "poses.csv"}


def test_two_images_that_would_be_drawn_as_one_are_refused(model, tmp_path, monkeypatch, capsys):
    for name in ("a.webp", "a.webp.png"):
        Image.fromarray(noise(1)[0]).save(tmp_path / name)
    assert run(monkeypatch, tmp_path, "--model", model, "--out", tmp_path / "out") == 1
    assert "would have the same name a.webp.png" in capsys.readouterr().err


def test_old_drawings_are_deleted_and_other_files_kept(model, folder, tmp_path, monkeypatch, capsys):
    out, options = tmp_path / "out", ("--model", model, "--out", tmp_path / "out")
    assert run(monkeypatch, folder, *options) == 1 and (out / "c.JPG").exists()
    (out / ".DS_Store").touch()
    (folder / "c.JPG").write_bytes(b"")  # damage an image, then run the same command again
    assert run(monkeypatch, folder, *options) == 1
    assert {path.name for path in out.iterdir()} == {"a.jpg", "a.png", "poses.json", "poses.csv", ".DS_Store"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (folder / "a.jpg").rename(folder / "d.jpg")  # so a.jpg in `out` is not a drawing of this source any more
    assert run(monkeypatch, folder, *options) == 1
    assert "holds files that are not from an earlier run on this source: a.jpg; give another" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.png").write_text("mine")  # a user's file with the name of a drawing
    assert run(monkeypatch, folder / "a.png", "--model", model, "--out", tmp_path / "mine") == 1
    assert "a.png" in capsys.readouterr().err and (tmp_path / "mine/a.png").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def video(path, times):
    writer = VideoWriter(path, Fraction(10))
    for number, time in enumerate(times):
        writer.add(np.full((48, 64, 3), 50 * number, np.uint8), time)
    writer.close()
    return path


def test_a_video_is_drawn_frame_by_frame_with_its_times(model, tmp_path, monkeypatch, capsys):
    times = [0, 0.1, 0.25, 0.3, 1]
    source = video(tmp_path / "v.mp4", times)
    arguments = ("--model", model, "--out", tmp_path / "out", "--threshold", "99", "--batch", "2", "--no-flip")
    for _ in range(2):
        assert run(monkeypatch, source, *arguments) == 0
    said = capsys.readouterr().out
    assert "5 of 5 frames are drawn" in said and "model.safetensors, 13 joints at 64 px" in said
    found = json.loads((tmp_path / "out/poses.json").read_text())
    assert [entry["frame"] for entry in found] == [0, 1, 2, 3, 4] and [entry["time"] for entry in found] == times
    assert [float(row["time"]) for row in csv.DictReader((tmp_path / "out/poses.csv").open())] == times
    drawn = VideoReader(tmp_path / "out/v.mp4")
    for frame, time, value in zip(drawn, times, (0, 50, 100, 150, 200), strict=True):
        assert frame.pixels.shape == (48, 64, 3) and abs(frame.pixels.mean() - value) < 4 and abs(frame.time - time) < 1e-3
    assert run(monkeypatch, source, "--model", model, "--out", tmp_path) == 1
    assert "is the folder of the video" in capsys.readouterr().err
    source.write_bytes(source.read_bytes()[:100])
    assert run(monkeypatch, source, *arguments) == 1
    assert "v.mp4 holds no video, or it is truncated" in capsys.readouterr().err
    assert (tmp_path / "out/v.mp4").exists()  # results of the previous run are kept, because this run stops before it writes


def test_the_source_is_checked_before_torch_is_loaded(tmp_path):
    """In this process, importing torch fails; so the error messages show that the source was checked before the import."""
    (tmp_path / "cut.mp4").write_bytes(video(tmp_path / "v.mp4", [0, 0.1, 0.2]).read_bytes()[:300])
    (tmp_path / "empty").mkdir()
    for source, words in (("nowhere", "does not exist"), ("cut.mp4", "holds no video"), ("empty", "holds no image")):
        code = "import sys; sys.modules['torch'] = None; from tools.predict import main; sys.exit(main())"
        command = [sys.executable, "-c", code, str(tmp_path / source), "--out", str(tmp_path / "out")]
        process = subprocess.run(command, capture_output=True, text=True, cwd=Path(predict.__file__).parents[1])
        assert process.returncode == 1 and words in process.stderr and "Traceback" not in process.stderr


def test_a_missing_package_is_named_before_anything_is_predicted(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "find_spec", lambda module: None)
    assert run(monkeypatch, folder, "--model", model, "--out", tmp_path / "out", "--also", "slp") == 1
    assert "--also slp needs sleap_io, which is not installed; run: pip install sleap-io" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_batch_of_nothing_is_wrong_usage(model, folder, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, folder, "--model", model, "--batch", "0")
    assert "--batch must be at least 1" in capsys.readouterr().err


def test_an_interruption_keeps_finished_poses(model, folder, tmp_path, monkeypatch, capsys):
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
        ("nowhere", {}, "nowhere does not exist"),
        ("nowhere.mp4", {}, "nowhere.mp4 does not exist"),
        ("empty", {}, "holds no image"),
        ("in", {"--out": "in"}, "would replace"),
        ("in", {"--model": "nothing"}, "nothing is not a file"),
    ],
)
def test_wrong_paths_are_reported(model, folder, monkeypatch, capsys, source, options, words):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    options = {"--model": model} | options
    assert run(monkeypatch, source, *(word for pair in options.items() for word in pair)) == 1
    assert words in capsys.readouterr().err
