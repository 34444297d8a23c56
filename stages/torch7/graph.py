"""Describe an hourglass as a graph of Torch7 modules; import_network expects this graph, and export_network writes it.

`stages.lifting` and `stages.forecasting` describe other networks with the same classes `Layer` and `Builder`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.network.hourglass import Hourglass, HourglassNet

PUBLISHED_RESOLUTION = 256  # side in px of the input of all published hourglasses
CONV, NORM, RELU = "SpatialConvolution", "SpatialBatchNormalization", "ReLU"
POOL, UPSAMPLE, SUM, CONCATENATE = "SpatialMaxPooling", "SpatialUpSamplingNearest", "CAddTable", "JoinTable"
IDENTITY, RESIDUAL, SIGMOID = "Identity", "Sequential", "Sigmoid"
# Kinds of layers that occur only in published converters and forecasting networks, not in hourglasses.
LINEAR, VIEW, NARROW, ADD_CONSTANT, LSTM = "Linear", "View", "Narrow", "AddConstant", "LSTM"

# A residual block is Sequential{ConcatTable{Sequential{BRANCH}, skip}, CAddTable}; skip is Identity or Sequential{CONV}.
BRANCH = [
    (NORM, "norm1"), (RELU, ""), (CONV, "conv1"),
    (NORM, "norm2"), (RELU, ""), (CONV, "conv2"),
    (NORM, "norm3"), (RELU, ""), (CONV, "conv3"),
]  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A node of the graph."""

    kind: str  # name of the Torch7 class, without its package (nn or cudnn)
    inputs: tuple[int, ...]  # indices of the layers whose outputs are this layer's inputs
    name: str = ""  # name of the network's module with the layer's weights
    # Name -> value of the Torch7 object's fields that decide what the layer computes. A value is None if the object must not
    # have this field. A LongStorage or a list of the object is a tuple here.
    fields: Mapping[str, Any] = field(default_factory=dict)
    cudnn: bool = False  # class in exports for cuDNN: True: cudnn.`kind`; False: nn or cudnn, depending on `kind`


def layers(network: HourglassNet) -> tuple[list[Layer], list[int]]:
    """Return the graph's layers in the published order, and the indices of the heatmap layers, one per stack.

    The published order is nngraph's: depth first from the outputs, each layer after its inputs.
    """
    build = HourglassBuilder(network)
    outputs = build.network_from_image()
    return build.layers, outputs


class Builder:
    """The list of layers under construction. A tensor is represented by the index of the layer that computes the tensor."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(self, kind: str, *inputs: int, name: str = "", cudnn: bool = False, **fields: Any) -> int:
        """Add a layer; return its index."""
        self.layers.append(Layer(kind, inputs, name, fields, cudnn))
        return len(self.layers) - 1


class HourglassBuilder(Builder):
    """Builds the layers of an hourglass; `prefix` precedes the names of the hourglass's modules."""

    def __init__(self, network: HourglassNet, prefix: str = "") -> None:
        super().__init__()
        self.network, self.prefix = network, prefix

    def edge(self, x: int) -> int:
        """Return x, the last layer of an upper branch or of the innermost residual blocks; subclasses add layers after x."""
        return x

    def network_from_image(self) -> list[int]:
        """Add the whole network; return the indices of the heatmap layers, one per stack."""
        x, pooled = self.stem()
        outputs = []
        for stack in range(len(self.network.hourglasses)):
            y = self.hourglass(x, f"hourglasses.{stack}")
            features, heatmaps = self.head(y, f"heads.{stack}")
            outputs.append(heatmaps)
            if stack + 1 < len(self.network.hourglasses):
                x = self.join(stack, x, y, features, heatmaps, pooled)
        return outputs

    def named(self, kind: str, name: str, *inputs: int) -> int:
        """Add the layer that has the weights of the hourglass's module `name`; return its index."""
        return self.add(kind, *inputs, name=self.prefix + name)

    def residuals(self, x: int, name: str, begin: int = 0, end: int | None = None) -> int:
        """Add the residual blocks [begin:end] of the nn.Sequential `name` after layer x; return the index of the last layer."""
        for i in range(len(self.network.get_submodule(name)))[begin:end]:  # type: ignore[arg-type]
            x = self.named(RESIDUAL, f"{name}.{i}", x)
        return x

    def stem(self) -> tuple[int, int]:
        x = self.named(CONV, "stem.conv", self.add(IDENTITY))
        x = self.add(RELU, self.named(NORM, "stem.norm", x))
        pooled = self.add(POOL, self.residuals(x, "stem.residuals", end=1))
        return self.residuals(pooled, "stem.residuals", begin=1), pooled

    def hourglass(self, x: int, name: str) -> int:
        module = self.network.get_submodule(name)
        upper = self.edge(self.residuals(x, f"{name}.upper")) if hasattr(module, "upper") else None
        x = self.residuals(self.add(POOL, x), f"{name}.lower1")
        deeper = isinstance(module.inner, Hourglass)
        inner = self.hourglass(x, f"{name}.inner") if deeper else self.edge(self.residuals(x, f"{name}.inner"))
        x = self.residuals(inner, f"{name}.lower2")
        x = self.add(UPSAMPLE, x)
        return x if upper is None else self.add(SUM, upper, x)

    def head(self, x: int, name: str) -> tuple[int, int]:
        x = self.residuals(x, f"{name}.residuals")
        for i in range(len(self.network.get_submodule(f"{name}.layers"))):  # type: ignore[arg-type]
            x = self.named(CONV, f"{name}.layers.{i}.0", x)
            x = self.add(RELU, self.named(NORM, f"{name}.layers.{i}.1", x))
        heatmaps = self.named(CONV, f"{name}.output", x)
        return x, self.add(SIGMOID, heatmaps) if self.network.options.heatmaps == "sigmoid" else heatmaps

    def join(self, stack: int, x: int, y: int, features: int, heatmaps: int, pooled: int) -> int:
        how = self.network.options.join
        if how == "sum":
            return self.add(SUM, x, y)
        if how == "concatenate":
            features = self.add(CONCATENATE, features, pooled)
        features = self.named(CONV, f"joins.{stack}.features", features)
        heatmaps = self.named(CONV, f"joins.{stack}.heatmaps", heatmaps)
        return self.add(SUM, features, heatmaps) if how == "concatenate" else self.add(SUM, x, features, heatmaps)
