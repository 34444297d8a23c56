"""Stand in for a second device on a machine without one: tensors that refuse to meet tensors of the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)


class OnOtherDevice(Tensor):
    """A tensor whose values lie on the CPU but which says that it is on CUDA, and behaves so.

    An operation that mixes it with tensors of the CPU that have dimensions raises RuntimeError, as torch does for two devices;
    `cpu()` and `item()` bring values back. In `OtherDevice`, what is made on CUDA or moved there is such a tensor.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]  # a new wrapper each time
            return CUDA
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # torch lets numbers of the CPU meet tensors of any device, but not in lists such as those of `stack`.
        if any(not isinstance(tensor, cls) and (tensor.dim() or func is torch.stack) for tensor in tensors):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")
        return super().__torch_function__(func, types, args, kwargs)


class OtherDevice(TorchFunctionMode):
    """A context in which tensors can be made on, and moved to, the device that `OnOtherDevice` stands for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return func(*args, **kwargs | {"device": "cpu"}).as_subclass(OnOtherDevice)
        if func is Tensor.to and args[1] == CUDA:
            return args[0].as_subclass(OnOtherDevice)
        return func(*args, **kwargs or {})


def to_other_device(tensor: Tensor) -> Tensor:
    """Return the tensor as if it had been moved to another device."""
    return tensor.as_subclass(OnOtherDevice)
