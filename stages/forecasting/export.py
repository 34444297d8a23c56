"""Export a trained forecasting network for other programs, into one folder.

forecaster.safetensors  the network, self-describing, for `stages.forecasting.checkpoints.load_forecaster`
forecaster.onnx         images (N, 3, R, R) in [0, 1] -> heatmaps (N, T, J, R/4, R/4) and joints (N, T, J, 2) in px of the input
forecaster.json         the description: options, joints, input, outputs, accuracies, and the largest heatmap error of each file
MODEL_CARD.md           for people: input, output and accuracy of the network, its data, and the stages that made it
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.progress import Report, silent
from datasets.sources import Origin
from stages.forecasting.checkpoints import ForecasterDescription, load_forecaster, save_forecaster
from stages.forecasting.evaluate import ForecastAccuracy, ForecastFiles
from stages.forecasting.movements import published_starts
from stages.forecasting.network import ForecastNet
from stages.forecasting.samples import PennSequences
from stages.network.onnx_graph import OPSET, write_graph
from stages.settings.forecasting import STEPS, ForecastTraining
from stages.settings.sections import Input

SAFETENSORS, ONNX, NAME = "forecaster.safetensors", "forecaster.onnx", "forecaster.json"
CHECKED = 2  # number of images on which the written files are compared with the network
TOLERANCE = 1e-4  # largest allowed difference of heatmaps, whose peaks are about 1 high


class ExportedForecaster(BaseModel):
    """The contents of forecaster.json."""

    model_config = ConfigDict(extra="forbid")

    hourglass: dict[str, Any]  # the settings of [network]
    forecaster: dict[str, Any]  # the settings of [forecaster]
    parameters: int
    steps: int
    joints: list[str]
    resolution: int
    joints_from_heatmaps: str  # formula from heatmap px to input px
    metrics: dict[str, int | float]
    onnx_opset: int = OPSET
    largest_difference_of_heatmaps: dict[str, float]  # file -> difference from the network's heatmaps


@dataclass(frozen=True)
class Upstream:
    """A stage on which the network depends; `origin` is the dataset's origin if the stage fetches a dataset."""

    name: str
    fingerprint: str
    origin: Origin | None


