"""Describe an hourglass as a graph of Torch7 modules; import_network expects this graph, and export_network writes it."""

from dataclasses import dataclass

from stages.network.hourglass import Hourglass, HourglassNet

CONV, NORM, RELU = "SpatialConvolution", "SpatialBatchNormalization", "ReLU"
POOL, UPSAMPLE, SUM, CONCATENATE = "SpatialMaxPooling", "SpatialUpSamplingNearest", "CAddTable", "JoinTable"
IDENTITY, RESIDUAL = "Identity", "Sequential"

# A residual is Sequential{ConcatTable{Sequential{BRANCH}, skip}, CAddTable}; the skip is Identity or Sequential{CONV}.
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
    name: str = ""  # name of the module in HourglassNet that holds the layer's weights


def layers(network: HourglassNet) -> tuple[list[Layer], list[int]]:
    """Return the graph's layers in the published order, and the indices of the heatmap layers, one per stack.

    The published order is nngraph's: depth first from the outputs, each layer after its inputs.
    """
    build = _Builder(network)
    x, pooled = build.stem()
    outputs = []
    for stack in range(len(network.hourglasses)):
        y = build.hourglass(x, f"hourglasses.{stack}")
        features, heatmaps = build.head(y, f"heads.{stack}")
        outputs.append(heatmaps)
        if stack + 1 < len(network.hourglasses):
            x = build.join(stack, x, y, features, heatmaps, pooled)
    return build.layers, outputs


class _Builder:
    """The list of layers under construction. A tensor is represented by the index of the layer that computes the tensor."""

    def __init__(self, network: HourglassNet) -> None:
        self.network = network
        self.layers: list[Layer] = []

    def add(self, kind: str, *inputs: int, name: str = "") -> int:
        self.layers.append(Layer(kind, inputs, name))
        return len(self.layers) - 1

    def residuals(self, x: int, name: str, begin: int = 0, end: int | None = None) -> int:
        """Add the residuals `begin` to `end` of the nn.Sequential `name`; returns the index of the last layer."""
        for i in range(len(self.network.get_submodule(name)))[begin:end]:  # type: ignore[arg-type]
            x = self.add(RESIDUAL, x, name=f"{name}.{i}")
        return x

    def stem(self) -> tuple[int, int]:
        x = self.add(CONV, self.add(IDENTITY), name="stem.conv")
        x = self.add(RELU, self.add(NORM, x, name="stem.norm"))
        pooled = self.add(POOL, self.residuals(x, "stem.residuals", end=1))
        return self.residuals(pooled, "stem.residuals", begin=1), pooled

    def hourglass(self, x: int, name: str) -> int:
        module = self.network.get_submodule(name)
        upper = self.residuals(x, f"{name}.upper") if hasattr(module, "upper") else None
        x = self.residuals(self.add(POOL, x), f"{name}.lower1")
        inner = self.hourglass if isinstance(module.inner, Hourglass) else self.residuals
        x = self.residuals(inner(x, f"{name}.inner"), f"{name}.lower2")
        x = self.add(UPSAMPLE, x)
        return x if upper is None else self.add(SUM, upper, x)

    def head(self, x: int, name: str) -> tuple[int, int]:
        x = self.residuals(x, f"{name}.residuals")
        for i in range(len(self.network.get_submodule(f"{name}.layers"))):  # type: ignore[arg-type]
            x = self.add(CONV, x, name=f"{name}.layers.{i}.0")
            x = self.add(RELU, self.add(NORM, x, name=f"{name}.layers.{i}.1"))
        return x, self.add(CONV, x, name=f"{name}.output")

    def join(self, stack: int, x: int, y: int, features: int, heatmaps: int, pooled: int) -> int:
        how = self.network.options.join
        if how == "sum":
            return self.add(SUM, x, y)
        if how == "concatenate":
            features = self.add(CONCATENATE, features, pooled)
        features = self.add(CONV, features, name=f"joins.{stack}.features")
        heatmaps = self.add(CONV, heatmaps, name=f"joins.{stack}.heatmaps")
        return self.add(SUM, features, heatmaps) if how == "concatenate" else self.add(SUM, x, features, heatmaps)
