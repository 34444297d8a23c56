"""Memory of trainings and predictions: an allocator that keeps what it has, and a sentence where there is too little."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from datasets.errors import DataError

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_big_blocks() -> None:
    """Stop glibc from returning large freed blocks to the OS, so that the next batch reuses them.

    By default glibc gives a feature map's memory back to the system at once, and every new one is cleared page by page:
    that cost a third of the speed at 24 images an iteration. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never
        mallopt(_M_TOP_PAD, 256 << 20)


@contextmanager
def shortage_as_data_error(batch: int, resolution: int) -> Iterator[None]:
    """Raises DataError that says what to change where the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not short and "DefaultCPUAllocator" not in str(error) and "not enough memory" not in str(error):
            raise
        raise DataError(
            f"A batch of {batch} images of {resolution} px does not fit in memory. Set gradient_accumulation = 2 or more to "
            "compute it in parts, precision = auto if it is float32, or a smaller batch."
        ) from error
