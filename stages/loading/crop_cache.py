"""Training crops, cut once: larger than the box by a margin for what a training varies, kept as plain pixels.

Decoding an image takes most of the time in which a sample is made, and that of a JPEG of the crop would still take half of
it; so pixels are kept as they are, `side * side * 3` bytes a person, in files of 64 people.
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

# A crop shows so many times the side of the box, at the resolution of the network's input. That holds the box however it is
# turned, and one of 1.25 times the side turned by up to 13 degrees; turned by 45, it loses 1 % of its area at each corner:
# that is black as if it lay outside the image. (The published way, `crop = published`, sees no more than the plain box.)
MARGIN = 1.5
_PEOPLE = 64  # a file


def cache_crops(data: DatasetFiles, resolution: int, out: Path, workers: int = 0, report: Report = silent) -> dict[str, int]:
    """Write the crops of the training split's people for a network's input of `resolution` px into `out`.

    `workers` is the number of processes, 0 for one a core. Files are written at once, and those that are there are
    skipped, so that a call after an interruption goes on. Returns how many crops there are, and their side in px. Raises
    DataError, naming row and image, for an image that cannot be read, and where the disk is too small.
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
    """The crop (side, side, 3) uint8 RGB of a row of the training split, and the map (2, 3) from the image's px to its px.

    Raises DataError for a file that is missing or does not have the size of its crops.
    """
    side = crop_side(resolution)
    skipped = row % _PEOPLE
    pixels = _read(folder, row - skipped, skipped, 1, len(rows.images), side)
    return pixels.reshape(side, side, 3), _map(rows, row, side)


def read_crops(folder: Path, rows: Annotations, resolution: int) -> Iterator[np.ndarray]:
    """All crops in the order of the rows, (n, side, side, 3) uint8 RGB, some at a time. Raises DataError as `read_crop`."""
    side = crop_side(resolution)
    for first in range(0, len(rows.images), _PEOPLE):
        count = min(_PEOPLE, len(rows.images) - first)
        yield _read(folder, first, 0, count, len(rows.images), side).reshape(count, side, side, 3)


def crop_map(rows: Annotations, row: int, resolution: int) -> np.ndarray:
    """The map (2, 3) from a row's image px to the px of its crop."""
    return _map(rows, row, crop_side(resolution))


def _read(folder: Path, first: int, skipped: int, count: int, rows: int, side: int) -> np.ndarray:
    """Bytes of `count` crops, `skipped` after the one at the beginning of a file, whose row is `first` of so many rows."""
    path, size = _file(folder, first), side * side * 3
    expected = size * min(_PEOPLE, rows - first)
    try:
        if path.stat().st_size != expected:
            raise DataError(f"{path} has {path.stat().st_size} bytes in place of {expected}; run CacheCrops again (rerun).")
        return np.fromfile(path, np.uint8, count * size, offset=skipped * size)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run CacheCrops again (rerun).") from None


def _write(images: Path, rows: Annotations, first: int, resolution: int, path: Path) -> int:
    """Write the file of some rows, the first of which has the number `first` in the split. Returns how many they are."""
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
    """Side in px of the crops for a network's input of `resolution` px."""
    return math.ceil(MARGIN * resolution)


def _map(rows: Annotations, row: int, side: int) -> np.ndarray:
    return geometry.image_to_crop(rows.center[row], rows.scale[row] * MARGIN, side)


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:06}.rgb"
