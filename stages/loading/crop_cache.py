"""Cache the crops of training samples. A crop exceeds the person's box by a margin for augmentation.

Decoding the image takes most of the time that a sample needs, and decoding a JPEG of the crop would still take half of the
time that decoding the image takes. So the cache stores raw pixels, `side * side * 3` bytes per person, in files of 64 people.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.files import require_space, write_atomically
from datasets.formats.annotations import Annotations
from datasets.imaging import geometry
from datasets.imaging.images import read_reduced
from datasets.imaging.samples import CropSpec, Person, SampledAugmentation, block, warp
from datasets.progress import Report, silent
from stages.machine.pool import each

# Side of a cached crop divided by the side of the person's box; in the crop, the box has the resolution of the network's input.
# The crop contains an unscaled box at every rotation. It contains a box that the augmentation scales by 1.25 only at rotations
# up to 13 degrees; at 45 degrees, each corner of this box (1 % of its area) lies outside of the crop and becomes black. With
# the recipe's `crop = published`, the augmentation scales and rotates an image that was already cut to the box. So the
# augmentation needs no pixels outside of the box, except for those that are added when the box is rounded to whole pixels.
MARGIN = 1.5
_PEOPLE = 64  # number of crops in one file


def cache_crops(data: DatasetFiles, resolution: int, out: Path, workers: int = 0, report: Report = silent) -> dict[str, int]:
    """Write the crops of the training split's people, for a network input of `resolution` px, into the folder `out`.

    workers: number of processes, 0 for one per core. Files are written atomically, and existing files are skipped, so a call
    after an interruption resumes. Returns the number of crops (`crops`) and their side in px (`side`). Raises DataError for an
    unreadable image (the message gives its row and name), and for a full disk.
    """
    rows, side = data.split("train"), crop_side(resolution)
    parts = [range(first, min(first + _PEOPLE, len(rows.images))) for first in range(0, len(rows.images), _PEOPLE)]
    left = [part for part in parts if not _file(out, part.start).is_file()]
    done = len(rows.images) - sum(map(len, left))
    require_space(out, (len(rows.images) - done) * side * side * 3, "Keeping training crops")
    report(done, len(rows.images))
    jobs = [(data.images, rows.select(np.array(part)), part.start, resolution, _file(out, part.start)) for part in left]
    for written in each(_write, jobs, workers):
        done += written
        report(done, len(rows.images))
    return {"crops": done, "side": side}


def read_crop(folder: Path, row: int, rows: Annotations, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop (side, side, 3) uint8 RGB of a training row, and the affine map (2, 3) from image px to crop px.

    Raises DataError for a missing file or a file of the wrong size.
    """
    side = crop_side(resolution)
    skipped = row % _PEOPLE
    pixels = _read(folder, row - skipped, skipped, 1, len(rows.images), side)
    return pixels.reshape(side, side, 3), _map(rows, row, side)


def read_crops(folder: Path, rows: Annotations, resolution: int) -> Iterator[np.ndarray]:
    """Yield all crops in the order of the rows, one file at a time: (n, side, side, 3) uint8 RGB.

    Raises DataError as `read_crop` does.
    """
    side = crop_side(resolution)
    for first in range(0, len(rows.images), _PEOPLE):
        count = min(_PEOPLE, len(rows.images) - first)
        yield _read(folder, first, 0, count, len(rows.images), side).reshape(count, side, side, 3)


def crop_map(rows: Annotations, row: int, resolution: int) -> np.ndarray:
    """Return the affine map (2, 3) from the px of a row's image to the px of its crop."""
    return _map(rows, row, crop_side(resolution))


def _read(folder: Path, first: int, skipped: int, count: int, rows: int, side: int) -> np.ndarray:
    """Return the bytes of `count` crops of a file as a flat uint8 array; the first `skipped` crops of the file are left out.

    first: index, in the split, of the row to which the file's first crop belongs; rows: number of rows of the whole split.
    Raises DataError as `read_crop` does.
    """
    path, size = _file(folder, first), side * side * 3
    expected = size * min(_PEOPLE, rows - first)
    try:
        if path.stat().st_size != expected:
            raise DataError(f"{path} has {path.stat().st_size} bytes, expected {expected}; run CacheCrops again (rerun).")
        return np.fromfile(path, np.uint8, count * size, offset=skipped * size)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run CacheCrops again (rerun).") from None


def _write(images: Path, rows: Annotations, first: int, resolution: int, path: Path) -> int:
    """Write the crops of `rows` to one file; return the number of crops. first: the first row's index in the split."""
    side = crop_side(resolution)
    crops = np.empty((len(rows.images), side, side, 3), np.uint8)
    for i, name in enumerate(rows.images):
        person = Person(rows.center[i], rows.scale[i] * MARGIN, rows.part[i])
        try:
            image, factor = read_reduced(images / name, block(person, CropSpec(side, side, 1, 1), SampledAugmentation()))
            reduced = geometry.invert(geometry.crop_to_heatmap(factor, 1))
            crops[i] = warp(image, geometry.compose(reduced, _map(rows, i, side)), side)
        except DataError as error:
            raise DataError(f"row {first + i} ({name}): {error}") from None
    write_atomically(path, crops.tobytes())
    return len(crops)


def crop_side(resolution: int) -> int:
    """Return the side in px of cached crops for a network input of `resolution` px."""
    return math.ceil(MARGIN * resolution)


def _map(rows: Annotations, row: int, side: int) -> np.ndarray:
    return geometry.image_to_crop(rows.center[row], rows.scale[row] * MARGIN, side)


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:06}.rgb"
