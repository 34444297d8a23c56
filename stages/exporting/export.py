"""Export a trained network for other programs, into one folder.

model.safetensors  the network with its description, for `checkpoints.load_network`
model.onnx         images (N, 3, R, R) in [0, 1] -> heatmaps (N, J, R/4, R/4) of the last stack; any N
best_model.t7      for the option -hgModel of image-play and skeleton2d3d (cudnn, GPU tensors)
best_model_cpu.t7  for Torch7 without a GPU (nn, float tensors)
weights.h5         the weight arrays by name; the attribute `description` describes the network, as in model.safetensors
model.json         for programs: options, joints, input, output, accuracies, largest error of each file's heatmaps
use_onnx.py        finds a person's joints with model.onnx, numpy and onnxruntime alone
MODEL_CARD.md      for people: data, settings, accuracies, largest error of each file's heatmaps

The .t7 files are missing if Torch7 lacks a layer of the network.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats.hdf5 import write_h5
from datasets.progress import Report, silent
from stages.exporting import model_json
from stages.exporting.model_card import USE_ONNX, History, model_card
from stages.loading.loader import PoseDataset
from stages.network import checkpoints
from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet
from stages.network.onnx_graph import OPSET, write_onnx
from stages.settings.sections import Input
from stages.torch7 import t7 as torch7
from stages.torch7.export_network import as_torch7, obstacle
from stages.torch7.import_network import read_hourglass

CHECKED = 4  # number of images on which each written file is compared with the network
TOLERANCE = 1e-4  # largest allowed difference from the network's heatmaps, whose peaks are about 1 high


@dataclass(frozen=True)
class Format:
    """A file format of the export: its purpose, a function that writes a file, and one that runs the network in a file."""

    what_for: str
    write: Callable[[Path, HourglassNet, Description], None]
    heatmaps: Callable[[Path, Tensor], np.ndarray]  # (file, images (N, 3, R, R)) -> heatmaps (N, J, R/4, R/4)


def export(folder: Path, model: Path, data: DatasetFiles, history: History, report: Report = silent) -> dict[str, Any]:
    """Write the network of the file `model` in every format, and compare each file with the network on images of `data`.

    history: the origin and accuracy of the network, for MODEL_CARD.md. Returns the number of parameters and, for each file, the
    largest difference from the network's heatmaps. Raises DataError if a file does not reproduce the network's heatmaps.
    """
    network, description = checkpoints.load_network(model)
    images = _validation_images(data, description.resolution)
    expected = _heatmaps(network, images)
    reason = obstacle(network)
    written = {name: form for name, form in FORMATS.items() if not (reason and name.endswith(".t7"))}
    differences = {}
    for done, (name, form) in enumerate(written.items()):
        report(done, len(written), name)
        form.write(folder / name, network, description)
        differences[name] = float(np.abs(form.heatmaps(folder / name, images) - expected).max())
        if not differences[name] <= TOLERANCE:  # this condition also holds for NaN
            raise DataError(
                f"{folder / name}: its heatmaps differ from the network's by up to {differences[name]:.1e}, but at most "
                f"{TOLERANCE:.0e} is allowed; nothing is exported. Check {model}."
            )
    facts = model_json.describe(description, sum(p.numel() for p in network.parameters()), differences)
    model_json.write(folder, facts)
    uses = {name: form.what_for for name, form in written.items()}
    shutil.copyfile(Path(__file__).with_name(USE_ONNX), folder / USE_ONNX)
    (folder / "MODEL_CARD.md").write_text(model_card(facts, uses, len(images), reason, history), encoding="utf-8")
    report(len(written), len(written), "")
    return {"parameters": facts.parameters, "largest_difference_of_heatmaps": differences}


def _validation_images(data: DatasetFiles, resolution: int) -> Tensor:
    """Return the first people of the validation split as network inputs (N, 3, R, R) float32 in [0, 1]."""
    samples = PoseDataset(data, "valid", Input(resolution=resolution))
    inputs = []
    for row in range(min(CHECKED, len(samples))):
        sample = samples[row]
        if isinstance(sample, DataError):
            raise sample
        inputs.append(sample["input"])
    return torch.from_numpy(np.stack(inputs))


def _heatmaps(network: HourglassNet, images: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(images)[-1].numpy()


def _write_safetensors(path: Path, network: HourglassNet, description: Description) -> None:
    about = description
    checkpoints.save_network(path, network, about.joints, about.resolution, about.metrics, about.limbs)


def _heatmaps_of_onnx(path: Path, images: Tensor) -> np.ndarray:
    """Return the heatmaps that an .onnx file computes. The first image is a batch of its own, to test two batch sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["heatmaps"], {"images": part.numpy()})[0] for part in (images[:1], images[1:])])


def _write_hdf5(path: Path, network: HourglassNet, description: Description) -> None:
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_h5(path, arrays, description=json.dumps(checkpoints.as_json(description)))


def _heatmaps_of_hdf5(path: Path, images: Tensor) -> np.ndarray:
    with h5py.File(path) as file:
        tensors = {name: torch.from_numpy(np.asarray(field)) for name, field in file.items()}
        network, _ = checkpoints.build(tensors, json.loads(file.attrs["description"]), path)
    return _heatmaps(network, images)


FORMATS = {
    "model.safetensors": Format(
        "Python: `stages.network.checkpoints.load_network`, or any reader of safetensors",
        _write_safetensors,
        lambda path, images: _heatmaps(checkpoints.load_network(path)[0], images),
    ),
    "model.onnx": Format(
        f"onnxruntime, OpenVINO and others: ONNX, opset {OPSET}; any number of images",
        write_onnx,
        _heatmaps_of_onnx,
    ),
    "best_model.t7": Format(
        "`-hgModel` of image-play and skeleton2d3d: a Torch7 nn.gModule of cudnn modules, CUDA tensors",
        lambda path, network, about: torch7.write(path, as_torch7(network, cudnn=True, resolution=about.resolution)),
        lambda path, images: _heatmaps(read_hourglass(path), images),
    ),
    "best_model_cpu.t7": Format(
        "Torch7 without a GPU: an nn.gModule of nn modules, float tensors",
        lambda path, network, about: torch7.write(path, as_torch7(network, cudnn=False, resolution=about.resolution)),
        lambda path, images: _heatmaps(read_hourglass(path), images),
    ),
    "weights.h5": Format(
        "Keras, MATLAB and others: HDF5, the arrays by name",
        _write_hdf5,
        _heatmaps_of_hdf5,
    ),
}
