"""Check correctness and measure speed on a GPU, in one run of about eight minutes: python -m tools.bench gpu

First, results of the GPU are compared with results of the CPU. Then the speed of the training step, of a plain training loop,
of data loading and of the predictor is measured. With --people, a training of some minutes is measured too. Without a GPU,
everything runs on the CPU with images of 64 px: this only tests the script, and the speeds are meaningless.
"""

import platform
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from datasets.dataset import DatasetFiles
from datasets.imaging.images import read_upright
from datasets.mpii import MPII
from datasets.progress import Report, silent
from stages.evaluation.evaluate import evaluate
from stages.inference import runtimes
from stages.inference.predict import compute_type, set_tf32
from stages.inference.predictor import PosePredictor
from stages.loading.augment import plans
from stages.loading.crop_cache import cache_crops
from stages.loading.loader import PoseDataset, batches
from stages.machine.pool import one_opencv_thread, processes
from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Evaluation, Input, Network, Settings, Workspace
from stages.settings.trainings import Training
from stages.training.heatmaps import HeatmapObjective
from stages.training.logs import read_metrics
from stages.training.train import Job, Trainer, set_arithmetic, train
from tools.bench_parts import photograph, show, write_people

# Number of multiplications plus additions of hg-256 per training image of 256 px, in the forward and backward pass.
FLOP = 25.4e9
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SIZE = Input(resolution=256 if CUDA else 64)
BATCHES = (6, 32, 128) if CUDA else (2,)


def rate(work: Callable[[], object], count: int, seconds: float = 1.0) -> float:
    """Return how many items per second `work` processes, including its work on the GPU; one call processes `count` items.

    The result is the median of five measurements; each of them takes about a fifth of `seconds` s.
    """

    def span(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        if CUDA:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    span(5)  # warm-up calls, which also capture CUDA graphs
    calls = max(1, round(seconds / 5 / max(span(2) / 2, 1e-6)))
    return count * calls / statistics.median(span(calls) for _ in range(5))


def facts() -> float:
    """Print versions, the GPU and its measured peak rates; return the operations per second of bfloat16 matrix products."""
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {processes(0)} processes")
    if CUDA:
        print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    n = 8192 if CUDA else 512
    top = 0.0
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(n, n, device=DEVICE).to(kind) for _ in range(2))
        top = rate(partial(torch.mm, a, b), 2 * n**3)
        show(f"matrix product of {n} x {n}, {name}", top / 1e12, "TFLOP/s")
    block = torch.randn(1 << (28 if CUDA else 20), device=DEVICE)
    show("copy on the device, read and written", rate(block.clone, 8 * len(block)) / 1e9, "GB/s")
    return top


def settings(batch: int, precision: str, **more: Any) -> Training:
    """Return the settings of a training with the recipe `modern`.

    The optimizer and weight EMA of this recipe need more kernel launches than those of other recipes.

    more: further settings that override the recipe.
    """
    recipe = Settings().recipes["modern"].model_dump()
    return Training(
        **recipe | {"batch": batch, "precision": precision, "epochs": 1, "iterations": 1000, "snapshot_epochs": 0} | more
    )


def job(folder: Path, network: HourglassNet, data: DatasetFiles, training: Training) -> Job:
    """Return a Job: a training of `network` on DEVICE, which writes its result into `folder`."""
    return Job(folder, HeatmapObjective(network, data, SIZE, training), training, Workspace(device=DEVICE.type))


def trainer(
    folder: Path, data: DatasetFiles, training: Training, deterministic: bool = True, preset: str = "hg-256"
) -> Trainer:
    """Return a Trainer that is ready for its first iteration, and whose samples the CPU makes from image files."""
    torch.manual_seed(0)
    set_arithmetic(training, Workspace(device=DEVICE.type, deterministic=deterministic))
    made = Trainer(job(folder, HourglassNet(Network(preset=preset), 16), replace(data, crops=None), training))
    made.begin_phase(0)
    made.network.train()
    return made


def on_device(samples: PoseDataset, first: int, count: int) -> dict[str, Tensor]:
    """Return `count` samples, from index `first` on, as one batch on the device."""
    items = default_collate([samples[i] for i in range(first, first + count)])
    return {name: tensor.to(DEVICE) for name, tensor in items.items() if name != "image_to_crop"}


