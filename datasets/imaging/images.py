"""Image files -> pixels, and the ways in which they can be damaged or made to hurt."""

import io
import math
import os
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from datasets.errors import DataError

# What a file may ask of the machine, checked before anything is decoded.
MOST_PIXELS = 200_000_000  # the largest photographs of phones have 16320 x 12240
MOST_BYTES = 3 * MOST_PIXELS  # as many pixels, not compressed
MOST_SCANS = 100  # of a JPEG: encoders write about ten, and for each a decoder goes over all pixels again
# Endings of the names of pictures that `read_upright` reads.
PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".gif")
_BY_PILLOW = ("WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")  # the kinds of files that it may take them for
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
# Markers with a segment behind them: neither those of a scan's data nor one without a length.
_SEGMENT = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"
_HUFFMAN_SEQUENTIAL = b"\xc0", b"\xc1"  # frames in whose scans each block of pixels takes bits: time is bounded by the bytes
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0", b"eXIf"  # what stands before it in a JPEG, and in a PNG
_EXIF_WITHIN = 1 << 17  # bytes: it stands before the pixels, in a JPEG right at the beginning and at most 64 kB long
_ADVICE = "fetch or unpack the images again."


def read_image(path: Path) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB, pixels as stored: labels do not know of an EXIF orientation.

    Raises DataError as `read_reduced`.
    """
    return read_reduced(path, 1)[0]


def looks_like_picture(path: Path) -> bool:
    """Whether a file begins as a JPEG or PNG does, whatever its name."""
    with open(path, "rb") as file:
        return file.read(8).startswith((_JPEG, _PNG))


def read_upright(path: Path) -> np.ndarray:
    """Read a picture of any of the kinds in `PICTURES` as (H, W, 3) uint8 RGB, turned and mirrored as its EXIF says.

    Transparency is left out. Raises DataError as `read_reduced`, and for a file of several pictures.
    """
    data = _load(path)
    try:
        if not data.startswith((_JPEG, _PNG)):
            return _decode_by_pillow(data)
        image = _decode(data, 1)[0]
    except ValueError as error:
        raise _as_data_error(path, error) from None
    if all(data.find(mark, 0, _EXIF_WITHIN) < 0 for mark in _EXIF):
        return image
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # OpenCV follows the orientation
    return image if upright is None else upright


def read_reduced(path: Path, block: int) -> tuple[np.ndarray, int]:
    """The same for a use that averages block x block px: reduced by the factor 1, 2, 4 or 8 that divides block, and it.

    A JPEG decoder reduces in less time than it takes to give all pixels; a PNG stays as it is. A pixel stands for factor x
    factor pixels, so `geometry.crop_to_heatmap(factor, 1)` leads to it; one of the last row or column may stand for fewer.
    Raises DataError naming the file where it is missing, empty, neither JPEG nor PNG, cut off, or damaged; for JPEG also
    where a decoder could guess its way through, as most do; and where decoding would take too much memory or time.
    """
    data = _load(path)
    if not data.startswith((_JPEG, _PNG)):
        raise DataError(
            f"image {path} is neither a JPEG nor a PNG: it begins with {data[:8]!r}; convert it to one of these, or {_ADVICE}"
        )
    try:
        return _decode(data, block)
    except ValueError as error:
        raise _as_data_error(path, error) from None


class _TooMuch(ValueError):
    """An image that may be whole, but whose decoding would take too much."""


def _as_data_error(path: Path, error: ValueError) -> DataError:
    if isinstance(error, _TooMuch):
        return DataError(f"image {path} is refused: {error}; save it again, smaller or as a plain JPEG.")
    return DataError(f"image {path} is damaged ({error}); {_ADVICE}")


def _load(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= MOST_BYTES else b""
    except FileNotFoundError:
        raise DataError(f"image {path} is missing; {_ADVICE}") from None
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}.") from None
    if size > MOST_BYTES:
        raise _as_data_error(path, _TooMuch(f"it has {size / 1e6:.0f} MB, and at most {MOST_BYTES / 1e6:.0f} MB are read"))
    if not data:
        raise DataError(f"image {path} is empty; {_ADVICE}")
    return data


def _decode(data: bytes, block: int) -> tuple[np.ndarray, int]:
    """A JPEG or PNG as `read_reduced` says. Raises ValueError."""
    if data.startswith(_PNG):
        return _decode_png(data), 1
    try:
        return _decode_jpeg(data, block)
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
        return _decode_jpeg(_without_bytes_between_segments(data), block)


def _check_size(width: int, height: int) -> None:
    if height * width > MOST_PIXELS:
        raise _TooMuch(f"its header claims {width} x {height} px, and at most {MOST_PIXELS / 1e6:.0f} million px are read")


def _decode_jpeg(data: bytes, block: int) -> tuple[np.ndarray, int]:
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    _check_size(width, height)
    if _has_too_many_scans(data):
        raise _TooMuch(f"it is a JPEG of more than {MOST_SCANS} scans, each of which takes the time of an image")
    # The decoder takes the least of its sizes, eighths of the image, that reaches the one asked for; in an image of up to
    # 8 px two of them may be the same number of pixels.
    factor = math.gcd(block, 8) if max(height, width) > 8 else 1
    least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
    return simplejpeg.decode_jpeg(data, strict=True, **least), factor


def _has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than `MOST_SCANS`, in which a few bytes can stand for all blocks of an image."""
    scans, at = 0, 2
    while (marker := _SEGMENT.search(data, at)) and marker[1] != _END_OF_IMAGE and scans <= MOST_SCANS:
        if marker[1] in _HUFFMAN_SEQUENTIAL:
            return False
        if marker[1] == _START_OF_SCAN:
            if not scans and data.count(b"\xff" + _START_OF_SCAN) <= MOST_SCANS:  # faster, and too high at most
                return False
            scans += 1
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans > MOST_SCANS


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
    _check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))  # of IHDR, which has to come first
    try:
        # OpenCV's own order is BGR, and it would turn an image as its EXIF says.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("it cannot be decoded")
    return image


def _decode_by_pillow(data: bytes) -> np.ndarray:
    """A picture of one of the kinds `_BY_PILLOW`, upright. Raises ValueError."""
    import pillow_heif  # not by the loader's processes, which read JPEG and PNG
    from PIL import Image, ImageOps

    pillow_heif.register_heif_opener()
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit is checked below
    try:
        with Image.open(io.BytesIO(data), formats=_BY_PILLOW) as file:
            image: Image.Image = file
            _check_size(*image.size)
            pictures = getattr(file, "n_frames", 1)
            if pictures > 1 and file.format != "HEIF":  # of which a phone's file may have more than the one that is shown
                raise ValueError(f"it holds {pictures} pictures; save each as a file of its own")
            if image.mode in ("I", "F"):
                raise ValueError("its colours are numbers of 32 bits; save it with 8 or 16")
            if image.mode.startswith("I;16"):  # which Pillow would clip, not scale, to 8 bits
                grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                grey.info["exif"] = image.getexif().tobytes()
                image = grey
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except ValueError:
        raise
    except Image.DecompressionBombError:
        raise _TooMuch(f"its header claims more than {MOST_PIXELS / 1e6:.0f} million px") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"it is of no kind that can be read: it begins with {data[:8]!r}") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        raise ValueError(f"it cannot be decoded: {error}") from None
