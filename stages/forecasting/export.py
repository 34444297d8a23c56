"""Export a trained forecasting network for other programs, into one folder.

forecaster.safetensors  the network, self-describing, for `stages.forecasting.checkpoints.load_forecaster`
forecaster.onnx         images (N, 3, R, R) in [0, 1] -> heatmaps (N, T, J, R/4, R/4), joints (N, T, J, 2) in px of the input,
                        and with a converter repos (N, T, J, 3), trans (N, T, 3) and focal (N, T), see `Pose3D`
forecaster.json         the description: options, joints, input, outputs, accuracies, and each file's largest difference from
                        the network
MODEL_CARD.md           a text for users: the network's input, output, accuracy and data, and the stages that made the network
"""

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
from stages.lifting.network import Pose3D
from stages.network.onnx_graph import OPSET, write_graph
from stages.settings.forecasting import STEPS, ForecastTraining
from stages.settings.sections import Input

SAFETENSORS, ONNX, NAME = "forecaster.safetensors", "forecaster.onnx", "forecaster.json"
CHECKED = 2  # number of images on which the written files are compared with the network
TOLERANCE = 1e-4  # largest allowed difference of heatmaps, whose peaks are about 1 high
# Largest allowed difference of 3D poses in mm, and of focal lengths in heatmap px. It is small: people are several metres from
# the camera.
POSE_TOLERANCE = 0.5


_SPACE = [
    "",
    "A converter turns the heatmaps of each step into a 3D pose in the frame of the camera (x right, y down, z forward):",
    "`repos`, the joints in mm around their mean; `trans`, the position of this mean in mm; `focal`, the focal length in",
    "heatmap px. A single image shows size and distance only up to a common factor, so both are estimates.",
]  # lines of the model card, if the network has a converter


class ExportedForecaster(BaseModel):
    """The contents of forecaster.json."""

    model_config = ConfigDict(extra="forbid")

    hourglass: dict[str, Any]  # the settings of [network]
    forecaster: dict[str, Any]  # the settings of [forecaster]
    converter: dict[str, Any] | None = None  # the settings of [converter]; None without a converter
    parameters: int
    steps: int
    joints: list[str]
    resolution: int
    joints_from_heatmaps: str  # formula that converts heatmap px to input px
    metrics: dict[str, int | float]
    onnx_opset: int = OPSET
    largest_difference_of_heatmaps: dict[str, float]  # file -> difference from the network's heatmaps
    # File -> difference from the network's 3D poses, in mm (repos and trans) or heatmap px (focal); None without a converter.
    largest_difference_of_poses: dict[str, float] | None = None


@dataclass(frozen=True)
class Upstream:
    """A stage whose result the network depends on."""

    name: str
    fingerprint: str
    origin: Origin | None  # origin of the dataset, if the stage fetches a dataset
    trained_by: str = ""  # a sentence that names the authors, if the stage fetches a network that others trained


def export(folder: Path, model: Path, data: ForecastFiles, training: ForecastTraining, accuracy: ForecastAccuracy,
           upstream: tuple[Upstream, ...], stride: int | None, report: Report = silent) -> dict[str, Any]:  # fmt: skip
    """Write the network of the file `model` in every format, and compare each file with the network on validation images.

    stride: number of frames from step to step in the training; None: a fifteenth of the video's length, as published.
    Returns the number of parameters, and each file's largest differences from the network's outputs. Raises DataError if a
    file does not reproduce the network's heatmaps and 3D poses.
    """
    network, about = load_forecaster(model)
    images = _images(data, about.resolution, training)
    expected = _computed(network, images)
    save_forecaster(folder / SAFETENSORS, network, about.joints, about.resolution, about.metrics)
    report(1, 3, ONNX)
    write_onnx(folder / ONNX, network, about)
    found = {SAFETENSORS: _computed(load_forecaster(folder / SAFETENSORS)[0], images), ONNX: _of_onnx(folder / ONNX, images)}
    maps, poses = {}, {}
    for name, outputs in found.items():
        wrong = {key: float(np.abs(outputs[key] - array).max()) for key, array in expected.items()}
        maps[name] = wrong.pop("heatmaps")
        _check(folder / name, "heatmaps", maps[name], TOLERANCE, model)
        if wrong:
            poses[name] = max(wrong.values())
            _check(folder / name, "3D poses", poses[name], POSE_TOLERANCE, model)
    told = _describe(network, about, maps, poses)
    write_atomically(folder / NAME, told.model_dump_json(indent=1).encode())
    (folder / "MODEL_CARD.md").write_text(_card(told, accuracy, upstream, stride), encoding="utf-8")
    return {"parameters": told.parameters, "largest_difference_of_heatmaps": maps, "largest_difference_of_poses": poses}


