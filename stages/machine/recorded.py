"""Work on CUDA that is launched as one: a graph of what a call launches, recorded once and replayed.

An iteration of hg-256 is some two thousand small launches; with few images each ends sooner than the next can be launched.
"""

import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

WORTH_COMPILING = 1_000_000  # images: measured on an H100, compiling takes 50 s and saves 150 microseconds an image
WARM_UP = 3  # calls before the one that is recorded; libraries choose their kernels in them


def is_compiled(chosen: str, images: int, device: torch.device, processes: int) -> bool:
    """Whether the network of a training of so many images is compiled; chosen: [workspace] compile."""
    if chosen != "auto":
        return chosen == "yes"
    able = device.type == "cuda" and processes == 1 and find_spec("triton") and (shutil.which("cc") or shutil.which("gcc"))
    return bool(able) and images >= WORTH_COMPILING


class Recorded:
    """A function of tensors that is recorded at its fourth call, and replayed from then on: the same kernels, the same results.

    `work` takes tensors by name, on the device, of the same shapes each time, and returns one tensor. It changes tensors in
    place (weights, say), reads nothing else that changes between calls, and never waits for the device. Not thread-safe.
    """

    def __init__(self, work: Callable[[dict[str, Tensor]], Tensor], device: torch.device) -> None:
        self.work, self.device, self.calls = work, device, 0
        self.stream, self.graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        self.inputs: dict[str, Tensor] = {}
        self.result = torch.empty(0)

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """Do the work; inputs may be on the CPU, best in pinned memory."""
        self.calls += 1
        if self.calls == 1:
            self.inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        else:
            for name, tensor in inputs.items():
                self.inputs[name].copy_(tensor, non_blocking=True)
        if self.calls <= WARM_UP:
            return self._beside()
        if self.calls == WARM_UP + 1:
            # Other threads of this process, such as that which pins memory, may go on calling CUDA.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.result = self.work(self.inputs)
        self.graph.replay()
        return self.result.clone()

    def _beside(self) -> Tensor:
        """Do the work at once, in the stream that is recorded later, as torch asks for."""
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = self.work(self.inputs)
        here.wait_stream(self.stream)
        return result
