"""What is compiled, and when."""

import pytest
import torch

from stages.machine import recorded
from stages.machine.recorded import WORTH_COMPILING, is_compiled


@pytest.mark.parametrize(
    "chosen, images, device, processes, tools, expected",
    [
        ("auto", WORTH_COMPILING, "cuda", 1, True, True),
        ("auto", WORTH_COMPILING - 1, "cuda", 1, True, False),  # it would take longer than it saves
        ("auto", WORTH_COMPILING, "cpu", 1, True, False),
        ("auto", WORTH_COMPILING, "cuda", 2, True, False),
        ("auto", WORTH_COMPILING, "cuda", 1, False, False),  # no compiler, or no triton
        ("yes", 1, "cpu", 2, False, True),
        ("no", 10 * WORTH_COMPILING, "cuda", 1, True, False),
    ],
)
def test_long_trainings_on_cuda_are_compiled(monkeypatch, chosen, images, device, processes, tools, expected):
    monkeypatch.setattr(recorded, "find_spec", lambda name: tools or None)
    monkeypatch.setattr(recorded.shutil, "which", lambda name: "/usr/bin/cc" if tools else None)
    assert is_compiled(chosen, images, torch.device(device), processes) is expected