def correct(data: DatasetFiles) -> None:
    """Print how much the GPU's results differ from the CPU's, and whether CUDA graphs or interruptions change weights."""
    torch.manual_seed(0)
    network = HourglassNet(Network(), 16).eval()
    images = torch.rand(4, 3, SIZE.resolution, SIZE.resolution)
    set_tf32("float32")
    with torch.inference_mode():
        expected = network(images)[-1]
        found = network.to(DEVICE)(images.to(DEVICE))[-1].cpu()
    show("forward in float32, largest difference from the CPU", (found - expected).abs().max().item() * 1e6, "millionths")
    stream, make = plans(data, SIZE, settings(16, "float32"), DEVICE)
    made = make(on_device(stream, 0, 16))
    loaded = on_device(PoseDataset(data, "train", SIZE, settings(16, "float32"), stream.seed, 16), 0, 16)
    difference = (made["input"] - loaded["input"]).abs().mean().item() * 255
    show(
        "samples made on the device, mean difference",
        difference,
        "of 255",
        f"from the loader's samples; crops on the device: {not stream.pixels}",
    )
    for precision in ("float32", "auto"):
        ends = []
        for captured in (True, False):
            with tempfile.TemporaryDirectory() as name:
                one = trainer(Path(name), data, settings(6, precision))
                one.captured = one.captured if captured else None
                batch = on_device(PoseDataset(data, "train", SIZE, one.training, 3, 6), 0, 6)
                for _ in range(8):
                    one.step(batch)
                    one.state.iteration += 1
                ends.append([tensor.cpu() for tensor in one.learner.evaluated.state_dict().values()])
        equal = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
        print(f"8 iterations, {precision}, with and without CUDA graphs: {_verdict(equal)}")
    print(f"a training with and without interruption: {_verdict(_resumes(data))}")
    about = Description(Network(), MPII.skeleton.joints, SIZE.resolution, {})
    pictures = [photograph(360, 480, i) for i in range(4)] * 5  # five batches: the last two replay a CUDA graph
    joints = [
        PosePredictor(network.cpu(), about, device=kind, precision="float32").predict(pictures, batch=4, flip=False).joints
        for kind in ("cpu", DEVICE.type)
    ]
    # The median of the differences is shown, not the largest difference, because with an untrained network, rounding may change
    # which pixel of a heatmap is the largest.
    show("predictor, median difference from the CPU", float(np.median(np.abs(joints[0] - joints[1]))), "px")
    if find_spec("onnxruntime"):
        import onnxruntime

        with_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        print(f"onnxruntime {onnxruntime.__version__}: {'with' if with_cuda else 'without'} CUDA")


def _resumes(data: DatasetFiles) -> bool:
    """Return whether a training that is interrupted in epoch 2 and resumed gives the weights of an uninterrupted one."""
    training = settings(4, "auto", epochs=2, iterations=50 if CUDA else 5, seed=5)
    workspace = Workspace(device=DEVICE.type, workers=2, checkpoint_seconds=1e-9)

    def interrupt(done: int, *_: object) -> None:
        if done > 1.5 * training.iterations:
            raise InterruptedError

    results = []
    runs: dict[str, list[Report]] = {"whole": [silent], "stopped": [interrupt, silent]}
    with tempfile.TemporaryDirectory() as name:
        for folder, reports in runs.items():
            place = Path(name, folder)
            place.mkdir()
            for report in reports:
                torch.manual_seed(0)
                with suppress(InterruptedError):
                    train(
                        Job(place, HeatmapObjective(HourglassNet(Network(), 16), data, SIZE, training), training, workspace),
                        report,
                    )
            results.append((place / "best.safetensors").read_bytes())
    return results[0] == results[1]


def _verdict(equal: bool) -> str:
    return "equal, bit for bit" if equal else "DIFFERENT"


