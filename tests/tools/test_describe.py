"""The output of tools.describe for presets and checkpoints."""

import sys

import pytest
import torch

from stages.network.checkpoints import save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tools.describe import main


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["describe", *map(str, arguments)])
    code = main()
    return code, *capsys.readouterr()


def words(out):
    return [line.split() for line in out.splitlines()]


def test_a_preset(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "hg-256", "--joints", 13)
    assert code == 0 and ["total", "3,211,149", "4.275", "G"] in words(out)
    assert ["hourglasses.0.upper.0", "Residual", "256", "x", "64", "x", "64", "214,528", "0.872", "G"] in words(out)
    parts = [line for line in words(out) if line[:1] and line[0] in ("stem", "hourglasses.0", "heads.0") and line[-1] == "G"]
    total = sum(int(line[1].replace(",", "")) for line in parts)
    assert total == 3_211_149


def test_a_checkpoint(monkeypatch, capsys, tmp_path):
    network = HourglassNet(Network(stem="2 4 4", features=8, depth=2), 2)
    network.mean.copy_(torch.tensor([0.5, 0.25, 0.125]))
    save_network(tmp_path / "n.safetensors", network, ("left", "right"), 64, {})
    code, out, _ = run(monkeypatch, capsys, tmp_path / "n.safetensors")
    assert code == 0 and "joints: left, right" in out and "0.125" in out and "stem = 2 4 4" in out
    assert "2 joints, 64 x 64 pixels" in out and f"{sum(p.numel() for p in network.parameters()):,}" in out


@pytest.mark.parametrize(
    ("arguments", "said"), [(["hg-257"], "neither"), (["hg-256", "--resolution", "100"], "multiple of 64")]
)
def test_unknown_names_are_refused(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 1 and said in err
