"""Measure the speed of the workspace's parts on this machine: python -m tools.bench [PART ...]

Timings are noisy, so each part is measured several times, and the median is shown. Compare only results of one run of the
program with each other.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from tools import program
from tools.bench_parts import in_process, photograph, seconds, show, write_people


def training() -> None:
    """Measure the speed of training steps of hg-256 at 256 x 256 px, with PyTorch's defaults and the workspace's settings.

    Each measurement runs in a new process, because the memory allocator is configured for a whole process.
    """
    import torch

    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        square = torch.rand(4096, 4096).to(dtype)
        taken = seconds(partial(torch.mm, square, square), 3)
        show(f"matrix product of 4096 x 4096, {name}", 2 * 4096**3 / taken / 1e9, "GFLOP/s")
    for batch in (2, 6, 24):
        runs = [(in_process(_step_rate, batch, False), in_process(_step_rate, batch, True)) for _ in range(3)]
        plain, ours = (statistics.median(rates) for rates in zip(*runs, strict=True))
        show(f"training step, batch {batch}, plain loop, float32", plain, "images/s")
        show("  as PretrainMpii with precision = auto", ours, "images/s", _ratios(runs))


def _ratios(runs: list[tuple[float, float]]) -> str:
    """Divide the second value of each run by the first; return the median and the range of these ratios as text."""
    ratios = [b / a for a, b in runs]
    return f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


def _step_rate(batch: int, ours: bool) -> float:
    """Return the speed of training hg-256, in images per second.

    ours: whether to use the memory layout, allocator and dtype of this workspace's trainings instead of PyTorch's defaults.
    """
    import torch

    from stages.inference.predict import compute_type
    from stages.machine import memory
    from stages.network.hourglass import HourglassNet
    from stages.settings.sections import Network

    layout = torch.channels_last if ours else torch.contiguous_format
    compute = compute_type("auto", torch.device("cpu")) if ours else torch.float32
    if ours:
        memory.keep_big_blocks()
    net = HourglassNet(Network(), 16).to(memory_format=layout)  # type: ignore[call-overload]
    images, target = torch.rand(batch, 3, 256, 256).to(memory_format=layout), torch.rand(batch, 16, 64, 64)
    optimizer = torch.optim.RMSprop(net.parameters(), 2.5e-4)

    def step() -> None:
        with torch.autocast("cpu", compute, enabled=compute != torch.float32):
            heatmaps = net(images)[-1]
        loss = (heatmaps.float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return batch / seconds(step, 3)


def samples() -> None:
    """Measure the CPU time of making training samples of 256 px, from JPEG files of 1280 x 720 px and from the crop cache."""
    from dataclasses import replace

    from datasets.dataset import DatasetFiles
    from datasets.imaging.images import read_image
    from datasets.mpii import MPII
    from stages.loading.crop_cache import cache_crops
    from stages.loading.loader import PoseDataset
    from stages.settings.sections import Input, Settings

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        data = DatasetFiles(MPII, Path(name), Path(name))
        write_people(data.images)
        path = data.images / "0.jpg"
        works: dict[str, Callable[[int], object]] = {
            f"cv2.imread alone, {path.stat().st_size / 1e3:.0f} kB": lambda _: cv2.imread(str(path)),
            "read_image alone": lambda _: read_image(path),
        }
        cache_crops(data, Input().resolution, Path(name), 1)
        for place, source in (("originals", data), ("cache", replace(data, crops=Path(name)))):
            for how, recipe in Settings().recipes.items():
                works[f"samples from {place}, {how}"] = PoseDataset(
                    source, "train", Input(), recipe, seed=1, batch=6
                ).__getitem__
        spent: dict[str, list[float]] = {what: [] for what in works}
        for position in range(0, 640, 64):
            for what, work in works.items():
                start = time.process_time()
                for i in range(position, position + 64):
                    work(i)
                spent[what].append((time.process_time() - start) / 64)
        for what, times in spent.items():
            show(what, 1 / statistics.median(times), "1/s")


def metrics() -> None:
    """Measure decoding and scoring of random heatmaps for as many people as MPII's validation split has."""
    from datasets.imaging.geometry import image_to_crop
    from datasets.imaging.heatmaps import decode_argmax, decode_subpixel
    from datasets.mpii import MPII
    from stages.evaluation.metrics import Pck, training_accuracy
    from stages.inference.predict import joints_in_image

    rng = np.random.default_rng(0)
    maps = rng.random((2958, 16, 64, 64), np.float32)
    other = rng.random((2958, 16, 64, 64), np.float32)
    show("decoding 2958 x 16 heatmaps, argmax", seconds(lambda: decode_argmax(maps), 3) * 1e3, "ms")
    show("decoding 2958 x 16 heatmaps, sub-pixel", seconds(lambda: decode_subpixel(maps), 3) * 1e3, "ms")
    from_image = np.repeat(image_to_crop((300.0, 200.0), 2.0, 256)[None], len(maps), axis=0)

    def score() -> None:
        points, _ = joints_in_image(maps, from_image, 256)
        pck = Pck([0.5], 16)
        pck.update(points, points, np.ones(len(points)))

    show("from 2958 x 16 heatmaps to PCKh, sub-pixel", seconds(score, 3) * 1e3, "ms")
    show(
        "training metric on 2958 x 16 heatmaps",
        seconds(lambda: training_accuracy(maps, other, MPII.skeleton.scoring), 3) * 1e3,
        "ms",
    )


