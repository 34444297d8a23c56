"""The converter from heatmaps to poses in space, and its rival from 2D joints.

Both give one tensor (N, 3 J + 4): repos (J x 3 mm, joint by joint), trans (3 mm) and focal (1 px), as in
`stages.lifting.samples.Scenes`. Their output layers work in a unit of their own: output = unit * layer + offset.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from datasets.errors import DataError
from stages.lifting.cameras import FOCAL
from stages.network.blocks import Residual
from stages.settings.lifting import Converter

DEPTH = 2500.0  # mm, added to the depth of trans (skeleton2d3d)
HALVINGS = 4  # of the heatmaps
HIDDEN = 256  # width of each head
LOWEST = 0.1  # a peak below this does not count as a joint: it is not raised to 1
BLOCKS = 2  # of the lifter


class Pose3D(NamedTuple):
    """N poses in space as a network gives them."""

    repos: Tensor  # (N, J, 3) mm, camera frame: joints around their mean
    trans: Tensor  # (N, 3) mm, camera frame
    focal: Tensor  # (N,) px

    @classmethod
    def of(cls, values: Tensor) -> "Pose3D":
        """Return the parts of a network's output (N, 3 J + 4)."""
        return cls(values[:, :-4].unflatten(1, (-1, 3)), values[:, -4:-1], values[:, -1])


class Units(nn.Module):
    """Puts the outputs of layers (N, 3 J + 4) into mm and px; `unit` and `offset` (3 J + 4,) are stored with the weights."""

    unit: Tensor
    offset: Tensor

    def __init__(self, joints: int, side: int) -> None:
        """Take the published units: mm and px, around a depth of 2.5 m and the mean focal length."""
        super().__init__()
        self.register_buffer("unit", torch.ones(3 * joints + 4))
        self.register_buffer("offset", torch.cat([torch.zeros(3 * joints + 2), torch.tensor([DEPTH, FOCAL * side])]))

    def standardise(self, values: Tensor) -> None:
        """Take the mean and the standard deviation of outputs (N, 3 J + 4); all of repos has one standard deviation."""
        self.offset.copy_(values.mean(dim=0))
        self.unit.copy_(values.std(dim=0))
        self.unit[:-4] = (values - self.offset)[:, :-4].square().mean().sqrt()

    def forward(self, layers: Tensor) -> Tensor:
        return layers.float() * self.unit + self.offset


class ConverterNet(nn.Module):
    """Heatmaps (N, J, S, S) -> (N, 3 J + 4): the network res-64 of skeleton2d3d, half an hourglass without skip edges."""

    def __init__(self, joints: int, side: int, options: Converter) -> None:
        """side: S, px. Raises DataError where it cannot be halved four times."""
        super().__init__()
        if side % 2**HALVINGS:
            raise DataError(
                f"[input] resolution = {4 * side} gives heatmaps of {side} px, which the converter cannot halve {HALVINGS} "
                f"times; use a multiple of {4 * 2**HALVINGS}."
            )
        self.joints, self.side, self.options = joints, side, options
        width = options.features
        layers: list[nn.Module] = [nn.Conv2d(joints, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(HALVINGS):
            layers += [nn.MaxPool2d(2), Residual(width, width)]
        self.trunk = nn.Sequential(*layers, Residual(width, width), nn.Flatten())
        inputs = width * (side >> HALVINGS) ** 2
        self.repos, self.trans, self.focal = (
            nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)) for outputs in (3 * joints, 3, 1)
        )
        self.units = Units(joints, side)
        if options.initial == "torch7":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight)

    def forward(self, heatmaps: Tensor) -> Tensor:
        if self.options.heatmaps == "normalised":
            heatmaps = heatmaps.clamp(min=0)
            heatmaps = heatmaps / heatmaps.amax(dim=(2, 3), keepdim=True).clamp(min=LOWEST)
        found = self.trunk(heatmaps)
        return self.units(torch.cat([self.repos(found), self.trans(found), self.focal(found)], dim=1))


def _layer(inputs: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(width, width), *_layer(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class LifterNet(nn.Module):
    """2D joints (N, J, 2) in px, NaN where unknown -> (N, 3 J + 4).

    The network of Martinez et al., "A simple yet effective baseline for 3d human pose estimation", ICCV 2017: a layer, two
    residual blocks of two layers, an output layer. Its inputs are `normalised_joints`. It has no dropout: each sample of the
    training has a camera of its own, so that none is learnt by heart.
    """

    def __init__(self, joints: int, side: int, width: int) -> None:
        super().__init__()
        self.joints, self.side = joints, side
        self.layers = nn.Sequential(
            *_layer(3 * joints + 3, width), *(_Block(width) for _ in range(BLOCKS)), nn.Linear(width, 3 * joints + 4)
        )
        self.units = Units(joints, side)

    @property
    def width(self) -> int:
        """Width of the layers."""
        return self.get_parameter("layers.0.weight").shape[0]

    def forward(self, points: Tensor) -> Tensor:
        return self.units(self.layers(normalised_joints(points, self.side)))


def normalised_joints(points: Tensor, side: int) -> Tensor:
    """Return features (N, 3 J + 3) of 2D joints (N, J, 2) in px of an image of this side; unknown joints are NaN.

    Joints minus the mean of the known ones, over the root mean square of what is left, 0 where unknown; which are known, as 1
    and 0; that mean and root mean square, in units of the image's side.
    """
    known = ~points.isnan().any(dim=-1, keepdim=True)
    count = known.sum(dim=1).clamp(min=1)
    filled = torch.where(known, points, 0)
    mean = filled.sum(dim=1) / count
    centred = torch.where(known, filled - mean[:, None], 0)
    size = (centred.square().sum(dim=(1, 2)) / count[:, 0]).sqrt().clamp(min=1e-3)
    place = [mean / side - 0.5, size[:, None] / side]
    return torch.cat([(centred / size[:, None, None]).flatten(1), known.flatten(1).to(points.dtype), *place], dim=1)


def joints_of(heatmaps: Tensor) -> Tensor:
    """Return the joints (N, J, 2) in px of heatmaps (N, J, S, S): the mean place of what exceeds half of the peak.

    A joint whose heatmap has a peak below LOWEST is NaN.
    """
    peak = heatmaps.amax(dim=(2, 3), keepdim=True)
    weights = (heatmaps - peak / 2).clamp(min=0)
    pixels = torch.arange(heatmaps.shape[3], device=heatmaps.device, dtype=heatmaps.dtype)
    total = weights.sum(dim=(2, 3)).clamp(min=1e-9)
    points = torch.stack([(weights.sum(dim=2) * pixels).sum(dim=2), (weights.sum(dim=3) * pixels).sum(dim=2)], dim=-1)
    return (points / total[..., None]).masked_fill(peak[..., 0] < LOWEST, torch.nan)
