"""Convert networks to Torch7 networks: the nn.gModule that image-play and skeleton2d3d load by options such as -hgModel.

The object has the structure of the files that pose-hg-train saves: all weights are views of one storage, all gradients, which
are zero, are views of a second storage, and all references to a node share one `data` table. Buffers that a forward pass fills
are left empty.
"""

import math
from typing import Any

import numpy as np
from torch import Tensor, nn

from stages.network.hourglass import HourglassNet
from stages.torch7 import t7 as torch7
from stages.torch7.graph import (
    ADD_CONSTANT,
    BRANCH,
    CONCATENATE,
    CONV,
    IDENTITY,
    LINEAR,
    NORM,
    POOL,
    PUBLISHED_RESOLUTION,
    RELU,
    RESIDUAL,
    SUM,
    UPSAMPLE,
    VIEW,
    Layer,
    layers,
)
from stages.torch7.t7 import Storage, Table, TorchObject


def obstacle(network: HourglassNet) -> str:
    """Return the reason why a network cannot be written as a Torch7 file; "" if it can."""
    options = network.options
    if options.block != "bottleneck" or options.norm != "batch":
        return f"Torch7's published modules have no block = {options.block} with norm = {options.norm}"
    return "the Torch7 graph has no module for the mean that the network subtracts" if network.mean.any() else ""


def as_torch7(network: HourglassNet, cudnn: bool, resolution: int = PUBLISHED_RESOLUTION) -> TorchObject:
    """Return a network as an nn.gModule. The function `obstacle` must have found no obstacle for this network.

    cudnn: whether to use the classes cudnn.* and GPU tensors; False: nn.* and CPU tensors. resolution: side of the network's
    input in px; unless it is the published one, it becomes the field `resolution` of the nn.gModule, which Torch7 ignores.
    """
    made = as_gmodule(network, *layers(network), cudnn)
    if resolution != PUBLISHED_RESOLUTION:
        made.fields["resolution"] = resolution
    return made


def as_gmodule(network: nn.Module, expected: list[Layer], outputs: list[int], cudnn: bool) -> TorchObject:
    """Return the nn.gModule with the layers `expected` and the weights of `network`; outputs: indices of the output layers."""
    make = _Modules(network, cudnn)
    modules = [make.of(layer) for layer in expected]
    fields = {"modules": Table.from_list(modules), "nInputs": 1, "verbose": False} | _graph(expected, modules, outputs)
    return make.module("nn.gModule", fields | ({"output": Table()} if len(outputs) > 1 else {}))


