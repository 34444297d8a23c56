"""Load batches from annotation files and images, as a stream that does not depend on the number of worker processes.

The person and the augmentation of a training sample are random, but depend only on the seed and on the position: the number
of the sample, counted from the start of the training. So a training that resumes at iteration i continues with exactly
the batches of an uninterrupted training.
"""

import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.imaging import geometry
from datasets.imaging.images import read_image, read_reduced
from datasets.imaging.samples import (
    Augmentation,
    CropSpec,
    Person,
    SampledAugmentation,
    block,
    erased_square,
    make_sample,
    plan,
)
from stages.loading.crop_cache import crop_map, read_crop
from stages.machine.pool import processes
from stages.settings.recipes import Recipe
from stages.settings.sections import Input

PUBLISHED = Recipe()

# Independent RNG streams of one seed, one per purpose.
_ORDER, _AUGMENTATION, _FLIP, _MEAN = 0, 1, 2, 3
_IMAGES_FOR_MEAN = 500
_SHARED_MEMORY = "/dev/shm"  # the folder of shared memory on Linux; in Docker containers it has 64 MB by default


class PoseDataset(Dataset):
    """The rows of one split as network inputs and target heatmaps, indexed by position.

    With a seed, the dataset is the endless stream of a training's augmented samples, in batches of `batch`. Without a seed, it
    contains each row once, without augmentation; the targets have the recipe's Gaussian blobs at the joints' exact positions.
    """

    def __init__(self, data: DatasetFiles, split: str, size: Input, recipe: Recipe = PUBLISHED, seed: int | None = None,
                 batch: int = 1) -> None:  # fmt: skip
        self.data, self.rows, self.recipe, self.seed, self.batch = data, data.split(split), recipe, seed, batch
        self.mirrored = data.skeleton.mirrored()
        self.target = CropSpec(size.resolution, size.heatmap, recipe.target_sigma, recipe.target_radius)
        self.augmentation = Augmentation()
        self.weights = np.ones(self.rows.visible.shape, np.float32)
        self.shuffle: tuple[int, np.ndarray] = (-1, np.empty(0, int))
        if seed is not None:
            self.target = replace(self.target, truncated=recipe.targets == "truncated", twice=recipe.crop == "published")
            self.augmentation = Augmentation(**{f.name: getattr(recipe, f.name) for f in fields(Augmentation)})
            self.weights[~self.rows.visible] = recipe.occluded_weight
            self.weights[np.isnan(self.rows.part).any(axis=2)] = recipe.unlabelled_weight

    def __len__(self) -> int:
        return len(self.rows)

    def row_at(self, position: int) -> int:
        """Return the row of the annotation file that the sample at a position of the stream shows."""
        if self.seed is None:
            return position
        if self.recipe.sampling == "consecutive":
            number, offset = divmod(position, self.batch)
            return (int(self._random(_ORDER, number).integers(len(self))) + offset) % len(self)
        past, offset = divmod(position, len(self))
        if self.shuffle[0] != past:
            self.shuffle = past, self._random(_ORDER, past).permutation(len(self))
        return int(self.shuffle[1][offset])

    def variation_at(self, position: int) -> SampledAugmentation:
        """Return the augmentation of the sample at a position of the stream."""
        variation = self.augmentation.draw(self._random(_AUGMENTATION, position))
        if self.recipe.flip_by == "sample":
            return variation
        number = position // self.batch
        return replace(variation, flip=self._random(_FLIP, number).random() < self.augmentation.flip_probability)

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed or 0, stream, number])

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """Return the sample at a position. For an unreadable image, return a DataError, which `batches` will raise.

        input (3, R, R) float32 RGB in [0, 1], heatmaps (J, h, h) float32, weights (J,) float32 of the heatmaps in the loss,
        image_to_crop (2, 3): map from image px to input px, row: number in the annotation file.
        """
        row, rows = self.row_at(position), self.rows
        person = Person(rows.center[row], rows.scale[row], rows.part[row])
        variation = self.variation_at(position)
        try:
            if self.data.crops and self.seed is not None:
                image, to_image = read_crop(self.data.crops, row, rows, self.target.input_res)
            else:
                side = block(person, self.target, variation)
                image, factor = read_reduced(self.data.images / rows.images[row], side)
                to_image = geometry.crop_to_heatmap(factor, 1)
            sample = make_sample(image, person, self.mirrored, self.target, variation, to_image)
        except DataError as error:
            return DataError(f"row {row} ({rows.images[row]}): {error}")
        weights = self.weights[row]
        return {
            "input": sample.input, "heatmaps": sample.heatmaps, "image_to_crop": sample.image_to_crop, "row": row,
            "weights": weights[self.mirrored] if variation.flip else weights,
        }  # fmt: skip


