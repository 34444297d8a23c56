"""image-play's forecasting networks are read and compared with Torch7's outputs; files of other networks are refused."""

import tarfile

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.forecasting.checkpoints import load_forecaster
from stages.forecasting.network import new_forecaster
from stages.forecasting.published import convert, read_forecaster
from stages.importing.known_models import KNOWN
from stages.importing.precomputed import convert as convert_hourglass
from stages.lifting.published import convert as convert_converter
from stages.settings.forecasting import Forecaster
from stages.torch7 import t7 as torch7
from stages.torch7.t7 import Table, Tensor
from tests.published_networks import MODULES, SIDE, STEPS, WIDTH, Computation, Published3D, sizes
from tests.stages.lifting.test_published import close, same


@pytest.mark.parametrize("name", ["hg-256-res-clstm", "hg-256-res-clstm-res-64"])
def test_forecasts_are_those_that_torch7_computes(tmp_path, name):
    written = Published3D(name, frozen=True)
    path = written.write(tmp_path / "model_4.t7")
    assert len(written.modules) == MODULES[name]
    network, resolution = read_forecaster(path)
    assert (
        resolution == 4 * SIDE
        and not network.training
        and network.options.converter == ("trained" if "64" in name[8:] else "none")
    )
    assert same(network.state_dict(), written.arrays)
    images = torch.rand(2, 3, 4 * SIDE, 4 * SIDE)
    with torch.inference_mode():
        heatmaps, *others = Computation(torch7.read(path)).run(images)
        found = network(images, STEPS)
    assert torch.allclose(found.heatmaps, torch.stack(heatmaps, 1), atol=1e-3)
    assert (found.heatmaps[:, 0] - found.heatmaps[:, 5]).abs().max() > 0.5  # the recurrent layers have an effect
    if found.poses is None:
        assert not others and network.converter is None
    else:
        *poses, projected = (torch.stack(steps, 1) for steps in others)
        assert close(found.poses, poses) and torch.allclose(found.poses.projected(SIDE / 2), projected, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("LSTM", "bidirectional", "CUDNN_BIDIRECTIONAL", "has bidirectional = 'CUDNN_BIDIRECTIONAL', expected CUDNN_UNI"),
        ("LSTM", "numLayers", 2.0, "has numLayers = 2.0, expected 1"),
        ("LSTM", "hiddenSize", WIDTH / 2, "has hiddenSize = 4.0, expected 8"),
        ("LSTM", "mode", "CUDNN_GRU", "has mode = 'CUDNN_GRU', expected CUDNN_LSTM"),
        ("LSTM", "hiddenInput", Tensor.from_array(np.ones(3, np.float32)), "has hiddenInput = "),
        ("LSTM", "weight", Tensor.from_array(np.zeros(575, np.float32)), r"has shape \(575,\), expected shape \(576,\)"),
        ("Padding", "pad", 7.0, "has pad = 7.0, expected 15"),
        ("Replicate", "nfeatures", 8.0, "has nfeatures = 8.0, expected 16"),
        ("Transpose", "permutations", Table(), r"has permutations = \(\), expected \(\(2, 3\), \(3, 4\)\)"),
        ("View", "size", sizes(-1, 1, WIDTH, 1), r"has size = \(-1, 1, 8, 1\), expected \(-1, 8\)"),
        ("Contiguous", None, None, "expected Contiguous"),
        ("SplitTable", "dimension", -3.0, "has dimension = -3.0, expected -4"),
    ],
)
def test_other_recurrent_layers_are_refused(tmp_path, kind, key, value, message):
    written = Published3D("hg-256-res-clstm")
    place = next(i for i, module in enumerate(written.modules) if module.class_name.endswith(f".{kind}"))
    if key is None:
        written.modules[place].class_name = "nn.Copy of this"
    else:
        written.modules[place].fields[key] = value
    with pytest.raises(DataError, match=message) as caught:
        read_forecaster(written.write(tmp_path / "model_4.t7"))
    assert f"module {place + 1} (" in str(caught.value) and str(tmp_path) in str(caught.value)


