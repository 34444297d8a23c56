"""Make synthetic samples without images: poses of motion capture, projected by random cameras, and heatmaps of their joints.

The units and coordinate frames are those of `stages.lifting.cameras`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from stages.lifting.bodies import FACTORS, MIRRORED, scale_limbs
from stages.lifting.cameras import draw_cameras, principal_point, project
from stages.lifting.recordings import Recordings, moved
from stages.settings.lifting import Converter
from stages.settings.trainings import Training

VALIDATION_SEED = 0  # fixed seed, so that all epochs, trainings and networks are validated with the same cameras
_ORDER, _SAMPLES, _VALIDATION, _STATISTICS, _RECORDED = range(5)  # independent RNG streams of one seed, one per purpose
STATISTICS = 4096  # number of scenes that `PoseSamples.statistics` returns
RECORDED_SHARE = 0.5  # fraction of the training samples whose drawn heatmaps are replaced, if there are recorded heatmaps


@dataclass(frozen=True)
class Scenes:
    """N scenes. A scene is a pose with J joints, in mm in the frame of its camera, and in px in the image of this camera."""

    repos: np.ndarray  # (N, J, 3) mm, camera frame: joints minus their mean
    trans: np.ndarray  # (N, 3) mm, camera frame: mean of the joints
    focal: np.ndarray  # (N,) px: focal length of the camera
    points: np.ndarray  # (N, J, 2) px: image coordinates of the joints
    center: float  # the principal point of all cameras is (center, center) px

    def __len__(self) -> int:
        return len(self.focal)

    def mirrored(self, chosen: np.ndarray) -> "Scenes":
        """Return all scenes; the chosen ones are mirrored left to right, and their left and right joints are exchanged.

        chosen: (N,) bool.
        """
        sign = np.array([-1, 1, 1])
        points = np.stack([2 * self.center - self.points[..., 0], self.points[..., 1]], axis=-1)
        return Scenes(
            np.where(chosen[:, None, None], self.repos[:, MIRRORED] * sign, self.repos),
            np.where(chosen[:, None], self.trans * sign, self.trans),
            self.focal,
            np.where(chosen[:, None, None], points[:, MIRRORED], self.points),
            self.center,
        )


@dataclass(frozen=True)
class Noise:
    """The random changes of heatmaps; without changes, each heatmap has a sharp blob with a peak of 1 at its joint."""

    blur_std: float = 0.0  # largest standard deviation of the additional blur, in heatmap px
    lowest_peak: float = 1.0  # peaks are uniformly distributed between this height and 1
    jitter_std: float = 0.0  # standard deviation of the shift of a blob in x and in y, in heatmap px
    missing_probability: float = 0.0  # probability that a heatmap is empty


NONE = Noise()  # leaves heatmaps unchanged


def synthesise(poses: np.ndarray, side: int, rng: Generator, published: bool = False) -> Scenes:
    """Return N * T scenes: the poses of N people at T moments; one random camera per person sees the person at all moments.

    poses: (N, T, J, 3) mm, world frame; side: side of the heatmaps in px; published: see `stages.lifting.cameras`. Raises
    DataError if no random camera sees all joints of a person; see `draw_cameras`.
    """
    centred = poses - poses.mean(axis=2, keepdims=True, dtype=np.float64)
    cameras = draw_cameras(centred, side, rng, published)
    seen, center = cameras.view(centred), principal_point(side, published)
    points = project(seen, cameras.focal, center)
    seen = seen.reshape(-1, *seen.shape[2:])
    trans = seen.mean(axis=1)
    focal = np.repeat(cameras.focal, poses.shape[1])
    return Scenes(seen - trans[:, None], trans, focal, points.reshape(*seen.shape[:2], 2), center)


def validation_scenes(poses: np.ndarray, side: int, published: bool = False) -> Scenes:
    """Return a scene of each of N poses (N, J, 3) mm, world frame; equal arguments give equal random cameras."""
    return synthesise(poses[:, None], side, np.random.default_rng([VALIDATION_SEED, _VALIDATION]), published)


class PoseSamples:
    """An endless stream of training batches; a batch depends only on the poses, recordings, settings and batch number."""

    def __init__(self, poses: np.ndarray, side: int, options: Converter, training: Training,
                 recordings: Recordings | None = None) -> None:  # fmt: skip
        """Store the poses and settings; poses: (M, 13, 3) mm, world frame; side: side of the heatmaps in px.

        recordings: heatmaps that replace the drawn blobs in half of the samples, which are chosen at random.
        """
        self.poses, self.side, self.options, self.training, self.recordings = poses, side, options, training, recordings
        self.noise = noise_of(options)
        self.shuffle: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def batches(self, first: int, end: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches number `first` to `end` - 1, made by `observed`; the poses are shuffled for each pass over them."""
        size = self.training.batch
        for number in range(first, end):
            rng = self._random(_SAMPLES, number)
            chosen = [self._pose_at(position) for position in range(number * size, (number + 1) * size)]
            batch = observed(self._scenes(np.array(chosen), rng), self.training, self.noise, rng)
            yield self.recordings.replace(batch, self._recordings(number, len(self.recordings))) if self.recordings else batch

    def statistics(self) -> Scenes:
        """Return STATISTICS random scenes, which define the units of normalised outputs and train the baselines."""
        rng = self._random(_STATISTICS, 0)
        return self._scenes(rng.integers(len(self.poses), size=STATISTICS), rng)

    def _scenes(self, chosen: np.ndarray, rng: Generator) -> Scenes:
        most = self.options.proportions
        factors = rng.uniform(1 - most, 1 + most, (len(chosen), len(FACTORS)))
        poses = scale_limbs(self.poses[chosen], factors) if most else self.poses[chosen]
        scenes = synthesise(poses[:, None], self.side, rng, self.options.cameras == "published")
        return scenes.mirrored(rng.random(len(chosen)) < self.training.flip_probability)

    def _pose_at(self, position: int) -> int:
        past, offset = divmod(position, len(self.poses))
        if self.shuffle[0] != past:
            self.shuffle = past, self._random(_ORDER, past).permutation(len(self.poses))
        return int(self.shuffle[1][offset])

    def _recordings(self, number: int, count: int) -> np.ndarray:
        """Return the index of the recording for each sample of batch `number`, (N,) int64; -1 for a sample with drawn blobs."""
        rng, size = self._random(_RECORDED, number), self.training.batch
        return np.where(rng.random(size) < RECORDED_SHARE, rng.integers(count, size=size), -1)

    def _random(self, stream: int, number: int) -> Generator:
        return np.random.default_rng([self.training.seed, stream, number])


