"""Image files -> pixels, and the ways in which they can be damaged."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from datasets.errors import DataError

MOST_PIXELS = 1 << 28  # far above any photograph: a header that claims more must not decide how much memory is taken
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_START_OF_SCAN = b"\xda"
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0", b"eXIf"  # what stands before it in a JPEG, and in a PNG
_EXIF_WITHIN = 1 << 17  # bytes: it stands before the pixels, in a JPEG right at the beginning and at most 64 kB long
_ADVICE = "fetch or unpack the images again."


def read_image(path: Path) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB, pixels as stored: labels do not know of an EXIF orientation.

    Raises DataError as `read_reduced`.
    """
    return read_reduced(path, 1)[0]


def read_upright(path: Path) -> np.ndarray:
    """The same as people see it: turned and mirrored as its EXIF orientation says. Raises DataError as `read_reduced`."""
    image = read_image(path)
    with open(path, "rb") as file:
        data = file.read(_EXIF_WITHIN)
        if not any(mark in data for mark in _EXIF):
            return image
        data += file.read()
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # OpenCV follows the orientation
    return image if upright is None else upright


def read_reduced(path: Path, block: int) -> tuple[np.ndarray, int]:
    """The same for a use that averages block x block px: reduced by the factor 1, 2, 4 or 8 that divides block, and it.

    A JPEG decoder reduces in less time than it takes to give all pixels; a PNG stays as it is. A pixel stands for factor x
    factor pixels, so `geometry.crop_to_heatmap(factor, 1)` leads to it; one of the last row or column may stand for fewer.
    Raises DataError naming the file where it is missing, empty, neither JPEG nor PNG, cut off, or damaged; for JPEG also
    where a decoder could guess its way through, as most do.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise DataError(f"image {path} is missing; {_ADVICE}") from None
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}.") from None
    if not data:
        raise DataError(f"image {path} is empty; {_ADVICE}")
    if not data.startswith((_JPEG, _PNG)):
        raise DataError(
            f"image {path} is neither a JPEG nor a PNG: it begins with {data[:8]!r}; convert it to one of these, or {_ADVICE}"
        )
    try:
        if not data.startswith(_JPEG):
            return _decode_png(data), 1
        try:
            return _decode_jpeg(data, block)
        except ValueError as error:
            if "extraneous bytes" not in str(error):
                raise
            return _decode_jpeg(_without_bytes_between_segments(data), block)
    except ValueError as error:
        raise DataError(f"image {path} is damaged ({error}); {_ADVICE}") from None


def _decode_jpeg(data: bytes, block: int) -> tuple[np.ndarray, int]:
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if height * width > MOST_PIXELS:
        raise ValueError(f"its header claims {width} x {height} px")
    # The decoder takes the least of its sizes, eighths of the image, that reaches the one asked for; in an image of up to
    # 8 px two of them may be the same number of pixels.
    factor = math.gcd(block, 8) if max(height, width) > 8 else 1
    least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
    return simplejpeg.decode_jpeg(data, strict=True, **least), factor


def _without_bytes_between_segments(data: bytes) -> bytes:
    """A JPEG without what some cameras leave before the markers of its head: nothing of the image is missing there."""
    kept, at = bytearray(data[:2]), 2
    while marker := _MARKER.search(data, at):
        start = marker.end() - 2
        if marker[1] == _START_OF_SCAN:
            return bytes(kept + data[start:])
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        kept += data[start:at]
    raise ValueError("it ends before its pixels")


def _decode_png(data: bytes) -> np.ndarray:
    try:
        # OpenCV's own order is BGR, and it would turn an image as its EXIF says.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("it cannot be decoded")
    return image
