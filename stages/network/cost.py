"""Compute the cost of a network from shapes alone: parameters and multiply-adds of each layer."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from stages.network.blocks import BLOCKS
from stages.network.hourglass import HourglassNet


@dataclass(frozen=True)
class Layer:
    """A residual block, or a layer that has weights and belongs to no residual block."""

    name: str
    kind: str
    output: tuple[int, int, int]  # channels, height, width
    parameters: int
    multiply_adds: int  # multiply-adds of the convolutions, for one image


def layers(network: HourglassNet, resolution: int) -> list[Layer]:
    """Return the layers in the order of computation, for images of resolution x resolution px."""
    network = copy.deepcopy(network).to("meta").eval()
    found: list[Layer] = []
    multiply_adds: dict[nn.Module, int] = {}

    def count(conv: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        multiply_adds[conv] = output.numel() * conv.weight[0].numel()

    def finish(name: str, layer: nn.Module, output: torch.Tensor) -> None:
        inside = sum(multiply_adds.get(module, 0) for module in layer.modules())
        channels, height, width = output.shape[1:]
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        found.append(Layer(name, type(layer).__name__, (channels, height, width), parameters, inside))

    blocks = tuple(BLOCKS.values())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    for name, module in _outermost(network, blocks):
        module.register_forward_hook(lambda layer, _, output, name=name: finish(name, layer, output))
    with torch.inference_mode():
        network(torch.empty(1, 3, resolution, resolution, device="meta"))
    return found


def _outermost(module: nn.Module, blocks: tuple[type[nn.Module], ...], name: str = "") -> list[tuple[str, nn.Module]]:
    """Return (name, module) of each of the `blocks`, and of each layer that has parameters and belongs to no block."""
    children = [] if isinstance(module, blocks) else list(module.named_children())
    if not children:
        return [(name, module)] if any(True for _ in module.parameters()) else []
    return [row for part, child in children for row in _outermost(child, blocks, f"{name}.{part}".lstrip("."))]
