"""image-play's forecasting networks: read, compared with what Torch7 computes, and refused where they differ."""

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.forecasting.published import read_forecaster
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
    assert (found.heatmaps[:, 0] - found.heatmaps[:, 5]).abs().max() > 0.5  # the recurrent layers change something
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
