"""Export a trained converter for other programs, into one folder.

converter.safetensors  the network with its description, for `stages.lifting.checkpoints.load`
converter.onnx         heatmaps (N, J, S, S) -> repos (N, J, 3), trans (N, 3) in mm and focal (N,) in px, see `Pose3D`; any N
model_best.t7          res-64 for the option -s3Model of image-play and skeleton2d3d (cudnn classes, GPU tensors); only for
                       networks that `stages.lifting.published.obstacle` allows
converter.json         the description: options, joints, input, outputs, accuracies, and for each file the largest difference
                       of its outputs from the network's outputs
MODEL_CARD.md          a text for users: the network's input, output, accuracy and data, and the stages that made the network
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.mocap.clips import Clips
from stages.lifting import checkpoints
from stages.lifting.network import ConverterNet, Pose3D
from stages.lifting.objective import tensors
from stages.lifting.published import as_torch7, obstacle, read_converter
from stages.lifting.samples import NONE, draw_heatmaps, observed, validation_scenes
from stages.network.onnx_graph import OPSET, write_graph
from stages.settings.lifting import ConverterTraining
from stages.torch7 import t7 as torch7

NAME, SAFETENSORS, ONNX, TORCH7 = "converter.json", "converter.safetensors", "converter.onnx", "model_best.t7"
CHECKED = 8  # number of poses; the written files and the network are compared on the heatmaps of these poses
TOLERANCE = 0.05  # largest allowed difference from the network's outputs, in mm and px; outputs reach several thousand mm


class ExportedConverter(BaseModel):
    """The contents of converter.json."""

    model_config = ConfigDict(extra="forbid")

    converter: dict[str, Any]  # the settings of [converter]
    parameters: int
    joints: tuple[str, ...]
    side: int  # S, side of the heatmaps in px
    heatmaps: str = "(N, J, S, S): a blob with a peak of 1 at each visible joint, as in the outputs of hourglasses"
    outputs: str = (
        "repos (N, J, 3): joints minus their mean, mm; trans (N, 3): that mean, mm; focal (N,): focal length, px of the "
        "heatmaps; camera frame: x right, y down, z forward"
    )
    center: float  # principal point of the cameras: u = focal * x / z + center, v = focal * y / z + center, 0-based heatmap px
    metrics: dict[str, int | float]
    onnx_opset: int = OPSET
    largest_difference: dict[str, float]  # file -> largest difference of its outputs from the network's outputs, mm and px
    no_torch7: str  # the reason why there is no Torch7 file; "" if the file exists


def export(folder: Path, model: Path, clips: dict[str, Clips], training: ConverterTraining,
           made_by: dict[str, str]) -> dict[str, Any]:  # fmt: skip
    """Read a converter from the file `model`, write it in every format, and compare each file with it on validation poses.

    clips: split -> clips of motion capture; made_by: lines of the model card, such as name of a stage -> fingerprint. Returns
    the number of parameters, and for each file the largest difference of its outputs from the network's outputs. Raises
    DataError for a lifter, and if a difference exceeds TOLERANCE.
    """
    network, about = checkpoints.load(model)
    if not isinstance(network, ConverterNet):
        raise DataError(f"{model} is a lifter; give a converter: the best.safetensors of a TrainConverter.")
    maps = _heatmaps(clips["valid"], network, training)
    expected = _outputs(network, maps)
    checkpoints.save(folder / SAFETENSORS, network, about.joints, about.metrics)
    shape = (network.joints, network.side, network.side)
    write_graph(folder / ONNX, _Parts(network), {"heatmaps": shape}, list(Pose3D._fields), about.joints)
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        SAFETENSORS: lambda path: _outputs(checkpoints.load(path)[0], maps), ONNX: lambda path: _of_onnx(path, maps),
    }  # fmt: skip
    reason = obstacle(network)
    if not reason:
        torch7.write(folder / TORCH7, as_torch7(network))
        readers[TORCH7] = lambda path: _outputs(read_converter(path), maps)
    differences = {}
    for name, read in readers.items():
        differences[name] = float(np.abs(read(folder / name) - expected).max())
        if not differences[name] <= TOLERANCE:  # true for NaN too
            raise DataError(
                f"{folder / name}: its outputs differ from the network's by up to {differences[name]:.1e} mm, but at most "
                f"{TOLERANCE} mm is allowed; nothing is exported. Check {model}."
            )
    told = ExportedConverter(
        converter=network.options.significant(),
        parameters=sum(p.numel() for p in network.parameters()),
        joints=about.joints,
        side=network.side,
        center=network.center,
        metrics={name: value for name, value in about.metrics.items() if value == value},
        largest_difference=differences,
        no_torch7=reason,
    )
    write_atomically(folder / NAME, told.model_dump_json(indent=1).encode())
    (folder / "MODEL_CARD.md").write_text(_card(told, made_by), encoding="utf-8")
    return {"parameters": told.parameters, "largest_difference": differences}


def _card(told: ExportedConverter, made_by: dict[str, str]) -> str:
    """Return the text of MODEL_CARD.md; made_by: see `export`."""
    return "\n".join([
        "# From the heatmaps of a pose to the pose in 3D",
        "",
        f"A converter of {told.parameters:,} parameters. Input: heatmaps {told.heatmaps}; S = {told.side}.",
        f"Outputs: {told.outputs}.",
        f"A joint (x, y, z) in mm is seen at u = focal * x / z + {told.center:g}, v = focal * y / z + {told.center:g}, in",
        "heatmap px counted from 0. An image shows neither a person's size nor the focal length, so both are estimates.",
        "",
        f"Joints: {', '.join(told.joints)}.",
        "",
        "## Accuracy on validation clips when the network was saved",
        "",
        *[f"- {name}: {value:.6g}" for name, value in told.metrics.items()],
        "",
        "## Files",
        "",
        *[f"- `{name}`: largest difference from the network {d:.1e} mm or px" for name, d in told.largest_difference.items()],
        *([f"- There is no Torch7 file: {told.no_torch7}."] if told.no_torch7 else []),
        "",
        "## How it was made",
        "",
        *[f"- {name}: {value}" for name, value in made_by.items()],
        "",
    ])  # fmt: skip


class _Parts(nn.Module):
    """A converter with three outputs, the parts of `Pose3D`."""

    def __init__(self, network: ConverterNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, ...]:
        return tuple(Pose3D.of(self.network(heatmaps)))


def _heatmaps(clips: Clips, network: ConverterNet, training: ConverterTraining) -> Tensor:
    """Return sharp heatmaps (N, J, S, S) of the first validation poses."""
    published = network.options.cameras == "published"
    scenes = validation_scenes(clips.poses[:CHECKED], network.side, published)
    batch = tensors(observed(scenes, training, NONE, np.random.default_rng(0)))
    return draw_heatmaps(batch, network.side, training)


def _outputs(network: nn.Module, maps: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(maps).numpy()


def _of_onnx(path: Path, maps: Tensor) -> np.ndarray:
    """Return the outputs (N, 3 J + 4) of an .onnx file; the batches of 1 and N - 1 poses test that any batch size works."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run(list(Pose3D._fields), {"heatmaps": some.numpy()}) for some in (maps[:1], maps[1:])]
    repos, trans, focal = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.concatenate([repos.reshape(len(maps), -1), trans, focal[:, None]], axis=1)
