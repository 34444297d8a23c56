"""From an image and one person's annotation to what the network is fed: input crop and target heatmaps."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.imaging import geometry, heatmaps

# Bilinear sampling looks at 2 x 2 pixels, so it may step over at most about this many image pixels without aliasing.
_BILINEAR_REACH = 1.5
AS_LABELLED = np.eye(2, 3)  # the image is the labelled one


@dataclass(frozen=True)
class Person:
    """One person in an image, in image px: the centre of the box, its side / 200 px, the joints."""

    center: np.ndarray  # (2,)
    scale: float
    part: np.ndarray  # (J, 2), NaN where not labelled


@dataclass(frozen=True)
class CropSpec:
    """What a person becomes: sides of input and heatmaps in px, blobs in heatmap px (`heatmaps.draw`).

    The last two are the published ways (pose-hg-train, branch image-play) to do the same less exactly. `truncated`: blobs
    stand on whole pixels. `twice`: the box is cut along whole image pixels and resized, blobs are drawn for that crop, and
    it is crop and heatmaps that are scaled and turned. That blurs, and shows nothing but black around a smaller person.
    """

    input_res: int
    heatmap_res: int
    sigma: float
    radius: int
    truncated: bool = False
    twice: bool = False

    def centers(self, joints: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Where the blobs of joints (J, 2) in heatmap px are drawn, (J, 2), NaN where none; part: labels, image px."""
        if not self.truncated:
            nearest = np.floor(joints + 0.5)
            outside = ~((nearest >= 0) & (nearest < self.heatmap_res)).all(axis=1, keepdims=True)  # true for NaN
            return np.where(outside, np.nan, joints)
        # As published: in coordinates whose whole numbers are the edges of pixels; labels left of the image are taken for
        # absent (x > 0 counted from 1), patches of joints outside the map are drawn as far as they reach into it.
        pixels = np.trunc(joints + (0.5 + 1e-4))
        pixels[~(part[:, 0] > -1)] = np.nan
        return pixels

    def draw(self, centers: np.ndarray) -> np.ndarray:
        """Heatmaps (J, h, h) float32 of blobs at centers (J, 2) in heatmap px."""
        return heatmaps.draw(centers, (self.heatmap_res, self.heatmap_res), self.sigma, self.radius, outside=True)


