"""Published hourglasses (Torch7 files) as networks of ours.

A file of pose-hg-train holds an nn.gModule: modules, and nodes that say which module reads which. The options of the network
are read off the way from the image to the last heatmaps; then every node is compared with the graph of such a network.
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

# A way through the graph is written in one letter a node; this is what the way through an hourglass network looks like.
_LETTERS = {IDENTITY: "I", CONV: "C", NORM: "N", RELU: "R", RESIDUAL: "S", POOL: "P", UPSAMPLE: "U", SUM: "A"}
_HOURGLASS = r"(?:PS+)+(?:UA(?:S+UA)*|U(?:S+U)*)"
_NETWORK = re.compile(
    rf"ICNRSP(?P<stem>S*)(?P<stacks>{_HOURGLASS}(?:(?:A|S*(?:CNR)+CCA){_HOURGLASS})*)(?P<residuals>S*)(?P<layers>(?:CNR)+)C"
)

# Settings that change what a layer computes; one that is not in the file has Torch7's default, which is this.
_SETTINGS: dict[str, dict[str, float]] = {
    POOL: {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 0, "padH": 0},
    UPSAMPLE: {"scale_factor": 2},
    NORM: {"eps": 1e-5},
    RELU: {"threshold": 0, "val": 0},
    CONCATENATE: {"dimension": 2},
}
_LARGEST = 10_000  # nodes, or entries of a list; the largest published network has some 500

_T = TypeVar("_T")


def read_hourglass(path: Path) -> HourglassNet:
    """The network in a .t7 file, in evaluation mode; class names nn.* or cudnn.*.

    Raises DataError where the file is damaged, holds another topology or layers of other shapes; the message has the
    module's place in the file's module list (from 1), its name in our network, what was found and what was expected.
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
    """A network on the device `meta` with these weights and statistics; what else it has (mean, counters) is 0."""
    rest = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in network.state_dict().items() if name not in tensors}
    network.load_state_dict(rest | tensors, assign=True)
    return network.eval()


