"""Published hourglasses (Torch7 files) -> named arrays for `hourglass.HourglassNet`.

The topology is hg-256 of pose-hg-train, branch image-play: stem, one recursive hourglass, one head. Layers are found by
following the graph's nodes, because the order of the upper and the lower branch in the module list is not fixed.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets.errors import DataError
from stages import torch7
from stages.settings import Network
from stages.torch7 import Table, Tensor, TorchObject

_CONV, _NORM, _RELU, _RESIDUAL = "SpatialConvolution", "SpatialBatchNormalization", "ReLU", "Sequential"
_POOL, _UPSAMPLE, _SUM = "SpatialMaxPooling", "SpatialUpSamplingNearest", "CAddTable"

_STEM = [
    ("", "Identity"),
    ("stem.conv", _CONV),
    ("stem.norm", _NORM),
    ("", _RELU),
    ("stem.residuals.0", _RESIDUAL),
    ("", _POOL),
    ("stem.residuals.1", _RESIDUAL),
    ("stem.residuals.2", _RESIDUAL),
]
_HEAD = [("heads.0.layers.0.0", _CONV), ("heads.0.layers.0.1", _NORM), ("", _RELU), ("heads.0.output", _CONV)]
_BRANCH = ["norm1", "relu", "conv1", "norm2", "relu", "conv2", "norm3", "relu", "conv3"]
_BRANCH_KINDS = [_NORM, _RELU, _CONV] * 3

# Settings that change what a layer computes; one that is not in the file has Torch7's default, which is this.
_SETTINGS: dict[str, dict[str, float]] = {
    _POOL: {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 0, "padH": 0},
    _UPSAMPLE: {"scale_factor": 2},
    _NORM: {"eps": 1e-5},
}
_MAX_DEPTH = 8

_T = TypeVar("_T")


def read_hourglass(path: Path) -> tuple[Network, int, dict[str, np.ndarray]]:
    """Options, number of joints and weights of a network of image-play's pose-hg-train (class names nn.* or cudnn.*).

    Options and joints are as `HourglassNet` takes them; the arrays are float32, in PyTorch's layout (convolutions: out,
    in, height, width), named as that network names its weights and statistics.
    Raises DataError where the file is damaged, holds another topology or layers of other shapes; the message has the
    module's place in the file's module list (from 1), what was found and what was expected.
    """
    graph = _Graph(path, torch7.read(path))
    depth = graph.walk()
    stem = [graph.outputs(f"stem.{name}") for name in ("conv", "residuals.0.conv3", "residuals.1.conv3")]
    features, joints = graph.outputs("stem.residuals.2.conv3"), graph.outputs("heads.0.output")
    layers = dict(_layers([*stem, features], depth, joints))
    graph.refuse_other_than(layers)
    arrays: dict[str, np.ndarray] = {}
    for name, shape in layers.items():
        arrays |= graph.convolution(name, shape) if len(shape) == 4 else graph.norm(name, shape)
    return Network(stem=stem, features=features, depth=depth), joints, arrays


def _layers(stem: list[int], depth: int, joints: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every layer with weights: a convolution with its weight's shape (out, in, k, k), a norm with (channels,)."""
    yield "stem.conv", (stem[0], 3, 7, 7)
    yield "stem.norm", (stem[0],)
    for i in range(3):
        yield from _residual(f"stem.residuals.{i}", stem[i], stem[i + 1])
    features = stem[3]
    for level in range(depth):
        name = "hourglasses.0" + ".inner" * level
        for part in ["upper.0", "lower1.0", "lower2.0"]:
            yield from _residual(f"{name}.{part}", features, features)
    yield from _residual("hourglasses.0" + ".inner" * depth + ".0", features, features)
    yield "heads.0.layers.0.0", (features, features, 1, 1)
    yield "heads.0.layers.0.1", (features,)
    yield "heads.0.output", (joints, features, 1, 1)


