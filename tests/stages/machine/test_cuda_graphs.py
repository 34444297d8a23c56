"""Which trainings are compiled, and which functions are captured as CUDA graphs."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch

from stages.machine import cuda_graphs
from stages.machine.cuda_graphs import MOST_SHAPES, WORTH_COMPILING, CapturedByShape, is_compiled


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
    monkeypatch.setattr(cuda_graphs, "find_spec", lambda name: tools or None)
    monkeypatch.setattr(cuda_graphs.shutil, "which", lambda name: "/usr/bin/cc" if tools else None)
    assert is_compiled(chosen, images, torch.device(device), processes) is expected


def test_each_shape_has_its_graph_and_rare_shapes_have_none(monkeypatch):
    graphs = []

    class Graph:
        def __init__(self, work, device):
            self.work, self.shapes = work, []
            graphs.append(self)

        def __call__(self, inputs):
            self.shapes.append(tuple(inputs["input"].shape))
            return self.work(inputs)

    monkeypatch.setattr(cuda_graphs, "Captured", Graph)
    double = CapturedByShape(lambda tensor: 2 * tensor, torch.device("cpu"))
    for _ in range(2):
        for count in range(1, MOST_SHAPES + 3):
            assert torch.equal(double(torch.full((count, 2), float(count))), torch.full((count, 2), 2.0 * count))
    assert [graph.shapes for graph in graphs] == [[(count, 2)] * 2 for count in range(1, MOST_SHAPES + 1)]


class Place:
    """Stands in for CUDA's streams and graphs: what is captured runs at once, and a replay does nothing."""

    def __init__(self, *_, **__):
        self.replayed = 0

    def wait_stream(self, other):
        pass

    def replay(self):
        self.replayed += 1


class Owner:
    """Doubles numbers by a CUDA graph, to which it holds a reference, and whose work is one of its own methods."""

    def __init__(self):
        self.collecting = []
        self.captured = cuda_graphs.Captured(self.double, torch.device("cpu"))

    def double(self, inputs):
        self.collecting.append(gc.isenabled())
        return 2 * inputs["input"]


def test_a_graph_is_captured_without_garbage_collection_and_ends_with_its_owner(monkeypatch):
    for name in ("Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, Place)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Place())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: nullcontext())
    owner = Owner()
    for _ in range(4):
        assert owner.captured({"input": torch.ones(2)}).tolist() == [2, 2]
    assert owner.collecting == [True, True, True, False] and gc.isenabled() and owner.captured.graph.replayed == 1
    owner.captured({"input": torch.ones(2)})
    assert len(owner.collecting) == 4 and owner.captured.graph.replayed == 2  # a replay does not call the method again
    alive = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert alive() is None
    finally:
        gc.enable()
