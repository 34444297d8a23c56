"""Stand in for a second device on a machine without one: tensors that refuse to meet tensors of the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


class OnOtherDevice(Tensor):
    """A tensor whose values lie on the CPU but which says that it is on CUDA, and behaves so.

    An operation that mixes it with tensors of the CPU raises RuntimeError, as torch does for two devices; `cpu()` and `item()`
    bring values back.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]  # a new wrapper each time
            return torch.device("cuda", 0)
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(not isinstance(tensor, cls) for tensor in tensors):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")
        return super().__torch_function__(func, types, args, kwargs)


def to_other_device(tensor: Tensor) -> Tensor:
    """Return the tensor as if it had been moved to another device."""
    return tensor.as_subclass(OnOtherDevice)
