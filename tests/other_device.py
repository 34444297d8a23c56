"""Simulate a second device on a machine without a GPU: tensors that cannot be combined with tensors on the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)


class OnOtherDevice(Tensor):
    """A tensor that behaves as if it were on CUDA, although its values are on the CPU.

    An operation on such a tensor and a CPU tensor with dimensions raises RuntimeError, as torch does for tensors on two
    devices. `cpu()` and `item()` return CPU values. Inside `OtherDevice`, tensors that are created on CUDA or moved to CUDA are
    of this class.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]  # not `is`: each access creates a new object
            return CUDA
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # torch accepts zero-dimensional CPU tensors together with tensors on any device, but not in the list of `torch.stack`.
        if any(not isinstance(tensor, cls) and (tensor.dim() or func is torch.stack) for tensor in tensors):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")
        return super().__torch_function__(func, types, args, kwargs)


class OtherDevice(TorchFunctionMode):
    """A context in which tensors can be created on, and moved to, the simulated device of `OnOtherDevice`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return func(*args, **kwargs | {"device": "cpu"}).as_subclass(OnOtherDevice)
        if func is Tensor.to and args[1] == CUDA:
            return args[0].as_subclass(OnOtherDevice)
        return func(*args, **kwargs or {})


def to_other_device(tensor: Tensor) -> Tensor:
    """Return the tensor as if it had been moved to the simulated device."""
    return tensor.as_subclass(OnOtherDevice)
