"""The export of a converter: every exported network file must give the converter's outputs."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from datasets.errors import DataError
from stages.lifting import checkpoints, export
from stages.lifting.bodies import JOINTS
from stages.lifting.network import ConverterNet, LifterNet
from stages.settings.lifting import Converter
from tests.stages.lifting.test_evaluate import SIDE, TRAINING, clips


def test_every_file_gives_the_networks_outputs(tmp_path):
    torch.manual_seed(0)
    network = ConverterNet(13, SIDE, Converter(features=8)).eval()
    network.units.standardise(torch.randn(20, 43) * 300 + 1000)
    checkpoints.save(tmp_path / "best.safetensors", network, JOINTS, {"valid_accuracy": 0.5})
    folder = tmp_path / "out"
    folder.mkdir()
    made_by = {"TrainConverter": "`12ab`", "motion capture": "cmu"}
    export.export(folder, tmp_path / "best.safetensors", {"valid": clips([5])}, TRAINING, made_by)
    card = (folder / "MODEL_CARD.md").read_text()
    assert "- TrainConverter: `12ab`\n- motion capture: cmu\n" in card and "- valid_accuracy: 0.5\n" in card
    assert f"S = {SIDE}" in card and "- `model_best.t7`: largest difference" in card
    told = json.loads((folder / "converter.json").read_text())
    names = {"converter.safetensors", "converter.onnx", "model_best.t7"}
    assert {path.name for path in folder.iterdir()} == names | {"converter.json", "MODEL_CARD.md"} and set(
        told["largest_difference"]
    ) == names
    assert not told["no_torch7"] and told["center"] == (SIDE - 1) / 2
    session = onnxruntime.InferenceSession(str(folder / "converter.onnx"), providers=["CPUExecutionProvider"])
    maps = torch.rand(3, 13, SIDE, SIDE)
    repos, trans, focal = session.run(["repos", "trans", "focal"], {"heatmaps": maps.numpy()})
    with torch.inference_mode():
        expected = network(maps).numpy()
    np.testing.assert_allclose(repos.reshape(3, -1), expected[:, :-4], atol=0.01)
    np.testing.assert_allclose(np.c_[trans, focal], expected[:, -4:], atol=0.01)
    assert session.get_modelmeta().custom_metadata_map["joints"].split(",") == list(JOINTS) == told["joints"]


def test_a_file_that_differs_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write_graph", lambda path, *_: path.touch())
    monkeypatch.setattr(export, "_of_onnx", lambda path, maps: np.full((len(maps), 43), np.nan))
    checkpoints.save(tmp_path / "best.safetensors", ConverterNet(13, SIDE, Converter(features=8)), JOINTS, {})
    with pytest.raises(DataError, match=r"converter\.onnx: its outputs differ from the network's by up to nan mm"):
        export.export(tmp_path, tmp_path / "best.safetensors", {"valid": clips([5])}, TRAINING, {})
    assert not (tmp_path / "converter.json").exists()
    checkpoints.save(tmp_path / "lifter.safetensors", LifterNet(13, SIDE, 16), JOINTS, {})
    with pytest.raises(DataError, match="is a lifter; give a converter"):
        export.export(tmp_path, tmp_path / "lifter.safetensors", {"valid": clips([5])}, TRAINING, {})
