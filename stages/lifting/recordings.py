"""Read the recorded heatmaps of a forecasting network, and move them to the joints of synthetic samples.

Drawn blobs are sharper and more accurate than the heatmaps that a forecasting network passes to the converter. Recorded
heatmaps are the outputs of a forecasting network for photographs with labelled joints. A recorded heatmap is moved so that its
label lies on the joint of a synthetic sample. The errors of the heatmap remain: its shape, its height, and the distance of its
peaks from the label.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import DataError
from datasets.formats.npz import read_npz, write_npz
from stages.lifting.network import joints_of


@dataclass(frozen=True)
class Recordings:
    """M recordings, each with the heatmaps of the J joints of one forecast pose, and with the labelled joints of the pose."""

    maps: np.ndarray  # (M, J, S, S) float16
    points: np.ndarray  # (M, J, 2) float32, px of the heatmaps: the labelled joints

    def __len__(self) -> int:
        return len(self.maps)

    def replace(self, batch: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return `batch`, made by `samples.observed`, with recorded heatmaps instead of the blobs of some samples.

        chosen: (N,) int64, index of the recording for each sample, or -1 for a sample that keeps its blobs. The returned batch
        has two additional arrays: recorded (N, J, S, S) float16, the heatmaps before they are moved, and shift (N, J, 2)
        float32, px from label to joint, NaN for a sample that keeps its blobs. For the other samples, the array `seen` is
        replaced by the joints that the moved heatmaps show.
        """
        maps, shift = self.maps[chosen], batch["points"] - self.points[chosen]
        shift[chosen < 0] = np.nan
        found = joints_of(torch.from_numpy(maps).float()).numpy() + shift
        seen = np.where((chosen < 0)[:, None, None], batch["seen"], found)
        return batch | {"seen": seen, "recorded": maps, "shift": shift}

    def write(self, path: Path) -> None:
        """Write the recordings to a .npz file that `read` reads."""
        write_npz(path, {"maps": self.maps, "points": self.points})


def read(path: Path, joints: int, side: int) -> Recordings:
    """Return the recordings in a file that `Recordings.write` wrote.

    joints: expected number of joints; side: expected side of the heatmaps in px. Raises DataError for a missing or damaged
    file, and if the file has no heatmaps, or heatmaps for another number of joints or with another side.
    """
    arrays = read_npz(path, "maps", "points")
    found = Recordings(arrays["maps"], arrays["points"])
    if found.maps.shape[1:] != (joints, side, side) or not len(found):
        raise DataError(
            f"{path} has heatmaps {found.maps.shape}, but the converter sees {joints} heatmaps of {side} px; set "
            "[converter] heatmaps_from to a network with the resolution of [input]."
        )
    return found


def moved(maps: Tensor, shift: Tensor) -> Tensor:
    """Return heatmaps (N, J, S, S) moved by shift (N, J, 2) px, as float32, interpolated bicubically.

    Pixels that are moved in from outside of a heatmap are 0.
    """
    n, joints, side, _ = maps.shape
    pixels = torch.linspace(-1, 1, side, device=maps.device)
    x, y = (pixels - 2 / (side - 1) * shift.nan_to_num()[..., None]).unbind(dim=2)
    square = (n, joints, side, side)
    grid = torch.stack([x[:, :, None, :].expand(square), y[:, :, :, None].expand(square)], dim=-1)
    flat, places = maps.float().view(-1, 1, side, side), grid.view(-1, side, side, 2)
    return functional.grid_sample(flat, places, mode="bicubic", align_corners=True).view(square)
