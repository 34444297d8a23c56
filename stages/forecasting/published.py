"""Read image-play's forecasting networks from Torch7 files: hg-256-res-clstm, and hg-256-res-clstm-res-64 with a converter.

Around each LSTM, the file's network has modules that turn each pixel into a sequence, and merge the steps into the batch
dimension.
"""

from pathlib import Path
from typing import Any

import torch

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.forecasting.checkpoints import load_forecaster, save_forecaster
from stages.forecasting.network import ForecastNet
from stages.importing.known_models import KnownModel
from stages.importing.precomputed import network_file
from stages.lifting.published import OUTPUTS, add_converter, add_projection, converter_tensors, sized_converter
from stages.network.checkpoints import is_safetensors
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import STEPS, Forecaster
from stages.torch7.graph import LSTM, SUM, VIEW, HourglassBuilder
from stages.torch7.import_network import HourglassGraph
from stages.torch7.match import with_tensors
from stages.torch7.t7 import Table

# The modules around an LSTM, in the order in which data passes them. The encoder's feature also bypasses the LSTM:
# a Replicate module repeats it for each step, and SUM adds it to the LSTM's output.
_AROUND = ["Transpose", VIEW, VIEW, "Padding", LSTM, "Contiguous", VIEW, "Transpose", SUM, VIEW]
_SPLIT = [VIEW, "SplitTable"]  # the modules before an output, which separate the steps from the batch dimension


def read_forecaster(path: Path) -> tuple[ForecastNet, int]:
    """Return the forecasting network of a .t7 file, in evaluation mode, and the side in px of its input images.

    The network has a converter if the file contains a converter. Raises DataError for a damaged file, and for modules or layer
    shapes that differ from the published network's; see `read_hourglass`.
    """
    graph = HourglassGraph.read(path)
    outputs = graph.outputs
    if not graph.holds(LSTM) or len(outputs) not in (1, OUTPUTS):
        raise DataError(f"{path} is no forecasting network of image-play: hg-256-res-clstm, or hg-256-res-clstm-res-64.")
    nodes = _without_steps(graph, graph.path_to(outputs[0]))
    options, joints = graph.options(nodes)
    if options.stacks != 1:
        raise DataError(f"{path} contains a forecasting network of {options.stacks} hourglasses; expected one hourglass.")
    _, side = _before_split(graph, outputs[0])
    with torch.device("meta"):
        converter = sized_converter(graph, _before_split(graph, outputs[3])[0]) if len(outputs) == OUTPUTS else None
        forecaster = Forecaster(converter="none" if converter is None else "trained")
        network = ForecastNet(HourglassNet(options, joints), forecaster, converter)
    build = _ForecasterBuilder(network.hourglass, side)
    (heatmaps,) = build.network_from_image()
    ends = [build.split(heatmaps, joints, side, side)]
    if converter is None:
        return with_tensors(network, graph.tensors(build.layers, graph.match(build.layers, ends), network)), 4 * side
    if (converter.joints, converter.side) != (joints, side):
        raise DataError(
            f"{path}: the converter takes heatmaps of {converter.joints} joints and {converter.side} px, but the hourglass "
            f"returns heatmaps of {joints} joints and {side} px."
        )
    heads = add_converter(build, heatmaps, converter, "converter.")
    projected = add_projection(build, heads, converter)
    ends += [build.split(heads.repos, joints, 3), build.split(heads.trans, 3), build.split(heads.focal, 1)]
    ends.append(build.split(projected, joints, 2))
    matched = graph.match(build.layers, ends)
    tensors = converter_tensors(graph, build.layers, matched, heads, network, "converter.")
    return with_tensors(network, tensors), 4 * side


