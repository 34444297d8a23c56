"""Run networks on crops in one of the runtimes PyTorch, onnxruntime and OpenVINO.

A running network (`Run`) is a function from images (N, 3, R, R), float32 RGB in [0, 1], to the last stack's heatmaps
(N, J, h, w), float32, on the device that computed them. On CUDA the function may return before the heatmaps are computed.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from datasets.errors import DataError
from stages.machine.cuda_graphs import CapturedByShape
from stages.network.blocks import Residual
from stages.network.checkpoints import Description
from stages.network.hourglass import Head, HourglassNet, Stem
from stages.settings.sections import RUNTIMES

Run = Callable[[Tensor], Tensor]
# Largest allowed distance between neighbouring numbers of a dtype near an activation's mean, in standard deviations.
COARSEST = 0.25


def start(runtime: str, network: HourglassNet, about: Description, device: torch.device, compute: torch.dtype,
          onnx: Path | None = None) -> Run:  # fmt: skip
    """Return a function that runs the network in one of the `RUNTIMES`.

    compute: see `predict.compute_type`. OpenVINO computes on the CPU. onnxruntime computes in float32, and on CUDA only if its
    installed build supports CUDA. onnx: the network's ONNX file, if it exists already.
    Raises DataError for a runtime that is not installed, and for a damaged ONNX file.
    """
    if runtime not in RUNTIMES:
        raise DataError(f"runtime = {runtime} is unknown; use one of {', '.join(RUNTIMES)}.")
    if runtime == "torch":
        return in_torch(network, device, compute)
    in_other = in_onnxruntime if runtime == "onnxruntime" else in_openvino
    try:
        return in_other(_graph(network, about, onnx), device, fine_enough(network, compute))
    except ImportError:
        raise DataError(f"{runtime} is not installed; run: pip install {runtime}, or use runtime = torch.") from None
    except Exception as error:  # each runtime raises exceptions of its own classes
        if not onnx:
            raise
        why = " ".join(str(error).split())[-200:]
        raise DataError(f"{onnx} cannot be read by {runtime} ({why}); export it again, or delete it.") from None


def with_flip(run: Run, mirrored: list[int]) -> Run:
    """Return a function that averages the heatmaps of an image and of its mirror image (flip test).

    The heatmaps of the mirror image are mirrored back, with left and right joints exchanged. mirrored: for each
    channel, the channel with which it is exchanged. Both images go through the network in one batch.
    """

    def run_both(images: Tensor) -> Tensor:
        plain, back = run(torch.cat([images, images.flip(-1)])).chunk(2)
        channels = back.flip(-1).unbind(1)
        # With `mirrored` as an index, the CPU would wait until the list is copied to a CUDA device.
        return (plain + torch.stack([channels[i] for i in mirrored], dim=1)) / 2

    return run_both


def in_torch(network: nn.Module, device: torch.device, compute: torch.dtype) -> Run:
    """Return a function that runs the network in PyTorch.

    The function uses a copy of the network, with normalisation folded into convolutions and weights of dtype `compute`. A
    network for which `compute` is too coarse is computed in float32, with a warning. On CUDA the kernels are captured as a CUDA
    graph, because launching them one by one takes longer than computing them.
    """
    compute = fine_enough(network, compute)
    fast = folded(network).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in fast.modules():
        if isinstance(module, nn.Conv2d) and compute != torch.float32:
            module.to(compute)

    def run(images: Tensor) -> Tensor:
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        # The contexts surround only the call of the network: the caller's code must not run in inference mode or with autocast.
        with torch.inference_mode(), torch.autocast(device.type, compute, enabled=compute != torch.float32):
            return fast(images)[-1].float()

    return CapturedByShape(run, device) if device.type == "cuda" else run


def fine_enough(network: nn.Module, compute: torch.dtype) -> torch.dtype:
    """Return `compute`, or float32 with a warning if `compute` would round away much of the network's activations.

    Residual blocks add up activations, and the next batch normalisation removes their mean. So the mean can grow in a
    training without any change of the loss. Measured PCKh@0.5 of a network whose means were 1,000 standard deviations: 72.2 %
    in float32 and 63.4 % in bfloat16. After its normalisation statistics were computed again in bfloat16, the network reached
    70.6 % in float32 and 68.1 % in bfloat16. In each normalisation layer, the means of the channels are measured in standard
    deviations. `compute` is too coarse if, near the median of a layer's means, neighbouring numbers of `compute` are more than
    COARSEST standard deviations apart. The median is used, because a few almost constant channels do no harm.
    """
    if compute == torch.float32:
        return compute
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            distance = layer.running_mean.abs() / (layer.running_var + layer.eps).sqrt()
            if distance.median().item() * torch.finfo(compute).eps > COARSEST:
                kind = str(compute).removeprefix("torch.")
                warnings.warn(
                    f"{kind} is too coarse for this network, whose activations before normalisation lie "
                    f"{distance.median().item():.0f} standard deviations from zero; it is computed in float32 instead. Such "
                    "activations come from training with a high learning_rate; train with a lower one.",
                    stacklevel=2,
                )
                return torch.float32
    return compute


def folded(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode in which each batch normalisation after a convolution is folded into the convolution."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, Stem):
            _fold(module, "conv", "norm")
        elif isinstance(module, Head):
            for i in range(len(module.layers)):
                _fold(module.layers, f"{i}.0", f"{i}.1")
        elif isinstance(module, Residual):
            _fold(module, "conv1", "norm2")
            _fold(module, "conv2" if isinstance(module.conv2, nn.Conv2d) else "conv2.1", "norm3")
    return network


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    before, after = module.get_submodule(conv), module.get_submodule(norm)
    if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
        module.set_submodule(conv, fuse_conv_bn_eval(before, after))
        module.set_submodule(norm, nn.Identity())


def _graph(network: HourglassNet, about: Description, onnx: Path | None) -> bytes:
    if onnx:
        return onnx.read_bytes()
    from stages.network.onnx_graph import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Path(folder) / "model.onnx", network, about)
        return (Path(folder) / "model.onnx").read_bytes()


def in_onnxruntime(graph: bytes, device: torch.device, _: torch.dtype) -> Run:
    """Return a function that runs the network of an .onnx file in onnxruntime; graph: the contents of the file."""
    import onnxruntime

    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    available = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(graph, providers=[*available, "CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["heatmaps"], {"images": images.cpu().numpy()})[0])


def in_openvino(graph: bytes, _: torch.device, compute: torch.dtype) -> Run:
    """Return a function that runs the network of an .onnx file in OpenVINO; graph: the contents of the file."""
    import openvino

    core = openvino.Core()
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if compute == torch.bfloat16 else "f32"}
    model = core.compile_model(core.read_model(graph), "CPU", hint)
    return lambda images: torch.from_numpy(model(images.cpu().numpy())["heatmaps"].copy())