class Plans(PoseDataset):
    """The training samples of `PoseDataset` as plans: numbers from which `stages.loading.augment` computes samples on a device.

    With `pixels`, each plan contains its crop. Without `pixels`, the crops of all rows are stored on the device.
    """

    def __init__(self, data: DatasetFiles, size: Input, recipe: Recipe, seed: int, batch: int, pixels: bool = True) -> None:
        super().__init__(data, "train", size, recipe, seed, batch)
        assert data.crops is not None
        self.crops, self.pixels = data.crops, pixels

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """Return the plan of the sample at a position. For a damaged cache, return a DataError, which `batches` will raise.

        row: number in the annotation file. crop (side, side, 3) uint8 RGB, only with `pixels`. to_source (K, 2, 3) float32: the
        crop is warped K times; for each warp, in order, the map from px of the warp's result to px of its source.
        heatmap_source (2, 3) float32: the map from px of the final heatmaps to px of the drawn heatmaps, which are warped only
        with `crop = published`. centers (J, 2) float32: blob centers in px of the drawn heatmaps. colour (3,) float32: factors
        of R, G, B. erased (4,) int64: left, top, right, bottom of the erased square in input px. weights (J,) float32: as in
        `PoseDataset`.
        """
        row, rows, variation = self.row_at(position), self.rows, self.variation_at(position)
        try:
            how = plan(Person(rows.center[row], rows.scale[row], rows.part[row]), self.mirrored, self.target, variation)
            source = geometry.invert(crop_map(rows, row, self.target.input_res))
            first, *others = how.steps
            steps = [geometry.compose(source, first), *others]
            crop = {"crop": read_crop(self.crops, row, rows, self.target.input_res)[0]} if self.pixels else {}
        except DataError as error:
            return DataError(f"row {row} ({rows.images[row]}): {error}")
        weights = self.weights[row]
        return crop | {
            "row": row, "to_source": np.stack([geometry.invert(step) for step in steps]).astype(np.float32),
            "heatmap_source": geometry.invert(how.heatmap_step).astype(np.float32),
            "centers": how.centers.astype(np.float32), "colour": np.array(variation.colour, np.float32),
            "erased": np.array(erased_square(variation, self.target.input_res)),
            "weights": weights[self.mirrored] if variation.flip else weights,
        }  # fmt: skip


def channel_mean(data: DatasetFiles, seed: int) -> np.ndarray:
    """Return the mean red, green and blue in [0, 1] of the training images, (3,) float64; all images have equal weight.

    Uses at most 500 images, drawn by the seed: the standard deviation of an image's mean is about 0.15, so the standard error
    of the result is 0.007. Raises DataError for an unreadable image.
    """
    names = sorted(set(data.split("train").images))
    some = np.random.default_rng([seed, _MEAN]).permutation(len(names))[:_IMAGES_FOR_MEAN]
    return np.mean([cv2.mean(read_image(data.images / names[i]))[:3] for i in some], axis=0) / 255


def _collate(trainers: int, samples: list) -> Any:
    """Return the batch of the samples, or the first DataError among the samples.

    The DataError is returned, because a raised exception would lose its message on the way to the training process.
    Tensors reach the training process through shared memory, which needs space for one batch of each worker of each training
    process. If shared memory is too small, as in containers, the batch consists of arrays, which are sent through a pipe.
    trainers: number of training processes.
    """
    error = next((s for s in samples if isinstance(s, DataError)), None)
    if error:
        return error
    size = sum(np.asarray(value).nbytes for value in samples[0].values()) * len(samples)
    worker = get_worker_info()
    if worker and size * (trainers * worker.num_workers + 1) > _shared_memory_left():
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return default_collate(samples)


def _shared_memory_left() -> float:
    """Return the free bytes of shared memory; infinity on systems without the folder /dev/shm."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return math.inf


def _begin(_worker: int) -> None:
    cv2.setNumThreads(0)
    # When the training is interrupted, the thread that sends tensors loses its connection and raises an error, whose traceback
    # would only confuse users.
    sys.excepthook = lambda *error: None


def batches(samples: PoseDataset, batch: int, workers: int, first: int = 0, end: int | None = None,
            share: tuple[int, int] = (0, 1)) -> Iterator[dict]:  # fmt: skip
    """Yield the batches `first` to `end` - 1 of the stream; end = None: up to the end of one pass over the rows.

    workers: number of processes that prefetch (0: one per core). share: (k, n) selects the samples k, k + n, k + 2 n ... of
    each batch, for training process k of n training processes; a batch without a selected sample is skipped. The last batch
    of a pass may have fewer than `batch` samples. Raises DataError for an unreadable image.
    """
    last = len(samples) if end is None else end * batch
    shares = (list(range(i, min(i + batch, last)))[share[0] :: share[1]] for i in range(first * batch, last, batch))
    loader = DataLoader(
        samples, batch_sampler=filter(None, shares), num_workers=processes(workers), collate_fn=partial(_collate, share[1]),
        worker_init_fn=_begin, pin_memory=torch.cuda.is_available(), prefetch_factor=4,
    )  # fmt: skip
    try:
        for item in loader:
            if isinstance(item, DataError):
                raise item
            yield {name: torch.as_tensor(values) for name, values in item.items()}
    except (ConnectionError, EOFError, FileNotFoundError):
        time.sleep(5)  # a worker process was killed: torch raises a clearer error within these seconds
        raise


@contextmanager
def killed_reader_as_data_error() -> Iterator[None]:
    """Raise DataError if a worker process of `batches` is killed or runs out of shared memory.

    Torch reports a killed worker process by a RuntimeError, which can be raised at any line of the block.
    """
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise DataError(
                f"{_SHARED_MEMORY} (shared memory) is full; give the container more (docker run --shm-size=1g), or set fewer "
                "[workspace] workers."
            ) from None
        if "DataLoader worker (pid" not in str(error):
            raise
        raise DataError(f"A worker process that reads images was killed ({error}); set fewer [workspace] workers.") from None
