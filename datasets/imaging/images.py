"""Read image files, with checks against damaged files and decompression bombs."""

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

# These limits bound the memory and time that decoding takes; they are checked before decoding.
MOST_PIXELS = 200_000_000  # the largest photographs of phones have 16320 x 12240 px
MOST_BYTES = 3 * MOST_PIXELS  # size in bytes of an uncompressed image of MOST_PIXELS pixels
# Largest number of scans in a JPEG: encoders write about ten, and a decoder processes all pixels for each scan.
MOST_SCANS = 100
# File name suffixes of the formats that `read_upright` reads.
PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".gif")
_BY_PILLOW = ("WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")  # Pillow's names of the formats that Pillow may read
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
# JPEG markers that begin a segment with a length; markers within the data of a scan are excluded.
_SEGMENT = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"
# Frame markers of the types of JPEG in which each scan spends some bits on every block of the image, so that the file's size
# limits the decoding time.
_HUFFMAN_SEQUENTIAL = b"\xc0", b"\xc1"
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0", b"eXIf"  # beginning of the EXIF block in JPEG and in PNG files
# Largest number of bytes that are searched for EXIF, which comes before the pixels. In a JPEG, EXIF is at the beginning and has
# at most 64 kB.
_EXIF_WITHIN = 1 << 17
_ADVICE = "fetch or unpack the images again."
_SMALLER = "save it again, smaller or as a plain JPEG."


def read_image(path: Path) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB, ignoring the EXIF orientation, as the labels of datasets do.

    Raises DataError as `read_reduced` does.
    """
    return read_reduced(path, 1)[0]


def looks_like_picture(path: Path) -> bool:
    """Return whether a file's first bytes are those of a JPEG or PNG, whatever its name."""
    with open(path, "rb") as file:
        return file.read(8).startswith((_JPEG, _PNG))


def read_upright(path: Path) -> np.ndarray:
    """Read an image of any format in `PICTURES` as (H, W, 3) uint8 RGB, rotated and mirrored by its EXIF orientation.

    Transparency is ignored. If an HEIF file has several images, the main image is read. Raises DataError for a file that is
    missing, damaged or of another format, for an image that would take too much memory or time, and for a file with several
    images that is not HEIF.
    """
    data = _load(path)
    try:
        if not data.startswith((_JPEG, _PNG)):
            return _decode_by_pillow(data)
        image = _decode(data, 1)[0]
    except ValueError as error:
        raise _as_data_error(path, error) from None
    header = _EXIF_WITHIN if data.startswith(_PNG) else _start_of_scan(data)
    if all(data.find(mark, 0, header) < 0 for mark in _EXIF):
        return image
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # applies the orientation
    return image if upright is None else upright


