"""Compute training samples on the device: warp, colour-jitter and erase a whole batch of crops, and draw its heatmaps.

The worker processes send plans (`loader.Plans`): the numbers that define a sample. A plan also contains the sample's
unprocessed crop if the device cannot store all crops. The samples equal those of `loader.PoseDataset`, except that
`PoseDataset` interpolates with OpenCV, which rounds the positions between pixels to 1/32 px.
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

PART_OF_MEMORY = 0.5  # fraction of the device's free memory that cached crops may take; the training needs the rest


def plans(data: DatasetFiles, size: Input, training: Training, device: torch.device) -> "tuple[Plans, DeviceSamples]":
    """Return the stream of plans for a training, and the function that computes the samples of a batch of plans.

    data.crops: the folder of the crop cache. All crops stay on the device if they need at most the fraction PART_OF_MEMORY
    of its free memory.
    """
    fit = len(data.split("train")) * 3 * crop_side(size.resolution) ** 2 <= PART_OF_MEMORY * _free_bytes(device)
    stream = Plans(data, size, training, training.seed, training.batch, pixels=not fit)
    return stream, DeviceSamples(stream.target, load(stream, device) if fit else None)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def load(stream: Plans, device: torch.device) -> Tensor:
    """Return the crops of all rows on a device, (P, side, side, 3) uint8 RGB. Raises DataError for a damaged file."""
    side = crop_side(stream.target.input_res)
    crops, first = torch.empty((len(stream), side, side, 3), dtype=torch.uint8, device=device), 0
    for part in read_crops(stream.crops, stream.rows, stream.target.input_res):
        crops[first : first + len(part)] = torch.from_numpy(part).to(device)
        first += len(part)
    return crops


class DeviceSamples:
    """Computes the samples of a batch of plans. crops: (P, side, side, 3) uint8, of all rows; None if plans contain crops."""

    def __init__(self, target: CropSpec, crops: Tensor | None) -> None:
        self.target, self.crops = target, crops

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the training samples of a batch of N plans (see `Plans.__getitem__`) on the device.

        input (N, 3, R, R) float32 RGB in [0, 1], heatmaps (N, J, h, h) float32, weights (N, J) float32. All shapes depend only
        on the shapes of the plans, and no step waits for the device, as CUDA graphs require.
        """
        target = self.target
        crops = batch["crop"] if self.crops is None else self.crops[batch["row"]]
        images = crops.permute(0, 3, 1, 2).float()
        heatmaps = draw(batch["centers"], target.heatmap_res, target.sigma, target.radius)
        for step in batch["to_source"].unbind(dim=1):
            images = warp(images, step, target.input_res).round()  # colours become integers, as in PoseDataset
        if target.twice:
            heatmaps = warp(heatmaps, batch["heatmap_source"], target.heatmap_res)
        images = (images * (batch["colour"] / 255)[:, :, None, None]).clamp(max=1)
        left, top, right, bottom = batch["erased"][:, :, None, None, None].unbind(dim=1)
        pixels = torch.arange(target.input_res, device=images.device)
        across = (pixels >= left) & (pixels < right)
        down = (pixels[:, None] >= top) & (pixels[:, None] < bottom)
        return {"input": images.masked_fill(across & down, 0), "heatmaps": heatmaps, "weights": batch["weights"]}


def warp(images: Tensor, to_source: Tensor, side: int) -> Tensor:
    """Return images (N, C, h, w) float warped to (N, C, side, side) with bilinear interpolation.

    to_source: affine maps (N, 2, 3) from px of the result to px of the image. The result is 0 outside of the image, with a
    transition of one pixel at the image's border.
    """
    pixels = torch.arange(side, device=images.device, dtype=to_source.dtype)
    x, y, one = torch.broadcast_tensors(pixels[None, :], pixels[:, None], torch.ones_like(pixels))
    source = torch.stack((x, y, one), dim=-1) @ to_source[:, None].transpose(2, 3)  # (N, side, side, 2) px
    # grid_sample's coordinates run from -1 to 1 between the outer edges of the image.
    sizes = torch.stack([torch.full_like(one, n) for n in (images.shape[3], images.shape[2])], dim=-1)
    return F.grid_sample(images, (2 * source + 1) / sizes - 1, align_corners=False)


def draw(centers: Tensor, side: int, sigma: float, radius: int) -> Tensor:
    """Return heatmaps (N, J, side, side) with Gaussian blobs, equal to those of `heatmaps.draw` with outside = True.

    centers: (N, J, 2) in heatmap px; NaN draws no blob.
    """
    pixels = torch.arange(side, device=centers.device, dtype=centers.dtype)
    near = (pixels - (centers + 0.5).floor()[..., None]).abs() <= radius  # (N, J, 2, side) bool, false if the center is NaN
    profiles = torch.where(near, ((pixels - centers[..., None]).square() * (-0.5 / sigma**2)).exp(), 0.0)
    columns, rows = profiles.unbind(dim=2)
    return rows[..., :, None] * columns[..., None, :]
