"""How fast the workspace's parts are on this machine: python -m tools.bench [PART ...]

Machines are noisy: each part is measured several times and the median is shown; compare figures of one run only.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np


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


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 of noise whose amplitude falls with the frequency, as that of photographs does."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # no mean
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(4, height, width))) / frequency, (height, width))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    image = 128 + 45 * noise[3, :, :, None] + 15 * noise[:3].transpose(1, 2, 0)  # bright and dark, and some colour
    return np.clip(image, 0, 255).astype(np.uint8)


def network() -> None:
    """Training and inference of hg-256 at 256 x 256."""
    import torch

    from stages.hourglass import HourglassNet
    from stages.settings import Network

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
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
    """Penn Action's cropping against plainly decoding, cutting and encoding the same frames on all cores.

    Beside the time by the clock that of the processors is compared, which other programs disturb less.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from stages.crop import crop_penn
    from stages.pool import processes

    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(processes(0), get_context("spawn")) as pool:
        raw, out = Path(name, "raw"), Path(name, "out")
        _write_sequences(raw)
        frames = sorted(raw.rglob("*.jpg"))
        list(pool.map(_cut_frames, [[]] * 100, [out] * 100))  # these processes begin now, those of crop_penn in its time

        def ours() -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            crop_penn(raw, out, 95)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        def plain() -> float:
            for folder in (raw / "frames").iterdir():
                (out / folder.name).mkdir(parents=True)
            parts = [frames[i : i + 50] for i in range(0, len(frames), 50)]
            return sum(pool.map(_cut_frames, parts, [out] * len(parts)))

        rounds = []
        for _ in range(3):
            for work in (ours, plain):
                start = time.perf_counter()
                of_processors = work()
                rounds.append((time.perf_counter() - start, of_processors))
                shutil.rmtree(out)
    for number, clock in enumerate(("clock", "processors")):
        mine, theirs = ([taken[number] for taken in rounds[i::2]] for i in (0, 1))
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        each = " ".join(f"{ratio:.0%}" for ratio in ratios)
        show(
            f"crop_penn, {len(frames)} frames, {clock}",
            statistics.median(mine),
            "s",
            f"plainly {statistics.median(theirs):.2f} s",
        )
        show("  plainly / crop_penn", 100 * statistics.median(ratios), "%", f"({each})")


_BOX = (60, 20, 209, 244)  # left, top, right, bottom px: the median window of Penn Action in its frames of 480 x 270


def _write_sequences(root: Path) -> None:
    """350 sequences of 18 to 121 frames in Penn Action's layout."""
    from datasets import penn_action

    pictures = [root / f"{i}.picture" for i in range(8)]
    for folder in ("labels", "frames"):
        (root / folder).mkdir(parents=True)
    for seed, path in enumerate(pictures):
        path.write_bytes(cv2.imencode(".jpg", photograph(270, 480, seed), [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes())
    rng = np.random.default_rng(0)
    for number, length in enumerate(rng.integers(18, 122, 350).tolist(), 1):
        label = penn_action.Label(
            f"{number:04d}", "squat", "front", True, rng.uniform(60, 200, (length, 13, 2)), np.ones((length, 13), bool),
            np.tile(np.array(_BOX, float), (length, 1)), 480, 270,
        )  # fmt: skip
        penn_action.write_label(root / "labels" / f"{label.sequence}.mat", label)
        (root / "frames" / label.sequence).mkdir()
        for frame in range(length):
            os.link(pictures[frame % 8], root / "frames" / label.sequence / penn_action.frame_name(frame))


def _cut_frames(frames: list[Path], out: Path) -> float:
    """Decode, cut and encode, and no more; returns the seconds of this process."""
    import simplejpeg

    start = time.process_time()
    cv2.setNumThreads(1)
    left, top, right, bottom = _BOX
    for path in frames:
        cut = simplejpeg.decode_jpeg(path.read_bytes(), "BGR")[top : bottom + 1, left : right + 1]
        jpeg = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (out / path.parent.name / path.name).write_bytes(jpeg.tobytes())
    return time.process_time() - start


PARTS = {part.__name__: part for part in (network, samples, metrics, crop)}


def main() -> int:
    """Measure the named parts, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="default: all")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    for name in options.part or PARTS:
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
