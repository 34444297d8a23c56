"""Write a network as an ONNX graph, for runtimes other than PyTorch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet

OPSET = 18


class _LastStack(nn.Module):
    """A network whose only output is the heatmaps of the last stack."""

    def __init__(self, network: HourglassNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[-1]


def write_onnx(path: Path, network: HourglassNet, description: Description) -> None:
    """Write the network as an ONNX graph that maps any number of images to the last stack's heatmaps."""
    images = {"images": (3, description.resolution, description.resolution)}
    write_graph(path, _LastStack(network), images, ["heatmaps"], description.joints)


def write_graph(
    path: Path, module: nn.Module, inputs: Mapping[str, tuple[int, ...]], outputs: list[str], joints: Sequence[str]
) -> None:
    """Write a module as an ONNX graph with one input (N, ...), for any N, and with the output tensors named in `outputs`.

    inputs: name of the module's argument -> shape of the argument without N. The graph's metadata has the joints' names under
    the key `joints`, separated by commas.
    """
    ((name, shape),) = inputs.items()
    example = torch.zeros(2, *shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the warnings concern developers of the exporter, not users
        # Tracing takes 1.5 s for the forecasting network of the tests; the newer exporter (dynamo=True) takes 15 s, and stores
        # the network's weights once for each forecast step.
        torch.onnx.export(
            module.eval(), (example,), str(path), input_names=[name], output_names=outputs,
            dynamic_axes={each: {0: "batch"} for each in (name, *outputs)}, opset_version=OPSET, dynamo=False, verbose=False,
        )  # fmt: skip
    _set_metadata(path, joints)


def _set_metadata(path: Path, joints: Sequence[str]) -> None:
    """Delete the exporter's notes, so that the file's bytes do not depend on source paths, and store the joints' names."""
    import onnx

    model = onnx.load(str(path))
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, {"joints": ",".join(joints)})
    path.write_bytes(model.SerializeToString(deterministic=True))
