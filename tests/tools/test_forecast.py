"""tools.forecast on a picture: files with 3D poses are written if the network predicts 3D poses, and only then."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.imaging import draw
from datasets.penn_action import PENN_ACTION
from stages.forecasting.forecaster import PoseForecaster
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
