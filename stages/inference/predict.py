"""Heatmaps of a network for a stream of batches, and where in the original images its joints lie."""

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import DataError
from datasets.imaging import geometry, heatmaps
from stages.inference import runtimes
from stages.network.hourglass import HourglassNet
from stages.settings.trainings import Precision


def pick_device(name: str) -> torch.device:
    """auto: CUDA, else Apple's MPS, else the CPU. Raises DataError for a device that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    if not there.get(name):
        raise DataError(f"[workspace] device = {name}, but torch finds no such device here; use auto or cpu.")
    return torch.device(name)


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """The type that autocast computes convolutions in; auto: the shortest that the machine computes natively.

    Also sets, for the whole process, whether CUDA may shorten the factors of float32 products: only with tf32.
    Raises DataError for float16 elsewhere than on CUDA, where gradients would vanish without being noticed, and for what is no
    precision.
    """
    if precision not in get_args(Precision):
        raise DataError(f"precision = {precision} is unknown; use one of {', '.join(get_args(Precision))}.")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if precision == "float16" and device.type != "cuda":
        raise DataError(f"precision = float16 needs CUDA, but the device is {device.type}; use bfloat16 or auto.")
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "auto":
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def predict(network: HourglassNet, batches: Iterable[dict], mirrored: list[int], device: torch.device, flip: bool,
            compute: torch.dtype = torch.float32) -> Iterator[tuple[dict, Tensor]]:  # fmt: skip
    """For each batch, the last stack's heatmaps (N, J, h, w), float32 on the CPU.

    With `flip`, averaged with those of the mirrored image, mirrored back and with left and right joints exchanged
    (`mirrored`: the network's channels in mirrored order). Outer edges of input and heatmap coincide, so both mirror at
    the same line and nothing has to be shifted; that the stem's 7 x 7 convolutions of stride 2 look half a pixel more to
    one side, a network learns to make up for, on mirrored samples as on plain ones. Measured: joints of trained networks
    differ by 0.02 to 0.06 heatmap px on average, in either direction; shifting by a pixel, as where heatmaps count from a
    pixel's corner, costs a third to a half of PCKh@0.1. `compute`: see `compute_type`.
    """
    run = runtimes.in_torch(network, device, compute)
    if flip:
        run = runtimes.with_flip(run, mirrored)
    for batch in batches:
        yield batch, run(batch["input"].to(device, non_blocking=True)).cpu()


def average_scales(maps: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """Heatmaps (N, J, h, w) of the same people in boxes of different size, averaged in the frame of the first ones.

    scales: the sides of the boxes, in proportion. Outside its box a heatmap is zero.
    """
    total = maps[0].clone()
    for values, scale in zip(maps[1:], scales[1:], strict=True):
        factor = scales[0] / scale
        zoom = torch.tensor([[factor, 0.0, 0.0], [0.0, factor, 0.0]], device=values.device).expand(len(values), 2, 3)
        grid = functional.affine_grid(zoom, list(values.shape), align_corners=False)
        total += functional.grid_sample(values, grid, align_corners=False)
    return total / len(maps)


def joints_in_image(maps: np.ndarray, image_to_crop: np.ndarray, resolution: int,
                    decoder: str = "subpixel") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Heatmaps (N, J, h, w) -> joints (N, J, 2) in 0-based pixels of the original images, and confidences (N, J).

    image_to_crop: (N, 2, 3); resolution: side of the crop in pixels; decoder: a name in `heatmaps.DECODERS`.
    """
    points, confidence = heatmaps.DECODERS[decoder](maps)
    in_crop = geometry.apply(geometry.invert(geometry.crop_to_heatmap(resolution, maps.shape[-1])), points)
    linear, shift = image_to_crop[:, :, :2], image_to_crop[:, None, :, 2]
    return (in_crop - shift) @ np.linalg.inv(linear).transpose(0, 2, 1), confidence