def steps(data: DatasetFiles, top: float) -> None:
    """Measure training steps on a batch that is already on the device, compared with a plain training loop.

    top: operations per second of matrix products; no training can be faster than this ceiling.
    """
    for preset, sizes in (("hg-256", BATCHES), ("hg2", (16,) if CUDA else ())):
        for batch in sizes:
            samples = PoseDataset(data, "train", SIZE, settings(batch, "float32"), 3, batch)
            inputs = on_device(samples, 0, batch)
            plain = {kind: _plain(preset, inputs, kind) for kind in ("float32", "tf32", "bfloat16")}
            for kind, images in plain.items():
                show(f"{preset}, batch {batch}, plain loop, {kind}", images, "images/s")
            for kind, deterministic in (("float32", True), ("tf32", True), ("bfloat16", True), ("bfloat16", False)):
                with tempfile.TemporaryDirectory() as name:
                    one = trainer(Path(name), data, settings(batch, kind), deterministic, preset)
                    images = rate(partial(one.step, inputs), batch)
                    del one
                    if CUDA and kind == "bfloat16" and deterministic and batch == BATCHES[-1]:
                        compiled = trainer(Path(name), data, settings(batch, kind), deterministic, preset)
                        compiled.model.compile(dynamic=False)
                        show(
                            f"{preset}, batch {batch}, compiled, {kind}",
                            rate(partial(compiled.step, inputs), batch),
                            "images/s",
                        )
                        del compiled
                note = f"{images / plain[kind]:.2f} x the plain loop"
                if preset == "hg-256" and CUDA:
                    note += f", {images * FLOP / top:.1%} of the ceiling"
                how = "" if deterministic else ", not deterministic"
                show(f"{preset}, batch {batch}, as trained, {kind}{how}", images, "images/s", note)


def _plain(preset: str, inputs: dict[str, Tensor], kind: str) -> float:
    """Return the images per second of the simplest training loop: RMSprop, no weight EMA, no CUDA graphs."""
    torch.manual_seed(0)
    network = HourglassNet(Network(preset=preset), 16).to(DEVICE)
    compute = compute_type(kind, DEVICE)
    set_tf32(kind)
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False
    optimizer = torch.optim.RMSprop(network.parameters(), 2.5e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, compute, enabled=compute != torch.float32):
            stacks = network(inputs["input"])
        loss = sum(((maps.float() - inputs["heatmaps"]).square().mean() for maps in stacks), torch.zeros((), device=DEVICE))
        loss.backward()
        optimizer.step()

    return rate(step, len(inputs["input"]))


