"""Define two networks for 3D poses: the converter, which takes heatmaps, and the lifter, which takes 2D joints.

Both networks return one tensor (N, 3 J + 4): repos (3 J, mm), the J joints minus their mean, each joint as x, y, z; trans (3,
mm), the mean of the joints; focal (1, px), the focal length. `Pose3D` splits this tensor. `Units` converts the values of a
network's last layer to mm and px: output = unit * layer + offset.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from datasets.errors import DataError
from stages.lifting.cameras import FOCAL, principal_point
from stages.network.blocks import Residual
from stages.settings.lifting import Converter

DEPTH = 2500.0  # mm, constant that is added to the depth in trans, as in skeleton2d3d
HALVINGS = 4  # how often the converter halves the resolution of the heatmaps
HIDDEN = 256  # width of the hidden layer in each of the converter's three heads
LOWEST = 0.1  # smallest peak of a joint; the converter does not scale lower peaks up to 1, and `joints_of` returns NaN for them
BLOCKS = 2  # number of residual blocks in the lifter


class Pose3D(NamedTuple):
    """Estimated 3D poses: the parts of the output (..., 3 J + 4) of a network; there may be any leading dimensions."""

    repos: Tensor  # (..., J, 3) mm, camera frame: joints minus their mean
    trans: Tensor  # (..., 3) mm, camera frame: mean of the joints
    focal: Tensor  # (...) px: focal length of the camera

    @classmethod
    def of(cls, values: Tensor) -> "Pose3D":
        """Return the poses in the output (..., 3 J + 4) of a network."""
        return cls(values[..., :-4].unflatten(-1, (-1, 3)), values[..., -4:-1], values[..., -1])

    def projected(self, center: float) -> Tensor:
        """Return the joints' image coordinates (..., J, 2) in px; the principal point is (center, center) px."""
        joints = self.repos + self.trans[..., None, :]
        return joints[..., :2] / joints[..., 2:] * self.focal[..., None, None] + center

    def mirrored(self, exchanged: list[int]) -> "Pose3D":
        """Return the poses that the mirrored image shows; exchanged: for each joint, the index of its mirror joint."""
        sign = self.repos.new_tensor([-1, 1, 1])
        return Pose3D(self.repos[..., exchanged, :] * sign, self.trans * sign, self.focal)

    def steady(self) -> "Pose3D":
        """Return the poses of movements (..., T), changed so that all T steps have the focal length of the first step.

        An image determines neither a person's size nor the focal length, so the estimates of both may change from step to step.
        Therefore, as in image-play, repos and trans of each step t are multiplied by focal(1) / focal(t).
        """
        factor = self.focal[..., :1] / self.focal
        focal = self.focal[..., :1].expand_as(self.focal)
        return Pose3D(self.repos * factor[..., None, None], self.trans * factor[..., None], focal)


class Units(nn.Module):
    """The conversion of the last layer's values (N, 3 J + 4) to outputs in mm and px: output = unit * layer + offset.

    `unit` and `offset`, each (3 J + 4,), are buffers, so that they are stored with the weights.
    """

    unit: Tensor
    offset: Tensor

    def __init__(self, joints: int, side: int) -> None:
        """Set published values. Units: 1 mm and 1 px. Offsets: 2.5 m for the depth, the mean focal length for focal, else 0."""
        super().__init__()
        self.register_buffer("unit", torch.ones(3 * joints + 4))
        self.register_buffer("offset", torch.cat([torch.zeros(3 * joints + 2), torch.tensor([DEPTH, FOCAL * side])]))

    def standardise(self, values: Tensor) -> None:
        """Set the offset to the mean, and the unit to the standard deviation, of correct outputs (N, 3 J + 4).

        All coordinates of repos get one common unit: the root mean square of their deviations from the offset.
        """
        self.offset.copy_(values.mean(dim=0))
        self.unit.copy_(values.std(dim=0))
        self.unit[:-4] = (values - self.offset)[:, :-4].square().mean().sqrt()

    def forward(self, layers: Tensor) -> Tensor:
        return layers.float() * self.unit + self.offset


class ConverterNet(nn.Module):
    """The converter: maps heatmaps (N, J, S, S) to outputs (N, 3 J + 4) in mm and px, see `Pose3D`.

    The architecture is the network res-64 of skeleton2d3d: the encoder half of an hourglass without skip connections, then one
    head each for repos, trans and focal.
    """

    def __init__(self, joints: int, side: int, options: Converter) -> None:
        """Build the network; side: side S of the heatmaps in px. Raises DataError if S is not divisible by 2**HALVINGS."""
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

    @property
    def center(self) -> float:
        """Return the coordinate in px (u and v are equal) of the principal point in the images of the training cameras."""
        return principal_point(self.side, self.options.cameras == "published")

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
    """The lifter: maps 2D joints (N, J, 2) in px, NaN if unknown, to outputs (N, 3 J + 4) in mm and px, see `Pose3D`.

    The architecture is that of Martinez et al., "A simple yet effective baseline for 3d human pose estimation", ICCV 2017: a
    layer, two residual blocks of two layers, and an output layer. The first layer gets the output of `normalised_joints`.
    Unlike the published network, this network has no dropout: each training sample is seen by a new random camera, so the
    network cannot memorise samples.
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
        """Return the number of features in each hidden layer."""
        return self.get_parameter("layers.0.weight").shape[0]

    def forward(self, points: Tensor) -> Tensor:
        return self.units(self.layers(normalised_joints(points, self.side)))


def normalised_joints(points: Tensor, side: int) -> Tensor:
    """Return features (N, 3 J + 3) of 2D joints (N, J, 2) in px; unknown joints are NaN. side: side of the image in px.

    `mean` is the mean of the known joints of a pose. `size` is the root mean square distance of the known joints from `mean`,
    at least 0.001 px. The features are, in this order: (joint - mean) / size (2 J), 0 for unknown joints; 1 for each known and
    0 for each unknown joint (J); mean / side - 0.5 (2); size / side (1).
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
    """Return the joints (N, J, 2) in px that heatmaps (N, J, S, S) show, NaN for a heatmap with a peak below LOWEST.

    A joint is the weighted mean of the pixel coordinates. The weight of a pixel is max(0, pixel value - half of the peak).
    """
    peak = heatmaps.amax(dim=(2, 3), keepdim=True)
    weights = (heatmaps - peak / 2).clamp(min=0)
    pixels = torch.arange(heatmaps.shape[3], device=heatmaps.device, dtype=heatmaps.dtype)
    total = weights.sum(dim=(2, 3)).clamp(min=1e-9)
    points = torch.stack([(weights.sum(dim=2) * pixels).sum(dim=2), (weights.sum(dim=3) * pixels).sum(dim=2)], dim=-1)
    return (points / total[..., None]).masked_fill(peak[..., 0] < LOWEST, torch.nan)
