"""Make training samples, which are input crops and target heatmaps, from images and people's annotations."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.imaging import geometry, heatmaps

# Factor by which bilinear sampling may reduce an image: it reads 2 x 2 pixels, so up to about this factor there is no aliasing.
_BILINEAR_REACH = 1.5
AS_LABELLED = np.eye(2, 3)  # identity map, for an image that is neither reduced nor cropped


@dataclass(frozen=True)
class Person:
    """One annotated person in an image."""

    center: np.ndarray  # (2,) image px: centre of the box
    scale: float  # side of the box / 200 px
    part: np.ndarray  # (J, 2) image px: joints, NaN if not labelled


@dataclass(frozen=True)
class CropSpec:
    """The size of a sample's crop and heatmaps, and the shape of its target blobs.

    `truncated` and `twice` reproduce the published processing (pose-hg-train, branch image-play), which is less exact than the
    default. `truncated`: blob centres are rounded to whole pixels. `twice`: pixels are warped twice. The box is cut along whole
    image pixels and resized to a crop, blobs are drawn for this crop, and then crop and heatmaps are scaled and rotated.
    Warping twice blurs the image, and leaves black borders when the crop is scaled down.
    """

    input_res: int  # side of the crop in px
    heatmap_res: int  # side of the heatmaps in px
    sigma: float  # standard deviation of the blobs in heatmap px
    radius: int  # radius in heatmap px of the patch in which a blob is drawn, see `heatmaps.draw`
    truncated: bool = False
    twice: bool = False

    def centers(self, joints: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Return the blob centers (J, 2) in heatmap px, NaN for a joint without a blob.

        joints: (J, 2) heatmap px; part: (J, 2), the labelled joints in image px.
        """
        if not self.truncated:
            nearest = np.floor(joints + 0.5)
            # This condition is also true for NaN.
            outside = ~((nearest >= 0) & (nearest < self.heatmap_res)).all(axis=1, keepdims=True)
            return np.where(outside, np.nan, joints)
        # As published: coordinates have integers at pixel edges; a joint counts as absent if its labelled x is <= 0 in
        # 1-based coordinates; for joints outside the map, the part of the patch inside the map is drawn.
        pixels = np.trunc(joints + (0.5 + 1e-4))
        pixels[~(part[:, 0] > -1)] = np.nan
        return pixels

    def draw(self, centers: np.ndarray) -> np.ndarray:
        """Return heatmaps (J, h, h) float32 with blobs at centers (J, 2) in heatmap px."""
        return heatmaps.draw(centers, (self.heatmap_res, self.heatmap_res), self.sigma, self.radius, outside=True)


@dataclass(frozen=True)
class SampledAugmentation:
    """The augmentation of one sample; by default, the sample is not changed."""

    scale: float = 1.0  # factor by which the side of the box is multiplied
    rotation: float = 0.0  # rotation in degrees, counter-clockwise
    colour: tuple[float, ...] = (1.0, 1.0, 1.0)  # factors by which red, green and blue are multiplied
    flip: bool = False
    erased: tuple[float, float, float] | None = None  # the erased square: centre x, y and side, as fractions of the crop's side


@dataclass(frozen=True)
class Augmentation:
    """The distribution of augmentations; by default, samples are not changed. luigi.cfg describes each parameter."""

    scale_std: float = 0.0
    rotation_std: float = 0.0
    rotation_probability: float = 0.0
    rotate180_probability: float = 0.0
    colour_jitter: float = 0.0
    flip_probability: float = 0.0
    cutout_probability: float = 0.0
    cutout_size: float = 0.0

    def draw(self, rng: np.random.Generator) -> SampledAugmentation:
        """Draw the augmentation of one sample. Always draws two normal and nine uniform numbers from rng.

        The box side is multiplied by 1 + scale_std * N(0, 1), limited to 1 +- scale_std. With probability
        rotation_probability, the crop is rotated by rotation_std * N(0, 1) degrees, limited to +- 2 * rotation_std. With
        probability rotate180_probability, 180 degrees are added to the rotation. Each channel is multiplied by
        U(1 - colour_jitter, 1 + colour_jitter). With probability flip_probability, the crop is mirrored. With probability
        cutout_probability, a square is erased; its centre is uniformly distributed in the crop.
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
    """The network's input and targets of one person."""

    input: np.ndarray  # (3, R, R) float32, RGB in [0, 1]; 0 outside the image
    heatmaps: np.ndarray  # (J, h, h) float32; 0 for a joint that is absent or outside the crop
    image_to_crop: np.ndarray  # (2, 3) float64: map from original image px to crop px, mirroring included
    joints: np.ndarray  # (J, 2) float64, heatmap px, in the order of the heatmaps; NaN if not labelled


