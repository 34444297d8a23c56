"""Capture the kernels of a call once as a CUDA graph, and replay them with a single launch.

An iteration of hg-256 launches about two thousand kernels. With few images per iteration, each kernel ends before the next can
be launched, so that the device waits for the launches.
"""

import gc
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

# Number of training images from which the network is compiled; this is above the break-even: on an H100, compiling takes 50 s
# and saves 150 us per image.
WORTH_COMPILING = 1_000_000
WARM_UP = 3  # number of calls before the capture; during these calls, libraries choose their kernels
MOST_SHAPES = 4  # largest number of input shapes that a CapturedByShape captures: each graph occupies device memory


def is_compiled(chosen: str, images: int, device: torch.device, processes: int) -> bool:
    """Return whether to compile the network for a training that sees `images` images; chosen: value of [workspace] compile."""
    if chosen != "auto":
        return chosen == "yes"
    able = device.type == "cuda" and processes == 1 and find_spec("triton") and (shutil.which("cc") or shutil.which("gcc"))
    return bool(able) and images >= WORTH_COMPILING


class Captured:
    """A function of tensors that is captured at its fourth call; later calls replay the same kernels, with the same results.

    The argument of `work` is a dictionary of tensors on the device, with constant shapes; the result of `work` is one tensor.
    `work` may change tensors in place (such as weights). It must not read other data that changes between calls, and it must
    not wait for the device. Objects of this class are not thread-safe.
    """

    def __init__(self, work: Callable[[dict[str, Tensor]], Tensor], device: torch.device) -> None:
        self.work: Callable[[dict[str, Tensor]], Tensor] | None = work
        self.device, self.calls = device, 0
        self.stream, self.graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        self.inputs: dict[str, Tensor] = {}
        self.result = torch.empty(0)

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the result of `work`. The inputs may be on the CPU, preferably in pinned memory."""
        self.calls += 1
        if self.calls == 1:
            self.inputs = {name: tensor.to(self.device, copy=True) for name, tensor in inputs.items()}
        else:
            for name, tensor in inputs.items():
                self.inputs[name].copy_(tensor, non_blocking=True)
        if self.work and self.calls <= WARM_UP:
            return self._warm_up(self.work)
        if self.work:
            # thread_local: other threads, such as the one that pins memory, may call CUDA during the capture.
            with (
                _no_garbage_collection(),
                torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self.result = self.work(self.inputs)
            # `work` may belong to the object that owns this one. Without the reference back, the memory of the graph is freed
            # as soon as the owner is no longer used.
            self.work = None
        self.graph.replay()
        return self.result.clone()

    def _warm_up(self, work: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """Run `work` without capturing it, and return its result.

        Torch requires that these calls run on the CUDA stream on which `work` is captured later.
        """
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True")  # optimizers warn of steps that are not captured
            result = work(self.inputs)
        here.wait_stream(self.stream)
        return result


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the block, and not within it: freeing another CUDA graph would make a capture invalid."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class CapturedByShape:
    """A function of one tensor that is captured once for each of the first MOST_SHAPES shapes of its input; see `Captured`.

    Inputs of further shapes are computed without a CUDA graph. Thread-safe.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.work, self.device, self.lock = work, device, threading.Lock()
        self.captured: dict[torch.Size, Captured] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return `work(tensor)`; the dtype must be the same at every call."""
        work = self.work
        with self.lock:
            if tensor.shape not in self.captured and len(self.captured) < MOST_SHAPES:
                self.captured[tensor.shape] = Captured(lambda inputs: work(inputs["input"]), self.device)
            captured = self.captured.get(tensor.shape)
            return captured({"input": tensor}) if captured else work(tensor)
