"""Which trainings are compiled, and which functions are recorded as CUDA graphs."""

import pytest
import torch

from stages.machine import recorded
from stages.machine.recorded import MOST_SHAPES, WORTH_COMPILING, RecordedByShape, is_compiled


@pytest.mark.parametrize(
    "chosen, images, device, processes, tools, expected",
    [
        ("auto", WORTH_COMPILING, "cuda", 1, True, True),
        ("auto", WORTH_COMPILING - 1, "cuda", 1, True, False),  # too few images to compile for
        ("auto", WORTH_COMPILING, "cpu", 1, True, False),
        ("auto", WORTH_COMPILING, "cuda", 2, True, False),
        ("auto", WORTH_COMPILING, "cuda", 1, False, False),  # a machine without a compiler, or without triton
        ("yes", 1, "cpu", 2, False, True),
        ("no", 10 * WORTH_COMPILING, "cuda", 1, True, False),
    ],
)
def test_long_trainings_on_cuda_are_compiled(monkeypatch, chosen, images, device, processes, tools, expected):
    monkeypatch.setattr(recorded, "find_spec", lambda name: tools or None)
    monkeypatch.setattr(recorded.shutil, "which", lambda name: "/usr/bin/cc" if tools else None)
    assert is_compiled(chosen, images, torch.device(device), processes) is expected


def test_each_shape_has_its_recording_and_rare_shapes_have_none(monkeypatch):
    recordings = []

    class Recording:
        def __init__(self, work, device):
            self.work, self.shapes = work, []
            recordings.append(self)

        def __call__(self, inputs):
            self.shapes.append(tuple(inputs["input"].shape))
            return self.work(inputs)

    monkeypatch.setattr(recorded, "Recorded", Recording)
    double = RecordedByShape(lambda tensor: 2 * tensor, torch.device("cpu"))
    for _ in range(2):
        for count in range(1, MOST_SHAPES + 3):
            assert torch.equal(double(torch.full((count, 2), float(count))), torch.full((count, 2), 2.0 * count))
    assert [recording.shapes for recording in recordings] == [[(count, 2)] * 2 for count in range(1, MOST_SHAPES + 1)]
