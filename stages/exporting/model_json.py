"""Write model.json, which describes an exported network, its input and its output; only this module writes the file."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from datasets.files import write_atomically
from datasets.skeletons import mirrored
from stages.network.checkpoints import Description
from stages.network.onnx_graph import OPSET

NAME = "model.json"


class Images(BaseModel):
    """The description of the network's input, a batch of images."""

    name: Literal["images"] = "images"
    shape: tuple[Literal["N"], int, int, int]  # N, colours, height, width
    dtype: Literal["float32"] = "float32"
    colours: Literal["RGB"] = "RGB"
    range: tuple[int, int] = (0, 1)
    crop: str  # formulas that compute the crop from a person's box


class Heatmaps(BaseModel):
    """The description of the network's output, one heatmap per joint."""

    name: Literal["heatmaps"] = "heatmaps"
    shape: tuple[Literal["N"], int, int, int]  # N, joints, height, width
    crop_from_heatmap: str  # formula from heatmap px to crop px
    decoding: str = (
        "the largest pixel of a joint's heatmap, moved on each axis by 0.25 px towards the larger of its two neighbours; the "
        "value of the largest pixel is the confidence"
    )


class ExportedModel(BaseModel):
    """The contents of model.json."""

    model_config = ConfigDict(extra="forbid")

    network: dict[str, Any]  # the settings of [network]
    parameters: int
    joints: list[str]  # output channel -> joint name
    flip_pairs: list[tuple[int, int]]  # pairs of channels that are exchanged when the image is mirrored
    input: Images
    output: Heatmaps
    metrics: dict[str, int | float]  # number and validation accuracy of the best epoch
    onnx_opset: int = OPSET
    largest_difference_of_heatmaps: dict[str, float]  # exported file -> largest difference from the network's heatmaps


def describe(description: Description, parameters: int, differences: dict[str, float]) -> ExportedModel:
    """Return the contents of model.json for a network.

    parameters: number of the network's parameters; differences: exported file -> largest difference between
    the file's heatmaps and the network's heatmaps.
    """
    r, h, joints = description.resolution, description.resolution // 4, description.joints
    return ExportedModel(
        network=description.options.significant(),
        parameters=parameters,
        joints=list(joints),
        flip_pairs=[(channel, partner) for channel, partner in enumerate(mirrored(joints)) if channel < partner],
        input=Images(
            shape=("N", 3, r, r),
            crop="a square of side s = 1.25 * max(width, height) of the person's box, with its centre (x0, y0) 0.06 * s below "
            f"the middle of the box; x_crop = (x - x0) * {r} / s + {(r - 1) / 2:g}, and y_crop alike, 0-based pixel centres",
        ),
        output=Heatmaps(
            shape=("N", len(joints), h, h),
            crop_from_heatmap=f"x_crop = (x + 0.5) * {r / h:g} - 0.5, 0-based pixel centres",
        ),
        metrics=description.metrics,
        largest_difference_of_heatmaps=differences,
    )


def write(folder: Path, model: ExportedModel) -> None:
    """Write model.json into a folder."""
    write_atomically(folder / NAME, json.dumps(model.model_dump(mode="json"), indent=1).encode())
