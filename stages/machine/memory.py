"""Reuse large blocks of memory, and raise a clear error if a training or prediction runs out of memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from datasets.errors import DataError

# Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_big_blocks() -> None:
    """Stop glibc from returning large freed blocks to the OS, so that the next batch reuses them.

    By default glibc returns the memory of a freed feature map to the OS at once, and the OS clears the pages of every new
    feature map. At 24 images per iteration, clearing the pages cost a third of the speed. With other C libraries than glibc,
    this function is a no-op.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never trim
        mallopt(_M_TOP_PAD, 256 << 20)


@contextmanager
def shortage_as_data_error(batch: int) -> Iterator[None]:
    """Raise DataError, whose message names the settings to change, if the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # If the memory runs out while a CUDA graph is captured, torch raises another error while it ends the capture.
        causes = error, error.__context__
        short = any(isinstance(cause, (MemoryError, torch.OutOfMemoryError)) for cause in causes)
        if not short and "DefaultCPUAllocator" not in str(error) and "not enough memory" not in str(error):
            raise
        raise DataError(
            f"A batch of {batch} samples does not fit in memory. Set gradient_accumulation = 2 or more to "
            "split the batch, set precision = auto if it is float32, or set a smaller batch."
        ) from error