def _residual(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    half = outputs // 2
    yield f"{name}.norm1", (inputs,)
    yield f"{name}.conv1", (half, inputs, 1, 1)
    yield f"{name}.norm2", (half,)
    yield f"{name}.conv2", (half, half, 3, 3)
    yield f"{name}.norm3", (half,)
    yield f"{name}.conv3", (outputs, half, 1, 1)
    if inputs != outputs:
        yield f"{name}.skip", (outputs, inputs, 1, 1)


def _kind(module: TorchObject) -> str:
    """The class without its package: nn.ReLU and cudnn.ReLU compute the same."""
    return module.class_name.rpartition(".")[2]


class _Graph:
    """The nodes of an nn.gModule, and the layers (`layers`: name -> place and module) met while following them."""

    def __init__(self, path: Path, network: object) -> None:
        self.path = path
        if not isinstance(network, TorchObject) or network.class_name != "nn.gModule":
            raise DataError(f"{path} holds {network!r}, expected an nn.gModule: a network saved by pose-hg-train.")
        self.start = self._member(network, "innode", TorchObject, "the network")
        modules = self._list(network, "modules", "the network")
        self.places = {id(module): place for place, module in enumerate(modules, 1)}
        self.unvisited = dict(enumerate(modules, 1))
        self.layers: dict[str, tuple[int, TorchObject]] = {}

    def walk(self) -> int:
        """Visit every module once, in the topology of hg-256; returns the hourglass's depth."""
        node = self.start
        for name, kind in _STEM:
            node = self._step(node, kind, name)
        node, depth = self._hourglass(node, "hourglasses.0", 1)
        for name, kind in _HEAD:
            node = self._step(node, kind, name)
        for place, module in self.unvisited.items():
            raise self._wrong(place, f"is {module.class_name}, which hg-256 has no place for")
        return depth

    def _hourglass(self, node: TorchObject, name: str, depth: int) -> tuple[TorchObject, int]:
        """The level that forks after `node`: the node of its sum, and the depth of the deepest level in it."""
        if depth > _MAX_DEPTH:
            raise DataError(f"{self.path} has an hourglass of more than {_MAX_DEPTH} levels; expected 4, as in hg-256.")
        upper = self._step(node, _RESIDUAL, f"{name}.upper.0", branches=2)
        lower = self._step(node, _POOL, branches=2)
        lower = self._step(lower, _RESIDUAL, f"{name}.lower1.0")
        if len(self._children(lower)) == 2:
            lower, depth = self._hourglass(lower, f"{name}.inner", depth + 1)
        else:
            lower = self._step(lower, _RESIDUAL, f"{name}.inner.0")
        lower = self._step(lower, _RESIDUAL, f"{name}.lower2.0")
        lower = self._step(lower, _UPSAMPLE)
        total = self._step(lower, _SUM)
        if self._children(upper) != [total]:
            raise self._wrong(self._place(upper), f"({name}.upper.0) does not lead to the sum of its own level")
        return total, depth

    def _step(self, node: TorchObject, kind: str, name: str = "", branches: int = 1) -> TorchObject:
        """The child of `node` whose module is of this kind; `node` has to have as many children as `branches`."""
        children = self._children(node)
        found = [child for child in children if _kind(self._module(child)) == kind]
        if len(found) != 1 or len(children) != branches:
            names = ", ".join(self._module(child).class_name for child in children) or "nothing"
            expected = kind if branches == 1 else f"one {_RESIDUAL} and one {_POOL}"
            raise self._wrong(self._place(node), f"is followed by {names}, expected {expected}")
        place, module = self._place(found[0]), self._module(found[0])
        if self.unvisited.pop(place, None) is None:
            raise self._wrong(place, f"({module.class_name}) occurs twice in the graph, or not in the module list")
        self._settle(place, module, kind, name)
        return found[0]

    def _settle(self, place: int, module: TorchObject, kind: str, name: str) -> None:
        """Check the module's settings and file it (a Residual: its parts) under its name."""
        for setting, expected in _SETTINGS.get(kind, {}).items():
            found = module.fields.get(setting, expected)
            if found != expected:
                raise self._wrong(place, f"({name or kind}) has {setting} = {found!r}, expected {expected}")
        if kind == _RESIDUAL:
            for part, (part_kind, part_module) in self._parts(place, module, name).items():
                self._settle(place, part_module, part_kind, f"{name}.{part}")
        elif name:
            self.layers[name] = place, module

    def _parts(self, place: int, module: TorchObject, name: str) -> dict[str, tuple[str, TorchObject]]:
        """Part -> kind and module of a Residual: {ConcatTable{branch, skip}, CAddTable}."""

        def inside(outer: TorchObject, *kinds: str) -> list[TorchObject]:
            modules = self._list(outer, "modules", f"module {place}")
            if [_kind(m) for m in modules] != list(kinds):
                found = ", ".join(m.class_name for m in modules)
                raise self._wrong(place, f"({name}) holds {found} in {outer.class_name}, expected {', '.join(kinds)}")
            return modules

        branches = inside(module, "ConcatTable", _SUM)[0]
        skip_kind = _kind((self._list(branches, "modules", f"module {place}") or [module])[-1])
        skip_kind = skip_kind if skip_kind == "Identity" else "Sequential"
        branch, skip = inside(branches, "Sequential", skip_kind)
        parts = dict(zip(_BRANCH, zip(_BRANCH_KINDS, inside(branch, *_BRANCH_KINDS), strict=True), strict=True))
        del parts["relu"]
        if skip_kind == "Sequential":
            parts["skip"] = _CONV, inside(skip, _CONV)[0]
        return parts

    def outputs(self, name: str) -> int:
        """Output channels of a convolution."""
        place, module = self.layers[name]
        weight = module.fields.get("weight")
        if not isinstance(weight, Tensor) or not weight.size:
            raise self._wrong(place, f"({name}) has no weight")
        return weight.size[0]

    def refuse_other_than(self, names: Container[str]) -> None:
        """Only a skip convolution can be there although it should not, once the walk is done."""
        for name, (place, _) in self.layers.items():
            if name not in names:
                raise self._wrong(place, f"({name}) is a convolution, expected an identity")

    def convolution(self, name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Weight and bias, where kernel, stride and padding are as expected."""
        place, module = self._layer(name)
        stride, pad = 2 if name == "stem.conv" else 1, shape[2] // 2
        for setting, expected in {"dW": stride, "dH": stride, "padW": pad, "padH": pad, "groups": 1}.items():
            found = module.fields.get(setting, expected)
            if found != expected:
                raise self._wrong(place, f"({name}) has {setting} = {found!r}, expected {expected}")
        weight = self._array(name, "weight", shape)
        return {f"{name}.weight": weight, f"{name}.bias": self._array(name, "bias", shape[:1])}

    def norm(self, name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Scale, offset and running statistics."""
        keys = ["weight", "bias", "running_mean", "running_var"]
        return {f"{name}.{key}": self._array(name, key, shape) for key in keys}

    def _array(self, name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
        place, module = self._layer(name)
        tensor = module.fields.get(key)
        if not isinstance(tensor, Tensor) or tensor.size != shape:
            found = f"shape {tensor.size}" if isinstance(tensor, Tensor) else repr(tensor)
            raise self._wrong(place, f"({name}.{key}) has {found}, expected shape {shape}")
        array = np.array(tensor.array(), np.float32, order="C")
        if not np.isfinite(array).all():
            raise self._wrong(place, f"({name}.{key}) holds numbers that are not finite")
        return array

    def _layer(self, name: str) -> tuple[int, TorchObject]:
        if name not in self.layers:  # only a skip convolution can be missing once the walk is done
            place = self.layers[name.replace(".skip", ".conv1")][0]
            raise self._wrong(place, f"({name}) is an identity, expected a 1x1 convolution")
        return self.layers[name]

    def _children(self, node: TorchObject) -> list[TorchObject]:
        return self._list(node, "children", "a node of the graph")

    def _module(self, node: TorchObject) -> TorchObject:
        """The node's module; the network's last node has none and stands for itself."""
        data = self._member(node, "data", Table, "a node of the graph")
        module = data.get("module")
        return module if isinstance(module, TorchObject) else node

    def _place(self, node: TorchObject) -> int:
        return self.places.get(id(self._module(node)), 0)

    def _member(self, owner: TorchObject, key: str, kind: type[_T], what: str) -> _T:
        value = owner.fields.get(key)
        if not isinstance(value, kind):
            raise DataError(f"{self.path}: {what} has {value!r} as {key}, expected a {kind.__name__}.")
        return value

    def _list(self, owner: TorchObject, key: str, what: str) -> list[TorchObject]:
        values = self._member(owner, key, Table, what).list()
        if not all(isinstance(value, TorchObject) for value in values):
            raise DataError(f"{self.path}: {what} has other things than objects in its list of {key}.")
        return values

    def _wrong(self, place: int, text: str) -> DataError:
        where = f"module {place}" if place else "the input"
        text = text.encode("utf-8", "backslashreplace").decode()  # class names may hold bytes that no terminal takes
        return DataError(f"{self.path}: {where} {text}; only networks with the graph of hg-256 can be read.")
