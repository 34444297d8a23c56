"""Measure the speed of all runtimes, relative to plain PyTorch, for hg-256 at 256 x 256 px with flip test."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from datasets.imaging.images import read_image
from datasets.mpii import MPII
from stages.inference import runtimes
from stages.inference.predict import compute_type
from stages.inference.predictor import PosePredictor
from stages.machine import memory
from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tools.bench_parts import seconds, show

FLOP = 2 * 2 * 4.278e9  # multiplications plus additions per image: two forward passes of hg-256, for the flip test
ROUNDS = 5
CPU = torch.device("cpu")


def measure() -> None:
    """Measure and print the speeds.

    Each round measures every runtime once, so that other programs affect all runtimes alike.
    """
    memory.keep_big_blocks()
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        square = torch.rand(4096, 4096).to(dtype)
        rate = 2 * 4096**3 / seconds(partial(torch.mm, square, square), 3)
        show(f"upper bound by matrix products in {name}", rate / FLOP, "images/s")
    ways = _ways()
    for batch in (1, 8):
        images = torch.rand(batch, 3, 256, 256)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, run in ways.items():
                start = time.perf_counter()
                run(images)
                if turn:  # drop the first round, which is a warm-up
                    taken[name].append(time.perf_counter() - start)
        plain = next(iter(taken.values()))
        for name, times in taken.items():
            ratios = [a / b for a, b in zip(plain, times, strict=True)]
            note = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            show(f"inference with flip, batch {batch}, {name}", batch / statistics.median(times), "images/s", note)


def _ways() -> dict[str, Callable[[torch.Tensor], object]]:
    """Return functions (name -> function) that compute a batch's heatmaps with flip test: one for each runtime and dtype.

    The first entry is plain PyTorch, which processes the image and the mirrored image one after the other in float32.
    """
    torch.manual_seed(0)
    network, mirrored = HourglassNet(Network(), 16).eval(), MPII.skeleton.mirrored()
    about = Description(network.options, MPII.skeleton.joints, 256, {})

    @torch.inference_mode()
    def plain(images: torch.Tensor) -> torch.Tensor:
        return (network(images)[-1] + network(images.flip(-1))[-1].flip(-1)[:, mirrored]) / 2

    ways: dict[str, Callable[[torch.Tensor], object]] = {"plain torch float32": plain}
    short = compute_type("auto", CPU)
    for runtime in filter(find_spec, runtimes.RUNTIMES):
        for compute in dict.fromkeys((torch.float32, torch.float32 if runtime == "onnxruntime" else short)):
            run = runtimes.start(runtime, network, about, CPU, compute)
            ways[f"{runtime} {str(compute).removeprefix('torch.')}"] = runtimes.with_flip(run, mirrored)
    return ways


def agreement(model: str, folder: Path) -> None:
    """Print how much each runtime's joints differ from PyTorch's joints in float32.

    model: a trained network; folder: a folder of images.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:200]
    predictor = PosePredictor.load(model, precision="float32")
    exact = predictor.predict(paths).joints
    pixel = np.array([max(read_image(path).shape) for path in paths]) / (predictor.resolution // 4)
    for runtime in filter(find_spec, runtimes.RUNTIMES):
        found = PosePredictor.load(model, runtime).predict(paths).joints
        distance = np.linalg.norm(found - exact, axis=-1) / pixel[:, None]
        note = f"of {distance.size} joints; median distance {np.median(distance):.3f} px"
        show(f"{runtime}: within half a heatmap pixel of float32", 100 * (distance <= 0.5).mean(), "%", note)
