"""Convert a published Torch7 hourglass to a HourglassNet.

A file of pose-hg-train holds an nn.gModule: modules, and nodes that connect them. The options of the network are derived from
the path from the image to the last heatmaps. Then every node is compared with the graph of a network with these options.
"""

import re
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from datasets.errors import DataError
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7 import t7 as torch7
from stages.torch7.graph import BRANCH, CONCATENATE, CONV, IDENTITY, NORM, POOL, RELU, RESIDUAL, SUM, UPSAMPLE, Layer, layers
from stages.torch7.t7 import Table, Tensor, TorchObject

# The path through the graph is written with one letter per node; the pattern _NETWORK matches the path of an hourglass network.
_LETTERS = {IDENTITY: "I", CONV: "C", NORM: "N", RELU: "R", RESIDUAL: "S", POOL: "P", UPSAMPLE: "U", SUM: "A"}
_HOURGLASS = r"(?:PS+)+(?:UA(?:S+UA)*|U(?:S+U)*)"
_NETWORK = re.compile(
    rf"ICNRSP(?P<stem>S*)(?P<stacks>{_HOURGLASS}(?:(?:A|S*(?:CNR)+CCA){_HOURGLASS})*)(?P<residuals>S*)(?P<layers>(?:CNR)+)C"
)

# Settings that change the result of a layer, with Torch7's default, which applies if the file has no value.
_SETTINGS: dict[str, dict[str, float]] = {
    POOL: {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 0, "padH": 0},
    UPSAMPLE: {"scale_factor": 2},
    NORM: {"eps": 1e-5},
    RELU: {"threshold": 0, "val": 0},
    CONCATENATE: {"dimension": 2},
}
_LARGEST = 10_000  # largest number of nodes, or of entries of a list; the largest published network has about 500

_T = TypeVar("_T")


def read_hourglass(path: Path) -> HourglassNet:
    """Return the network in a .t7 file, in evaluation mode. The file's classes may be nn.* or cudnn.*.

    Raises DataError for a damaged file, another topology, or layers of other shapes. The message names the module's number in
    the file's module list (from 1), its name in HourglassNet, the found and the expected value.
    """
    graph = _Graph(path, torch7.read(path))
    options, joints = graph.options()
    with torch.device("meta"):
        network = HourglassNet(options, joints)
    expected, outputs = layers(network)
    arrays: dict[str, torch.Tensor] = {}
    for layer, data in zip(expected, graph.match(expected, outputs), strict=True):
        arrays |= graph.arrays(layer, data, network)
    return with_tensors(network, arrays)


def with_tensors(network: HourglassNet, tensors: dict[str, torch.Tensor]) -> HourglassNet:
    """Return a network that was built on the device `meta`, after filling it with `tensors`; missing tensors become 0."""
    rest = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in network.state_dict().items() if name not in tensors}
    network.load_state_dict(rest | tensors, assign=True)
    return network.eval()


