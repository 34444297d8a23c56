"""Image files -> pixels, and the ways in which they can be damaged."""

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from datasets.errors import DataError

MOST_PIXELS = 1 << 28  # far above any photograph: a header that claims more must not decide how much memory is taken
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_ADVICE = "fetch or unpack the images again."


def read_image(path: Path) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB, pixels as stored: labels do not know of an EXIF orientation.

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
        raise DataError(f"image {path} is neither a JPEG nor a PNG: it begins with {data[:8]!r}; {_ADVICE}")
    try:
        return _decode_jpeg(data) if data.startswith(_JPEG) else _decode_png(data)
    except ValueError as error:
        raise DataError(f"image {path} is damaged ({error}); {_ADVICE}") from None


def _decode_jpeg(data: bytes) -> np.ndarray:
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if height * width > MOST_PIXELS:
        raise ValueError(f"its header claims {width} x {height} px")
    return simplejpeg.decode_jpeg(data, strict=True)


def _decode_png(data: bytes) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # OpenCV's own order is BGR
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("it cannot be decoded")
    return image
