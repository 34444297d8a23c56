"""Predict poses in arbitrary images, for applications: load a network, pass images, get joints in px of the images."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.formats.annotations import frame_box, person_box
from datasets.imaging import geometry
from datasets.imaging.images import read_upright
from datasets.imaging.samples import warp
from datasets.links import follow
from datasets.skeletons import Skeleton, mirrored
from stages.fetching.sources import obtain
from stages.importing.known_models import HOURGLASSES, KnownModel
from stages.importing.precomputed import convert, read_network
from stages.inference import runtimes
from stages.inference.predict import average_scales, compute_type, joints_in_image, pick_device, set_tf32
from stages.machine.pool import in_order, one_opencv_thread, processes
from stages.network.checkpoints import Description
from stages.network.hourglass import HourglassNet

Image = str | Path | np.ndarray | Tensor
# Names of the network's file in the folder of an export, in the folder of a training, and in the archive of image-play.
_NETWORKS = ("model.safetensors", "best.safetensors", "best_model.t7")
EXP = Path("exp")


@dataclass(frozen=True)
class Poses:
    """The predicted joints of N people, J joints each."""

    joints: np.ndarray  # (N, J, 2) float64, x and y in 0-based px of the person's image, pixel centres at integers
    confidence: np.ndarray  # (N, J) float32: height of the heatmap's peak, about 1 if the network is certain
    image: np.ndarray  # (N,) int64: index of the person's image, from 0


class PosePredictor:
    """A network together with cropping and decoding, which turns images into joints.

    `joints` are the names of the joints; `skeleton` has the limbs, for drawing.
    """

    def __init__(self, network: HourglassNet, about: Description, runtime: str = "torch", device: str = "auto",
                 precision: str = "auto", onnx: Path | None = None) -> None:  # fmt: skip
        """Start the network in a runtime. To load a network from disk, use `load`.

        runtime: torch, onnxruntime or openvino (`runtimes`); device: auto, cpu, cuda or mps; precision: auto (the shortest
        dtype that the machine computes natively), float32, tf32, bfloat16 or float16; onnx: the network's ONNX file, if
        there is one.
        """
        self.joints, self.resolution = about.joints, about.resolution
        known = (dataset.skeleton.limbs for dataset in DATASETS.values() if dataset.skeleton.joints == about.joints)
        self.skeleton = Skeleton(about.joints, (), about.limbs or next(known, ()))  # older checkpoints do not store the limbs
        self._device = pick_device(device)
        compute = compute_type(precision, self._device)
        set_tf32(precision)
        self._run = runtimes.start(runtime, network, about, self._device, compute, onnx)
        self._run_with_flip = runtimes.with_flip(self._run, mirrored(about.joints))

    @classmethod
    def load(cls, source: str | Path, runtime: str = "torch", device: str = "auto", precision: str = "auto",
             dataset: str = "") -> "PosePredictor":  # fmt: skip
        """Return a predictor.

        source: the folder of an export or of a training, a .safetensors or .t7 file, a PyTorch checkpoint, or a name. A name
        is an experiment below exp/, such as hg-256-ft or penn_action_cropped/hg-256-ft, or a network in `known_models`, which
        is downloaded. dataset: the dataset that the network was trained on, such as mpii; needed for .t7 files and PyTorch
        checkpoints, which do not name their joints. Raises DataError if `source` leads to no network, to several networks or
        to an unreadable file.
        """
        path = find(source)
        onnx = path.with_name("model.onnx")
        if dataset and dataset not in DATASETS:
            raise DataError(f"dataset = {dataset} is unknown; the datasets are {', '.join(DATASETS)}.")
        network, about = read_network(path, DATASETS.get(dataset))
        return cls(network, about, runtime, device, precision, onnx if path.name == _NETWORKS[0] and onnx.is_file() else None)

    def predict(self, images: Image | Sequence[Image], boxes: Any = None, *, centers: Any = None, scales: Any = None,
                flip: bool = True, sizes: Sequence[float] = (1.0,), batch: int = 8) -> Poses:  # fmt: skip
        """Return the joints of the people in one image or several.

        images: an image is a path, an (H, W, 3) uint8 RGB array, or a (3, H, W) tensor, uint8 or float in [0, 1]. Several
        images are a list, an (N, H, W, 3) array or an (N, 3, H, W) tensor. A file is read shortly before it is needed.
        The EXIF orientation of a file is applied, and the joints are in px of the upright image.
        boxes: boxes around people, (4,) or (P, 4): left, top, right, bottom in 0-based px. As in training, the network sees
        each box moved down a little and enlarged 1.25 times. Without boxes, the whole image is the box of one person.
        centers, scales: instead of boxes, the exact squares that the network sees: centers (2,) or (P, 2) in px, and scales,
        one number or (P,): side of the square / 200 px.
        For several images, boxes, centers and scales have one entry per image.

        flip: average the heatmaps of the image and of its mirror image; sizes: average the heatmaps of boxes enlarged by these
        factors; batch: number of crops per batch. Raises DataError for an invalid image, box or option.
        """
        sizes = np.ravel(sizes).tolist()
        if batch < 1 or not sizes or not min(sizes) > 0:
            raise DataError(f"batch = {batch}, sizes = {sizes}: all must be above 0, with at least one size.")
        several = _as_list(images)
        if several is None:
            several, boxes, centers, scales = [cast(Image, images)], *([given] for given in (boxes, centers, scales))
        if not len(several):
            raise DataError("the list of images is empty; give at least one.")
        boxes, centers, scales = (_for_each(given, len(several)) for given in (boxes, centers, scales))
        jobs = zip(count(), several, boxes, centers, scales, strict=False)
        joints, confidence, numbers = [], [], list[int]()
        with one_opencv_thread(), ThreadPoolExecutor(processes(0)) as pool:
            crops = chain.from_iterable(in_order(pool, partial(self._cut, sizes), jobs, 2 * batch))
            for points, peaks, of_images in in_order(pool, self._decode, self._computed(crops, batch, flip, sizes), 2):
                joints.append(points)
                confidence.append(peaks)
                numbers += of_images
        if not numbers:
            return Poses(np.empty((0, len(self.joints), 2)), np.empty((0, len(self.joints)), np.float32), np.empty(0, np.int64))
        return Poses(np.concatenate(joints), np.concatenate(confidence), np.array(numbers))

    def _cut(self, sizes: Sequence[float], number: int, image: Image, boxes: Any, centers: Any, scales: Any) -> list["_Crops"]:
        """Return the crops of the people in an image; runs in several threads at a time."""
        name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
        pixels, side, people = _pixels(image, name), self.resolution, []
        for center, scale in zip(*_frames(pixels, name, boxes, centers, scales), strict=True):
            maps = [geometry.image_to_crop(center, float(scale) * size, side) for size in sizes]
            people.append(_Crops(number, [warp(pixels, affine, side) for affine in maps], maps[0]))
        return people

    def _computed(self, people: Iterator["_Crops"], batch: int, flip: bool, sizes: Sequence[float]) -> Iterator[tuple]:
        """Yield the arguments of `_decode` batch by batch, without waiting for the device."""
        run = self._run_with_flip if flip else self._run
        while chunk := list(islice(people, batch)):
            maps = []
            for crops in zip(*(person.crops for person in chunk), strict=True):
                images = torch.empty((len(crops), *crops[0].shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda")
                np.stack(crops, out=images.numpy())
                maps.append(run(images.to(self._device, non_blocking=True).permute(0, 3, 1, 2) / 255))
            yield Fetched(average_scales(maps, sizes)), np.stack([p.to_crop for p in chunk]), [p.image for p in chunk]

    def _decode(self, maps: "Fetched", to_crop: np.ndarray, images: list[int]) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return a batch's joints (n, J, 2) in px of the images, its confidences (n, J), and the indices of its images.

        Raises DataError for heatmaps with NaN or infinite numbers, from which no joints can be computed.
        """
        heatmaps = maps.get()
        if not np.isfinite(heatmaps).all():
            raise DataError(
                "the network computes heatmaps with NaN or infinite numbers, so its weights are damaged; load another "
                "checkpoint."
            )
        return *joints_in_image(heatmaps, to_crop, self.resolution), images


