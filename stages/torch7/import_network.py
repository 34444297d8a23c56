"""Convert a published Torch7 hourglass to a HourglassNet.

The network's options are derived from the modules between the image and the last heatmaps. Then every node of the file's graph
is compared with the graph of a network with these options.
"""

import re
from pathlib import Path

import torch

from datasets.errors import DataError
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7.graph import (
    CONCATENATE,
    CONV,
    IDENTITY,
    LINEAR,
    NORM,
    POOL,
    PUBLISHED_RESOLUTION,
    RELU,
    RESIDUAL,
    SIGMOID,
    SUM,
    UPSAMPLE,
    layers,
)
from stages.torch7.match import Graph, with_tensors
from stages.torch7.t7 import Table

# The path through the graph is written with one letter per node; the pattern _NETWORK matches the path of an hourglass network.
_LETTERS = {
    IDENTITY: "I", CONV: "C", NORM: "N", RELU: "R", RESIDUAL: "S", POOL: "P", UPSAMPLE: "U", SUM: "A", SIGMOID: "O",
}  # fmt: skip
_HOURGLASS = r"(?:PS+)+(?:UA(?:S+UA)*|U(?:S+U)*)"
_NETWORK = re.compile(
    rf"ICNRSP(?P<stem>S*)(?P<stacks>{_HOURGLASS}(?:(?:A|S*(?:CNR)+CO?CA){_HOURGLASS})*)(?P<residuals>S*)(?P<layers>(?:CNR)+)C"
    r"(?P<sigmoid>O?)"
)


def read_hourglass(path: Path) -> HourglassNet:
    """Return the network in a .t7 file, in evaluation mode; see `read_with_resolution`."""
    return read_with_resolution(path)[0]


def read_with_resolution(path: Path) -> tuple[HourglassNet, int]:
    """Return the network in a .t7 file, in evaluation mode, and the side of its input in px.

    The file's classes may be nn.* or cudnn.*. A file without the field `resolution`, which `export_network.as_torch7` writes,
    has PUBLISHED_RESOLUTION.

    If the file also holds a converter behind the hourglass, like skeleton2d3d's hg-256-res-64, only the hourglass is read.
    Raises DataError for a damaged file, and for a topology or shapes that no hourglass has. The message contains the module's
    number in the file's module list (from 1), its name in HourglassNet, the found value and the expected value.
    """
    graph = HourglassGraph.read(path)
    part = graph.outputs[:1] if graph.holds(LINEAR) else None
    options, joints = graph.options(graph.path_to((part or graph.outputs)[-1]))
    with torch.device("meta"):
        network = HourglassNet(options, joints)
    expected, outputs = layers(network)
    found = with_tensors(network, graph.tensors(expected, graph.match(expected, outputs, part), network))
    return found, graph.resolution()


class HourglassGraph(Graph):
    """The graph of a file with an hourglass; `options` derives the hourglass's settings from the graph."""

    def options(self, nodes: list[Table]) -> tuple[Network, int]:
        """Return the options of the network and its number of joints, both derived from the nodes of its graph.

        nodes: the nodes on the path from the input to the last heatmaps, which leads through the lower branches of all stacks.
        Raises DataError for a path that no published hourglass has.
        """
        for data in nodes:
            if self.kind(data) not in _LETTERS:
                raise self.wrong(data, "has a class that is in no published hourglass")
        letters = "".join(_LETTERS[self.kind(data)] for data in nodes)
        found = _NETWORK.fullmatch(letters)
        if not found:
            raise DataError(
                f"{self.path}: the modules on the path from the image to the heatmaps are {self.names(nodes)} ...; no "
                "published hourglass has this path."
            )
        stacks = list(re.finditer(_HOURGLASS, found["stacks"]))
        begins = [found.start("stacks") + stack.start() for stack in stacks]
        first, fork = stacks[0][0], nodes[begins[0] - 1]
        runs = [len(run) for run in re.findall("S+", first)]
        depth = first.count("P")
        down, up = runs[0] if depth > 1 else 1, runs[-1] if depth > 1 else 1
        bottom = runs[depth - 1] - down - up
        above = self._above(nodes[begins[0] + len(first) - 1], fork) if "A" in first else down
        widths = {id(data): self.weight_shape(data)[0] for data in nodes if self.kind(data) in (CONV, RESIDUAL)}
        stem = [widths[id(data)] for data in nodes[1 : begins[0]] if id(data) in widths]
        options = {
            "stem": stem[:-1], "features": widths[id(nodes[begins[0] + 1])],
            "outputs": widths[id(nodes[begins[0] + first.index("U") - up])],
            "stacks": len(stacks), "depth": [stack[0].count("P") for stack in stacks],
            "residuals": [above, down, bottom, up], "upper": "A" in first,
            "head_residuals": len(found["residuals"]), "head_layers": len(found["layers"]) // 3,
            "heatmaps": "sigmoid" if found["sigmoid"] else "linear",
            "join": self._join(nodes[begins[1] - 1]) if len(stacks) > 1 else "remap" if found["residuals"] else "sum",
        }  # fmt: skip
        try:
            return Network(**options), widths[id(nodes[found.start("sigmoid") - 1])]
        except DataError as error:
            raise DataError(f"{self.path} holds an hourglass that is not supported: {error}") from None

    def resolution(self) -> int:
        """Return the side of the network's input in px; see `read_with_resolution`."""
        side = self.fields.get("resolution", PUBLISHED_RESOLUTION)
        if not isinstance(side, float | int) or not 32 <= side <= 2048 or side % 4:
            raise DataError(f"{self.path}: resolution = {side!r:.100}, expected a multiple of 4 px from 32 to 2048.")
        return int(side)

    def _above(self, total: Table, fork: Table) -> int:
        """Return the number of residual blocks in a level's upper branch, between the node `fork` and the sum node `total`."""
        data, seen = self.inputs(total)[0], set[Table]()
        while data is not fork and data not in seen and (inputs := self.inputs(data)):
            seen.add(data)
            data = inputs[0]
        return sum(self.kind(data) == RESIDUAL for data in seen)

    def _join(self, total: Table) -> str:
        """Return the option `join`: how the second hourglass's input is computed; total: the sum node that computes it."""
        inputs = self.inputs(total)
        if any(self.kind(data) == CONCATENATE for data in self.inputs(inputs[0])):
            return "concatenate"
        return "sum" if len(inputs) == 2 else "remap"