def make_sample(
    image: np.ndarray, person: Person, mirrored: list[int], target: CropSpec,
    variation: SampledAugmentation = SampledAugmentation(), to_image: np.ndarray = AS_LABELLED,
) -> Sample:  # fmt: skip
    """Return the augmented crop of one person, with its target heatmaps.

    image: (H, W, 3) uint8 RGB, the labelled image, or a reduced copy or a part of it; to_image: map (2, 3) from px of the
    labelled image to px of `image`; mirrored: each joint's left/right partner. Raises DataError for a box without a valid
    position or size.
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
    """The geometry of a sample, computed before any image is read."""

    # Maps (2, 3). Without `twice`: one map, from image px to crop px. With `twice`: two maps, applied in order: from image
    # px to the plain crop, and from the plain crop to the augmented crop.
    steps: tuple[np.ndarray, ...]
    heatmap_step: np.ndarray  # map (2, 3) by which the drawn heatmaps are warped with `twice`; otherwise the identity
    centers: np.ndarray  # (J, 2) heatmap px: centres of the blobs before the heatmaps are warped; NaN for no blob
    joints: np.ndarray  # (J, 2) px of the sample's heatmaps, in the order of the heatmaps; NaN if not labelled


def plan(person: Person, mirrored: list[int], target: CropSpec, variation: SampledAugmentation) -> Plan:
    """Return the geometry of one sample; arguments and errors as in `make_sample`."""
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
    """Return the side in image px of the blocks over which `warp` averages an image for a sample.

    Before an image is given to `make_sample`, it may be reduced in size by a factor that divides this number.
    """
    scale = person.scale if target.twice else person.scale * variation.scale
    return _block(geometry.invert(geometry.image_to_crop(person.center, scale, target.input_res)))


def _vary_crop(res: int, variation: SampledAugmentation) -> np.ndarray:
    """Return the map (2, 3) that scales, rotates and mirrors a plain crop or heatmap of res x res px."""
    middle, whole = np.full(2, (res - 1) / 2), res / geometry.PIXELS_PER_SCALE
    scaled = geometry.whole_pixel_crop(middle, whole * variation.scale, res)
    turned = geometry.compose(scaled, geometry.image_to_crop(middle, whole, res, variation.rotation))
    return geometry.compose(turned, geometry.mirror(res)) if variation.flip else turned


def warp(image: np.ndarray, affine: np.ndarray, res: int) -> np.ndarray:
    """Return the crop (res, res, 3) uint8 of an image (H, W, 3) uint8; 0 outside the image.

    affine: map (2, 3) from image px to crop px. A box much larger than the crop is first averaged over blocks of whole pixels,
    because bilinear sampling would skip pixels. The blocks are so large that bilinear sampling reduces the averaged image only
    by a factor of about 1.5. For photographs reduced by factors up to 6, the PSNR between the returned crop and an ideally
    averaged crop was at least 37 dB; without blocks, the lowest PSNR was 27 dB, and with larger blocks 33 dB. If the JPEG
    decoder had already reduced the image by a factor that divides the block size, the PSNR changed by less than 0.5 dB; if it
    had reduced the image by 2, which does not divide blocks of 3 px, the PSNR was 4 dB lower.
    """
    back = geometry.invert(affine)
    part, to_part = _cut(image, back, res, min(_block(back), max(image.shape)))
    if not part.size:
        return np.zeros((res, res, 3), np.uint8)
    part_to_crop = geometry.compose(geometry.invert(to_part), affine)
    # OpenCV warps four channels in half the time of three.
    four = cv2.warpAffine(cv2.cvtColor(part, cv2.COLOR_RGB2RGBA), part_to_crop, (res, res), flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)


def _block(crop_to_image: np.ndarray) -> int:
    """Return the side in image px of the blocks that are averaged for a crop."""
    step = math.hypot(crop_to_image[0, 0], crop_to_image[1, 0])  # distance in image px between neighbouring crop pixels
    return max(1, round(step / _BILINEAR_REACH))


def _cut(image: np.ndarray, crop_to_image: np.ndarray, res: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the image that the crop shows, averaged over block x block px, and the map (2, 3) to the part.

    The map is from image px to px of the averaged part. The part is empty if the crop lies outside the image.
    """
    edges = (-0.5, res - 0.5)
    corners = geometry.apply(crop_to_image, [(x, y) for x in edges for y in edges])
    height, width = image.shape[:2]
    # The part includes two more blocks on each side, because bilinear sampling at the crop's edges reads pixels outside the
    # crop.
    left, top = np.clip(np.floor(corners.min(axis=0)) - 2 * block, 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2 * block, 0, (width, height)).astype(int).tolist()
    part = image[top:bottom, left:right]
    to_part = geometry.compose(geometry.shift(-left, -top), geometry.crop_to_heatmap(block, 1))
    if block == 1 or not part.size:
        return part, to_part
    rows, columns = -part.shape[0] % block, -part.shape[1] % block
    if rows or columns:
        part = cv2.copyMakeBorder(part, 0, rows, 0, columns, cv2.BORDER_CONSTANT)
    size = (part.shape[1] // block, part.shape[0] // block)
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA), to_part


def _to_float(crop: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    """Return a crop (R, R, 3) uint8 as (3, R, R) float32 in [0, 1], each channel multiplied by its factor in `colour`."""
    output = np.empty((3, *crop.shape[:2]), np.float32)
    for plane, channel, factor in zip(output, cv2.split(crop), colour, strict=True):
        table = np.minimum(np.arange(256) * (factor / 255), 1).astype(np.float32)
        cv2.LUT(channel, table[None], dst=plane)
    return output


def erased_square(variation: SampledAugmentation, res: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom (right and bottom exclusive) of the erased square in a crop of res x res px."""
    if not variation.erased:
        return 0, 0, 0, 0
    x, y, side = variation.erased
    left, top = round((x - side / 2) * res), round((y - side / 2) * res)
    length = round(side * res)
    return max(left, 0), max(top, 0), max(left + length, 0), max(top + length, 0)
