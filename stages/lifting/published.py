"""Read and write the converter in the Torch7 files of the published programs skeleton2d3d and image-play.

A file contains the converter alone (res-64), or a larger network, whose converter gets the heatmaps that the network computes:
hg-256-res-64 of skeleton2d3d (an hourglass, a converter, a projection), or hg-256-res-clstm-res-64 of image-play. The five
outputs of a larger network are heatmaps, repos, trans, focal and the projected joints.
"""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datasets.errors import DataError
from stages.importing.known_models import KnownModel
from stages.importing.precomputed import network_file
from stages.lifting import checkpoints
from stages.lifting.bodies import JOINTS
from stages.lifting.network import HALVINGS, ConverterNet, Units
from stages.network.blocks import Residual
from stages.network.checkpoints import is_safetensors
from stages.network.hourglass import HourglassNet
from stages.settings.lifting import Converter
from stages.torch7.export_network import as_gmodule
from stages.torch7.graph import (
    ADD_CONSTANT,
    CONCATENATE,
    CONV,
    IDENTITY,
    LINEAR,
    NARROW,
    NORM,
    POOL,
    RELU,
    RESIDUAL,
    SUM,
    VIEW,
    Builder,
    HourglassBuilder,
    Layer,
)
from stages.torch7.import_network import HourglassGraph
from stages.torch7.match import Graph, with_tensors
from stages.torch7.t7 import Table, TorchObject

OUTPUTS = 5  # number of outputs of a network that contains a converter: heatmaps, repos, trans, focal, projected joints
_KINDS = {
    nn.Conv2d: CONV, nn.BatchNorm2d: NORM, nn.ReLU: RELU, nn.MaxPool2d: POOL, Residual: RESIDUAL, nn.Flatten: VIEW,
    nn.Linear: LINEAR,
}  # fmt: skip
_LARGEST = 4096  # largest accepted number of joints, of features, and of px per side of the heatmaps


class Heads(NamedTuple):
    """The indices of a converter's last layers in the list `layers` of a `Builder`."""

    repos: int
    trans: int
    focal: int
    depth_constant: int  # the layer that adds the offset of the depth
    focal_constant: int  # the layer that adds the offset of the focal length


def read_converter(path: Path) -> ConverterNet:
    """Return the converter, in evaluation mode, from a .t7 file in which skeleton2d3d saved res-64 or hg-256-res-64.

    Raises DataError for a damaged file, and if its modules or their shapes are not those of a converter; see `read_hourglass`.
    """
    graph = HourglassGraph.read(path)
    if len(graph.outputs) == OUTPUTS and graph.holds(LINEAR):
        return _read_combined(graph)[1]
    with torch.device("meta"):
        network = sized_converter(graph, graph.outputs[-1])
    build = Builder()
    heads = add_converter(build, build.add(IDENTITY), network)
    nodes = graph.match(build.layers, heads[:3])
    return with_tensors(network, converter_tensors(graph, build.layers, nodes, heads, network))


def read_combined(path: Path) -> tuple[HourglassNet, ConverterNet]:
    """Return the hourglass and the converter from a file of the network hg-256-res-64. Raises DataError for any other file."""
    return _read_combined(HourglassGraph.read(path))


def _read_combined(graph: HourglassGraph) -> tuple[HourglassNet, ConverterNet]:
    if len(graph.outputs) != OUTPUTS:
        raise DataError(
            f"{graph.path} has {len(graph.outputs)} outputs, expected {OUTPUTS}: heatmaps, repos, trans, focal and projected "
            "joints."
        )
    options, joints = graph.options(graph.path_to(graph.outputs[0]))
    with torch.device("meta"):
        both = nn.ModuleDict(
            {"hourglass": HourglassNet(options, joints), "converter": sized_converter(graph, graph.outputs[3])}
        )
    hourglass, converter = both.values()
    assert isinstance(hourglass, HourglassNet) and isinstance(converter, ConverterNet)
    build = HourglassBuilder(hourglass, "hourglass.")
    *_, heatmaps = build.network_from_image()
    heads = add_converter(build, heatmaps, converter, "converter.")
    if converter.joints != joints:
        raise DataError(f"{graph.path}: the converter has {converter.joints} joints, but the hourglass has {joints}.")
    nodes = graph.match(build.layers, [heatmaps, *heads[:3], add_projection(build, heads, converter)])
    with_tensors(both, converter_tensors(graph, build.layers, nodes, heads, both, "converter."))
    return hourglass, converter


