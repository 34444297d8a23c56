"""Compare the network in a Torch7 file with a list of expected layers, and read the network's weights.

A file of the published programs holds an nn.gModule: modules, and nodes that connect the modules. Only tables, tensors, numbers
and strings of the file are read. Functions in the file are skipped; modules with frozen weights contain functions.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from datasets.errors import DataError
from stages.torch7 import t7 as torch7
from stages.torch7.graph import (
    BRANCH,
    CONCATENATE,
    CONV,
    IDENTITY,
    LINEAR,
    LSTM,
    NORM,
    POOL,
    RELU,
    RESIDUAL,
    SUM,
    UPSAMPLE,
    Layer,
)
from stages.torch7.t7 import Storage, Table, TorchObject

# Kind of layer -> settings that change the layer's result, with Torch7's default for a setting that is not in the file.
_SETTINGS: dict[str, dict[str, Any]] = {
    POOL: {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 0, "padH": 0},
    UPSAMPLE: {"scale_factor": 2},
    NORM: {"eps": 1e-5},
    RELU: {"threshold": 0, "val": 0},
    CONCATENATE: {"dimension": 2},
    "Padding": {"value": 0, "index": 1},
    LSTM: {
        "mode": "CUDNN_LSTM", "numLayers": 1, "bidirectional": "CUDNN_UNIDIRECTIONAL", "numDirections": 1, "dropout": 0,
        "inputMode": "CUDNN_LINEAR_INPUT", "rememberStates": False, "hiddenInput": None, "cellInput": None,
    },
}  # fmt: skip
_TENSORS = {
    CONV: ["weight", "bias"],
    LINEAR: ["weight", "bias"],
    NORM: ["weight", "bias", "running_mean", "running_var"],
}
_LARGEST = 10_000  # largest accepted number of nodes, or of entries of a list; the largest published network has about 500
_LONGEST = 64  # a list of at most this many numbers is read as a tuple, a longer list is not; published fields have up to 5

_T = TypeVar("_T")
_Net = TypeVar("_Net", bound=nn.Module)


class Graph:
    """The nodes of an nn.gModule. A node is represented by the table `data`, which contains its module and its input nodes."""

    def __init__(self, path: Path, network: object) -> None:
        self.path = path
        if not isinstance(network, TorchObject) or network.class_name != "nn.gModule":
            raise DataError(f"{path} holds {network!r:.200}, expected an nn.gModule: a network that a published program saved.")
        self.fields = network.fields
        self.modules = self._list(network.fields, "modules", TorchObject, "the network")
        self.places = {id(module): place for place, module in enumerate(self.modules, 1)}
        ends = [self._member(network.fields, key, TorchObject, "the network") for key in ("innode", "outnode")]
        self.start, self.end = (self._member(end.fields, "data", Table, "a node of the graph") for end in ends)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the graph in a .t7 file. Raises DataError for a damaged file, and for a file without a network."""
        return cls(path, torch7.read(path))

    def inputs(self, data: Table) -> list[Table]:
        """Return the input nodes of a node."""
        return self._list(data, "mapindex", Table, "a node of the graph")

    @property
    def outputs(self) -> list[Table]:
        """Return the nodes that compute the network's outputs. Raises DataError if no node does."""
        found = self.inputs(self.end)
        if not found:
            raise DataError(f"{self.path}: the graph does not lead from its innode to its outnode.")
        return found

    def kind(self, data: Table) -> str:
        """Return the class name of a node's module without the package, because nn.ReLU and cudnn.ReLU are equivalent."""
        return _kind(self.module(data))

    def holds(self, kind: str) -> bool:
        """Return whether a module of the network has this class."""
        return any(_kind(module) == kind for module in self.modules)

    def path_to(self, output: Table) -> list[Table]:
        """Return the nodes from the image to `output`; where nodes have several inputs, the path leads through the last input.

        Raises DataError for a graph with a cycle, or without a path from the image to the output.
        """
        nodes: list[Table] = []
        data, seen = output, set[Table]()
        while data is not self.start:
            nodes.append(data)
            seen.add(data)
            inputs = self.inputs(data)
            if not inputs:
                raise DataError(f"{self.path}: the graph does not lead from its innode to its outnode.")
            data = inputs[-1]
            if data in seen or len(nodes) > _LARGEST:
                raise DataError(f"{self.path}: the graph has a cycle, or is far larger than any published network.")
        return nodes[::-1]

    def match(self, expected: list[Layer], outputs: Iterable[int], ends: list[Table] | None = None) -> list[Table]:
        """Return the node of each expected layer; outputs: indices of the layers that compute the outputs.

        ends: the nodes in the file that compute these outputs, if `expected` is only a part of the file's network. None:
        `expected` is the whole network. Raises DataError for a node that differs from the expected layer and, if `ends` is
        None, for modules in the file that no expected layer uses.
        """
        found: dict[int, Table] = {}
        last = zip(outputs, ends, strict=True) if ends else self._pair(self.end, "the output", tuple(outputs))
        pending = list(last)
        while pending:
            place, data = pending.pop()
            layer = expected[place]
            if place in found:
                if found[place] is not data:
                    raise self.wrong(data, f"is read where module {self._place(found[place])} was expected")
                continue
            if self.kind(data) != layer.kind:
                raise self.wrong(data, f"is read as {layer.name or 'a layer'}, expected {layer.kind}")
            found[place] = data
            if layer.inputs:
                pending += self._pair(data, layer.name or layer.kind, layer.inputs)
        nodes = [found[place] for place in range(len(expected))]
        used = {self._place(data) for data in nodes}
        for place, module in enumerate(self.modules, 1):
            if place not in used and ends is None:
                raise DataError(
                    f"{self.path}: module {place} ({_text(module)}) is not used: a network of this kind has no such module."
                )
        return nodes

    def _pair(self, data: Table, name: str, places: tuple[int, ...]) -> list[tuple[int, Table]]:
        inputs = self.inputs(data)
        if len(inputs) != len(places):
            raise self.wrong(data, f"({name}) reads {len(inputs)} other modules, expected {len(places)}")
        return list(zip(places, inputs, strict=True))

    def tensors(self, expected: list[Layer], nodes: list[Table], network: nn.Module) -> dict[str, Tensor]:
        """Return the weights and batch statistics of all layers, by their names in `network`, which defines their shapes.

        nodes: the node of each layer, from `match`. Raises DataError for settings or shapes that differ from `network`.
        """
        found: dict[str, Tensor] = {}
        for layer, data in zip(expected, nodes, strict=True):
            place, module = self._place(data), self.module(data)
            parts = [(layer.kind, layer.name, module)]
            if layer.kind == RESIDUAL:
                parts = self._parts(
                    place, module, layer.name, isinstance(network.get_submodule(f"{layer.name}.skip"), nn.Conv2d)
                )
            self._check(place, layer.name or layer.kind, module, layer.fields, {})
            for kind, name, part in parts:
                found |= self._of(place, part, kind, name, network.get_submodule(name))
        return found

    def field(self, data: Table, key: str) -> Any:
        """Return a field of a node's module; a short LongStorage or list is returned as a tuple."""
        return _plain(self.module(data).fields.get(key))

    def number(self, data: Table, key: str) -> float:
        """Return a field of a node's module, as a number. Raises DataError if the field is not a finite number."""
        value = self.module(data).fields.get(key)
        if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
            raise self.wrong(data, f"has {key} = {value!r:.200}, expected a number")
        return value

    def _parts(self, place: int, module: TorchObject, name: str, skips: bool) -> list[tuple[str, str, TorchObject]]:
        """Return kind, name and module of each layer of a residual block; skips: whether the block's skip is a convolution."""

        def inside(outer: TorchObject, *kinds: str) -> list[TorchObject]:
            modules = self._list(outer.fields, "modules", TorchObject, f"module {place}")
            if [_kind(m) for m in modules] != list(kinds):
                found = ", ".join(_text(m) for m in modules)
                raise self._error(place, name, f"holds {found} in {_text(outer)}, expected {', '.join(kinds)}")
            return modules

        branch, skip = inside(inside(module, "ConcatTable", SUM)[0], "Sequential", "Sequential" if skips else IDENTITY)
        found = inside(branch, *(kind for kind, _ in BRANCH))
        parts = [(kind, part and f"{name}.{part}", m) for (kind, part), m in zip(BRANCH, found, strict=True)]
        return parts + ([(CONV, f"{name}.skip", inside(skip, CONV)[0])] if skips else [])

    def _of(self, place: int, module: TorchObject, kind: str, name: str, ours: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of a module that contains no other modules; `ours` is its counterpart in our network.

        Raises DataError if settings or shapes differ from the counterpart's, or if a tensor is missing, repeats elements or is
        not finite.
        """
        settings = _SETTINGS.get(kind, {})
        if isinstance(ours, nn.Conv2d):
            (dh, dw), (ph, pw) = ours.stride, (int(pad) for pad in ours.padding)
            settings = {"dW": dw, "dH": dh, "padW": pw, "padH": ph, "groups": 1}
        self._check(place, name or kind, module, settings, settings)
        if isinstance(ours, nn.LSTM):
            return self._lstm(place, module, name, ours)
        return {
            f"{name}.{key}": self._tensor(place, name, module, key, tuple(getattr(ours, key).shape))
            for key in _TENSORS.get(kind, [])
        }

    def _lstm(self, place: int, module: TorchObject, name: str, ours: nn.LSTM) -> dict[str, Tensor]:
        """Return the tensors of an LSTM of one layer. cuDNN stores all tensors in one vector `weight`, in PyTorch's order."""
        sizes = {"inputSize": ours.input_size, "hiddenSize": ours.hidden_size, "batchFirst": True}
        self._check(place, name, module, sizes, {})
        shapes = {key: parameter.shape for key, parameter in ours.named_parameters()}
        order = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        flat = self._tensor(place, name, module, "weight", (sum(shape.numel() for shape in shapes.values()),))
        pieces = flat.split([shapes[key].numel() for key in order])
        return {f"{name}.{key}": piece.reshape(shapes[key]).clone() for key, piece in zip(order, pieces, strict=True)}

    def _check(self, place: int, name: str, module: TorchObject, expected: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        """Raise DataError if fields of a module differ from `expected`; usual: defaults for fields that the module lacks."""
        for key, value in expected.items():
            found = _plain(module.fields.get(key, usual.get(key)))
            if found != value:
                raise self._error(place, name, f"has {key} = {found!r:.200}, expected {value}")

    def _tensor(self, place: int, name: str, module: TorchObject, key: str, shape: tuple[int, ...]) -> Tensor:
        tensor = module.fields.get(key)
        if not isinstance(tensor, torch7.Tensor) or tensor.size != shape:
            found = f"shape {tensor.size}" if isinstance(tensor, torch7.Tensor) else f"{tensor!r:.200}"
            raise self._error(place, f"{name}.{key}", f"has {found}, expected shape {shape}")
        if tensor.storage is None or np.prod(shape) > len(tensor.storage.array):
            raise self._error(place, f"{name}.{key}", "is a view that repeats elements; expected distinct weights")
        array = np.array(tensor.array(), np.float32, order="C")
        if not np.isfinite(array).all():
            raise self._error(place, f"{name}.{key}", "holds values that are not finite (NaN or infinity)")
        return torch.from_numpy(array)

    def weight_shape(self, data: Table) -> tuple[int, ...]:
        """Return the shape of the weight of a node's module; for a residual block, of the last module in the block's branch."""
        module = self.module(data)
        if self.kind(data) == RESIDUAL:
            for _ in range(2):  # first the ConcatTable, then the branch inside it
                module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")), module)
            module = next(iter(self._list(module.fields, "modules", TorchObject, "a residual")[::-1]), module)
        weight = module.fields.get("weight")
        if not isinstance(weight, torch7.Tensor) or not weight.size:
            raise self.wrong(data, "has no weight")
        return weight.size

    def module(self, data: Table) -> TorchObject:
        """Return a node's module; an empty object for the image node and the output node."""
        module = data.get("module")
        return module if isinstance(module, TorchObject) else TorchObject("nothing")

    def _place(self, data: Table) -> int:
        return self.places.get(id(self.module(data)), 0)

    def _member(self, table: Table, key: str, kind: type[_T], what: str) -> _T:
        value = table.get(key)
        if not isinstance(value, kind):
            raise DataError(f"{self.path}: {what} has {value!r:.200} as {key}, expected a {kind.__name__}.")
        return value

    def _list(self, table: Table, key: str, kind: type[_T], what: str) -> list[_T]:
        found = self._member(table, key, Table, what)
        if len(found) > _LARGEST:
            raise DataError(f"{self.path}: {what} has {len(found)} {key}, far more than in any published network.")
        values = found.list()
        if not all(isinstance(value, kind) for value in values):
            raise DataError(f"{self.path}: the list of {key} of {what} holds values that are not of type {kind.__name__}.")
        return values

    def names(self, nodes: list[Table]) -> str:
        """Return the class names of the first 40 nodes, for messages."""
        return ", ".join(_text(self.module(data)) for data in nodes[:40])

    def wrong(self, data: Table, text: str) -> DataError:
        """Return an error about a node; its message is the name of the node's module, followed by `text`."""
        return self._error(self._place(data), _text(self.module(data)), text)

    def _error(self, place: int, name: str, text: str) -> DataError:
        return DataError(f"{self.path}: {f'module {place}' if place else 'a module'} ({name}) {text}.")


def with_tensors(network: _Net, tensors: dict[str, Tensor]) -> _Net:
    """Fill a network that was built on the device `meta` with `tensors`, and return the network in evaluation mode.

    Tensors of the network that are missing in `tensors` become 0.
    """
    rest = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in network.state_dict().items() if name not in tensors}
    network.load_state_dict(rest | tensors, assign=True)
    return network.eval()


def _kind(module: TorchObject) -> str:
    return module.class_name.rpartition(".")[2]


def _plain(value: Any) -> Any:
    """Return a short LongStorage or list as a tuple, and any other value unchanged."""
    if isinstance(value, Storage) and len(value.array) <= _LONGEST:
        return tuple(value.array.tolist())
    if isinstance(value, Table) and len(value) <= _LONGEST:
        return tuple(_plain(entry) if isinstance(entry, Table) else entry for entry in value.list())
    return value


def _text(module: TorchObject) -> str:
    """Return a class name for messages: shortened, and with control characters escaped."""
    return module.class_name[:60].encode("unicode_escape").decode()