def feeding(data: DatasetFiles) -> None:
    """Measure the samples per second of the loader's processes, and the images per second of complete trainings."""
    workers, count = processes(0), 200 if CUDA else 5
    for batch in BATCHES:
        training = settings(batch, "auto")
        stream, _ = plans(data, SIZE, training, DEVICE)
        sources = {"files": replace(data, crops=None), "cache": data}
        every = {f"samples from {name}": PoseDataset(each, "train", SIZE, training, 3, batch) for name, each in sources.items()}
        for what, samples in (every | {"plans of samples": stream}).items():
            start = 0.0
            for number, _ in enumerate(batches(samples, batch, workers, end=count + 20)):
                start = start or (time.perf_counter() if number == 20 else 0.0)
            show(
                f"batch {batch}, {what}, {workers} processes", (count - 1) * batch / (time.perf_counter() - start), "samples/s"
            )
        for what, each in sources.items():
            if what == "files" and batch != BATCHES[len(BATCHES) // 2]:
                continue  # one batch size is enough: with files, the loader limits the speed at every batch size
            with tempfile.TemporaryDirectory() as name:
                iterations = max(250, round(6000 / batch)) if CUDA else 100
                train(job(Path(name), HourglassNet(Network(), 16), each, settings(batch, "auto", iterations=iterations)))
                rows = [float(row["samples_per_second"]) for row in read_metrics(Path(name)) if row["what"] == "train"]
            show(f"batch {batch}, training from {what}, data included", statistics.median(rows[len(rows) // 3 :]), "images/s")


def prediction(folder: Path) -> None:
    """Measure the predictor's speed on arrays and on the JPEG files in `folder`, compared with the network alone."""
    torch.manual_seed(0)
    network, about = HourglassNet(Network(), 16), Description(Network(), MPII.skeleton.joints, SIZE.resolution, {})
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False  # as in a new process
    compute = compute_type("auto", DEVICE)
    run = runtimes.in_torch(network, DEVICE, compute)
    predictor = PosePredictor(network, about, device=DEVICE.type)
    paths = sorted(folder.glob("*.jpg")) * (64 if CUDA else 1)
    frames = [photograph(480, 640, i) for i in range(4)] * len(paths[::4])
    with one_opencv_thread(), ThreadPoolExecutor(processes(0)) as pool:
        kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1e3
        reading = rate(lambda: list(pool.map(read_upright, paths)), len(paths), 0.1)
        show(f"reading JPEG files of 1280 x 720, {kilobytes:.0f} kB, {processes(0)} threads", reading, "images/s")
    for batch in (1, 8, 64):
        images = torch.rand(batch, 3, SIZE.resolution, SIZE.resolution, device=DEVICE).to(memory_format=torch.channels_last)
        alone = rate(partial(run, images), batch)
        show(f"network alone, batch {batch}", alone, "images/s")
        some = slice(None) if batch == 64 else slice(128)
        for what, source in (("frames of 640 x 480", frames[some]), ("files of 1280 x 720", paths[some])):
            work = partial(predictor.predict, source, flip=False, batch=batch)
            images_a_second = rate(work, len(source), 0.1)
            bound = min(alone, reading) if what.startswith("files") else alone
            note = f"{images_a_second / alone:.0%} of the network's speed, {images_a_second / bound:.0%} of the slowest part's"
            show(f"predictor without flip, batch {batch}, {what}", images_a_second, "images/s", note)


def train_on_people(minutes: float, people: Path, crops: Path) -> None:
    """Train hg-256 with the focal loss for about `minutes` minutes, including validations, and score the network.

    The learning rate is twice that of batches of 8, because larger batches need a higher one (RESULTS.md).
    people: a folder of training data: train.h5, valid.h5 and images/; crops: folder to be made for the crop cache.
    """
    data, batch = _with_crops(DatasetFiles(MPII, people, people / "images"), crops), 32 if CUDA else 2
    options, chosen = Network(heatmaps="sigmoid"), {"loss": "focal", "learning_rate": 0.006}
    network = HourglassNet(options, 16)
    with tempfile.TemporaryDirectory() as name:  # a short training: its speed determines `count`, the number of iterations
        train(job(Path(name), network, data, settings(batch, "auto", iterations=400 if CUDA else 4, **chosen)))
        images = [float(row["samples_per_second"]) for row in read_metrics(Path(name)) if row["what"] == "train"] or [1.0]
    count = max(4, round(minutes * 60 * 0.95 * images[-1] / batch))
    epochs = min(4, count)
    torch.manual_seed(0)
    network = HourglassNet(options, 16)
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), time.perf_counter()
        training = settings(batch, "auto", epochs=epochs, iterations=count // epochs, **chosen)
        train(job(folder, network, data, training))
        spent = time.perf_counter() - start
        images = [float(row["samples_per_second"]) for row in read_metrics(folder) if row["what"] == "train"] or [1.0]
        show(f"training of {spent:.0f} s on {len(data.split('train'))} people", statistics.median(images), "images/s")
        result = evaluate(folder, folder / "best.safetensors", data, ["valid"], Evaluation(), Workspace())
    print(f"{epochs * training.iterations * batch} images, batch {batch}, {len(data.split('valid'))} people scored: {result}")


def measure(minutes: float, people: Path | None) -> int:
    """Run all checks and measurements; if `people` is given, also train for `minutes` minutes. Return the exit code.

    people: a folder of training data: train.h5, valid.h5 and images/.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_people(place)
        made = _with_crops(DatasetFiles(MPII, place, place), place / "crops")
        top = facts()
        parts = [partial(correct, made), partial(prediction, place), partial(steps, made, top), partial(feeding, made)]
        if people:
            parts.append(partial(train_on_people, minutes, people, place / "real"))
        failed = 0
        for part in parts:
            start = time.perf_counter()
            try:
                part()
            except Exception:  # the time on a GPU may be short, so a part that fails must not prevent the other parts
                traceback.print_exc()
                failed = 1
            print(f"({time.perf_counter() - start:.0f} s)", flush=True)
        return failed


def _with_crops(data: DatasetFiles, folder: Path) -> DatasetFiles:
    folder.mkdir()
    cache_crops(data, SIZE.resolution, folder)
    return replace(data, crops=folder)
