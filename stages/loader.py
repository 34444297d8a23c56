"""From annotation files and images to batches, the same stream for any number of worker processes.

Everything random about a training sample comes from (seed, position), where the position counts samples from the start
of the training: which person it is (a fresh shuffle of the split each pass) and how it is augmented. So a training that
resumes at iteration i continues with exactly the batches it would have had.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from datasets import annotations
from datasets.annotations import Annotations
from datasets.errors import DataError
from datasets.images import read_image
from datasets.samples import Augmentation, make_sample
from datasets.skeletons import Skeleton
from stages.pool import processes
from stages.settings import Input, Recipe

PUBLISHED = Recipe()


@dataclass(frozen=True)
class Data:
    """A converted dataset: its annotation folder, its images, its skeleton."""

    skeleton: Skeleton
    annotations: Path
    images: Path

    def split(self, name: str) -> Annotations:
        """Annotations of train, valid or test. Raises DataError where the split is empty or cannot be read."""
        split = annotations.read(self.annotations, name)
        if not len(split.images):
            raise DataError(f"{self.annotations / name}.h5 holds no person; nothing can be trained or scored on it.")
        return split


class Samples(Dataset):
    """Rows of one split as network inputs and target heatmaps, by position.

    With a seed: an endless stream for training, shuffled anew each pass and augmented. Without: each row once, as it is.
    """

    def __init__(self, data: Data, split: str, size: Input, recipe: Recipe = PUBLISHED, seed: int | None = None) -> None:
        self.data, self.rows, self.size, self.recipe, self.seed = data, data.split(split), size, recipe, seed
        self.mirrored = data.skeleton.mirrored()
        self.shuffle: tuple[int, np.ndarray] = (-1, np.empty(0, int))
        self.augmentation: Augmentation | None = None
        if seed is not None:
            self.augmentation = Augmentation(
                scale_deviation=recipe.scale, scale_limit=recipe.scale,
                rotation_deviation=recipe.rotation, rotation_limit=2 * recipe.rotation,
                rotation_probability=recipe.rotation_probability,
                colour=recipe.colour, flip_probability=recipe.flip,
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows.images)

    def row_at(self, position: int) -> int:
        """The row of the annotation file that stands at a position of the stream."""
        if self.seed is None:
            return position
        past, offset = divmod(position, len(self))
        if self.shuffle[0] != past:
            self.shuffle = past, np.random.default_rng([self.seed, 0, past]).permutation(len(self))
        return int(self.shuffle[1][offset])

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """input (3, R, R) float32, heatmaps (J, h, h) float32, image_to_crop (2, 3), row; or the error, see `batches`."""
        row, rows = self.row_at(position), self.rows
        rng = np.random.default_rng([self.seed or 0, 1, position])
        try:
            image = read_image(self.data.images / rows.images[row])
            sample = make_sample(
                image, rows.center[row], rows.scale[row], rows.part[row], self.mirrored, self.size.resolution,
                self.size.heatmap, self.recipe.blob_sigma, self.recipe.blob_radius, self.augmentation, rng,
            )  # fmt: skip
        except DataError as error:
            return DataError(f"row {row} ({rows.images[row]}): {error}")
        return {"input": sample.input, "heatmaps": sample.heatmaps, "image_to_crop": sample.image_to_crop, "row": row}


def _collate(samples: list) -> Any:
    """A batch, or the first sample's error: an exception that crosses processes would lose its sentence."""
    return next((s for s in samples if isinstance(s, DataError)), None) or default_collate(samples)


def _single_threaded(_worker: int) -> None:
    cv2.setNumThreads(0)


def batches(samples: Samples, batch: int, workers: int, first: int = 0, count: int | None = None) -> Iterator[dict]:
    """Batches number `first` to `count` - 1 of the stream; without a count, one pass in which the last may be smaller.

    `workers` processes read ahead (0: one per core). Raises DataError for images that cannot be read.
    """
    end = len(samples) if count is None else count * batch
    positions = (list(range(i, min(i + batch, end))) for i in range(first * batch, end, batch))
    loader = DataLoader(
        samples, batch_sampler=positions, num_workers=processes(workers), collate_fn=_collate,
        worker_init_fn=_single_threaded, pin_memory=torch.cuda.is_available(), prefetch_factor=4,
    )  # fmt: skip
    try:
        for item in loader:
            if isinstance(item, DataError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(f"A process that reads images was killed ({error}); set fewer [workspace] workers.") from None