def export(folder: Path, model: Path, data: ForecastFiles, training: ForecastTraining, accuracy: ForecastAccuracy,
           upstream: tuple[Upstream, ...], report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Write the network of the file `model` in every format, and compare each file with the network on validation images.

    Returns the number of parameters and the largest heatmap difference of each file. Raises DataError if a file does not
    reproduce the network's heatmaps.
    """
    network, about = load_forecaster(model)
    images = _images(data, about.resolution, training)
    with torch.inference_mode():
        expected = network(images, STEPS).heatmaps.numpy()
    save_forecaster(folder / SAFETENSORS, network, about.joints, about.resolution, about.metrics)
    report(1, 3, ONNX)
    write_onnx(folder / ONNX, network, about)
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        SAFETENSORS: lambda path: _of_safetensors(path, images), ONNX: lambda path: _of_onnx(path, images),
    }  # fmt: skip
    differences = {}
    for name, read in readers.items():
        differences[name] = float(np.abs(read(folder / name) - expected).max())
        if not differences[name] <= TOLERANCE:  # true for NaN too
            raise DataError(
                f"{folder / name}: its heatmaps differ from the network's by up to {differences[name]:.1e}, but at most "
                f"{TOLERANCE:.0e} is allowed; nothing is exported. Check {model}."
            )
    told = _describe(network, about, differences)
    write_atomically(folder / NAME, told.model_dump_json(indent=1).encode())
    (folder / "MODEL_CARD.md").write_text(_card(told, accuracy, upstream), encoding="utf-8")
    return {"parameters": told.parameters, "largest_difference_of_heatmaps": differences}


class _WithJoints(nn.Module):
    """A network with two outputs: heatmaps, and joints in px of the input."""

    def __init__(self, network: ForecastNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps, _ = self.network(images, STEPS)
        side = maps.shape[-1]
        largest = maps.flatten(3).argmax(dim=3)
        pixels = torch.stack([largest % side, largest // side], dim=-1).float()
        return maps, (pixels + 0.5) * 4 - 0.5


def write_onnx(path: Path, network: ForecastNet, about: ForecasterDescription) -> None:
    """Write the network as an ONNX graph: any number of images -> heatmaps and joints of all steps."""
    write_graph(path, _WithJoints(network), about.resolution, ["heatmaps", "joints"], about.joints)


def _images(data: ForecastFiles, resolution: int, training: ForecastTraining) -> Tensor:
    """Return the first images of the validation split as network inputs (N, 3, R, R)."""
    movements = data.movements("valid")
    samples = PennSequences(movements, published_starts(movements), data.frames, Input(resolution=resolution), training)
    inputs = []
    for number in range(min(CHECKED, len(samples))):
        sample = samples[number]
        if isinstance(sample, DataError):
            raise sample
        inputs.append(torch.from_numpy(sample["input"]))
    return torch.stack(inputs)


def _of_safetensors(path: Path, images: Tensor) -> np.ndarray:
    network, _ = load_forecaster(path)
    with torch.inference_mode():
        return network(images, STEPS).heatmaps.numpy()


def _of_onnx(path: Path, images: Tensor) -> np.ndarray:
    """Return the heatmaps of an .onnx file. Each image is a batch of its own, to test that any batch size works."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["heatmaps"], {"images": image[None].numpy()})[0] for image in images])


def _describe(network: ForecastNet, about: ForecasterDescription, differences: dict[str, float]) -> ExportedForecaster:
    return ExportedForecaster(
        hourglass=about.options.significant(),
        forecaster=about.forecaster.significant(),
        parameters=sum(p.numel() for p in network.parameters()),
        steps=STEPS,
        joints=list(about.joints),
        resolution=about.resolution,
        joints_from_heatmaps="(pixel of the largest value + 0.5) * 4 - 0.5, px of the input, pixel centres at integers",
        metrics={name: value for name, value in about.metrics.items() if value == value},
        largest_difference_of_heatmaps=differences,
    )


def _card(told: ExportedForecaster, accuracy: ForecastAccuracy, upstream: tuple[Upstream, ...]) -> str:
    """Return the text of MODEL_CARD.md."""
    r = told.resolution
    rows = [
        f"| {split} | {kind} | {found.starts} | " + " | ".join("-" if p is None else f"{100 * p:.1f}" for p in found.pck) + " |"
        for split, kinds in accuracy.splits.items()
        for kind, found in kinds.items()
    ]
    origins = list(dict.fromkeys(stage.origin for stage in upstream if stage.origin))
    data = [f"- {o.name}, {o.page}. Owners: {o.owners}. Terms: {o.terms}" for o in origins]
    return "\n".join([
        f"# Forecasts of {told.steps} poses from one image",
        "",
        f"A network of {told.parameters:,} parameters. It takes an image (N, 3, {r}, {r}), RGB in [0, 1], of one person, cut",
        f"to the room of the movement, and returns heatmaps of {len(told.joints)} joints at {told.steps} steps; the first step",
        "is the image itself. A step is a fifteenth of the length of a video like those of Penn Action.",
        "",
        f"Joints: {', '.join(told.joints)}.",
        "",
        "## Accuracy: PCK@0.05 in per cent at each step",
        "",
        "| split | starts | number | " + " | ".join(str(step) for step in range(1, told.steps + 1)) + " |",
        "|" + "---|" * (told.steps + 3),
        *rows,
        "",
        "## Files",
        "",
        *[f"- `{name}`: largest difference of heatmaps {d:.1e}" for name, d in told.largest_difference_of_heatmaps.items()],
        "",
        "## Data",
        "",
        *(data or ["Pictures that this workspace draws itself (its built-in sample), no photographs."]),
        "",
        "## How it was made",
        "",
        *[f"- {stage.name}: `{stage.fingerprint}`" for stage in upstream],
        "",
    ])  # fmt: skip
