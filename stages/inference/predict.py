"""Compute a network's heatmaps for a stream of batches, and the positions of the joints in the original images."""

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
    """Return the device of this name; auto: CUDA, else Apple's MPS, else the CPU. Raises DataError for a missing device."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available.get(name):
        raise DataError(f"[workspace] device = {name}, but torch finds no such device here; use auto or cpu.")
    return torch.device(name)


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """Return autocast's dtype for convolutions; auto: the shortest dtype that the machine computes natively.

    Raises DataError for an unknown precision, and for float16 without CUDA, where gradients would underflow unnoticed.
    """
    if precision not in get_args(Precision):
        raise DataError(f"precision = {precision} is unknown; use one of {', '.join(get_args(Precision))}.")
    if precision == "float16" and device.type != "cuda":
        raise DataError(f"precision = float16 needs CUDA, but the device is {device.type}; use bfloat16 or auto.")
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "auto":
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def set_tf32(precision: str) -> None:
    """Allow TF32 products on CUDA for the whole process with precision = tf32; forbid them with any other precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def predict(network: HourglassNet, batches: Iterable[dict], mirrored: list[int], device: torch.device, flip: bool,
            compute: torch.dtype = torch.float32) -> Iterator[tuple[dict, Tensor]]:  # fmt: skip
    """Yield each batch with the last stack's heatmaps (N, J, h, w), float32 on the CPU.

    flip: average the heatmaps of the image and of its mirror image. The heatmaps of the mirror image are mirrored back, with
    left and right joints exchanged. mirrored: for each channel, the channel with which it is exchanged. compute: see
    `compute_type`.

    The mirrored heatmaps need no shift, because the outer edges of input and heatmap coincide, so that both are mirrored at
    the same line. The 7 x 7 convolution of stride 2 in the stem reaches half a pixel further to one side than to the other. A
    network learns to compensate for this offset, on mirrored samples as well as on samples that are not mirrored. Measured
    with trained networks: the joints of the mirror image, mirrored back, lie on average 0.02 to 0.06 heatmap px to the left or
    right of the joints of the image. A shift by one pixel, as in programs whose heatmap coordinates refer to a pixel's corner,
    reduces PCKh@0.1 by a third to a half.
    """
    run = runtimes.in_torch(network, device, compute)
    if flip:
        run = runtimes.with_flip(run, mirrored)
    for batch in batches:
        yield batch, run(batch["input"].to(device, non_blocking=True)).cpu()


def average_scales(maps: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """Return the average (N, J, h, w) of several heatmaps of the same people, in the coordinates of the first heatmaps.

    scales: for each of `maps`, the factor by which the boxes were enlarged. Outside of its box, a heatmap counts as 0.
    """
    total = maps[0].clone()
    for values, scale in zip(maps[1:], scales[1:], strict=True):
        factor = scales[0] / scale
        zoom = values.new_zeros(len(values), 2, 3)
        zoom[:, 0, 0] = zoom[:, 1, 1] = factor
        grid = functional.affine_grid(zoom, list(values.shape), align_corners=False)
        total += functional.grid_sample(values, grid, align_corners=False)
    return total / len(maps)


def joints_in_image(maps: np.ndarray, image_to_crop: np.ndarray, resolution: int,
                    decoder: str = "subpixel") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the joints (N, J, 2) of heatmaps (N, J, h, w), in 0-based px of the original images, and confidences (N, J).

    image_to_crop: maps (N, 2, 3) from image px to crop px; resolution: side of the crop in px; decoder: a name in
    `heatmaps.DECODERS`.
    """
    points, confidence = heatmaps.DECODERS[decoder](maps)
    return in_image(points, maps.shape[-1], image_to_crop, resolution), confidence


def in_image(points: np.ndarray, side: int, image_to_crop: np.ndarray, resolution: int) -> np.ndarray:
    """Convert points (N, J, 2) from px of heatmaps to 0-based px of the original images.

    side: side of a heatmap in px; image_to_crop, resolution: as for `joints_in_image`.
    """
    in_crop = geometry.apply(geometry.invert(geometry.crop_to_heatmap(resolution, side)), points)
    linear, shift = image_to_crop[:, :, :2], image_to_crop[:, None, :, 2]
    return (in_crop - shift) @ np.linalg.inv(linear).transpose(0, 2, 1)
