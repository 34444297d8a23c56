"""Image files -> pixels, and the ways in which they can be damaged."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from datasets.errors import DataError

_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_ADVICE = "fetch or unpack the images again."


def read_image(path: Path, strict: bool = False) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB, pixels as stored: labels do not know of an EXIF orientation.

    Raises DataError naming the file where it is missing, empty, neither JPEG nor PNG, cut off, or cannot be decoded; with
    `strict`, also where the decoder only warns, which is how it tells of corrupt data that it guessed its way through.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"image {path} is missing; {_ADVICE}") from None
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}.") from None
    if not data:
        raise DataError(f"image {path} is empty; {_ADVICE}")
    if not data.startswith((_JPEG, _PNG)):
        raise DataError(f"image {path} is neither a JPEG nor a PNG: it begins with {data[:8]!r}; {_ADVICE}")
    if not _is_whole(data):
        raise DataError(f"image {path} is cut off after {len(data)} bytes; {_ADVICE}")
    with _messages(strict) as said:
        try:
            # OpenCV decodes to its own order of channels unless told.
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            image = None
    if image is None or said():
        raise DataError(f"image {path} is damaged ({said() or 'it cannot be decoded'}); {_ADVICE}")
    return image


@contextmanager
def _messages(listen: bool) -> Iterator[Callable[[], str]]:
    """What is written to standard error within the block, if `listen`; of the whole process, so use it in a worker."""
    if not listen:
        yield lambda: ""
        return
    first_line = ""
    with tempfile.TemporaryFile() as log:
        aside = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield lambda: first_line
        finally:
            os.dup2(aside, 2)
            os.close(aside)
            log.seek(0)
            first_line = log.readline().decode("utf-8", "replace").strip()


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG or PNG file reaches its end marker; some decoders fill what is missing with grey, silently."""
    if data.startswith(_PNG):
        return data.rfind(_PNG_END) > 0
    if data.endswith(_JPEG_END):
        return True
    # Bytes may follow the end marker, and a thumbnail in the header has one of its own: search behind the header.
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(_JPEG_END, position) >= 0
