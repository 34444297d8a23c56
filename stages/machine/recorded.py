"""Record the kernels of a call once as a CUDA graph, and replay them with a single launch.

An iteration of hg-256 launches about two thousand kernels. With few images per iteration, each kernel ends before the next can
be launched, so that the device waits for the launches.
"""

import shutil
import threading
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

# Number of training images from which the network is compiled; this is above the break-even: on an H100, compiling takes 50 s
# and saves 150 us per image.
WORTH_COMPILING = 1_000_000
WARM_UP = 3  # number of calls before the recording; during these calls, libraries choose their kernels
MOST_SHAPES = 4  # largest number of input shapes that a RecordedByShape records: each recording occupies device memory


def is_compiled(chosen: str, images: int, device: torch.device, processes: int) -> bool:
    """Return whether to compile the network for a training that sees `images` images; chosen: value of [workspace] compile."""
    if chosen != "auto":
        return chosen == "yes"
    able = device.type == "cuda" and processes == 1 and find_spec("triton") and (shutil.which("cc") or shutil.which("gcc"))
    return bool(able) and images >= WORTH_COMPILING


class Recorded:
    """A function of tensors that is recorded at its fourth call; later calls replay the same kernels, with the same results.

    The argument of `work` is a dictionary of tensors on the device, with constant shapes; the result of `work` is one tensor.
    `work` may change tensors in place (such as weights). It must not read other data that changes between calls, and it must
    not wait for the device. Objects of this class are not thread-safe.
    """

    def __init__(self, work: Callable[[dict[str, Tensor]], Tensor], device: torch.device) -> None:
        self.work, self.device, self.calls = work, device, 0
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
        if self.calls <= WARM_UP:
            return self._warm_up()
        if self.calls == WARM_UP + 1:
            # thread_local: other threads, such as the one that pins memory, may call CUDA during the recording.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.result = self.work(self.inputs)
        self.graph.replay()
        return self.result.clone()

    def _warm_up(self) -> Tensor:
        """Run `work` without recording it, and return its result.

        Torch requires that these calls run on the CUDA stream on which `work` is recorded later.
        """
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = self.work(self.inputs)
        here.wait_stream(self.stream)
        return result


class RecordedByShape:
    """A function of one tensor that is recorded once for each of the first MOST_SHAPES shapes of its input; see `Recorded`.

    Inputs of further shapes are computed without recording. Thread-safe.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.work, self.device, self.lock = work, device, threading.Lock()
        self.recorded: dict[torch.Size, Recorded] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return `work(tensor)`; the dtype must be the same at every call."""
        with self.lock:
            if tensor.shape not in self.recorded and len(self.recorded) < MOST_SHAPES:
                self.recorded[tensor.shape] = Recorded(lambda inputs: self.work(inputs["input"]), self.device)
            recorded = self.recorded.get(tensor.shape)
            return recorded({"input": tensor}) if recorded else self.work(tensor)