@dataclass(frozen=True)
class SampledAugmentation:
    """How one sample is varied; the defaults change nothing."""

    scale: float = 1.0  # factor on the box side
    rotation: float = 0.0  # degrees, counter-clockwise
    colour: tuple[float, ...] = (1.0, 1.0, 1.0)  # factors on red, green, blue
    flip: bool = False
    erased: tuple[float, float, float] | None = None  # a square's centre x, y and its side, as parts of the crop's side


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied; the defaults change nothing. What each number means stands in luigi.cfg."""

    scale_std: float = 0.0
    rotation_std: float = 0.0
    rotation_probability: float = 0.0
    rotate180_probability: float = 0.0
    colour_jitter: float = 0.0
    flip_probability: float = 0.0
    cutout_probability: float = 0.0
    cutout_size: float = 0.0

    def draw(self, rng: np.random.Generator) -> SampledAugmentation:
        """Draw one variation. Takes two normal numbers and nine uniform ones from rng, whatever comes of them.

        The box side is multiplied by 1 + scale_std * N(0, 1), kept within 1 +- scale_std. With rotation_probability the crop is
        turned by rotation_std * N(0, 1) degrees, kept within twice rotation_std, and with rotate180_probability by 180 more.
        Each channel is multiplied by U(1 - colour_jitter, 1 + colour_jitter). With flip_probability the crop is mirrored,
        with cutout_probability a square is erased whose centre lies anywhere in it.
        """
        size, angle = rng.standard_normal(2).tolist()
        rotate, red, green, blue, flip, turn, erase, x, y = rng.random(9).tolist()
        turned = min(max(angle, -2.0), 2.0) * self.rotation_std if rotate < self.rotation_probability else 0.0
        return SampledAugmentation(
            scale=1 + self.scale_std * min(max(size, -1.0), 1.0),
            rotation=turned + (180.0 if turn < self.rotate180_probability else 0.0),
            colour=tuple(1 + self.colour_jitter * (2 * value - 1) for value in (red, green, blue)),
            flip=flip < self.flip_probability,
            erased=(x, y, self.cutout_size) if erase < self.cutout_probability else None,
        )


@dataclass(frozen=True)
class Sample:
    """One person as the network sees it."""

    input: np.ndarray  # (3, R, R) float32, RGB in [0, 1]; zero outside the image
    heatmaps: np.ndarray  # (J, h, h) float32; zero where a joint is absent or outside the crop
    image_to_crop: np.ndarray  # (2, 3) float64: original image px -> crop px, mirroring included
    joints: np.ndarray  # (J, 2) float64, heatmap px, in the order of the heatmaps; NaN where not labelled


def make_sample(
    image: np.ndarray, person: Person, mirrored: list[int], target: CropSpec,
    variation: SampledAugmentation = SampledAugmentation(), to_image: np.ndarray = AS_LABELLED,
) -> Sample:  # fmt: skip
    """Cut out one person, varied, and draw the target heatmaps.

    image: (H, W, 3) uint8 RGB, the labelled one or a reduced one or a part of it, to which `to_image` (2, 3) leads from the
    labelled one's px; mirrored: each joint's left/right partner. Raises DataError for a box without a position or a size.
    """
    to_labelled, res, how = geometry.invert(to_image), target.input_res, plan(person, mirrored, target, variation)
    first, *second = how.steps
    crop = warp(image, geometry.compose(to_labelled, first), res)
    maps = target.draw(how.centers)
    if second:
        small = (target.heatmap_res, target.heatmap_res)
        maps = np.stack([cv2.warpAffine(each, how.heatmap_step, small, flags=cv2.INTER_LINEAR) for each in maps])
        crop = warp(crop, second[0], res)
    pixels = _to_float(crop, variation.colour)
    if variation.erased:
        left, top, right, bottom = erased_square(variation, res)
        pixels[:, top:bottom, left:right] = 0
    return Sample(pixels, maps, geometry.compose(*how.steps), how.joints)


@dataclass(frozen=True)
class Plan:
    """Where the pixels and joints of a sample go: what is known of it before any image is read."""

    steps: tuple[np.ndarray, ...]  # maps (2, 3) one after another: image px -> crop px; as published, -> plain crop -> varied
    heatmap_step: np.ndarray  # (2, 3) heatmap px -> heatmap px, by which drawn heatmaps are warped, as published
    centers: np.ndarray  # (J, 2) heatmap px: where blobs are drawn, before that; NaN where none
    joints: np.ndarray  # (J, 2) heatmap px of the sample, in the order of its heatmaps; NaN where not labelled


def plan(person: Person, mirrored: list[int], target: CropSpec, variation: SampledAugmentation) -> Plan:
    """Plan one sample; see `make_sample`. Raises DataError for a box without a position or a size."""
    part = person.part[mirrored] if variation.flip else person.part
    res, small = target.input_res, target.heatmap_res
    if target.twice:
        plain = geometry.whole_pixel_crop(person.center, person.scale, res)
        varied, varied_small = (_vary_crop(side, variation) for side in (res, small))
        joints = geometry.apply(geometry.image_to_crop(person.center, person.scale, small), part)
        return Plan((plain, varied), varied_small, target.centers(joints, part), geometry.apply(varied_small, joints))
    affine = geometry.image_to_crop(person.center, person.scale * variation.scale, res, variation.rotation)
    if variation.flip:
        affine = geometry.compose(affine, geometry.mirror(res))
    joints = geometry.apply(geometry.compose(affine, geometry.crop_to_heatmap(res, small)), part)
    return Plan((affine,), AS_LABELLED, target.centers(joints, part), joints)


def block(person: Person, target: CropSpec, variation: SampledAugmentation) -> int:
    """The side in image px of the blocks that a sample averages; an image may be reduced by a divisor of it beforehand."""
    scale = person.scale if target.twice else person.scale * variation.scale
    return _block(geometry.invert(geometry.image_to_crop(person.center, scale, target.input_res)))


def _vary_crop(res: int, variation: SampledAugmentation) -> np.ndarray:
    """Map from a plain crop (or heatmap) of res x res px to the scaled, turned and mirrored one."""
    middle, whole = np.full(2, (res - 1) / 2), res / geometry.PIXELS_PER_SCALE
    scaled = geometry.whole_pixel_crop(middle, whole * variation.scale, res)
    turned = geometry.compose(scaled, geometry.image_to_crop(middle, whole, res, variation.rotation))
    return geometry.compose(turned, geometry.mirror(res)) if variation.flip else turned


def warp(image: np.ndarray, affine: np.ndarray, res: int) -> np.ndarray:
    """The (res, res, 3) uint8 crop of an (H, W, 3) uint8 image; zero outside the image.

    A box much larger than the crop is first averaged over blocks of whole pixels, because bilinear sampling would skip
    pixels. The block side leaves bilinear sampling a reduction by about 1.5: against ideally averaged crops of
    photographs this gave at least 37 dB for reductions up to 6; plain sampling fell to 27 dB, larger blocks to 33. Where a
    JPEG decoder did a part of it, by a divisor of the block, it is the same within 0.5 dB; by 2 of 3 it lost 4.
    """
    back = geometry.invert(affine)
    part, to_part = _cut(image, back, res, min(_block(back), max(image.shape)))
    if not part.size:
        return np.zeros((res, res, 3), np.uint8)
    part_to_crop = geometry.compose(geometry.invert(to_part), affine)
    # OpenCV warps four channels in half the time that it takes for three.
    four = cv2.warpAffine(cv2.cvtColor(part, cv2.COLOR_RGB2RGBA), part_to_crop, (res, res), flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)


def _block(crop_to_image: np.ndarray) -> int:
    """The side in image px of the blocks that are averaged for a crop."""
    step = math.hypot(crop_to_image[0, 0], crop_to_image[1, 0])  # image px from one crop px to the next
    return max(1, round(step / _BILINEAR_REACH))


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


def erased_square(variation: SampledAugmentation, res: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the px of a crop of res x res px that are set to zero; the last two are not among them."""
    if not variation.erased:
        return 0, 0, 0, 0
    x, y, side = variation.erased
    left, top = round((x - side / 2) * res), round((y - side / 2) * res)
    length = round(side * res)
    return max(left, 0), max(top, 0), max(left + length, 0), max(top + length, 0)
