"""Small networks with the layers and tensor names of two PyTorch ports of the hourglass, written from their descriptions."""

import torch
import torch.nn.functional as F
from torch import nn


def unit(inputs, outputs, size=1, stride=1, norm=False):
    """Return princeton-vl's unit: a convolution and, if `norm`, a batch normalisation after it."""
    layers = {"conv": nn.Conv2d(inputs, outputs, size, stride, size // 2)}
    return nn.ModuleDict(layers | ({"bn": nn.BatchNorm2d(outputs)} if norm else {}))


def through(unit, x):
    return F.relu(unit["bn"](unit["conv"](x))) if "bn" in unit else unit["conv"](x)


class PrincetonResidual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        half, self.same = outputs // 2, inputs == outputs
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), unit(inputs, half)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), unit(half, half, 3)
        self.bn3, self.conv3 = nn.BatchNorm2d(half), unit(half, outputs)
        self.skip_layer = unit(inputs, outputs)  # the port creates this convolution even if it stays unused

    def forward(self, x):
        y = through(self.conv1, F.relu(self.bn1(x)))
        y = through(self.conv3, F.relu(self.bn3(through(self.conv2, F.relu(self.bn2(y))))))
        return y + (x if self.same else through(self.skip_layer, x))


class PrincetonHourglass(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.up1, self.low1, self.low3 = (PrincetonResidual(width, width) for _ in range(3))
        self.low2 = PrincetonHourglass(depth - 1, width) if depth > 1 else PrincetonResidual(width, width)

    def forward(self, x):
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
        return self.up1(x) + F.interpolate(low, scale_factor=2)


class Princeton(nn.Module):
    """princeton-vl's network with 2 stacks and 2 levels; its input is a normalised image."""

    def __init__(self, width=8, joints=16, stacks=2, depth=2):
        super().__init__()
        stem = {"0": unit(3, 4, 7, 2, norm=True), "1": PrincetonResidual(4, 6), "3": PrincetonResidual(6, 6)}
        self.pre = nn.ModuleDict(stem | {"4": PrincetonResidual(6, width)})
        self.hgs = nn.ModuleList(nn.ModuleList([PrincetonHourglass(depth, width)]) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.ModuleList([PrincetonResidual(width, width), unit(width, width, norm=True)]) for _ in range(stacks)
        )
        self.outs = nn.ModuleList(unit(width, joints) for _ in range(stacks))
        for name, inputs in (("merge_features", width), ("merge_preds", joints)):
            self.add_module(name, nn.ModuleList(nn.ModuleDict({"conv": unit(inputs, width)}) for _ in range(stacks - 1)))

    def forward(self, x):
        x = F.max_pool2d(self.pre["1"](through(self.pre["0"], x)), 2)
        x, maps = self.pre["4"](self.pre["3"](x)), []
        for i, (hourglass,) in enumerate(self.hgs):
            residual, layer = self.features[i]
            y = through(layer, residual(hourglass(x)))
            maps.append(through(self.outs[i], y))
            if i + 1 < len(self.hgs):
                x = x + through(self.merge_preds[i]["conv"], maps[-1]) + through(self.merge_features[i]["conv"], y)
        return maps


class BearpawResidual(nn.Module):
    def __init__(self, inputs, half):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, half, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, half, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(half), nn.Conv2d(half, 2 * half, 1)
        if inputs != 2 * half:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, 2 * half, 1))

    def forward(self, x):
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return self.conv3(F.relu(self.bn3(y))) + (self.downsample(x) if hasattr(self, "downsample") else x)


def blocks(inputs, half, count):
    return nn.Sequential(*(BearpawResidual(inputs if i == 0 else 2 * half, half) for i in range(count)))


class BearpawHourglass(nn.Module):
    def __init__(self, depth, width, count):
        super().__init__()
        levels = [[blocks(width, width // 2, count) for _ in range(3 if i else 4)] for i in range(depth)]
        self.hg = nn.ModuleList(nn.ModuleList(level) for level in levels)

    def forward(self, x, level=-1):
        parts = self.hg[level]
        low = parts[1](F.max_pool2d(x, 2))
        low = parts[3](low) if len(parts) == 4 else self.forward(low, level - 1)
        return parts[0](x) + F.interpolate(parts[2](low), scale_factor=2)


class Bearpaw(nn.Module):
    """bearpaw's network with 2 stacks and 3 levels of 2 residuals each; its input is a normalised image."""

    def __init__(self, width=8, joints=16, stacks=2, depth=3, count=2):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3), nn.BatchNorm2d(4)
        self.layer1, self.layer2, self.layer3 = blocks(4, 2, 1), blocks(4, 3, 1), blocks(6, width // 2, 1)
        self.hg = nn.ModuleList(BearpawHourglass(depth, width, count) for _ in range(stacks))
        self.res = nn.ModuleList(blocks(width, width // 2, count) for _ in range(stacks))
        self.fc = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)) for _ in range(stacks))
        self.score = nn.ModuleList(nn.Conv2d(width, joints, 1) for _ in range(stacks))
        self.fc_ = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.score_ = nn.ModuleList(nn.Conv2d(joints, width, 1) for _ in range(stacks - 1))

    def forward(self, x):
        x = self.layer1(F.relu(self.bn1(self.conv1(x))))
        x, maps = self.layer3(self.layer2(F.max_pool2d(x, 2))), []
        for i, hourglass in enumerate(self.hg):
            y = F.relu(self.fc[i](self.res[i](hourglass(x))))
            maps.append(self.score[i](y))
            if i + 1 < len(self.hg):
                x = x + self.fc_[i](y) + self.score_[i](maps[-1])
        return maps


def port(kind, **options):
    """Return a network of the class `kind` in evaluation mode; all weights and statistics differ from their initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = kind(**options)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.add_(0.1 * torch.randn_like(tensor))
    return network.eval()
