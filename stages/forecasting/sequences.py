"""What a network that forecasts poses builds on: the hourglass in two halves, and sequences of Penn Action to train on.

image-play puts a residual LSTM on every skip edge of the hourglass and one at its bottleneck: they take what `encode` gives
for the frames that are seen, and `decode` makes heatmaps of what they give for each time step.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from datasets.errors import DataError
from datasets.formats.image_play import read_image_play
from datasets.imaging.images import read_image
from datasets.imaging.samples import CropSpec, Person, make_sample
from datasets.penn_action import PENN_ACTION, frame_box, frame_name
from stages.network.checkpoints import Description, load_network
from stages.network.hourglass import Hourglass, HourglassNet
from stages.settings.recipes import Recipe
from stages.settings.sections import Input

BLOBS = Recipe()


class SplitHourglass(nn.Module):
    """A network cut at the skip edges and at the bottleneck of its last hourglass; earlier stacks are part of `encode`.

    `decode(*encode(images))` gives the last stack's heatmaps, bit for bit. Any dimensions may stand in front: one image
    (3, R, R), a batch (N, 3, R, R), sequences (N, T, 3, R, R). Gradients flow through both halves; as loaded, the
    network is in evaluation mode, so BatchNorm keeps its statistics.
    """

    def __init__(self, network: HourglassNet) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def load(cls, path: Path) -> tuple["SplitHourglass", Description]:
        """From an export's model.safetensors, or any checkpoint of this workspace. Raises DataError."""
        network, description = load_network(path)
        return cls(network).eval(), description

    @property
    def levels(self) -> list[Hourglass]:
        """The levels of the last hourglass, outermost first."""
        found: list[Hourglass] = []
        level = self.network.hourglasses[-1]
        while isinstance(level, Hourglass):
            found.append(level)
            level = level.inner
        return found

    def encode(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (..., 3, R, R), RGB in [0, 1] -> what each skip edge carries, and the bottleneck.

        Skips, outermost first: (..., outputs, R/4, R/4), (..., outputs, R/8, R/8) and so on; an empty list for a network
        without upper branches. Bottleneck: (..., outputs, r, r) with r = R / 4 / 2**depth, after the innermost residuals.
        """
        before = images.shape[:-3]
        x, _ = self.network.before_last(images.reshape(-1, *images.shape[-3:]))
        skips = []
        for level in self.levels:
            skip, x = level.descend(x)
            if skip is not None:
                skips.append(skip.reshape(*before, *skip.shape[1:]))
        x = self.levels[-1].inner(x)
        return skips, x.reshape(*before, *x.shape[1:])

    def decode(self, skips: list[Tensor], bottleneck: Tensor) -> Tensor:
        """Heatmaps (..., joints, R/4, R/4) of tensors as `encode` gives them."""
        before, levels = bottleneck.shape[:-3], self.levels
        x = bottleneck.reshape(-1, *bottleneck.shape[-3:])
        flat: list[Tensor | None] = [skip.reshape(-1, *skip.shape[-3:]) for skip in skips]
        flat = flat or [None] * len(levels)
        for level, skip in zip(reversed(levels), reversed(flat), strict=True):
            x = level.ascend(skip, x)
        maps = self.network.heads[-1](x)[1]
        return maps.reshape(*before, *maps.shape[1:])


class PennSequences(Dataset):
    """Every run of `steps` frames of cropped Penn Action, `stride` frames from one to the next, as the network sees them.

    Reads image-play's own annotation file, which lists all frames. An item holds images (T, 3, R, R) float32 RGB in
    [0, 1]; heatmaps (T, 13, R/4, R/4) float32, zero for joints that are not visible; joints (T, 13, 2) float64 in
    heatmap px, NaN where not visible; sequence and frame, the numbers of the first frame. Frames are not varied.
    """

    def __init__(self, annotations: Path, frames: Path, split: str, resolution: int, steps: int = 16, stride: int = 1) -> None:
        """annotations: exp/penn_action_cropped/annot; frames: exp/penn_action_cropped/data/frames; split: train, val or test.

        Raises DataError where the file is missing or damaged, or no sequence is long enough, and for less than one step.
        """
        if steps < 1 or stride < 1:
            raise DataError(f"a sequence of {steps} steps with stride {stride} is none; give 1 or more of both.")
        path = annotations / "penn-crop" / f"{split}.h5"
        self.frames, self.steps, self.stride = frames, steps, stride
        self.numbers, self.part = read_image_play(path)
        size = Input(resolution=resolution)
        self.target = CropSpec(size.resolution, size.heatmap, BLOBS.target_sigma, BLOBS.target_radius)
        reach = (steps - 1) * stride
        whole = (self.numbers[reach:] == self.numbers[: max(len(self.numbers) - reach, 0)] + (0, reach)).all(axis=1)
        self.first = np.flatnonzero(whole)
        if not len(self.first):
            raise DataError(f"{path}: no sequence has {reach + 1} frames in a row; take fewer steps or a smaller stride.")

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One run. Raises DataError for a frame that cannot be read."""
        rows = self.first[number] + np.arange(self.steps) * self.stride
        samples = [self._sample(row) for row in rows]
        sequence, frame = self.numbers[rows[0]].tolist()
        return {
            "images": torch.from_numpy(np.stack([sample.input for sample in samples])),
            "heatmaps": torch.from_numpy(np.stack([sample.heatmaps for sample in samples])),
            "joints": torch.from_numpy(np.stack([sample.joints for sample in samples])),
            "sequence": sequence, "frame": frame,
        }  # fmt: skip

    def _sample(self, row: int) -> Any:
        sequence, frame = self.numbers[row].tolist()
        image = read_image(self.frames / f"{sequence:04}" / frame_name(frame - 1))
        center, scale = frame_box(np.array(image.shape[1::-1]))
        return make_sample(image, Person(center, float(scale), self.part[row]), PENN_ACTION.skeleton.mirrored(), self.target)