def read_reduced(path: Path, block: int) -> tuple[np.ndarray, int]:
    """Read a JPEG or PNG file, reduced in size, as (H, W, 3) uint8 RGB; returns the image and the reduction factor.

    The function is for callers that afterwards average blocks of block x block px. A JPEG is reduced by the largest factor of
    1, 2, 4 and 8 that divides `block`, which is faster than decoding all pixels; a PNG is not reduced (factor 1). A pixel of
    the result covers factor x factor pixels of the file, or fewer in the last row and column. Therefore
    `geometry.crop_to_heatmap(factor, 1)` maps px of the file to px of the result. Raises DataError, with the file's name, for a
    file that is missing, empty, neither JPEG nor PNG, truncated, or damaged (even if JPEG decoders can hide the damage), and
    for an image that would take too much memory or time.
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


class _Refused(ValueError):
    """The error for an image that may be undamaged but is not read; the text of the error includes the remedy."""


def _as_data_error(path: Path, error: ValueError) -> DataError:
    if isinstance(error, _Refused):
        return DataError(f"image {path} is refused: {error}")
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
        raise _as_data_error(
            path, _Refused(f"it has {size / 1e6:.0f} MB, and at most {MOST_BYTES / 1e6:.0f} MB are read; {_SMALLER}")
        )
    if not data:
        raise DataError(f"image {path} is empty; {_ADVICE}")
    return data


def _decode(data: bytes, block: int) -> tuple[np.ndarray, int]:
    """Decode a JPEG or PNG file's bytes; return the image and the factor by which it is reduced.

    Raises ValueError for an image that cannot be decoded.
    """
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
        raise _Refused(
            f"its header claims {width} x {height} px, and at most {MOST_PIXELS / 1e6:.0f} million px are read; {_SMALLER}"
        )


def _decode_jpeg(data: bytes, block: int) -> tuple[np.ndarray, int]:
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    _check_size(width, height)
    if _has_too_many_scans(data):
        raise _Refused(
            f"it is a JPEG of more than {MOST_SCANS} scans, and decoding each scan takes the time of an image; {_SMALLER}"
        )
    # The decoder offers sizes in eighths of the image, and uses the smallest of them that is not below the requested size. An
    # image of up to 8 x 8 px is not reduced, because two of the eight sizes may have equal numbers of pixels.
    factor = math.gcd(block, 8) if max(height, width) > 8 else 1
    least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
    return simplejpeg.decode_jpeg(data, strict=True, **least), factor


def _has_too_many_scans(data: bytes) -> bool:
    """Return whether a JPEG has more than `MOST_SCANS` scans and is of a type in which this makes decoding too slow.

    In the types `_HUFFMAN_SEQUENTIAL`, many scans do not make decoding too slow. In a JPEG of another type, a few bytes of a
    scan can encode all blocks of the image.
    """
    scans, at = 0, 2
    while (marker := _SEGMENT.search(data, at)) and marker[1] != _END_OF_IMAGE and scans <= MOST_SCANS:
        if marker[1] in _HUFFMAN_SEQUENTIAL:
            return False
        if marker[1] == _START_OF_SCAN:
            if not scans and data.count(b"\xff" + _START_OF_SCAN) <= MOST_SCANS:  # upper bound of the scan count, fast
                return False
            scans += 1
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans > MOST_SCANS


def _start_of_scan(data: bytes) -> int:
    """Return the position in bytes of the first scan of a JPEG, at most _EXIF_WITHIN."""
    at = 2
    while (marker := _SEGMENT.search(data, at, _EXIF_WITHIN)) and marker[1] != _START_OF_SCAN:
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return marker.start() if marker else _EXIF_WITHIN


def _without_bytes_between_segments(data: bytes) -> bytes:
    """Return a JPEG without the extra bytes that some cameras write between the segments of its header.

    These bytes are not part of the image. Raises ValueError if the file ends within its header.
    """
    kept, at = bytearray(data[:2]), 2
    while marker := _MARKER.search(data, at):
        start = marker.end() - 2
        if marker[1] == _START_OF_SCAN:
            return bytes(kept + data[start:])
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        kept += data[start:at]
    raise ValueError("it ends before its pixels")


def _decode_png(data: bytes) -> np.ndarray:
    # Read width and height from IHDR, the first chunk of a PNG.
    _check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    try:
        # By default OpenCV returns BGR and applies the EXIF orientation.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("it cannot be decoded")
    return image


def _decode_by_pillow(data: bytes) -> np.ndarray:
    """Decode a file's bytes in one of the formats `_BY_PILLOW`; return the upright image (H, W, 3) uint8 RGB.

    Raises ValueError for an image that cannot be decoded.
    """
    import pillow_heif  # imported here, so that the loader's processes, which read only JPEG and PNG, do not load it
    from PIL import Image, ImageOps

    pillow_heif.register_heif_opener()
    # MOST_PIXELS is checked below instead of Pillow's limit.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=_BY_PILLOW) as file:
            image: Image.Image = file
            _check_size(*image.size)
            pictures = getattr(file, "n_frames", 1)
            # A phone's HEIF file may contain more than the main image; only the main image is read.
            if pictures > 1 and file.format != "HEIF":
                raise _Refused(f"it holds {pictures} pictures; save each as a file of its own.")
            if image.mode in ("I", "F"):
                raise _Refused("its colours have 32 bits; save it with 8 or 16 bits.")
            if image.mode.startswith("I;16"):  # Pillow would clip these values to 8 bits instead of scaling them
                grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                grey.info["exif"] = image.getexif().tobytes()
                image = grey
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except ValueError:
        raise
    except Image.DecompressionBombError:
        raise _Refused(f"its header claims more than {MOST_PIXELS / 1e6:.0f} million px; {_SMALLER}") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"its format is not supported: it begins with {data[:8]!r}") from None
    except Exception as error:  # Pillow's readers raise all kinds of exceptions for damaged files
        raise ValueError(f"it cannot be decoded: {error}") from None
