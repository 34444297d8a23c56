"""The hourglass network, read from top to bottom: residual block, hourglass, stem, heads.

The customised hourglass hg-256 of "Forecasting Human Dynamics from Static Images" (Chao et al., CVPR 2017) is the
single-stack case; with more stacks the input of the next hourglass is the previous input plus its output (hg-generic).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Pre-activation bottleneck (N, inputs, H, W) -> (N, outputs, H, W): 1x1, 3x3, 1x1, each after BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, half, 1)
        self.norm2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, outputs, 1)
        if inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return y + (self.skip(x) if hasattr(self, "skip") else x)


class Hourglass(nn.Module):
    """`depth` levels; each adds a branch at full size to one that is halved, processed and doubled again."""

    def __init__(self, depth: int, features: int) -> None:
        super().__init__()
        self.upper = Residual(features, features)
        self.lower1 = Residual(features, features)
        self.inner = Hourglass(depth - 1, features) if depth > 1 else Residual(features, features)
        self.lower2 = Residual(features, features)

    def forward(self, x: Tensor) -> Tensor:
        lower = self.lower2(self.inner(self.lower1(F.max_pool2d(x, 2))))
        return self.upper(x) + F.interpolate(lower, scale_factor=2.0, mode="nearest")


class Stem(nn.Module):
    """Image (N, 3, R, R) in [0, 1] -> features (N, features, R/4, R/4)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, features // 4, 7, stride=2, padding=3)
        self.norm = nn.BatchNorm2d(features // 4)
        self.residual1 = Residual(features // 4, features // 2)
        self.residual2 = Residual(features // 2, features // 2)
        self.residual3 = Residual(features // 2, features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual1(F.relu(self.norm(self.conv(x))))
        return self.residual3(self.residual2(F.max_pool2d(x, 2)))


class Head(nn.Module):
    """Features (N, features, h, w) -> heatmaps (N, joints, h, w)."""

    def __init__(self, features: int, joints: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, features, 1)
        self.norm = nn.BatchNorm2d(features)
        self.output = nn.Conv2d(features, joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.norm(self.conv(x))))


class HourglassNet(nn.Module):
    """Images (N, 3, R, R), float, RGB in [0, 1] -> one (N, joints, R/4, R/4) tensor of heatmaps per stack, last one best.

    R must be a multiple of 4 * 2**depth.
    """

    def __init__(self, stacks: int, features: int, depth: int, joints: int) -> None:
        super().__init__()
        self.options = {"stacks": stacks, "features": features, "depth": depth, "joints": joints}
        self.stem = Stem(features)
        self.hourglasses = nn.ModuleList(Hourglass(depth, features) for _ in range(stacks))
        self.heads = nn.ModuleList(Head(features, joints) for _ in range(stacks))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        heatmaps = []
        for hourglass, head in zip(self.hourglasses, self.heads, strict=True):
            y = hourglass(x)
            heatmaps.append(head(y))
            x = x + y
        return heatmaps


def replace_head(network: HourglassNet, sources: list[int | None]) -> HourglassNet:
    """A copy of `network` with one output per entry of `sources`.

    An output whose source is an index takes that output channel's weights; None starts afresh, drawn from torch's
    global random state.
    """
    fresh = HourglassNet(**{**network.options, "joints": len(sources)})
    weights = {k: v for k, v in network.state_dict().items() if ".output." not in k}
    fresh.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for old, new in zip(network.heads, fresh.heads, strict=True):
            assert isinstance(old, Head) and isinstance(new, Head)
            for target, source in enumerate(sources):
                if source is not None:
                    new.output.weight[target] = old.output.weight[source]
                    new.output.bias[target] = old.output.bias[source]  # type: ignore[index]
    return fresh
