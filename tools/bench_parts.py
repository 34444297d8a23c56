"""Common functions of the benchmarks for timing, printing and synthetic images."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of a call in s, after one warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(what: str, value: float, unit: str, note: str = "") -> None:
    """Print one line of results: what was measured, its value and unit, and a note."""
    print(f"{what:52} {value:10.2f} {unit:9} {note}", flush=True)


def in_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Return the result of `work(*arguments)`, called in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return noise (height, width, 3) uint8 whose amplitude decreases with the frequency, as in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # an infinite divisor sets the mean of the noise to 0
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(4, height, width))) / frequency, (height, width))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    # The three channels share most of the noise, so that the image has little colour.
    image = 128 + 45 * noise[3, :, :, None] + 15 * noise[:3].transpose(1, 2, 0)
    return np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))


def write_people(folder: Path) -> None:
    """Write 16 images of 1280 x 720 px with annotations of 4 people each, whose sizes are distributed as in MPII."""
    from datasets.formats import annotations

    rng = np.random.default_rng(0)
    for number in range(16):
        jpeg = cv2.imencode(".jpg", photograph(720, 1280, number), [cv2.IMWRITE_JPEG_QUALITY, 87])[1]
        (folder / f"{number}.jpg").write_bytes(jpeg.tobytes())
    center = rng.uniform((320, 180), (960, 540), (64, 2))
    rows = annotations.Annotations(
        images=[f"{i // 4}.jpg" for i in range(64)], index=np.arange(64), person=np.zeros(64, int), center=center,
        scale=np.exp(rng.normal(np.log(3.4), 0.5, 64)), part=center[:, None] + rng.uniform(-150, 150, (64, 16, 2)),
        visible=np.ones((64, 16), bool), normalize=np.full(64, 60.0), torsoangle=np.zeros(64),
    )  # fmt: skip
    for split in ("train", "valid"):
        annotations.write(folder, split, rows)