def crop() -> None:
    """Measure `crop_penn` on synthetic frames, compared with only decoding, cropping and encoding the frames on all cores.

    Both wall-clock time and CPU time are measured, because other programs on the machine affect CPU time less than
    wall-clock time.
    """
    from stages.machine.pool import processes
    from stages.preparing.crop import crop_penn

    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(processes(0), get_context("spawn")) as pool:
        raw = Path(name, "raw")
        _write_sequences(raw)
        frames = sorted(raw.rglob("*.jpg"))
        list(pool.map(_cut_frames, [[]] * 100, [raw] * 100))  # start the worker processes before the measurement

        def ours(out: Path) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            crop_penn(raw, out, 95)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        def plain(out: Path) -> float:
            for folder in (raw / "frames").iterdir():
                (out / folder.name).mkdir(parents=True)
            parts = [frames[i : i + 50] for i in range(0, len(frames), 50)]
            return sum(pool.map(_cut_frames, parts, [out] * len(parts)))

        clock: list[float] = []
        processors: list[float] = []
        for turn in range(3):
            pairs = []
            # Written files are deleted only at the end, because ext4 creates files slowly right after a deletion.
            for work in (ours, plain):
                start = time.perf_counter()
                of_processors = work(Path(name, f"{work.__name__}{turn}"))
                pairs.append((time.perf_counter() - start, of_processors))
            for ratios, mine, theirs in zip((clock, processors), *pairs, strict=True):
                ratios.append(100 * theirs / mine)
    for what, ratios in (("wall-clock time", clock), ("CPU time", processors)):
        each = " ".join(f"{ratio:.0f}" for ratio in ratios)
        show(f"decode, crop, encode / crop_penn, {what}", statistics.median(ratios), "%", f"({each})")


_BOX = (60, 20, 209, 244)  # left, top, right, bottom in px: the median crop window in Penn Action's frames of 480 x 270 px


