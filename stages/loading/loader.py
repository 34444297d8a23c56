"""From annotation files and images to batches, the same stream for any number of worker processes.

Everything random about a training sample comes from (seed, position), where the position counts samples from the start
of the training: which person it is and how it is augmented. So a training that resumes at iteration i continues with
exactly the batches it would have had.
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
_SHARED_MEMORY = "/dev/shm"  # of Linux; 64 MB in Docker's containers by default


class PoseDataset(Dataset):
    """Rows of one split as network inputs and target heatmaps, by position.

    With a seed: the endless stream of a training in batches of `batch`. Without: each row once, as it is; its targets
    have the recipe's blobs, exactly where the joints are.
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
        """The row of the annotation file that stands at a position of the stream."""
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
        """How the sample at a position of the stream is varied."""
        variation = self.augmentation.draw(self._random(_AUGMENTATION, position))
        if self.recipe.flip_by == "sample":
            return variation
        number = position // self.batch
        return replace(variation, flip=self._random(_FLIP, number).random() < self.augmentation.flip_probability)

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed or 0, stream, number])

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """The sample at a position; or the error, see `batches`.

        input (3, R, R) float32, heatmaps (J, h, h) float32, weights (J,) float32 of the heatmaps in the loss,
        image_to_crop (2, 3), row.
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
    """The stream of `PoseDataset` as plans: what `stages.loading.augment` needs to make the samples on a device.

    With `pixels`, each comes with its crop; without, the device holds the crops of all rows.
    """

    def __init__(self, data: DatasetFiles, size: Input, recipe: Recipe, seed: int, batch: int) -> None:
        super().__init__(data, "train", size, recipe, seed, batch)
        assert data.crops is not None
        self.crops, self.pixels = data.crops, True

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """The plan of the sample at a position; or the error, see `batches`.

        row; crop (side, side, 3) uint8 RGB with `pixels`; to_source (K, 2, 3) float32: from each crop's px back to those of
        what it is cut from, in the order in which they are cut; heatmap_source (2, 3) float32 likewise, of heatmaps; centers
        (J, 2) float32 heatmap px of the blobs; colour (3,) float32; erased (4,) int64; weights (J,) float32.
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
    """Mean red, green and blue in [0, 1] over images of the training split, each counting the same; (3,) float64.

    Of many images only some, drawn by the seed: their means deviate by about 0.15, so the result by 0.007. Raises
    DataError for images that cannot be read.
    """
    names = sorted(set(data.split("train").images))
    some = np.random.default_rng([seed, _MEAN]).permutation(len(names))[:_IMAGES_FOR_MEAN]
    return np.mean([cv2.mean(read_image(data.images / names[i]))[:3] for i in some], axis=0) / 255


def _collate(trainers: int, samples: list) -> Any:
    """A batch, or the first sample's error: an exception that crosses processes would lose its sentence.

    Tensors reach the training through shared memory. Where that is short, as in containers, a batch is of arrays, which go
    through a pipe. There has to be room for the batches that all workers of all training processes make at this moment.
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
    """Return the bytes that may still be shared; without a limit of its own on systems that have no such folder."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return math.inf


def _begin(_worker: int) -> None:
    cv2.setNumThreads(0)
    # The thread that hands tensors over meets a broken connection when the training is interrupted: nothing to tell.
    sys.excepthook = lambda *error: None


def batches(samples: PoseDataset, batch: int, workers: int, first: int = 0, count: int | None = None,
            share: tuple[int, int] = (0, 1)) -> Iterator[dict]:  # fmt: skip
    """Batches number `first` to `count` - 1 of the stream; without a count, one pass in which the last may be smaller.

    share: (k, n): of each batch the samples k, k + n, k + 2 n ...; a batch without any is left out. `workers` processes
    read ahead (0: one per core). Raises DataError for images that cannot be read.
    """
    end = len(samples) if count is None else count * batch
    shares = (list(range(i, min(i + batch, end)))[share[0] :: share[1]] for i in range(first * batch, end, batch))
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
        time.sleep(5)  # the process at the other end is being killed: torch's own error is on its way, and ends this
        raise


@contextmanager
def killed_reader_as_data_error() -> Iterator[None]:
    """Raises DataError where a process of `batches` is killed or lacks shared memory.

    Torch's own error comes wherever the block is at that moment.
    """
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise DataError(
                f"{_SHARED_MEMORY}, the memory that processes share, is full; give the container more (docker run "
                "--shm-size=1g), or set fewer [workspace] workers."
            ) from None
        if "DataLoader worker (pid" not in str(error):
            raise
        raise DataError(f"A process that reads images was killed ({error}); set fewer [workspace] workers.") from None
