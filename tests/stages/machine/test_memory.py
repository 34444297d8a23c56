"""Running out of memory becomes an error that names the settings to change."""

import pytest
import torch

from datasets.errors import DataError
from stages.machine.memory import shortage_as_data_error


def test_torch_out_of_memory_on_the_cpu_is_recognised():
    with pytest.raises(DataError, match="does not fit"), shortage_as_data_error(6):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="something else"), shortage_as_data_error(6):
        raise RuntimeError("something else")


def test_out_of_memory_is_recognised_behind_the_error_of_an_ended_capture():
    with pytest.raises(DataError, match="does not fit"), shortage_as_data_error(6):
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("capture_end: the capture was invalidated")
