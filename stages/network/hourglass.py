"""Define the hourglass network in the order of its data flow: stem, hourglass, head, join, then the complete network.

The class HourglassNet implements every published variant. `stages.settings.presets` lists the variants, and
`stages.settings.sections.Network` defines the options. The default is the customised hourglass hg-256 of "Forecasting Human
Dynamics from Static Images" (Chao et al., CVPR 2017).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.network.blocks import BLOCKS, norm_layer
from stages.settings.sections import Network


def _residuals(widths: Sequence[int], options: Network) -> nn.Sequential:
    """Return a sequence of residual blocks; block i converts widths[i] channels to widths[i + 1] channels."""
    block = BLOCKS[options.block]
    return nn.Sequential(*(block(a, b, options.norm) for a, b in zip(widths, widths[1:], strict=False)))


class Stem(nn.Module):
    """The first layers: images (N, 3, R, R) -> features (N, features, R/4, R/4), pooled features (N, pooled, R/4, R/4)."""

    def __init__(self, options: Network) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, options.stem[0], 7, stride=2, padding=3)
        self.norm = norm_layer(options.norm, options.stem[0])
        widths = [*options.stem, options.features]
        self.residuals = _residuals(widths, options)
        self.pooled = widths[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, *others = self.residuals
        x = pooled = F.max_pool2d(first(F.relu(self.norm(self.conv(x)))), 2)
        for residual in others:
            x = residual(x)
        return x, pooled


class Hourglass(nn.Module):
    """One hourglass of `depth` nested levels: (N, inputs, h, w) -> (N, outputs, h, w).

    Each level returns the sum of an upper and a lower branch. The upper branch `upper`, which exists only if options.upper is
    true, keeps the size h x w. The lower branch halves the size, applies `lower1`, the next level `inner` (in the last level:
    residual blocks) and `lower2`, and doubles the size again. Both branches have `features` channels inside.
    """

    def __init__(self, depth: int, inputs: int, options: Network) -> None:
        super().__init__()
        f, outputs = options.features, options.outputs
        above, down, bottom, up = options.residuals * (4 // len(options.residuals))
        if options.upper:
            self.upper = _residuals([inputs] + [f] * (above - 1) + [outputs], options)
        self.lower1 = _residuals([inputs] + [f] * down, options)
        self.inner = Hourglass(depth - 1, f, options) if depth > 1 else _residuals([f] * bottom + [outputs], options)
        self.lower2 = _residuals([outputs] * (up + 1), options)

    def forward(self, x: Tensor) -> Tensor:
        skip, lower = self.descend(x)
        return self.ascend(skip, self.inner(lower))

    def descend(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the upper branch's output (N, outputs, h, w), and the input (N, features, h/2, w/2) of `inner`.

        The output is None if the network has no upper branches (options.upper is false).
        """
        return self.upper(x) if hasattr(self, "upper") else None, self.lower1(F.max_pool2d(x, 2))

    def ascend(self, skip: Tensor | None, inner: Tensor) -> Tensor:
        """Return the sum of both branches (N, outputs, h, w); inner: output of the module `inner` (N, outputs, h/2, w/2)."""
        lower = F.interpolate(self.lower2(inner), scale_factor=2.0, mode="nearest")
        return lower if skip is None else skip + lower


class Head(nn.Module):
    """The layers after an hourglass: (N, inputs, h, w) -> features (N, features, h, w), heatmaps (N, joints, h, w).

    The heatmaps are computed from the features.
    """

    def __init__(self, inputs: int, features: int, joints: int, options: Network) -> None:
        super().__init__()
        self.residuals = _residuals([inputs] * (options.head_residuals + 1), options)
        widths = [inputs] * options.head_layers + [features]
        layers = [
            nn.Sequential(nn.Conv2d(a, b, 1), norm_layer(options.norm, b), nn.ReLU())
            for a, b in zip(widths, widths[1:], strict=False)
        ]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Conv2d(features, joints, 1)
        self.sigmoid = options.heatmaps == "sigmoid"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(self.residuals(x))
        heatmaps = self.output(features)
        # The sigmoid is computed in float32, because 16-bit numbers near 1 are too coarse to locate a peak.
        return features, torch.sigmoid(heatmaps.float()) if self.sigmoid else heatmaps