@dataclass(frozen=True)
class _Crops:
    """The crops of one person, which are inputs of the network."""

    image: int  # index of the image
    crops: list[np.ndarray]  # (R, R, 3) uint8 RGB, one per size
    to_crop: np.ndarray  # (2, 3): image px -> px of the first crop


class Fetched:
    """An asynchronous copy of a tensor from the device to the CPU; only `get` waits for the copy."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.arrived = tensor, None
        if tensor.is_cuda:
            self.tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def get(self) -> np.ndarray:
        """Wait for the copy; returns the array on the CPU."""
        if self.arrived:
            self.arrived.synchronize()
        return self.tensor.cpu().numpy()


def find(source: str | Path) -> Path:
    """Return the path of a network file. source: a path, or the name of an experiment below exp/ or of a known network.

    Raises DataError if there is no network file, or several.
    """
    path = follow(Path(source))
    if path.is_file():
        return path
    if path.is_dir():
        below = [path]
        # A folder such as exp/, with the results of many stages: prefer the exported network.
        if not any((path / name).is_file() for name in _NETWORKS):
            exported = follow(path / "export")
            deeper = [
                follow(p)
                for up in ("*", "*/*", "own/*/*")
                for p in sorted(path.glob(up))
                if "@" not in str(p.relative_to(path))
            ]
            below += [exported] if any((exported / name).is_file() for name in _NETWORKS) else deeper
    else:
        places = [] if path.is_absolute() else [f"{up}{source}" for up in ("", "*/", "*/*/")]
        below = [follow(folder) for place in places for folder in sorted(EXP.glob(place))]
    found = [folder / name for folder in below for name in _NETWORKS if (folder / name).is_file()]
    folders = sorted({file.parent for file in found})
    if len(folders) > 1:
        raise DataError(f"{source} is ambiguous: {' or '.join(map(str, folders))}; give the path of one of them.")
    if not found and str(source) in HOURGLASSES:
        return _fetch(HOURGLASSES[str(source)])
    if not found:
        what = f"holds none of {', '.join(_NETWORKS)}" if below else "is not a file, a folder or an experiment below exp/"
        raise DataError(
            f"{source} {what}; give an export folder, a checkpoint, an experiment or one of {', '.join(HOURGLASSES)}."
        )
    return found[0]


def _fetch(model: KnownModel) -> Path:
    """Return the path of a known network, which is downloaded and converted at the first call."""
    folder = EXP / "downloads/networks" / model.name
    path = folder / "best.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        convert(obtain(model.source(), EXP / "downloads"), DATASETS[model.dataset], folder, model)
    return path


def _as_list(images: Any) -> Any:
    """Return several images as a sequence; return None for a single image or an object that is not an image."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images if images.ndim == 4 else None
    return list(images) if hasattr(images, "__iter__") and not isinstance(images, str) else None


