"""tools.forecast on pictures and videos; files with 3D poses are written only if the network predicts 3D poses."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from stages.forecasting.forecaster import PoseForecaster, _frame
from tools import forecast

JOINTS = PENN_ACTION.skeleton.joints


@pytest.mark.parametrize("with_space", [True, False])
def test_poses_in_space_are_written_where_the_network_gives_them(tmp_path, monkeypatch, with_space):
    draw.write_png(tmp_path / "person.png", np.full((40, 60, 3), 90, np.uint8))
    repos = np.arange(16 * 13 * 3).reshape(16, 13, 3) + 0.26
    poses = SimpleNamespace(repos=repos, trans=np.tile([100.0, -50, 3000], (16, 1)), focal=np.full(16, 73.456))
    found = SimpleNamespace(joints=np.full((16, 13, 2), 20.0), confidence=np.ones((16, 13), np.float32))
    found.poses = poses if with_space else None
    forecaster = SimpleNamespace(joints=JOINTS, skeleton=PENN_ACTION.skeleton, forecast=lambda *_: found)
    monkeypatch.setattr(PoseForecaster, "load", lambda *_: forecaster)
    monkeypatch.setattr(forecast, "result_at", lambda name: name)
    options = argparse.Namespace(source=tmp_path / "person.png", model="m", out=tmp_path / "out", box=None, device="cpu")
    assert forecast.forecast(options) == 0
    told = json.loads((tmp_path / "out/person.png.json").read_text())
    assert ("space" in told) == (tmp_path / "out/person.png.html").exists() == with_space
    if with_space:
        assert told["space"][1] == {"joints": told["space"][1]["joints"], "mean": [100, -50, 3000], "focal": 73.46}
        assert told["space"][1]["joints"]["right_shoulder"] == [42.3, 43.3, 44.3]  # pose 1, joint 1
        assert "[142,-7,3044]" in (tmp_path / "out/person.png.html").read_text()  # right_shoulder plus mean, in whole mm


def test_a_box_outside_of_the_picture_is_refused():
    pixels = np.zeros((40, 60, 3), np.uint8)
    for box in ((60, 0, 70, 9), (0, -9, 9, -1), (0, 41, 9, 50)):
        with pytest.raises(DataError, match="lies outside of the picture of 60 x 40 px"):
            _frame(pixels, np.array(box))
    assert _frame(pixels, np.array((-5, -5, 9, 9)))[1] > 0


def test_forecasts_of_a_video_keep_their_distance_and_have_names_of_their_own(tmp_path, monkeypatch):
    times = [0, 0.004, 0.3, 1.2, 10, 10.1, 10.9, 11.05]

    class Reader(list):
        failed: list = []

        def __init__(self, path):
            super().__init__(SimpleNamespace(time=time, pixels=None) for time in times)

        def close(self):
            pass

    monkeypatch.setattr(forecast, "VideoReader", Reader)
    for every, expected in ((1.0, "0.000 1.200 10.000 11.050"), (0.001, "0.000 0.004 0.300 1.200 10.000 10.100 10.900 11.050")):
        options = argparse.Namespace(source=tmp_path / "a.mp4", every=every)
        names = [name for name, _ in forecast._pictures(options, [])]
        assert names == [f"a-{time}s" for time in expected.split()]
    for rate, every, count in ((10, 0.1, 200), (30, 0.1, 200), (30, 0.2, 100), (25, 0.04, 500)):
        times = [number / rate for number in range(20 * rate)]
        options = argparse.Namespace(source=tmp_path / "a.mp4", every=every)
        assert len(list(forecast._pictures(options, []))) == count


def test_metadata_of_macos_and_the_folder_of_the_pictures_are_left_alone(tmp_path):
    draw.write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "._a.png").write_bytes(b"Mac")
    options = argparse.Namespace(source=tmp_path, out=tmp_path)
    failed: list = []
    assert [name for name, _ in forecast._pictures(options, failed)] == ["a.png"] and not failed
    with pytest.raises(DataError, match="is the folder of the pictures"):
        forecast.forecast(options)