class _Graph:
    """The nodes of an nn.gModule, each as its table `data`, which has the module and the nodes that it reads."""

    def __init__(self, path: Path, network: object) -> None:
        self.path = path
        if not isinstance(network, TorchObject) or network.class_name != "nn.gModule":
            raise DataError(f"{path} holds {network!r:.200}, expected an nn.gModule: a network saved by pose-hg-train.")
        self.modules = self._list(network.fields, "modules", TorchObject, "the network")
        self.places = {id(module): place for place, module in enumerate(self.modules, 1)}
        ends = [self._member(network.fields, key, TorchObject, "the network") for key in ("innode", "outnode")]
        self.start, self.end = (self._member(end.fields, "data", Table, "a node of the graph") for end in ends)

    def inputs(self, data: Table) -> list[Table]:
        """The nodes that a node reads."""
        return self._list(data, "mapindex", Table, "a node of the graph")

    def kind(self, data: Table) -> str:
        """The class of a node's module without its package: nn.ReLU and cudnn.ReLU compute the same."""
        return self._module(data).class_name.rpartition(".")[2]

    def _way(self) -> list[Table]:
        """The nodes from the image to the last heatmaps: through the lower branches, and from stack to stack."""
        way: list[Table] = []
        data, seen = self.end, {self.end}
        while inputs := self.inputs(data):
            data = inputs[-1]
            way.append(data)
            if data in seen or len(way) > _LARGEST:
                raise DataError(f"{self.path}: the graph has a cycle, or is far larger than any hourglass.")
            seen.add(data)
        if not way or way.pop() is not self.start:
            raise DataError(f"{self.path}: the graph does not lead from its innode to its outnode.")
        return way[::-1]

    def options(self) -> tuple[Network, int]:
        """The options of the network, as far as the way through it and its widths tell them, and the number of joints."""
        way = self._way()
        for data in way:
            if self.kind(data) not in _LETTERS:
                raise self._wrong(data, "has a class that is in no published hourglass")
        letters = "".join(_LETTERS[self.kind(data)] for data in way)
        found = _NETWORK.fullmatch(letters)
        if not found:
            modules = ", ".join(_text(self._module(data)) for data in way[:40])
            raise DataError(
                f"{self.path}: the modules on the way from the image to the heatmaps are {modules} ...; no published hourglass "
                "is built like this."
            )
        stacks = list(re.finditer(_HOURGLASS, found["stacks"]))
        begins = [found.start("stacks") + stack.start() for stack in stacks]
        first, fork = stacks[0][0], way[begins[0] - 1]
        runs = [len(run) for run in re.findall("S+", first)]
        depth = first.count("P")
        down, up = runs[0] if depth > 1 else 1, runs[-1] if depth > 1 else 1
        bottom = runs[depth - 1] - down - up
        above = self._above(way[begins[0] + len(first) - 1], fork) if "A" in first else down
        stem = [self._width(data) for data in way[1 : begins[0]] if self.kind(data) in (CONV, RESIDUAL)]
        options = {
            "stem": stem[:-1], "features": self._width(way[begins[0] + 1]),
            "outputs": self._width(way[begins[0] + first.index("U") - up]),
            "stacks": len(stacks), "depth": [stack[0].count("P") for stack in stacks],
            "residuals": [above, down, bottom, up], "upper": "A" in first,
            "head_residuals": len(found["residuals"]), "head_layers": len(found["layers"]) // 3,
            "join": self._join(way[begins[1] - 1]) if len(stacks) > 1 else "remap" if found["residuals"] else "sum",
        }  # fmt: skip
        try:
            return Network(**options), self._width(way[-1])
        except DataError as error:
            raise DataError(f"{self.path} holds an hourglass that cannot be built here: {error}") from None

    def _above(self, total: Table, fork: Table) -> int:
        """The residuals of an upper branch, between the fork and the sum of a level."""
        data, seen = self.inputs(total)[0], set[Table]()
        while data is not fork and data not in seen and (inputs := self.inputs(data)):
            seen.add(data)
            data = inputs[0]
        return len(seen)

    def _join(self, total: Table) -> str:
        """How the input of the second hourglass comes about; `total` is the sum that it is."""
        inputs = self.inputs(total)
        if any(self.kind(data) == CONCATENATE for data in self.inputs(inputs[0])):
            return "concatenate"
        return "sum" if len(inputs) == 2 else "remap"

    def match(self, expected: list[Layer], outputs: list[int]) -> list[Table]:
        """The node of each expected layer. Raises DataError for a node that differs, and for modules left over."""
        found: dict[int, Table] = {}
        pending = self._pair(self.end, "the output", tuple(outputs))
        while pending:
            place, data = pending.pop()
            layer = expected[place]
            if place in found:
                if found[place] is not data:
                    raise self._wrong(data, f"stands where module {self._place(found[place])} was expected")
                continue
            if self.kind(data) != layer.kind:
                raise self._wrong(data, f"stands in the place of {layer.name or 'a layer'}, expected {layer.kind}")
            found[place] = data
            if layer.inputs:
                pending += self._pair(data, layer.name or layer.kind, layer.inputs)
        nodes = [found[place] for place in range(len(expected))]
        used = {self._place(data) for data in nodes}
        for place, module in enumerate(self.modules, 1):
            if place not in used:
                raise DataError(
                    f"{self.path}: module {place} ({_text(module)}) is left over: such a network has no place for it."
                )
        return nodes

    def _pair(self, data: Table, name: str, places: tuple[int, ...]) -> list[tuple[int, Table]]:
        inputs = self.inputs(data)
        if len(inputs) != len(places):
            raise self._wrong(data, f"({name}) reads {len(inputs)} other modules, expected {len(places)}")
        return list(zip(places, inputs, strict=True))

    def arrays(self, layer: Layer, data: Table, network: HourglassNet) -> dict[str, torch.Tensor]:
        """The weights and statistics of a layer under their names in `network`, which tells their shapes."""
        place, module = self._place(data), self._module(data)
        parts = [(layer.kind, layer.name, module)]
        if layer.kind == RESIDUAL:
            parts = self._parts(place, module, layer.name, isinstance(network.get_submodule(f"{layer.name}.skip"), nn.Conv2d))
        arrays: dict[str, torch.Tensor] = {}
        for kind, name, part in parts:
            arrays |= self._of(place, part, kind, name, network.get_submodule(name))
        return arrays

    def _parts(self, place: int, module: TorchObject, name: str, skips: bool) -> list[tuple[str, str, TorchObject]]:
        """Kind, name and module of each part of a residual; with `skips` there is a convolution beside its branch."""

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
        """The arrays of one module without others inside, after a look at its settings; `ours` is its counterpart."""
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
            raise self._error(place, f"{name}.{key}", "repeats its numbers")
        array = np.array(tensor.array(), np.float32, order="C")
        if not np.isfinite(array).all():
            raise self._error(place, f"{name}.{key}", "holds numbers that are not finite")
        return torch.from_numpy(array)

    def _width(self, data: Table) -> int:
        """The channels that a convolution or residual gives."""
        module = self._module(data)
        if self.kind(data) == RESIDUAL:
            for _ in range(2):  # through ConcatTable to the branch
                module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")), module)
            module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")[::-1]), module)
        weight = module.fields.get("weight")
        if not isinstance(weight, Tensor) or not weight.size:
            raise self._wrong(data, "has no weight")
        return weight.size[0]

    def _module(self, data: Table) -> TorchObject:
        """A node's module; an empty object for the nodes before and after all modules."""
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
            raise DataError(f"{self.path}: {what} has other things than {kind.__name__}s in its list of {key}.")
        return values

    def _wrong(self, data: Table, text: str) -> DataError:
        return self._error(self._place(data), _text(self._module(data)), text)

    def _error(self, place: int, name: str, text: str) -> DataError:
        return DataError(f"{self.path}: {f'module {place}' if place else 'a module'} ({name}) {text}.")


def _text(module: TorchObject) -> str:
    """A class name, which may be of any length and hold what no terminal takes."""
    return module.class_name[:60].encode("unicode_escape").decode()