def noise_of(options: Converter) -> Noise:
    """Return the noise, given by the settings, that is added to the heatmaps of a training."""
    return Noise(options.blur_std, options.lowest_peak, options.jitter_std, options.missing_probability)


def observed(scenes: Scenes, training: Training, noise: Noise, rng: Generator) -> dict[str, np.ndarray]:
    """Return name -> float32 array, for the arrays of the scenes and for random parameters of their heatmaps.

    Arrays: repos (N, J, 3), trans (N, 3), focal (N,), points (N, J, 2), as in `Scenes`; seen (N, J, 2), centre of each blob in
    px, NaN for an empty heatmap; std (N, J), standard deviation of each blob in px; peak (N, J), height of each blob.
    """
    shape = scenes.points.shape[:2]
    seen = scenes.points + noise.jitter_std * rng.normal(size=scenes.points.shape)
    if training.targets == "truncated":
        seen = np.floor(seen)
    seen[rng.random(shape) < noise.missing_probability] = np.nan
    std = np.hypot(training.target_sigma, rng.uniform(0, noise.blur_std, shape))
    peak = rng.uniform(noise.lowest_peak, 1, shape)
    found = {"repos": scenes.repos, "trans": scenes.trans, "focal": scenes.focal, "points": scenes.points}
    found |= {"seen": seen, "std": std, "peak": peak}
    return {name: values.astype(np.float32) for name, values in found.items()}


def draw_heatmaps(batch: dict[str, Tensor], side: int, training: Training) -> Tensor:
    """Return heatmaps (N, J, side, side) for a batch that `observed` or `Recordings.replace` made, on the batch's device.

    A blob without blur covers the pixels that are at most target_radius px, in x and in y, from the pixel nearest to its
    centre. With blur, a blob's radius grows in proportion to its standard deviation. A blob is cut off at the heatmap's border.
    """
    centers, std, peak = batch["seen"], batch["std"][..., None], batch["peak"]
    pixels = torch.arange(side, device=centers.device, dtype=centers.dtype)
    reach = std[..., None] * (training.target_radius / training.target_sigma) + 1e-3  # 1e-3 absorbs rounding errors
    near = (pixels - (centers + 0.5).floor()[..., None]).abs() <= reach  # (N, J, 2, side) bool, false where the centre is NaN
    distance = (pixels - centers[..., None]) / std[..., None]
    columns, rows = torch.where(near, (-0.5 * distance.square()).exp(), 0.0).unbind(dim=2)
    blobs = (rows * peak[..., None])[..., :, None] * columns[..., None, :]
    if "recorded" not in batch:
        return blobs
    keeps_blobs = batch["shift"].isnan().any(dim=-1)[..., None, None]
    return torch.where(keeps_blobs, blobs, moved(batch["recorded"], batch["shift"]))
