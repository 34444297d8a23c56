"""From an image and one person's annotation to what the network is fed: input crop and target heatmaps."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datasets import geometry, heatmaps

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
class Target:
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

    def draw(self, joints: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Heatmaps (J, h, h) float32 of joints (J, 2) in heatmap px, whose labels are part (J, 2) in image px."""
        size = (self.heatmap_res, self.heatmap_res)
        if not self.truncated:
            return heatmaps.draw(joints, size, self.sigma, self.radius)
        # As published: in coordinates whose whole numbers are the edges of pixels; labels left of the image are taken for
        # absent (x > 0 counted from 1), patches of joints outside the map are drawn as far as they reach into it.
        pixels = np.trunc(joints + (0.5 + 1e-4))
        pixels[~(part[:, 0] > -1)] = np.nan
        return heatmaps.draw(pixels, size, self.sigma, self.radius, outside=True)


@dataclass(frozen=True)
class Variation:
    """How one sample is varied; the defaults change nothing."""

    scale: float = 1.0  # factor on the box side
    rotation: float = 0.0  # degrees, counter-clockwise
    colour: tuple[float, ...] = (1.0, 1.0, 1.0)  # factors on red, green, blue
    flip: bool = False
    erased: tuple[float, float, float] | None = None  # a square's centre x, y and its side, as parts of the crop's side


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied; the defaults change nothing. What each number means stands in luigi.cfg."""

    scale: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.0
    half_turns: float = 0.0
    colour: float = 0.0
    flip: float = 0.0
    cutout: float = 0.0
    cutout_size: float = 0.0

    def draw(self, rng: np.random.Generator) -> Variation:
        """Draw one variation. Takes two normal numbers and nine uniform ones from rng, whatever comes of them.

        The box side is multiplied by 1 + scale * N(0, 1), kept within 1 +- scale. With rotation_probability the crop is
        turned by rotation * N(0, 1) degrees, kept within twice rotation, and with half_turns by 180 more. Each channel is
        multiplied by U(1 - colour, 1 + colour). With probability flip the crop is mirrored, with probability cutout a
        square is erased whose centre lies anywhere in it.
        """
        size, angle = rng.standard_normal(2).tolist()
        rotate, red, green, blue, flip, turn, erase, x, y = rng.random(9).tolist()
        turned = min(max(angle, -2.0), 2.0) * self.rotation if rotate < self.rotation_probability else 0.0
        return Variation(
            scale=1 + self.scale * min(max(size, -1.0), 1.0),
            rotation=turned + (180.0 if turn < self.half_turns else 0.0),
            colour=tuple(1 + self.colour * (2 * value - 1) for value in (red, green, blue)),
            flip=flip < self.flip,
            erased=(x, y, self.cutout_size) if erase < self.cutout else None,
        )


@dataclass(frozen=True)
class Sample:
    """One person as the network sees it."""

    input: np.ndarray  # (3, R, R) float32, RGB in [0, 1]; zero outside the image
    heatmaps: np.ndarray  # (J, h, h) float32; zero where a joint is absent or outside the crop
    image_to_crop: np.ndarray  # (2, 3) float64: original image px -> crop px, mirroring included
    joints: np.ndarray  # (J, 2) float64, heatmap px, in the order of the heatmaps; NaN where not labelled


def make_sample(
    image: np.ndarray, person: Person, mirrored: list[int], target: Target, variation: Variation = Variation(),
    to_image: np.ndarray = AS_LABELLED,
) -> Sample:  # fmt: skip
    """Cut out one person, varied, and draw the target heatmaps.

    image: (H, W, 3) uint8 RGB, the labelled one or a reduced one or a part of it, to which `to_image` (2, 3) leads from the
    labelled one's px; mirrored: each joint's left/right partner. Raises DataError for a box without a position or a size.
    """
    if variation.flip:
        person = replace(person, part=person.part[mirrored])
    cut = _cut_twice if target.twice else _cut_once
    crop, maps, affine, joints = cut(_Picture(image, geometry.invert(to_image)), person, target, variation)
    pixels = _to_float(crop, variation.colour)
    if variation.erased:
        _erase(pixels, *variation.erased)
    return Sample(pixels, maps, affine, joints)


def block(person: Person, target: Target, variation: Variation) -> int:
    """The side in image px of the blocks that a sample averages; an image may be reduced by a divisor of it beforehand."""
    scale = person.scale if target.twice else person.scale * variation.scale
    return _block(geometry.invert(geometry.image_to_crop(person.center, scale, target.input_res)))


@dataclass(frozen=True)
class _Picture:
    """What is cut from: pixels, and the map from them to the px of the labelled image."""

    pixels: np.ndarray
    to_labelled: np.ndarray

    def warp(self, affine: np.ndarray, res: int) -> np.ndarray:
        """The (res, res, 3) crop to which an affine map of the labelled image leads."""
        return warp(self.pixels, geometry.compose(self.to_labelled, affine), res)


def _cut_once(picture: _Picture, person: Person, target: Target, variation: Variation) -> tuple[np.ndarray, ...]:
    """Crop (R, R, 3) uint8, heatmaps, image_to_crop and joints, by one map from the image to the crop."""
    res = target.input_res
    affine = geometry.image_to_crop(person.center, person.scale * variation.scale, res, variation.rotation)
    if variation.flip:
        affine = geometry.compose(affine, geometry.mirror(res))
    joints = geometry.apply(geometry.compose(affine, geometry.crop_to_heatmap(res, target.heatmap_res)), person.part)
    return picture.warp(affine, res), target.draw(joints, person.part), affine, joints


def _cut_twice(picture: _Picture, person: Person, target: Target, variation: Variation) -> tuple[np.ndarray, ...]:
    """The same by two maps as published: from the image to a plain crop, from there to the varied one."""
    res, small = target.input_res, target.heatmap_res
    plain = geometry.whole_pixel_crop(person.center, person.scale, res)
    varied, varied_small = (_vary_crop(side, variation) for side in (res, small))
    joints = geometry.apply(geometry.image_to_crop(person.center, person.scale, small), person.part)
    maps = target.draw(joints, person.part)
    maps = np.stack([cv2.warpAffine(each, varied_small, (small, small), flags=cv2.INTER_LINEAR) for each in maps])
    crop = warp(picture.warp(plain, res), varied, res)
    return crop, maps, geometry.compose(plain, varied), geometry.apply(varied_small, joints)


def _vary_crop(res: int, variation: Variation) -> np.ndarray:
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


def _erase(pixels: np.ndarray, x: float, y: float, side: float) -> None:
    """Set a square of pixels (3, R, R) to zero: centre and side as parts of R, cut off at the crop's edges."""
    res = pixels.shape[1]
    left, top = round((x - side / 2) * res), round((y - side / 2) * res)
    length = round(side * res)
    pixels[:, max(top, 0) : max(top + length, 0), max(left, 0) : max(left + length, 0)] = 0