def test_other_networks_are_refused(tmp_path):
    for name in ("res-64", "hg-256-res-64"):
        with pytest.raises(DataError, match="is no forecasting network of image-play"):
            read_forecaster(Published3D(name).write(tmp_path / "model_best.t7"))
    written = Published3D("hg-256-res-clstm-res-64")
    written.modules.append(written.plain("nn.Dropout"))
    with pytest.raises(DataError, match=r"module 142 \(nn.Dropout\) is not used"):
        read_forecaster(written.write(tmp_path / "model_4.t7"))


def archive(path, files):
    """Write a .tar.gz with the given members (name -> file); return its path."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, file in files.items():
            tar.add(file, name)
    return path


def test_the_published_archive_becomes_a_checkpoint_of_ours(tmp_path):
    """The archive contains several networks and their forecasts; the last epoch of the chosen network is read."""
    for seed, name in enumerate(("old", "new")):
        Published3D("hg-256-res-clstm-res-64", seed, joints=13).write(tmp_path / f"{name}.t7")
    Published3D("hg-256-res-clstm", joints=13).write(tmp_path / "flat.t7")
    place = "exp/penn-crop/hg-256-res-clstm"
    source = archive(tmp_path / "precomputed.tar.gz", {
        f"{place}/model_4.t7": tmp_path / "flat.t7", f"{place}-res-64/model_9.t7": tmp_path / "old.t7",
        f"{place}-res-64/model_10.t7": tmp_path / "new.t7", f"{place}-res-64/eval_test/00001.mat": tmp_path / "old.t7",
    })  # fmt: skip
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out", KNOWN["hg-256-res-clstm-res-64"])
    network, about = load_forecaster(tmp_path / "out/best.safetensors")
    assert about.resolution == 4 * SIDE and about.joints == PENN_ACTION.skeleton.joints and about.converter
    assert same(network.state_dict(), Published3D("hg-256-res-clstm-res-64", 1, joints=13).arrays)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["best.safetensors"]
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match=r"precomputed.tar.gz holds several networks for forecaster \(penn-crop/"):
        convert(source, tmp_path / "two")
    convert(tmp_path / "out/best.safetensors", tmp_path / "two")  # converting a network of this workspace changes nothing
    assert same(load_forecaster(tmp_path / "two/best.safetensors")[0].state_dict(), {k: v.numpy() for k, v in kept(network)})
    with pytest.raises(DataError, match="forecasts other joints than the 13 of Penn Action"):
        convert(Published3D("hg-256-res-clstm").write(tmp_path / "three.t7"), tmp_path / "two")


def kept(network):
    """Return those (name, tensor) pairs of a network's state dict that `same` compares."""
    return [(k, v) for k, v in network.state_dict().items() if "num_batches" not in k and k.split(".")[-1] != "mean"]


def test_a_file_of_hourglass_and_converter_starts_a_training_of_forecasts(tmp_path):
    """A training may start from one published file: one setting in [models] selects its hourglass, another its converter."""
    path = Published3D("hg-256-res-64", joints=13, side=64, frozen=True).write(tmp_path / "model_best.t7")
    for name in ("hourglass", "converter"):
        (tmp_path / name).mkdir()
    convert_hourglass(path, PENN_ACTION, tmp_path / "hourglass", KNOWN["hg-256-res-64-hg0-hgfix"])
    convert_converter(path, tmp_path / "converter", KNOWN["hg-256-res-64-hg0-hgfix"])
    files = [tmp_path / name / "best.safetensors" for name in ("hourglass", "converter")]
    network = new_forecaster(files[0], Forecaster(converter="trained"), 1, files[1])
    images = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        for layer in network.layers:
            for parameter in layer.parameters():
                parameter.zero_()  # then the heatmaps of the first step are those of the hourglass
        found = network.eval()(images, 1)
        heatmaps, *poses, _ = Computation(torch7.read(path)).run(images)
    assert torch.allclose(found.heatmaps[:, 0], heatmaps, atol=1e-4)
    assert close(type(found.poses)(*(part[:, 0] for part in found.poses)), poses)
