"""Load training and evaluation samples for forecasts: the cropped image of the start frame, and the joints of all steps."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datasets.errors import DataError
from datasets.formats.annotations import frame_box
from datasets.imaging import geometry
from datasets.imaging.images import read_image
from datasets.imaging.samples import Augmentation, CropSpec, Person, SampledAugmentation, make_sample
from datasets.penn_action import PENN_ACTION, frame_name
from stages.forecasting.movements import Movements, Starts, fixed_rate_starts, published_starts
from stages.settings.forecasting import ForecastTraining
from stages.settings.sections import Input

_ORDER, _AUGMENTATION = 0, 1  # independent RNG streams of one seed
MIRRORED = PENN_ACTION.skeleton.mirrored()


def starts_of(movements: Movements, training: ForecastTraining) -> Starts:
    """Return the start frames that the settings `starts` and `stride` of a training select."""
    if training.starts == "fixed_rate":
        return fixed_rate_starts(movements, training.stride)
    return published_starts(movements)


class PennSequences(Dataset):
    """Samples for the start frames of one split: the image of the start frame, and the joints of all steps.

    With a seed, the dataset is an endless, augmented stream of training samples, with each start frame once in every pass.
    Without a seed, the dataset contains each start frame once, without augmentation. The images of later steps are not read.
    """

    def __init__(self, movements: Movements, starts: Starts, frames: Path, size: Input, training: ForecastTraining,
                 seed: int | None = None) -> None:  # fmt: skip
        """Store the arguments. frames: exp/penn_action_cropped/data/frames."""
        self.movements, self.starts, self.frames, self.training, self.seed = movements, starts, frames, training, seed
        self.target = CropSpec(size.resolution, size.heatmap, training.target_sigma, training.target_radius)
        names = (f.name for f in fields(Augmentation))
        self.augmentation = Augmentation(**{name: getattr(training, name) for name in names}) if seed is not None else None
        self.shuffle: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def __len__(self) -> int:
        return len(self.starts)

    def start_at(self, position: int) -> int:
        """Return which start frame the sample at `position` has, as an index in `Starts`."""
        if self.seed is None:
            return position
        past, offset = divmod(position, len(self))
        if self.shuffle[0] != past:
            self.shuffle = past, self._random(_ORDER, past).permutation(len(self))
        return int(self.shuffle[1][offset])

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed or 0, stream, number])

    def image_path(self, start: int) -> Path:
        """Return the path of a start frame's image; start: index of the start frame."""
        sequence = self.starts.sequence[start]
        frame = self.starts.rows[start, 0] - self.movements.first[sequence]
        return self.frames / f"{self.movements.sequence[sequence]:04d}" / frame_name(int(frame))

    def __getitem__(self, position: int) -> dict[str, Any] | DataError:
        """Return the sample at a position, or the DataError of an unreadable image, which `batches` raises.

        input (3, R, R) float32 RGB in [0, 1]; points (T, J, 2) float32: joints in heatmap px, NaN if not visible; weights
        (T, J) float32: weights of the joints' heatmaps in the loss; limit float32: distance in heatmap px below which a joint
        is correct; image_to_crop (2, 3): map from px of the image to px of the input; start: index of the start frame.
        """
        start = self.start_at(position)
        rows, sequence = self.starts.rows[start], self.starts.sequence[start]
        variation = (
            self.augmentation.draw(self._random(_AUGMENTATION, position)) if self.augmentation else SampledAugmentation()
        )
        center, scale = frame_box(self.movements.size[sequence])
        part = self.movements.joints[rows]
        try:
            image = read_image(self.image_path(start))
            sample = make_sample(image, Person(center, float(scale), part[0]), MIRRORED, self.target, variation)
        except DataError as error:
            return DataError(f"start {start}: {error}")
        res, small = self.target.input_res, self.target.heatmap_res
        to_heatmap = geometry.compose(sample.image_to_crop, geometry.crop_to_heatmap(res, small))
        part = part[:, MIRRORED] if variation.flip else part
        points = geometry.apply(to_heatmap, part)
        # The box is 1.25 times the frame's longer side, so the limit, 0.05 of this side, is 2.56 px in a heatmap of 64 px.
        limit = small / 25 / variation.scale
        return {
            "input": sample.input, "points": points.astype(np.float32), "weights": self._weights(start, part),
            "limit": np.float32(limit), "image_to_crop": sample.image_to_crop, "start": start,
        }  # fmt: skip

    def _weights(self, start: int, part: np.ndarray) -> np.ndarray:
        """Return the loss weights (T, J) of a sample's joints (T, J, 2); start: index of the sample's start frame."""
        hidden = np.isnan(part).any(axis=-1)
        weights = np.where(hidden, self.training.unlabelled_weight, 1.0)
        weights[self.starts.repeated[start]] *= self.training.repeated_weight
        return weights.astype(np.float32)
