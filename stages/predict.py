"""Heatmaps of a network for a stream of batches, and where in the original images its joints lie."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from datasets import geometry, heatmaps
from datasets.errors import DataError
from stages.hourglass import HourglassNet


def pick_device(name: str) -> torch.device:
    """auto: CUDA, else Apple's MPS, else the CPU. Raises DataError for a device that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    if not there[name]:
        raise DataError(f"[workspace] device = {name}, but torch finds no such device here; use auto or cpu.")
    return torch.device(name)


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """The type that autocast computes convolutions in; auto: the shortest that the machine computes natively.

    Also sets, for the whole process, whether CUDA may shorten the factors of float32 products: only with tf32.
    Raises DataError for float16 elsewhere than on CUDA, where gradients would vanish without being noticed.
    """
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
    (`mirrored`: the network's channels in mirrored order). `compute`: see `compute_type`.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with torch.inference_mode():
        for batch in batches:
            images = batch["input"].to(device, memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast(device.type, compute, enabled=compute != torch.float32):
                maps = network(images)[-1].float()
                if flip:
                    back = network(images.flip(-1))[-1].float().flip(-1)[:, mirrored]
                    maps = (maps + back) / 2
            yield batch, maps.cpu()


def joints_in_image(maps: np.ndarray, image_to_crop: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (N, J, h, w) -> joints (N, J, 2) in 0-based pixels of the original images, and confidences (N, J).

    image_to_crop: (N, 2, 3); resolution: side of the crop in pixels.
    """
    points, confidence = heatmaps.decode_subpixel(maps)
    crop_to_heatmap = geometry.crop_to_heatmap(resolution, maps.shape[-1])
    for i, affine in enumerate(image_to_crop):
        back = geometry.invert(geometry.compose(affine, crop_to_heatmap))
        points[i] = geometry.apply(back, points[i])
    return points, confidence