def _write_sequences(root: Path) -> None:
    """Write 350 sequences of 18 to 121 frames in Penn Action's layout."""
    from datasets import penn_action
    from datasets.formats import penn_labels

    pictures = [root / f"{i}.picture" for i in range(8)]
    for folder in ("labels", "frames"):
        (root / folder).mkdir(parents=True)
    for seed, path in enumerate(pictures):
        path.write_bytes(cv2.imencode(".jpg", photograph(270, 480, seed), [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes())
    rng = np.random.default_rng(0)
    for number, length in enumerate(rng.integers(18, 122, 350).tolist(), 1):
        label = penn_labels.Label(
            f"{number:04d}", "squat", "front", True, rng.uniform(60, 200, (length, 13, 2)), np.ones((length, 13), bool),
            np.tile(np.array(_BOX, float), (length, 1)), 480, 270,
        )  # fmt: skip
        penn_labels.write_label(root / "labels" / f"{label.sequence}.mat", label)
        (root / "frames" / label.sequence).mkdir()
        for frame in range(length):
            os.link(pictures[frame % 8], root / "frames" / label.sequence / penn_action.frame_name(frame))


def _cut_frames(frames: list[Path], out: Path) -> float:
    """Decode frames, crop them and write them as JPEG files into `out`; return the CPU time of this work in s."""
    import simplejpeg

    start = time.process_time()
    cv2.setNumThreads(1)
    left, top, right, bottom = _BOX
    for path in frames:
        cut = simplejpeg.decode_jpeg(path.read_bytes(), "BGR")[top : bottom + 1, left : right + 1]
        jpeg = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (out / path.parent.name / path.name).write_bytes(jpeg.tobytes())
    return time.process_time() - start


def convert() -> None:
    """Measure reading, splitting and writing a quarter of the annotations of MPII and Penn Action, and all of them."""
    from tools.bench_convert import measure

    measure()


def torch7() -> None:
    """Measure reading and writing hg-256 as a Torch7 file with weights and gradients, as image-play writes it."""
    from stages.network.hourglass import HourglassNet
    from stages.settings.sections import Network
    from stages.torch7 import export_network as export_torch7
    from stages.torch7 import import_network as import_torch7
    from stages.torch7 import t7 as files

    model = export_torch7.as_torch7(HourglassNet(Network(), 16).eval(), cudnn=True)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "best_model.t7")
        works: dict[str, Callable[[], object]] = {
            "writing": lambda: files.write(path, model),
            "reading the bytes only": path.read_bytes,
            "reading": lambda: files.read(path),
            "reading as HourglassNet": lambda: import_torch7.read_hourglass(path),
        }
        for what, work in works.items():
            took = seconds(work)
            show(f".t7 of {path.stat().st_size / 1e6:.0f} MB, {what}", took * 1e3, "ms")


def inference() -> None:
    """Measure inference with flip test in all installed runtimes."""
    from tools.bench_inference import measure

    in_process(measure)


def forecasting() -> None:
    """Measure training steps of hg-256-res-clstm with several numbers of forecast steps, and count its multiply-adds."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from stages.forecasting.network import ForecastNet
    from stages.network.hourglass import HourglassNet
    from stages.settings.forecasting import Forecaster
    from stages.settings.sections import Network

    network = ForecastNet(HourglassNet(Network(), 13), Forecaster())
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.empty(1, 3, 256, 256), 16)
    show("hg-256-res-clstm, 256 x 256, 16 steps", counter.get_total_flops() / 2e9, "G", "multiply-adds; published: 37.2 G")

    network = ForecastNet(HourglassNet(Network(), 13), Forecaster())
    images = torch.rand(3, 3, 256, 256)

    def step(steps: int) -> None:
        network.zero_grad()
        network(images, steps).heatmaps.square().mean().backward()

    longest = seconds(partial(step, 16), 3)
    for steps in (1, 2, 4, 8):
        taken = seconds(partial(step, steps), 3)
        show(f"training step, batch 3, {steps} forecast steps", taken, "s", f"{taken / longest:.3f} of that of 16 steps")
    show("training step, batch 3, 16 forecast steps", longest, "s")


PARTS = {part.__name__: part for part in (training, inference, samples, metrics, crop, convert, torch7, forecasting)}


@program
def main() -> int:
    """Measure the parts that the command line names; if it names no part, measure all parts except growth and gpu.

    Returns the exit code: 1 if a part of the measurement on a GPU failed.
    """
    about = {name: (part.__doc__ or "").splitlines()[0] for name, part in PARTS.items()}
    about["growth"] = "Measure commands with 1,000 more results in exp/; needs make demo's results; runs only if given as PART."
    about["gpu"] = "Check correctness and measure speed on a GPU, in eight minutes; runs only if given as PART."
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {name:10} {text}" for name, text in about.items()),
    )  # fmt: skip
    parser.add_argument("part", nargs="*", metavar="PART", help="parts to measure; default: all except growth and gpu")
    parser.add_argument("--minutes", type=float, default=4, help="with gpu and --people: minutes of training; default: 4")
    parser.add_argument("--people", type=Path, help="with gpu: folder of training data: train.h5, valid.h5 and images/")
    parser.add_argument("--model", help="with --images: a trained network, whose joints are compared between all runtimes")
    parser.add_argument("--images", type=Path, help="with --model: folder of images of one person each")
    options = parser.parse_args()
    if unknown := [name for name in options.part if name not in about]:
        parser.error(f"unknown part {', '.join(unknown)}; use {', '.join(about)}")
    if bool(options.model) != bool(options.images) or (options.images and not options.images.is_dir()):
        parser.error("give --model and --images together; --images must be a folder")
    print(f"{os.cpu_count()} cores")
    code = 0
    for name in options.part or PARTS:
        if name == "gpu":
            from tools import bench_gpu

            code = bench_gpu.measure(options.minutes, options.people)
        elif name == "growth":
            from tools import bench_growth

            bench_growth.measure()
        else:
            PARTS[name]()
    if options.model and options.images:
        from tools.bench_inference import agreement

        agreement(options.model, options.images)
    return code


if __name__ == "__main__":
    sys.exit(main())