class _Modules:
    """Makes Torch7 modules, each with the weights of the corresponding module of the network."""

    def __init__(self, network: nn.Module, cudnn: bool) -> None:
        self.network, self.cudnn = network, cudnn
        self.package = "cudnn" if cudnn else "nn"
        self.type = "torch.CudaTensor" if cudnn else "torch.FloatTensor"
        count = sum(parameter.numel() for parameter in network.parameters())
        storage = self.type.replace("Tensor", "Storage")
        self.weights, self.gradients = (Storage(storage, np.zeros(count, np.float32)) for _ in range(2))
        self.used = 0  # number of elements of each storage that already belong to a parameter

    def of(self, layer: Layer) -> TorchObject:
        """Return the Torch7 module of a layer."""
        if layer.kind == RESIDUAL:
            return self._residual(layer.name)
        made = self._part(layer.kind, self.network.get_submodule(layer.name))
        for key, value in layer.fields.items():
            made.fields[key] = Storage("torch.LongStorage", np.array(value)) if isinstance(value, tuple) else value
        if layer.kind == VIEW:
            made.fields["numElements"] = math.prod(size for size in layer.fields["size"] if size > 0)
        if layer.cudnn and self.cudnn:
            made.class_name = f"cudnn.{layer.kind}"
        return made

    def module(self, class_name: str, fields: dict[str, Any], version: int = 1) -> TorchObject:
        """Return a Torch7 module with `fields` and the fields that every module has."""
        common = {"_type": self.type, "output": self._empty(), "gradInput": self._empty(), "train": False}
        return TorchObject(class_name, Table((common | fields).items()), version)

    def _empty(self) -> torch7.Tensor:
        return torch7.Tensor(self.type)

    def _residual(self, name: str) -> TorchObject:
        branch = [self._part(kind, self.network.get_submodule(part and f"{name}.{part}")) for kind, part in BRANCH]
        skip = self.network.get_submodule(f"{name}.skip")
        beside = (
            self._holding("Sequential", [self._part(CONV, skip)]) if isinstance(skip, nn.Conv2d) else self._part(IDENTITY, skip)
        )
        both = self._holding("ConcatTable", [self._holding("Sequential", branch), beside])
        both.fields["output"] = Table()
        total = self._part(SUM, skip)
        total.fields["inplace"] = True
        return self._holding("Sequential", [both, total])

    def _holding(self, kind: str, modules: list[TorchObject]) -> TorchObject:
        return self.module(f"nn.{kind}", {"modules": Table.from_list(modules)})

    def _part(self, kind: str, ours: nn.Module) -> TorchObject:
        """Return the Torch7 module of a layer that contains no other modules."""
        if kind == CONV:
            return self._convolution(ours)
        if kind == NORM:
            return self._norm(ours)
        if kind == LINEAR:
            return self.module(f"nn.{LINEAR}", self._parameters(ours))
        fields: dict[str, Any] = {}
        if kind == RELU:
            fields = {"inplace": True} | ({"mode": "CUDNN_ACTIVATION_RELU"} if self.cudnn else {"threshold": 0, "val": 0})
        elif kind == POOL:
            fields = {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 0, "padH": 0, "ceil_mode": False}
            fields |= {"mode": "CUDNN_POOLING_MAX"} if self.cudnn else {"indices": torch7.Tensor("torch.LongTensor")}
        elif kind == UPSAMPLE:
            fields = {"scale_factor": 2, "inputSize": _longs(4), "outputSize": _longs(4)}
        elif kind == CONCATENATE:
            fields = {"dimension": 2, "size": _longs(0), "gradInput": Table()}
        elif kind == SUM:
            fields = {"gradInput": Table()}
        elif kind == ADD_CONSTANT:
            fields = {"inplace": False}
        return self.module(f"{self.package if kind in (RELU, POOL) else 'nn'}.{kind}", fields)

    def _convolution(self, ours: nn.Module) -> TorchObject:
        assert isinstance(ours, nn.Conv2d)
        (kh, kw), (dh, dw), (ph, pw) = ours.kernel_size, ours.stride, (int(pad) for pad in ours.padding)
        fields: dict[str, Any] = {"kW": kw, "kH": kh, "dW": dw, "dH": dh, "padW": pw, "padH": ph}
        fields |= {"nInputPlane": ours.in_channels, "nOutputPlane": ours.out_channels}
        fields |= {"groups": 1} if self.cudnn else {"finput": self._empty(), "fgradInput": self._empty()}
        return self.module(f"{self.package}.{CONV}", fields | self._parameters(ours))

    def _norm(self, ours: nn.Module) -> TorchObject:
        assert isinstance(ours, nn.BatchNorm2d)
        fields: dict[str, Any] = {"eps": ours.eps, "momentum": ours.momentum, "affine": True}
        fields |= {"save_mean": self._empty(), "save_std": self._empty()}
        for key in ("running_mean", "running_var"):
            fields[key] = torch7.Tensor.from_array(_array(getattr(ours, key)), self.type)
        return self.module(f"nn.{NORM}", fields | self._parameters(ours), version=2)

    def _parameters(self, ours: nn.Module) -> dict[str, torch7.Tensor]:
        """Return weight, bias and their gradients: views of the storages of all parameters and all gradients."""
        views = {}
        for key, gradient in (("weight", "gradWeight"), ("bias", "gradBias")):
            array, start = _array(getattr(ours, key)), self.used
            self.used += array.size
            self.weights.array[start : self.used] = array.reshape(-1)
            strides = tuple(stride // array.itemsize for stride in array.strides)
            for name, storage in ((key, self.weights), (gradient, self.gradients)):
                views[name] = torch7.Tensor(self.type, array.shape, strides, start, storage)
        return views


def _longs(count: int) -> Storage:
    return Storage("torch.LongStorage", np.zeros(count, np.int64))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _graph(expected: list[Layer], built: list[TorchObject], outputs: list[int]) -> dict[str, Any]:
    """Return the fields of nn.gModule that connect the modules.

    The nodes are the layers, then one node for the image and one node that collects the outputs. Each node occurs in a forward
    graph (fg) and in a backward graph (bg), which share its table `data`. Nodes are numbered and ordered as in nngraph.
    """
    start, end = len(built), len(built) + 1
    reads = [list(layer.inputs) or [start] for layer in expected] + [[], outputs]
    order = [end]
    for node in order:  # number the nodes in breadth-first order, as nngraph does
        order += [other for other in reads[node] if other not in order]
    edges = [(node, other) for node in order for other in reads[node]]
    data = [Table() for _ in reads]
    fg, bg = _Nodes([(other, node) for node, other in edges], data), _Nodes(edges, data)
    for node, table in enumerate(data):
        if node < start:
            table["module"] = built[node]
        table["mapindex"] = _numbered([data[other] for other in reads[node]])
        table["reverseMap"] = Table((bg.nodes[other], True) for other in fg.followers[node])
        table["annotations"] = Table()
        table["forwardNodeId"] = fg.nodes[node].fields["id"]
    return {
        "fg": fg.graph, "bg": bg.graph, "innode": fg.nodes[start], "outnode": bg.nodes[end],
        "forwardnodes": Table.from_list(fg.nodes[node] for node in [start, *range(start), end]),
        "backwardnodes": Table.from_list(bg.nodes[node] for node in fg.depth_first(start)),
    }  # fmt: skip


class _Nodes:
    """The graph in one direction (fg or bg): its `nodes`, each node's `followers` (indices), and the Torch7 object `graph`."""

    def __init__(self, edges: list[tuple[int, int]], data: list[Table]) -> None:
        self.followers: list[list[int]] = [[] for _ in data]
        for node, other in edges:
            self.followers[node].append(other)
        numbers = {node: number for number, node in enumerate(dict.fromkeys(node for edge in edges for node in edge), 1)}
        common = [("marked", False), ("visited", False)]
        self.nodes = [
            TorchObject("nngraph.Node", Table([("data", table), ("id", numbers[node]), *common]))
            for node, table in enumerate(data)
        ]
        for written, others in zip(self.nodes, self.followers, strict=True):
            written.fields["children"] = _numbered([self.nodes[other] for other in others])
        pairs = [Table([("from", self.nodes[node]), ("to", self.nodes[other])]) for node, other in edges]
        parts = {"nodes": [self.nodes[node] for node in numbers], "edges": [TorchObject("graph.Edge", pair) for pair in pairs]}
        self.graph = TorchObject("graph.Graph", Table((name, _numbered(objects)) for name, objects in parts.items()))

    def depth_first(self, root: int) -> list[int]:
        """Return the indices of all nodes in depth-first postorder: each node comes after its followers."""
        finished, seen, open_ = [], {root}, [(root, iter(self.followers[root]))]
        while open_:
            node, rest = open_[-1]
            new = next((other for other in rest if other not in seen), None)
            if new is None:
                finished.append(open_.pop()[0])
            else:
                seen.add(new)
                open_.append((new, iter(self.followers[new])))
        return finished


def _numbered(objects: list) -> Table:
    """Return a table that maps the numbers 1, 2, 3 ... to the objects, and each object to its number."""
    return Table([*enumerate(objects, 1), *((thing, number) for number, thing in enumerate(objects, 1))])