class _ForecasterBuilder(HourglassBuilder):
    """Builds the layers of a forecasting network; side: side of the heatmaps in px."""

    def __init__(self, network: HourglassNet, side: int) -> None:
        super().__init__(network, "halves.network.")
        self.width, self.edges = network.options.outputs, 0
        depth = network.options.depth[-1]
        self.sides = [side >> level for level in range(depth) if network.options.upper] + [side >> depth]

    def edge(self, x: int) -> int:
        """Add the recurrent layer of the next edge; return the index of the last added layer.

        Edges are the skip edges, outermost first, then the bottleneck. x: index of the layer that computes the edge's feature.
        """
        c, side, name = self.width, self.sides[self.edges], f"layers.{self.edges}.lstm"
        self.edges += 1
        repeated = self.add("Replicate", x, nfeatures=STEPS, dim=2)
        y = self.add("Transpose", x, permutations=((2, 3), (3, 4)))
        y = self.add(VIEW, self.add(VIEW, y, size=(-1, c)), size=(-1, 1, c))
        y = self.add("Padding", y, dim=1, pad=STEPS - 1, nInputDim=1)
        y = self.add("Contiguous", self.add(LSTM, y, name=name))
        y = self.add(VIEW, y, size=(-1, side, side, STEPS, c))
        y = self.add("Transpose", y, permutations=((3, 4), (2, 3), (4, 5), (3, 4)))
        return self.add(VIEW, self.add(SUM, repeated, y), size=(-1, c, side, side))

    def split(self, x: int, *size: int) -> int:
        """Add the layers that separate an output's steps from its batch dimension; return the index of the last added layer.

        x: index of the layer that computes the output; size: shape of one step's output.
        """
        return self.add("SplitTable", self.add(VIEW, x, size=(-1, STEPS, *size)), dimension=-len(size) - 1)


def _without_steps(graph: HourglassGraph, nodes: list[Table]) -> list[Table]:
    """Return the nodes of a path that belong to the hourglass: without the modules around an LSTM or before an output."""
    kinds, kept, place = [graph.kind(data) for data in nodes], [], 0
    while place < len(nodes) and kinds[place:] != _SPLIT:
        if kinds[place : place + len(_AROUND)] == _AROUND:
            place += len(_AROUND)
        else:
            kept.append(nodes[place])
            place += 1
    return kept


def _before_split(graph: HourglassGraph, output: Table) -> tuple[Table, int]:
    """Return the node before an output's View and SplitTable, and the size of the output's last dimension.

    The batch dimension of this node's result contains all steps; View and SplitTable separate them. Raises DataError if the
    modules before the output are not a View and a SplitTable.
    """
    data = output
    for kind in reversed(_SPLIT):
        size = graph.field(data, "size")
        inputs = graph.inputs(data)
        if graph.kind(data) != kind or len(inputs) != 1:
            raise graph.wrong(data, f"precedes an output, expected {kind}")
        (data,) = inputs
    if not isinstance(size, tuple) or not size:
        raise graph.wrong(graph.inputs(output)[0], f"has size = {size!r:.200}, expected numbers")
    return data, size[-1]


def convert(source: Path, folder: Path, known: KnownModel | None = None) -> dict[str, Any]:
    """Convert a forecasting network for Penn Action to `folder`/best.safetensors; return the options of its hourglass.

    source: a .safetensors file of this workspace, a .t7 file as for `read_forecaster`, or the published archive of image-play;
    known: the published network in `source`. Raises DataError for any other file, and for a network with other joints than
    Penn Action's.
    """
    joints, metrics = PENN_ACTION.skeleton.joints, dict[str, int | float]()
    with network_file(source, "forecaster", folder, known) as file:
        if is_safetensors(file):
            network, about = load_forecaster(file)
            resolution, metrics, fits = about.resolution, about.metrics, about.joints == joints
        else:
            network, resolution = read_forecaster(file)
            fits = network.hourglass.joints == len(joints)
    if not fits:
        raise DataError(f"{source} forecasts other joints than the {len(joints)} of Penn Action; give a network for these.")
    save_forecaster(folder / "best.safetensors", network, joints, resolution, metrics)
    load_forecaster(folder / "best.safetensors")  # raises DataError if the settings do not allow the network's layer sizes
    return {"options": network.hourglass.options.significant()}