def sized_converter(graph: Graph, focal: Table) -> ConverterNet:
    """Return a new converter that has as many joints, features and px per heatmap side as the converter in a file.

    focal: the node that computes the focal length. The weights and `Units` are not read. Raises DataError for sizes that a
    converter cannot have.
    """
    nodes = graph.path_to(focal)
    convolutions, linears = ([data for data in nodes if graph.kind(data) == kind] for kind in (CONV, LINEAR))
    if not convolutions or not linears:
        raise DataError(f"{graph.path}: {graph.names(nodes)} precede the focal length; no converter has these modules.")
    features, joints, *_ = (*graph.weight_shape(convolutions[-1]), 0)
    side = math.isqrt(graph.weight_shape(linears[0])[-1] // max(features, 1)) << HALVINGS
    try:
        if not all(0 < size <= _LARGEST for size in (features, joints, side)):
            raise DataError(f"it has {joints} joints, {features} features and heatmaps of {side} px")
        return ConverterNet(joints, side, Converter(features=features, cameras="published"))
    except DataError as error:
        raise DataError(f"{graph.path} holds a converter that is not supported: {error}") from None


def add_converter(build: Builder, heatmaps: int, network: ConverterNet, prefix: str = "") -> Heads:
    """Add a converter's layers after the layer `heatmaps`; return the `Heads` of the converter.

    prefix: start of the names of the converter's modules.
    """
    x = heatmaps
    for i, module in enumerate(network.trunk):
        kind, name = _KINDS[type(module)], f"{prefix}trunk.{i}"
        x = build.add(kind, x, size=(-1,), numInputDims=3) if kind == VIEW else build.add(kind, x, name=name, cudnn=True)

    def head(name: str) -> int:
        y = build.add(RELU, build.add(LINEAR, x, name=f"{prefix}{name}.0"))
        return build.add(LINEAR, y, name=f"{prefix}{name}.2")

    repos = build.add(VIEW, head("repos"), size=(-1, network.joints, 3), numInputDims=None)
    trans = head("trans")
    xy = build.add(NARROW, trans, dimension=2, index=1, length=2)
    depth = build.add(ADD_CONSTANT, build.add(NARROW, trans, dimension=2, index=3, length=1))
    trans = build.add(CONCATENATE, xy, depth, dimension=2, nInputDims=None)
    focal = build.add(ADD_CONSTANT, head("focal"))
    return Heads(repos, trans, focal, depth, focal)


def add_projection(build: Builder, heads: Heads, network: ConverterNet) -> int:
    """Add the layers that project a converter's 3D joints into the image; return the index of the last layer."""
    trans = build.add("Replicate", heads.trans, nfeatures=network.joints, dim=2)
    points = build.add(SUM, heads.repos, trans)
    xy = build.add(NARROW, points, dimension=3, index=1, length=2)
    z = build.add("Replicate", build.add("Select", points, dimension=3, index=3), nfeatures=2, dim=3)
    ratio = build.add("CDivTable", xy, z)
    focal = build.add("Replicate", build.add("Select", heads.focal, dimension=2, index=1), nfeatures=network.joints, dim=2)
    scaled = build.add("CMulTable", ratio, build.add("Replicate", focal, nfeatures=2, dim=3))
    return build.add(ADD_CONSTANT, scaled, constant_scalar=network.side / 2)


def converter_tensors(
    graph: Graph, expected: list[Layer], nodes: list[Table], heads: Heads, network: nn.Module, prefix: str = ""
) -> dict[str, Tensor]:
    """Return all tensors of a network; the names of the tensors of its converter begin with `prefix`.

    expected: the layers of the network; nodes: for each layer, the node of `graph`. The constants that the file's network adds
    to the depth and to the focal length become the offsets of `Units`.
    """
    found = graph.tensors(expected, nodes, network)
    joints = len(found[f"{prefix}repos.2.bias"]) // 3
    units = Units(joints, side=1)
    units.offset[-2:] = torch.tensor(
        [graph.number(nodes[place], "constant_scalar") for place in (heads.depth_constant, heads.focal_constant)]
    )
    return found | {f"{prefix}units.{name}": tensor for name, tensor in units.state_dict().items()}


def obstacle(network: ConverterNet) -> str:
    """Return the reason why a converter cannot be written as a Torch7 file; "" if it can."""
    return "" if network.options.heatmaps == "raw" else "the published converter does not normalise its heatmaps"


def as_torch7(network: ConverterNet) -> TorchObject:
    """Return a converter as an nn.gModule with the modules of res-64: cudnn classes, GPU tensors; `obstacle` must return "".

    The published modules add constants only to the depth and to the focal length. All other units and offsets are folded into
    the weights and biases of the last layers.
    """
    plain = copy.deepcopy(network)
    unit, offset = plain.units.unit, plain.units.offset.clone()
    constants = offset[-2:].tolist()
    offset[-2:] = 0
    with torch.no_grad():
        for head, part in ((plain.repos, slice(-4)), (plain.trans, slice(-4, -1)), (plain.focal, slice(-1, None))):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(unit[part, None])
            last.bias.mul_(unit[part]).add_(offset[part])
    build = Builder()
    heads = add_converter(build, build.add(IDENTITY), plain)
    for place, constant in zip((heads.depth_constant, heads.focal_constant), constants, strict=True):
        layer = build.layers[place]
        build.layers[place] = Layer(layer.kind, layer.inputs, fields={"constant_scalar": constant})
    return as_gmodule(plain, build.layers, list(heads[:3]), cudnn=True)


def convert(source: Path, folder: Path, known: KnownModel | None = None) -> dict[str, Any]:
    """Write a converter for the joints of Penn Action to `folder`/best.safetensors; return the options of the network.

    source: a .safetensors file of this workspace, a .t7 file as for `read_converter`, or the published archive of skeleton2d3d;
    known: the published network that `source` contains. Raises DataError for any other file, and for a converter whose
    joints are not those of Penn Action.
    """
    metrics: dict[str, int | float] = {}
    with network_file(source, "converter", folder, known) as file:
        if is_safetensors(file):
            network, about = checkpoints.load(file)
            metrics = about.metrics
            if not isinstance(network, ConverterNet):
                raise DataError(f"{file} is a lifter; give a converter: the best.safetensors of a TrainConverter.")
            fits = about.joints == JOINTS
        else:
            network = read_converter(file)
            fits = network.joints == len(JOINTS)
    if not fits:
        raise DataError(
            f"{source} holds a converter for other joints than the {len(JOINTS)} of Penn Action; give a converter for these."
        )
    checkpoints.save(folder / "best.safetensors", network, JOINTS, metrics)
    return {"options": network.options.significant()}