def _check(path: Path, what: str, difference: float, allowed: float, model: Path) -> None:
    """Raise DataError if the outputs of a written file differ from the network's by more than allowed."""
    if not difference <= allowed:  # true for NaN too
        raise DataError(
            f"{path}: its {what} differ from the network's by up to {difference:.1e}, but at most {allowed:.0e} is allowed; "
            f"nothing is exported. Check {model}."
        )


class _WithJoints(nn.Module):
    """A network with the outputs heatmaps, joints in px of the input, and, with a converter, repos, trans and focal."""

    def __init__(self, network: ForecastNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps, poses = self.network(images, STEPS)
        side = maps.shape[-1]
        largest = maps.flatten(3).argmax(dim=3)
        pixels = torch.stack([largest % side, largest // side], dim=-1).float()
        return maps, (pixels + 0.5) * 4 - 0.5, *(poses or ())


def write_onnx(path: Path, network: ForecastNet, about: ForecasterDescription) -> None:
    """Write the network as an ONNX graph: any number of images -> heatmaps, joints and 3D poses; see the module's docstring."""
    outputs = ["heatmaps", "joints", *(Pose3D._fields if network.converter else ())]
    write_graph(path, _WithJoints(network), {"images": (3, about.resolution, about.resolution)}, outputs, about.joints)


def _images(data: ForecastFiles, resolution: int, training: ForecastTraining) -> Tensor:
    """Return the first CHECKED images of the validation split as network inputs (N, 3, R, R)."""
    movements = data.movements("valid")
    samples = PennSequences(movements, published_starts(movements), data.frames, Input(resolution=resolution), training)
    inputs = []
    for number in range(min(CHECKED, len(samples))):
        sample = samples[number]
        if isinstance(sample, DataError):
            raise sample
        inputs.append(torch.from_numpy(sample["input"]))
    return torch.stack(inputs)


def _computed(network: ForecastNet, images: Tensor) -> dict[str, np.ndarray]:
    """Return name -> output of all steps: heatmaps and, with a converter, 3D poses; the names are those of the .onnx file."""
    with torch.inference_mode():
        maps, poses = network(images, STEPS)
    parts = poses._asdict() if poses else {}
    return {"heatmaps": maps.numpy()} | {name: part.numpy() for name, part in parts.items()}


def _of_onnx(path: Path, images: Tensor) -> dict[str, np.ndarray]:
    """Return name -> output of an .onnx file, which was traced with two images and is tested here with batches of one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batches = [session.run(names, {"images": image[None].numpy()}) for image in images]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches, strict=True), strict=True)}


def _describe(network: ForecastNet, about: ForecasterDescription, maps: dict[str, float],
              poses: dict[str, float]) -> ExportedForecaster:  # fmt: skip
    return ExportedForecaster(
        hourglass=about.options.significant(),
        forecaster=about.forecaster.significant(),
        converter=about.converter.significant() if about.converter else None,
        parameters=sum(p.numel() for p in network.parameters()),
        steps=STEPS,
        joints=list(about.joints),
        resolution=about.resolution,
        joints_from_heatmaps="(pixel of the largest value + 0.5) * 4 - 0.5, px of the input, pixel centres at integers",
        metrics={name: value for name, value in about.metrics.items() if value == value},
        largest_difference_of_heatmaps=maps,
        largest_difference_of_poses=poses or None,
    )


def _card(told: ExportedForecaster, accuracy: ForecastAccuracy, upstream: tuple[Upstream, ...],
          stride: int | None) -> str:  # fmt: skip
    """Return the text of MODEL_CARD.md; stride: see `export`."""
    apart = f"{stride} frames" if stride else "a fifteenth of the length"
    r, poses = told.resolution, told.largest_difference_of_poses
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
        f"A network of {told.parameters:,} parameters. It takes an image (N, 3, {r}, {r}), RGB in [0, 1], of one person,",
        f"cropped to the movement, and returns heatmaps of {len(told.joints)} joints at {told.steps} steps; the first step",
        f"is the image itself. Successive steps are {apart} of a video like those of Penn Action apart.",
        *(_SPACE if told.converter else []),
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
        *[
            f"- `{name}`: difference from the network: heatmaps {d:.1e}" + (f", 3D poses {poses[name]:.1e}" if poses else "")
            for name, d in told.largest_difference_of_heatmaps.items()
        ],
        "",
        "## Data",
        "",
        *[f"- {stage.trained_by} The data below was used to score the network." for stage in upstream if stage.trained_by],
        *(data or ["Pictures that this workspace draws itself (its built-in sample), no photographs."]),
        "",
        "## How it was made",
        "",
        *[f"- {stage.name}: `{stage.fingerprint}`" for stage in upstream],
        "",
    ])  # fmt: skip
