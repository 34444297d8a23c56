"""A trained network for other programs, in one folder.

model.safetensors  the network, self-describing, as `checkpoints.load_network` reads it
model.json         the description: options, joints, input, output, accuracies, how the weights are named
model.onnx         images (N, 3, R, R) in [0, 1] -> heatmaps (N, J, R/4, R/4) of the last stack; any N
best_model.t7      what image-play and skeleton2d3d take as -hgModel (cudnn, GPU tensors), where Torch7 can express the network
"""

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages import checkpoints, torch7
from stages.export_torch7 import as_torch7, obstacle
from stages.hourglass import HourglassNet
from stages.import_torch7 import read_hourglass
from stages.loader import Data, Samples
from stages.settings import Input

OPSET = 18
CHECKED = 4  # images on which the exported graph is compared with the network
TOLERANCE = 1e-4


class _LastStack(nn.Module):
    """The network with one output."""

    def __init__(self, network: HourglassNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[-1]


def export(folder: Path, model: Path, data: Data, report: Report = silent) -> dict[str, Any]:
    """Write the network of the file `model` in every format; each is read back and compared on images of `data`.

    Returns the description that model.json holds. Raises DataError where a format does not give the network's output.
    """
    network, description = checkpoints.load_network(model)
    images = _validation_images(data, description.resolution)
    with torch.inference_mode():
        expected = network(images)[-1].numpy()
    checkpoints.save_network(
        folder / "model.safetensors", network, description.joints, description.resolution, description.metrics
    )
    report(1, 3, "safetensors")
    differences = {"model.safetensors": _difference_safetensors(folder / "model.safetensors", images, expected)}
    _write_onnx(folder / "model.onnx", network, description.resolution)
    report(2, 3, "onnx")
    differences["model.onnx"] = _difference_onnx(folder / "model.onnx", images, expected)
    if not obstacle(network):
        torch7.write(folder / "best_model.t7", as_torch7(network, cudnn=True))
        with torch.inference_mode():
            found = read_hourglass(folder / "best_model.t7")(images)[-1].numpy()
        differences["best_model.t7"] = float(np.abs(found - expected).max())
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise DataError(f"{name}: heatmaps differ from the network's by up to {difference:.1e}; expected {TOLERANCE:.0e}.")
    r, h = description.resolution, description.resolution // 4
    facts = {
        "network": description.options.significant(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "joints": description.joints,
        "input": {"name": "images", "shape": ["N", 3, r, r], "dtype": "float32", "colours": "RGB", "range": [0, 1]},
        "output": {
            "name": "heatmaps", "shape": ["N", len(description.joints), h, h],
            "crop_from_heatmap": f"x_crop = (x + 0.5) * {r / h:g} - 0.5, 0-based pixel centres",
        },
        "metrics": description.metrics,
        "onnx_opset": OPSET,
        "largest_difference_of_heatmaps": differences,
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(facts, indent=1))
    report(3, 3, "")
    return {"parameters": facts["parameters"], "largest_difference_of_heatmaps": differences}


def _validation_images(data: Data, resolution: int) -> Tensor:
    """The first people of the validation split as network inputs (N, 3, R, R)."""
    samples = Samples(data, "valid", Input(resolution=resolution))
    inputs = []
    for row in range(min(CHECKED, len(samples))):
        sample = samples[row]
        if isinstance(sample, DataError):
            raise sample
        inputs.append(sample["input"])
    return torch.from_numpy(np.stack(inputs))


def _difference_safetensors(path: Path, images: Tensor, expected: np.ndarray) -> float:
    network, _ = checkpoints.load_network(path)
    with torch.inference_mode():
        return float(np.abs(network(images)[-1].numpy() - expected).max())


def _write_onnx(path: Path, network: HourglassNet, resolution: int) -> None:
    example = torch.zeros(2, 3, resolution, resolution)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's advice to its own developers
        torch.onnx.export(
            _LastStack(network).eval(), (example,), str(path), input_names=["images"], output_names=["heatmaps"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}, opset_version=OPSET, external_data=False,
            dynamo=True, verbose=False,
        )  # fmt: skip
    _forget_places(path)


def _forget_places(path: Path) -> None:
    """Take out what the exporter notes about our source files: equal networks should give equal bytes in every folder."""
    import onnx

    model = onnx.load(str(path))
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    path.write_bytes(model.SerializeToString(deterministic=True))


def _difference_onnx(path: Path, images: Tensor, expected: np.ndarray) -> float:
    """Also a batch of one, to see that the batch size is free."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    whole = session.run(None, {"images": images.numpy()})[0]
    first = session.run(None, {"images": images[:1].numpy()})[0]
    return float(max(np.abs(whole - expected).max(), np.abs(first - expected[:1]).max()))