class _Graph:
    """The nodes of an nn.gModule. A node is represented by its table `data`, which holds its module and its input nodes."""

    def __init__(self, path: Path, network: object) -> None:
        self.path = path
        if not isinstance(network, TorchObject) or network.class_name != "nn.gModule":
            raise DataError(f"{path} holds {network!r:.200}, expected an nn.gModule: a network saved by pose-hg-train.")
        self.modules = self._list(network.fields, "modules", TorchObject, "the network")
        self.places = {id(module): place for place, module in enumerate(self.modules, 1)}
        ends = [self._member(network.fields, key, TorchObject, "the network") for key in ("innode", "outnode")]
        self.start, self.end = (self._member(end.fields, "data", Table, "a node of the graph") for end in ends)

    def inputs(self, data: Table) -> list[Table]:
        """Return the input nodes of a node."""
        return self._list(data, "mapindex", Table, "a node of the graph")

    def kind(self, data: Table) -> str:
        """Return the class of a node's module without its package, because nn.ReLU and cudnn.ReLU are equivalent."""
        return self._module(data).class_name.rpartition(".")[2]

    def _main_path(self) -> list[Table]:
        """Return the nodes from the image to the last heatmaps, through the lower branches and all stacks.

        Raises DataError for a graph with a cycle, or without a path from the image to the heatmaps.
        """
        nodes: list[Table] = []
        data, seen = self.end, {self.end}
        while inputs := self.inputs(data):
            data = inputs[-1]
            nodes.append(data)
            if data in seen or len(nodes) > _LARGEST:
                raise DataError(f"{self.path}: the graph has a cycle, or is far larger than any hourglass.")
            seen.add(data)
        if not nodes or nodes.pop() is not self.start:
            raise DataError(f"{self.path}: the graph does not lead from its innode to its outnode.")
        return nodes[::-1]

    def options(self) -> tuple[Network, int]:
        """Return the options of the network, derived from the main path and its widths, and the number of joints.

        Raises DataError for a path that no published hourglass has.
        """
        nodes = self._main_path()
        for data in nodes:
            if self.kind(data) not in _LETTERS:
                raise self._wrong(data, "has a class that is in no published hourglass")
        letters = "".join(_LETTERS[self.kind(data)] for data in nodes)
        found = _NETWORK.fullmatch(letters)
        if not found:
            modules = ", ".join(_text(self._module(data)) for data in nodes[:40])
            raise DataError(
                f"{self.path}: the modules on the path from the image to the heatmaps are {modules} ...; no published "
                "hourglass has this path."
            )
        stacks = list(re.finditer(_HOURGLASS, found["stacks"]))
        begins = [found.start("stacks") + stack.start() for stack in stacks]
        first, fork = stacks[0][0], nodes[begins[0] - 1]
        runs = [len(run) for run in re.findall("S+", first)]
        depth = first.count("P")
        down, up = runs[0] if depth > 1 else 1, runs[-1] if depth > 1 else 1
        bottom = runs[depth - 1] - down - up
        above = self._above(nodes[begins[0] + len(first) - 1], fork) if "A" in first else down
        stem = [self._width(data) for data in nodes[1 : begins[0]] if self.kind(data) in (CONV, RESIDUAL)]
        options = {
            "stem": stem[:-1], "features": self._width(nodes[begins[0] + 1]),
            "outputs": self._width(nodes[begins[0] + first.index("U") - up]),
            "stacks": len(stacks), "depth": [stack[0].count("P") for stack in stacks],
            "residuals": [above, down, bottom, up], "upper": "A" in first,
            "head_residuals": len(found["residuals"]), "head_layers": len(found["layers"]) // 3,
            "join": self._join(nodes[begins[1] - 1]) if len(stacks) > 1 else "remap" if found["residuals"] else "sum",
        }  # fmt: skip
        try:
            return Network(**options), self._width(nodes[-1])
        except DataError as error:
            raise DataError(f"{self.path} holds an hourglass that is not supported: {error}") from None

    def _above(self, total: Table, fork: Table) -> int:
        """Return the number of residuals of an upper branch, between the fork and the sum of a level."""
        data, seen = self.inputs(total)[0], set[Table]()
        while data is not fork and data not in seen and (inputs := self.inputs(data)):
            seen.add(data)
            data = inputs[0]
        return len(seen)

    def _join(self, total: Table) -> str:
        """Return how the input of the second hourglass is computed (option `join`); `total` is the sum node of this input."""
        inputs = self.inputs(total)
        if any(self.kind(data) == CONCATENATE for data in self.inputs(inputs[0])):
            return "concatenate"
        return "sum" if len(inputs) == 2 else "remap"

    def match(self, expected: list[Layer], outputs: list[int]) -> list[Table]:
        """Return the node of each expected layer. Raises DataError for a node that differs, and for unused modules."""
        found: dict[int, Table] = {}
        pending = self._pair(self.end, "the output", tuple(outputs))
        while pending:
            place, data = pending.pop()
            layer = expected[place]
            if place in found:
                if found[place] is not data:
                    raise self._wrong(data, f"is read where module {self._place(found[place])} was expected")
                continue
            if self.kind(data) != layer.kind:
                raise self._wrong(data, f"is read as {layer.name or 'a layer'}, expected {layer.kind}")
            found[place] = data
            if layer.inputs:
                pending += self._pair(data, layer.name or layer.kind, layer.inputs)
        nodes = [found[place] for place in range(len(expected))]
        used = {self._place(data) for data in nodes}
        for place, module in enumerate(self.modules, 1):
            if place not in used:
                raise DataError(
                    f"{self.path}: module {place} ({_text(module)}) is not used: an hourglass of this kind has no such module."
                )
        return nodes

    def _pair(self, data: Table, name: str, places: tuple[int, ...]) -> list[tuple[int, Table]]:
        inputs = self.inputs(data)
        if len(inputs) != len(places):
            raise self._wrong(data, f"({name}) reads {len(inputs)} other modules, expected {len(places)}")
        return list(zip(places, inputs, strict=True))

    def arrays(self, layer: Layer, data: Table, network: HourglassNet) -> dict[str, torch.Tensor]:
        """Return the weights and statistics of a layer by their names in `network`, which defines their shapes."""
        place, module = self._place(data), self._module(data)
        parts = [(layer.kind, layer.name, module)]
        if layer.kind == RESIDUAL:
            parts = self._parts(place, module, layer.name, isinstance(network.get_submodule(f"{layer.name}.skip"), nn.Conv2d))
        arrays: dict[str, torch.Tensor] = {}
        for kind, name, part in parts:
            arrays |= self._of(place, part, kind, name, network.get_submodule(name))
        return arrays

    def _parts(self, place: int, module: TorchObject, name: str, skips: bool) -> list[tuple[str, str, TorchObject]]:
        """Return kind, name and module of each layer of a residual; skips: whether the skip connection is a convolution."""

        def inside(outer: TorchObject, *kinds: str) -> list[TorchObject]:
            modules = self._list(outer.fields, "modules", TorchObject, f"module {place}")
            if [m.class_name.rpartition(".")[2] for m in modules] != list(kinds):
                found = ", ".join(_text(m) for m in modules)
                raise self._error(place, name, f"holds {found} in {_text(outer)}, expected {', '.join(kinds)}")
            return modules

        branch, skip = inside(inside(module, "ConcatTable", SUM)[0], "Sequential", "Sequential" if skips else IDENTITY)
        found = inside(branch, *(kind for kind, _ in BRANCH))
        parts = [(kind, part and f"{name}.{part}", m) for (kind, part), m in zip(BRANCH, found, strict=True)]
        return parts + ([(CONV, f"{name}.skip", inside(skip, CONV)[0])] if skips else [])

    def _of(self, place: int, module: TorchObject, kind: str, name: str, ours: nn.Module) -> dict[str, torch.Tensor]:
        """Return the tensors of a module that contains no other modules; `ours` is its counterpart in HourglassNet.

        Raises DataError if settings or shapes differ from the counterpart's, or if a tensor is
        missing, repeats elements or is not finite.
        """
        settings = _SETTINGS.get(kind, {})
        if isinstance(ours, nn.Conv2d):
            (dh, dw), (ph, pw) = ours.stride, (int(pad) for pad in ours.padding)
            settings = {"dW": dw, "dH": dh, "padW": pw, "padH": ph, "groups": 1}
        for setting, expected in settings.items():
            found = module.fields.get(setting, expected)
            if found != expected:
                raise self._error(place, name or kind, f"has {setting} = {found!r:.200}, expected {expected}")
        keys = {CONV: ["weight", "bias"], NORM: ["weight", "bias", "running_mean", "running_var"]}.get(kind, [])
        return {f"{name}.{key}": self._array(place, name, module, key, tuple(getattr(ours, key).shape)) for key in keys}

    def _array(self, place: int, name: str, module: TorchObject, key: str, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = module.fields.get(key)
        if not isinstance(tensor, Tensor) or tensor.size != shape:
            found = f"shape {tensor.size}" if isinstance(tensor, Tensor) else f"{tensor!r:.200}"
            raise self._error(place, f"{name}.{key}", f"has {found}, expected shape {shape}")
        if tensor.storage is None or np.prod(shape) > len(tensor.storage.array):
            raise self._error(place, f"{name}.{key}", "is a view that repeats elements; expected distinct weights")
        array = np.array(tensor.array(), np.float32, order="C")
        if not np.isfinite(array).all():
            raise self._error(place, f"{name}.{key}", "holds values that are not finite (NaN or infinity)")
        return torch.from_numpy(array)

    def _width(self, data: Table) -> int:
        """Return the output channels of a convolution or residual."""
        module = self._module(data)
        if self.kind(data) == RESIDUAL:
            for _ in range(2):  # first the ConcatTable, then the branch inside it
                module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")), module)
            module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")[::-1]), module)
        weight = module.fields.get("weight")
        if not isinstance(weight, Tensor) or not weight.size:
            raise self._wrong(data, "has no weight")
        return weight.size[0]

    def _module(self, data: Table) -> TorchObject:
        """Return a node's module; an empty object for the image node and the output node."""
        module = data.get("module")
        return module if isinstance(module, TorchObject) else TorchObject("nothing")

    def _place(self, data: Table) -> int:
        return self.places.get(id(self._module(data)), 0)

    def _member(self, table: Table, key: str, kind: type[_T], what: str) -> _T:
        value = table.get(key)
        if not isinstance(value, kind):
            raise DataError(f"{self.path}: {what} has {value!r:.200} as {key}, expected a {kind.__name__}.")
        return value

    def _list(self, table: Table, key: str, kind: type[_T], what: str) -> list[_T]:
        found = self._member(table, key, Table, what)
        if len(found) > _LARGEST:
            raise DataError(f"{self.path}: {what} has {len(found)} {key}, far more than in any hourglass.")
        values = found.list()
        if not all(isinstance(value, kind) for value in values):
            raise DataError(f"{self.path}: the list of {key} of {what} holds values that are not of type {kind.__name__}.")
        return values

    def _wrong(self, data: Table, text: str) -> DataError:
        return self._error(self._place(data), _text(self._module(data)), text)

    def _error(self, place: int, name: str, text: str) -> DataError:
        return DataError(f"{self.path}: {f'module {place}' if place else 'a module'} ({name}) {text}.")


def _text(module: TorchObject) -> str:
    """Return a class name for messages: shortened, and with control characters escaped."""
    return module.class_name[:60].encode("unicode_escape").decode()
