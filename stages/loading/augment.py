"""Training samples made on the device: crops are warped, coloured, erased and labelled there, a whole batch at a time.

The processes that read ahead (`loader.Plans`) send only numbers, or numbers and plain crops. What comes of them is that of
`loader.PoseDataset`, but for how finely OpenCV weighs neighbouring pixels (in steps of 1/32 px).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.dataset import DatasetFiles
from datasets.imaging.samples import CropSpec
from stages.loading.crop_cache import crop_side, read_crops
from stages.loading.loader import Plans
from stages.settings.sections import Input
from stages.settings.trainings import Training

PART_OF_MEMORY = 0.5  # crops may take so much of what is free on the device; a training needs the rest


def plans(data: DatasetFiles, size: Input, training: Training, device: torch.device) -> "tuple[Plans, DeviceSamples]":
    """The stream of a training's plans, and what makes samples of them; data.crops: where its crops are kept."""
    stream = Plans(data, size, training, training.seed, training.batch)
    stream.pixels = len(stream) * 3 * crop_side(size.resolution) ** 2 > PART_OF_MEMORY * _free_bytes(device)
    return stream, DeviceSamples(stream.target, None if stream.pixels else load(stream, device))


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def load(stream: Plans, device: torch.device) -> Tensor:
    """The crops of all rows on a device: (P, side, side, 3) uint8 RGB. Raises DataError for a file that is damaged."""
    side = crop_side(stream.target.input_res)
    crops, first = torch.empty((len(stream), side, side, 3), dtype=torch.uint8, device=device), 0
    for part in read_crops(stream.crops, stream.rows, stream.target.input_res):
        crops[first : first + len(part)] = torch.from_numpy(part).to(device)
        first += len(part)
    return crops


class DeviceSamples:
    """Makes batches of plans. `crops`: those of all rows (P, side, side, 3) uint8, or None where each plan brings its own."""

    def __init__(self, target: CropSpec, crops: Tensor | None) -> None:
        self.target, self.crops = target, crops

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Plans (`Plans.__getitem__`, N of them, on the device) to what a training computes with.

        input (N, 3, R, R) float32 RGB in [0, 1], heatmaps (N, J, h, h) float32, weights (N, J) float32. All shapes follow from
        those of the plans, and nothing waits for the device.
        """
        target = self.target
        crops = batch["crop"] if self.crops is None else self.crops[batch["row"]]
        images = crops.permute(0, 3, 1, 2).float()
        heatmaps = draw(batch["centers"], target.heatmap_res, target.sigma, target.radius)
        for step in batch["to_source"].unbind(dim=1):
            images = warp(images, step, target.input_res).round()  # to whole colours, as images have them
        if target.twice:
            heatmaps = warp(heatmaps, batch["heatmap_source"], target.heatmap_res)
        images = (images * (batch["colour"] / 255)[:, :, None, None]).clamp(max=1)
        left, top, right, bottom = batch["erased"][:, :, None, None, None].unbind(dim=1)
        pixels = torch.arange(target.input_res, device=images.device)
        across = (pixels >= left) & (pixels < right)
        down = (pixels[:, None] >= top) & (pixels[:, None] < bottom)
        return {"input": images.masked_fill(across & down, 0), "heatmaps": heatmaps, "weights": batch["weights"]}


def warp(images: Tensor, to_source: Tensor, side: int) -> Tensor:
    """Sample images (N, C, h, w) float bilinearly where to_source (N, 2, 3) leads from the px of the result.

    Returns (N, C, side, side). Outside of an image there is zero, and at its edge a transition to it of one pixel.
    """
    pixels = torch.arange(side, device=images.device, dtype=to_source.dtype)
    x, y, one = torch.broadcast_tensors(pixels[None, :], pixels[:, None], torch.ones_like(pixels))
    source = torch.stack((x, y, one), dim=-1) @ to_source[:, None].transpose(2, 3)  # (N, side, side, 2) px
    # grid_sample counts from -1 to 1, from edge to edge.
    sizes = torch.stack([torch.full_like(one, n) for n in (images.shape[3], images.shape[2])], dim=-1)
    return F.grid_sample(images, (2 * source + 1) / sizes - 1, align_corners=False)


def draw(centers: Tensor, side: int, sigma: float, radius: int) -> Tensor:
    """Draw blobs as `heatmaps.draw` does, with `outside`, around centers (N, J, 2) in heatmap px, NaN where none.

    Returns (N, J, side, side).
    """
    pixels = torch.arange(side, device=centers.device, dtype=centers.dtype)
    near = (pixels - (centers + 0.5).floor()[..., None]).abs() <= radius  # false for NaN; (N, J, 2, side)
    profiles = torch.where(near, ((pixels - centers[..., None]).square() * (-0.5 / sigma**2)).exp(), 0.0)
    columns, rows = profiles.unbind(dim=2)
    return rows[..., :, None] * columns[..., None, :]
