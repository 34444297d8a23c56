"""How fast the workspace's parts are on this machine: python -m tools.bench [PART ...]

Machines are noisy: each part is measured several times and the median is shown; compare figures of one run only.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a call, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(what: str, value: float, unit: str, note: str = "") -> None:
    """One line of the result."""
    print(f"{what:52} {value:10.2f} {unit:9} {note}", flush=True)


def network() -> None:
    """Training and inference of hg-256 at 256 x 256."""
    from stages.hourglass import HourglassNet
    from stages.settings import Network

    images, target = torch.rand(6, 3, 256, 256), torch.rand(6, 16, 64, 64)
    plain = 0.0
    for name, layout, bfloat16 in (
        ("float32", torch.contiguous_format, False),
        ("float32, channels-last", torch.channels_last, False),
        ("bfloat16, channels-last", torch.channels_last, True),
    ):
        net = HourglassNet(Network(), 16).to(memory_format=layout)  # type: ignore[call-overload]
        x = images.to(memory_format=layout)
        optimizer = torch.optim.RMSprop(net.parameters(), 2.5e-4)

        def step(net=net, x=x, optimizer=optimizer, bfloat16=bfloat16) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                heatmaps = net(x)[-1]
            loss = (heatmaps.float() - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        rate = 6 / seconds(step, 3)
        plain = plain or rate
        show(f"training step hg-256, batch 6, {name}", rate, "images/s", f"{rate / plain:.2f} x float32")


def samples() -> None:
    """A 1280 x 720 photograph to a 256 px input and 16 heatmaps, on one core."""
    from datasets.samples import Augmentation, Person, Target, make_sample
    from datasets.skeletons import MPII

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (720, 1280, 3), np.uint8)
    person = Person(np.array([600.0, 360.0]), 2.4, rng.uniform(300, 700, (16, 2)))
    augmentation = Augmentation(scale=0.25, rotation=30, rotation_probability=0.4, colour=0.2, flip=0.5)
    for how, published in (("in one warp", False), ("cropped twice", True)):
        target = Target(256, 64, 3.25, 6, truncated=published, twice=published)

        def make(target=target) -> None:
            make_sample(image, person, MPII.mirrored(), target, augmentation.draw(rng))

        show(f"samples {how}, without decoding", 1 / seconds(make, 50), "images/s")


def metrics() -> None:
    """Decoding and scoring all of MPII's validation."""
    from datasets.heatmaps import decode_argmax, decode_subpixel
    from datasets.skeletons import MPII
    from stages.metrics import training_accuracy

    rng = np.random.default_rng(0)
    maps = rng.random((2958, 16, 64, 64), np.float32)
    other = rng.random((2958, 16, 64, 64), np.float32)
    show("decoding 2958 x 16 heatmaps, argmax", seconds(lambda: decode_argmax(maps), 3) * 1e3, "ms")
    show("decoding 2958 x 16 heatmaps, sub-pixel", seconds(lambda: decode_subpixel(maps), 3) * 1e3, "ms")
    show("training metric on 2958 x 16 heatmaps", seconds(lambda: training_accuracy(maps, other, MPII.scoring), 3) * 1e3, "ms")


def crop() -> None:
    """Cropping 480 x 270 frames, decoding and encoding included, on all cores."""
    import shutil

    from datasets import synthetic
    from stages.archives import unpack
    from stages.crop import crop_penn

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write_penn(folder, 4, (60, 60), (270, 480))
        unpack(folder / "Penn_Action.tar.gz", r"(?:.*/)?(?P<to>frames/\d+/\d+\.jpg|labels/\d+\.mat)", folder / "raw")
        frames = len(list((folder / "raw").rglob("*.jpg")))

        def work() -> None:
            shutil.rmtree(folder / "out", ignore_errors=True)
            crop_penn(folder / "raw", folder / "out", 95, 0)

        show(f"cropping {frames} frames, {os.cpu_count()} processes", frames / seconds(work, 3), "frames/s")


PARTS = {part.__name__: part for part in (network, samples, metrics, crop)}


def main() -> int:
    """Measure the named parts, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="default: all")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    for name in options.part or PARTS:
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
