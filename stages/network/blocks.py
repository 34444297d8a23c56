"""Define the building blocks of hourglasses: normalisation, and three kinds of residual block."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Return a normalisation layer with learned scale and offset: batch, instance, or group (about 16 channels per group)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 16)), channels)


class Residual(nn.Module):
    """A pre-activation bottleneck: (N, inputs, H, W) -> (N, outputs, H, W).

    The convolutions are 1x1, 3x3 and 1x1; normalisation and ReLU come before each of them.
    """

    def __init__(self, inputs: int, outputs: int, norm: str = "batch") -> None:
        super().__init__()
        half = outputs // 2
        self.norm1 = norm_layer(norm, inputs)
        self.conv1 = nn.Conv2d(inputs, half, 1)
        self.norm2 = norm_layer(norm, half)
        self.conv2 = self.middle(half)
        self.norm3 = norm_layer(norm, half)
        self.conv3 = nn.Conv2d(half, outputs, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    @staticmethod
    def middle(channels: int) -> nn.Module:
        """Return the 3x3 convolution in the middle of the block."""
        return nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return y + self.skip(x)


class MobileResidual(Residual):
    """A bottleneck whose 3x3 convolution is depthwise-separable: 3x3 within each channel, then 1x1 across channels."""

    @staticmethod
    def middle(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, channels, 1))


class FourResidual(nn.Module):
    """A residual block of four convolutions: (N, inputs, H, W) -> (N, outputs, H, W).

    The convolutions are 1x1, 3x3, 3x3 and 1x1, each followed by ReLU and normalisation.
    """

    def __init__(self, inputs: int, outputs: int, norm: str = "batch") -> None:
        super().__init__()
        half = outputs // 2
        blocks = [(inputs, half, 1), (half, half, 3), (half, half, 3), (half, outputs, 1)]
        self.branch = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, size, padding=size // 2), nn.ReLU(), norm_layer(norm, b)) for a, b, size in blocks)
        )
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(x)


BLOCKS: dict[str, type[nn.Module]] = {"bottleneck": Residual, "four": FourResidual, "mobile": MobileResidual}