class Join(nn.Module):
    """The sum (N, outputs, h, w) of features and heatmaps, after a 1x1 convolution of each."""

    def __init__(self, features: int, joints: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(features, outputs, 1)
        self.heatmaps = nn.Conv2d(joints, outputs, 1)

    def forward(self, features: Tensor, heatmaps: Tensor) -> Tensor:
        return self.features(features) + self.heatmaps(heatmaps)


class HourglassNet(nn.Module):
    """The hourglass network: images (N, 3, R, R) -> a list of heatmaps (N, joints, R/4, R/4), one tensor per stack.

    Images are float RGB in [0, 1]. The heatmaps of the last stack are the most accurate. R must be a multiple of 4 * 2**depth.
    The buffer `mean` (3,), initially 0, is subtracted from the images.
    options.join determines the input of the next hourglass (to remap is to apply a 1x1 convolution). sum: the input of this
    hourglass plus its output. remap: the input of this hourglass plus the remapped features plus the remapped heatmaps.
    concatenate: the remapped heatmaps plus the remapped concatenation of the features and the stem's pooled features.
    """

    mean: Tensor

    def __init__(self, options: Network, joints: int) -> None:
        super().__init__()
        self.options, self.joints = options, joints
        self.register_buffer("mean", torch.zeros(3))
        self.stem = Stem(options)
        features, outputs, stacks = options.features, options.outputs, options.stacks
        pooled = self.stem.pooled if options.join == "concatenate" else 0
        inputs = [features] + [features + pooled] * (stacks - 1)
        depths = options.depth * (stacks // len(options.depth))
        self.hourglasses = nn.ModuleList(Hourglass(depth, n, options) for depth, n in zip(depths, inputs, strict=True))
        # With join = concatenate, the features of all heads except the last have `features` channels. The features of the last
        # head, and of all heads with another join, have `outputs` channels.
        widths = [features if pooled else outputs] * (stacks - 1) + [outputs]
        self.heads = nn.ModuleList(Head(outputs, width, joints, options) for width in widths)
        remapped = [] if options.join == "sum" else widths[:-1]
        self.joins = nn.ModuleList(Join(width + pooled, joints, features + pooled) for width in remapped)
        if options.initial == "torch7":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, heatmaps = self.before_last(images)
        return [*heatmaps, self.heads[-1](self.hourglasses[-1](x))[1]]

    def before_last(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the input of the last hourglass (N, inputs, R/4, R/4), and the heatmaps of the stacks before it."""
        x, pooled = self.stem(images - self.mean.view(3, 1, 1))
        heatmaps = []
        for stack in range(len(self.heads) - 1):
            y = self.hourglasses[stack](x)
            features, maps = self.heads[stack](y)
            heatmaps.append(maps)
            if self.options.join == "sum":
                x = x + y
            elif self.options.join == "remap":
                x = x + self.joins[stack](features, maps)
            else:
                x = self.joins[stack](torch.cat([features, pooled], 1), maps)
        return x, heatmaps


def replace_head(network: HourglassNet, sources: Sequence[int | None]) -> HourglassNet:
    """Return a copy of `network` with one output per entry of `sources`.

    An entry is the index of the output of `network` that is copied, in every stack, or None for a new output, which is
    initialised from torch's global RNG. Each index may occur at most once.
    """
    fresh = HourglassNet(network.options, len(sources))
    kept = [source for source in sources if source is not None]
    targets = [target for target, source in enumerate(sources) if source is not None]
    gone = [source for source in range(network.joints) if source not in kept]
    # These tensors share memory with the networks, so changing the tensors changes the networks.
    old, new = network.state_dict(), fresh.state_dict()
    for name, tensor in new.items():
        if ".output." in name:
            tensor[targets] = old[name][kept]
        elif name.endswith("heatmaps.weight"):
            tensor.zero_()  # an untrained output must not change the input of the next hourglass
            tensor[:, targets] = old[name][:, kept]
        else:
            tensor.copy_(old[name])
    if network.options.heatmaps == "sigmoid":
        return fresh  # the next hourglass loses what the removed outputs contributed to its input
    # These heatmaps are linear in the features. So the convolution that remaps the features takes over what the removed outputs
    # contributed to the input of the next hourglass, and this input stays the same as in `network`.
    for i in range(len(network.joins)):
        remap = old[f"joins.{i}.heatmaps.weight"][:, gone, 0, 0]
        weight, bias = old[f"heads.{i}.output.weight"][gone, :, 0, 0], old[f"heads.{i}.output.bias"][gone]
        new[f"joins.{i}.features.weight"][:, : weight.shape[1], 0, 0] += remap @ weight
        new[f"joins.{i}.features.bias"] += remap @ bias
    return fresh