def _for_each(given: Any, count: int) -> Sequence[Any]:
    """Return `given`, or [None] * count if nothing is given. Raises DataError if `given` does not have `count` entries."""
    if given is None:
        return [None] * count
    entries = len(given) if hasattr(given, "__len__") else 1
    if entries != count:
        raise DataError(f"there are {count} images, but boxes, centers or scales for {entries}; give one entry per image.")
    return given


def _pixels(image: Image, name: str) -> np.ndarray:
    """Return an image, in any form that `predict` accepts, as (H, W, 3) uint8 RGB. Raises DataError for an invalid image."""
    if isinstance(image, (str, Path)):
        return read_upright(Path(image))
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        if image.is_floating_point():
            if not (image.numel() and image.min() >= 0 and image.max() <= 1):
                raise DataError(f"{name} is a float tensor with values outside of [0, 1]; divide its colours by 255.")
            image = (image * 255).round().to(torch.uint8)
        image = image.movedim(0, -1).numpy() if image.ndim == 3 else image.numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name} is a {type(image).__name__}; give a path, an (H, W, 3) uint8 array or a (3, H, W) tensor.")
    if image.dtype != np.uint8:
        raise DataError(f"{name} is an array of {image.dtype}; give colours as uint8 from 0 to 255.")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise DataError(f"{name} is grey; repeat its channel three times: cv2.cvtColor(image, cv2.COLOR_GRAY2RGB).")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"{name} has the shape {image.shape}; give an RGB array (H, W, 3) or an RGB tensor (3, H, W).")
    return np.ascontiguousarray(image)


def _frames(pixels: np.ndarray, name: str, boxes: Any, centers: Any, scales: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres (P, 2) in px and the scales (P,) of the squares that the network sees. Raises DataError."""
    size = np.array(pixels.shape[1::-1], dtype=np.float64)
    if boxes is not None and (centers is not None or scales is not None):
        raise DataError("give boxes, or centers and scales, not both.")
    if (centers is None) != (scales is None):
        raise DataError("centers and scales belong together; give both.")
    if boxes is not None:
        corners = _numbers(boxes, 4, f"{name}: boxes")
        sides = corners[:, 2:] - corners[:, :2]
        if not (sides > 0).all():
            raise DataError(f"{name}: a box is left, top, right, bottom in px, with left < right and top < bottom.")
        middle, scale = (corners[:, :2] + corners[:, 2:]) / 2, sides.max(axis=1) / 200
        _inside(corners[:, :2], corners[:, 2:], size, name)
        return person_box(middle, scale)
    if centers is not None:
        middle, scale = _numbers(centers, 2, f"{name}: centers"), _numbers(scales, 1, f"{name}: scales")[:, 0]
        if len(middle) != len(scale) or not (scale > 0).all():
            raise DataError(f"{name}: {len(middle)} centers and {len(scale)} scales; give equally many, and scales above 0.")
        half = 100 * scale[:, None]
        _inside(middle - half, middle + half, size, name)
        return middle, scale
    return frame_box(size[None])


def _numbers(given: Any, length: int, what: str) -> np.ndarray:
    """Return one or several rows of numbers as (P, length) float64. Raises DataError for another shape or non-finite values."""
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(math.nan)
    if not array.size and array.ndim <= 2:
        return np.empty((0, length))
    if not np.isfinite(array).all() or array.ndim > 2 or array.size % length or (array.ndim == 2 and array.shape[1] != length):
        raise DataError(
            f"{what} must have {length} finite number{'s' * (length > 1)} per person; found the shape {array.shape}, or NaN, "
            "infinity or text."
        )
    return array.reshape(-1, length)


def _inside(low: np.ndarray, high: np.ndarray, size: np.ndarray, name: str) -> None:
    for box in np.hstack((low, high))[((high < 0) | (low > size - 1)).any(axis=1)]:
        where = "({:g}, {:g}) to ({:g}, {:g})".format(*box)
        raise DataError(f"{name}: the box from {where} lies outside of the image of {size[0]:g} x {size[1]:g} px.")
