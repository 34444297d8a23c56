"""From an image and one person's annotation to what the network is fed: input crop and target heatmaps."""

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from datasets import geometry, heatmaps
from datasets.errors import DataError

# Bilinear sampling looks at 2 x 2 pixels, so it may step over at most about this many image pixels without aliasing.
_BILINEAR_REACH = 1.5


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied; the defaults are the published ones (pose-hg-train, branch image-play).

    The box side is multiplied by 1 + scale_deviation * N(0, 1), kept within 1 +- scale_limit. With rotation_probability
    the crop is turned by rotation_deviation * N(0, 1) degrees, kept within +- rotation_limit. Each colour channel is
    multiplied by U(1 - colour, 1 + colour). With flip_probability the crop is mirrored. Raises DataError when built
    with a value that makes no sense.
    """

    scale_deviation: float = 0.25
    scale_limit: float = 0.25
    rotation_deviation: float = 30.0
    rotation_limit: float = 60.0
    rotation_probability: float = 0.4
    colour: float = 0.2
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        below = {"scale_limit": 1.0, "rotation_limit": 180.0, "rotation_probability": 1.0, "colour": 1.0,
                 "flip_probability": 1.0}  # fmt: skip
        for field in fields(self):
            value, limit = getattr(self, field.name), below.get(field.name, math.inf)
            if not (math.isfinite(value) and 0 <= value <= limit):
                raise DataError(f"augmentation {field.name} = {value}; expected a number from 0 to {limit:g}.")
        if self.scale_limit == 1:
            raise DataError("augmentation scale_limit = 1 lets a box shrink to nothing; expected a number below 1.")

    @classmethod
    def none(cls) -> "Augmentation":
        """The augmentation that changes nothing."""
        return cls(**{field.name: 0.0 for field in fields(cls)})


@dataclass(frozen=True)
class Sample:
    """One person as the network sees it. A joint outside the crop keeps its coordinates; its heatmap is zero."""

    input: np.ndarray  # (3, R, R) float32, RGB in [0, 1]
    heatmaps: np.ndarray  # (J, h, h) float32
    image_to_crop: np.ndarray  # (2, 3) float64: original image px -> crop px, mirroring included
    joints: np.ndarray  # (J, 2) float64, heatmap px, in the order of the heatmaps; NaN where not labelled


@dataclass(frozen=True)
class _Variation:
    """One draw from an `Augmentation`."""

    scale: float = 1.0  # factor on the box side
    rotation: float = 0.0  # degrees, counter-clockwise
    colour: tuple[float, ...] = (1.0, 1.0, 1.0)
    flip: bool = False


def make_sample(
    image: np.ndarray,
    center: np.ndarray,
    scale: float,
    part: np.ndarray,
    mirrored: list[int],
    input_res: int,
    heatmap_res: int,
    sigma: float,
    radius: int,
    augmentation: Augmentation | None,
    rng: np.random.Generator,
    flip: bool | None = None,
) -> Sample:
    """Cut out one person, augmented, and draw the target heatmaps.

    image: (H, W, 3) uint8 RGB; center (2,) and part (J, 2): image px, NaN where not labelled; scale: box side / 200 px;
    mirrored: each joint's left/right partner; input_res, heatmap_res: sides of the input and of the heatmaps in px;
    sigma, radius: of the blobs, in heatmap px (`heatmaps.draw`). `flip` decides the mirroring from outside (a whole
    batch alike, or the flip test); None leaves it to the augmentation. Outside the image the input is zero.

    With an augmentation exactly these numbers are taken from rng, whatever comes of them: two standard normal ones
    (scale, rotation), then five uniform ones (whether to rotate, red, green, blue, flip). Without: none.
    Raises DataError for a box without a position or a size.
    """
    variation = _Variation() if augmentation is None else _draw_variation(augmentation, rng)
    mirror = variation.flip if flip is None else flip
    affine = geometry.image_to_crop(center, scale * variation.scale, input_res, variation.rotation)
    joints = np.asarray(part, dtype=np.float64)
    if mirror:
        affine = geometry.compose(affine, geometry.mirror(input_res))
        joints = joints[mirrored]
    joints = geometry.apply(geometry.compose(affine, geometry.crop_to_heatmap(input_res, heatmap_res)), joints)
    crop = _warp(image, affine, input_res)
    return Sample(
        input=_to_float(crop, variation.colour),
        heatmaps=heatmaps.draw(joints, (heatmap_res, heatmap_res), sigma, radius),
        image_to_crop=affine,
        joints=joints,
    )


def _draw_variation(augmentation: Augmentation, rng: np.random.Generator) -> _Variation:
    size, turn = rng.standard_normal(2).tolist()
    rotate, red, green, blue, flip = rng.random(5).tolist()
    scale = min(max(augmentation.scale_deviation * size, -augmentation.scale_limit), augmentation.scale_limit)
    angle = min(max(augmentation.rotation_deviation * turn, -augmentation.rotation_limit), augmentation.rotation_limit)
    return _Variation(
        scale=1 + scale,
        rotation=angle if rotate < augmentation.rotation_probability else 0.0,
        colour=tuple(1 + augmentation.colour * (2 * value - 1) for value in (red, green, blue)),
        flip=flip < augmentation.flip_probability,
    )


def _warp(image: np.ndarray, affine: np.ndarray, res: int) -> np.ndarray:
    """The (res, res, 3) uint8 crop of an (H, W, 3) uint8 image; zero outside the image.

    A box much larger than the crop is first averaged over blocks of whole pixels, because bilinear sampling would skip
    pixels. The block side leaves bilinear sampling a reduction by about 1.5: against ideally averaged crops of
    photographs this gave at least 37 dB for reductions up to 6; plain sampling fell to 27 dB, larger blocks to 33.
    """
    back = geometry.invert(affine)
    step = math.hypot(back[0, 0], back[1, 0])  # image px from one crop px to the next
    block = min(max(1, round(step / _BILINEAR_REACH)), max(image.shape))
    part, to_part = _cut(image, back, res, block)
    if not part.size:
        return np.zeros((res, res, 3), np.uint8)
    part_to_crop = geometry.compose(geometry.invert(to_part), affine)
    return cv2.warpAffine(part, part_to_crop, (res, res), flags=cv2.INTER_LINEAR)


def _cut(image: np.ndarray, crop_to_image: np.ndarray, res: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, averaged over block x block px, and the map from image px to it.

    The part is empty where the crop lies beside the image.
    """
    edges = (-0.5, res - 0.5)
    corners = geometry.apply(crop_to_image, [(x, y) for x in edges for y in edges])
    height, width = image.shape[:2]
    # Two blocks more than needed on each side: the bilinear sampling at the crop's edges looks beyond them.
    left, top = np.clip(np.floor(corners.min(axis=0)) - 2 * block, 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2 * block, 0, (width, height)).astype(int).tolist()
    part = image[top:bottom, left:right]
    to_part = geometry.compose(geometry.shift(-left, -top), geometry.crop_to_heatmap(block, 1))
    if block == 1 or not part.size:
        return part, to_part
    below, beside = -part.shape[0] % block, -part.shape[1] % block
    if below or beside:
        part = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_CONSTANT)
    size = (part.shape[1] // block, part.shape[0] // block)
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA), to_part


def _to_float(crop: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    """(R, R, 3) uint8 to (3, R, R) float32 in [0, 1], each channel times its factor; by tables of 256 entries."""
    output = np.empty((3, *crop.shape[:2]), np.float32)
    for plane, channel, factor in zip(output, cv2.split(crop), colour, strict=True):
        table = np.minimum(np.arange(256) * (factor / 255), 1).astype(np.float32)
        cv2.LUT(channel, table[None], dst=plane)
    return output
