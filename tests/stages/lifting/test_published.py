"""Converters in skeleton2d3d's files are read, compared with Torch7's outputs, and written; other files are refused."""

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.lifting.network import ConverterNet, Pose3D
from stages.lifting.published import as_torch7, obstacle, read_combined, read_converter
from stages.settings.lifting import Converter
from stages.torch7 import t7 as torch7
from stages.torch7.import_network import read_hourglass
from stages.torch7.t7 import Function, Table, Tensor
from tests.published_networks import JOINTS, MODULES, SIDE, WIDTH, Computation, Published3D


def same(tensors, arrays):
    """Return whether a state dict equals the arrays, apart from `mean` and batch counts, which published files lack."""
    found = {k: v.numpy() for k, v in tensors.items() if not (k.endswith("num_batches_tracked") or k.split(".")[-1] == "mean")}
    return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)


def close(pose, outputs):
    """Return whether 3D poses equal Torch7's outputs `repos`, `trans` and `focal`, up to rounding."""
    return all(torch.allclose(ours, theirs.reshape(ours.shape), atol=1e-3) for ours, theirs in zip(pose, outputs, strict=True))


@pytest.mark.parametrize("frozen", [False, True])
def test_res_64_computes_what_torch7_does(tmp_path, frozen):
    written = Published3D("res-64", frozen=frozen)
    network = read_converter(written.write(tmp_path / "model_best.t7"))
    assert len(written.modules) == MODULES["res-64"]
    assert (network.joints, network.side, network.options.features, network.training) == (JOINTS, SIDE, WIDTH, False)
    assert same(network.state_dict(), written.arrays)
    maps = torch.rand(2, JOINTS, SIDE, SIDE)
    with torch.inference_mode():
        assert close(Pose3D.of(network(maps)), Computation(torch7.read(tmp_path / "model_best.t7")).run(maps))


def test_a_file_of_hourglass_and_converter_gives_both(tmp_path):
    written = Published3D("hg-256-res-64", frozen=True)
    path = written.write(tmp_path / "model_best.t7")
    assert len(written.modules) == MODULES["hg-256-res-64"]
    hourglass, converter = read_combined(path)
    state = torch.nn.ModuleDict({"hourglass": hourglass, "converter": converter}).state_dict()
    assert same(state, written.arrays)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps = hourglass(images)[-1]
        heatmaps, *poses, projected = Computation(torch7.read(path)).run(images)
        assert torch.allclose(maps, heatmaps, atol=1e-5) and maps.std() > 1
        found = Pose3D.of(converter(maps))
        assert close(found, poses) and torch.allclose(found.projected(SIDE / 2), projected, atol=1e-3)
        assert torch.equal(read_hourglass(path)(images)[-1], maps)
        assert torch.equal(read_converter(path)(maps), converter(maps))


def change(written, place, key, value):
    written.modules[place - 1].fields[key] = value


@pytest.mark.parametrize(
    ("network", "place", "key", "value", "message"),
    [
        ("res-64", 14, "numInputDims", None, r"module 14 \(View\) has numInputDims = None, expected 3"),
        ("res-64", 18, "size", None, r"module 18 \(View\) has size = None, expected \(-1, 3, 3\)"),
        ("res-64", 22, "length", 1.0, r"module 22 \(Narrow\) has length = 1.0, expected 2"),
        ("res-64", 24, "constant_scalar", float("nan"), r"module 24 \(nn.AddConstant\) has constant_scalar = nan"),
        ("res-64", 29, "constant_scalar", True, r"module 29 \(nn.AddConstant\) has constant_scalar = True"),
        ("res-64", 15, "weight", Function(b"code", Table()), r"module 15 \(repos.0.weight\) has Function\(kind=8\), expected"),
        ("res-64", 17, "bias", Tensor.from_array(np.zeros(9 + 1, np.float32)), r"module 17 \(repos.2.bias\) has shape \(10,\)"),
        ("hg-256-res-64", 76, "constant_scalar", 32.0, r"module 76 \(AddConstant\) has constant_scalar = 32.0, expected 8.0"),
        ("hg-256-res-64", 69, "index", 2.0, r"module 69 \(Select\) has index = 2.0, expected 3"),
    ],
)
def test_other_modules_are_refused(tmp_path, network, place, key, value, message):
    written = Published3D(network)
    change(written, place, key, value)
    path = written.write(tmp_path / "model_best.t7")
    with pytest.raises(DataError, match=message):
        read_converter(path)


def test_networks_without_a_converter_are_refused(tmp_path):
    written = Published3D("res-64")
    written.modules[12].class_name = "nn.Tanh"
    with pytest.raises(DataError, match=r"module 13 \(nn.Tanh\) is read as trunk.11, expected Sequential"):
        read_converter(written.write(tmp_path / "a.t7"))
    path = Published3D("hg-256-res-clstm").write(tmp_path / "b.t7")
    with pytest.raises(DataError, match="no converter has these modules"):
        read_converter(path)
    with pytest.raises(DataError, match="has 1 outputs, expected 5"):
        read_combined(path)


@pytest.mark.parametrize("outputs", ["published", "standardised"])
def test_a_written_converter_computes_what_ours_does_and_comes_back(tmp_path, outputs):
    torch.manual_seed(1)
    network = ConverterNet(JOINTS, SIDE, Converter(features=WIDTH)).eval()
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 2)
        if name.endswith(".2.weight"):
            tensor.mul_(1000)  # so that the outputs have the size of a body in mm
    if outputs == "standardised":
        network.units.standardise(torch.randn(20, 3 * JOINTS + 4) * 300 + 100)
    torch7.write(tmp_path / "model_best.t7", as_torch7(network))
    maps = torch.rand(2, JOINTS, SIDE, SIDE)
    back = read_converter(tmp_path / "model_best.t7")
    with torch.inference_mode():
        expected = network(maps)
        assert close(Pose3D.of(expected), Computation(torch7.read(tmp_path / "model_best.t7")).run(maps))
        assert torch.allclose(back(maps), expected, atol=1e-2) and expected.std(dim=0).min() > 0.05
    if outputs == "published":
        assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in network.state_dict().items())


def test_a_written_converter_has_the_published_modules_in_their_order(tmp_path):
    """skeleton2d3d finds a converter's modules by their positions and classes, so both must be those of the published files."""
    network = read_converter(Published3D("res-64").write(tmp_path / "theirs.t7"))
    torch7.write(tmp_path / "ours.t7", as_torch7(network))
    ours, theirs = (torch7.read(tmp_path / f"{name}.t7").fields for name in ("ours", "theirs"))
    classes = [[(m.class_name, m.version) for m in found["modules"].list()] for found in (ours, theirs)]
    assert classes[0] == classes[1] and classes[0][2] == ("cudnn.SpatialBatchNormalization", 2)
    for mine, other in zip(*(found["modules"].list() for found in (ours, theirs)), strict=True):
        for key in ("constant_scalar", "dimension", "index", "length", "numInputDims", "numElements"):
            assert mine.fields.get(key) == pytest.approx(other.fields.get(key)), (mine.class_name, key)
        assert all(key in mine.fields for key in ("weight", "gradWeight", "bias", "gradBias")) == ("weight" in other.fields)
    assert not obstacle(network)
    assert "normalise" in obstacle(ConverterNet(JOINTS, SIDE, Converter(preset="res-64-modern", features=WIDTH)))
