"""Recognise the kind of a file by its first bytes; error messages name this kind."""

import gzip
import zlib
from pathlib import Path

from datasets.sources import JSON, JSON_GZ, MATLAB

ARCHIVE = "an archive"
_LOOKED_AT = 1024  # number of bytes that are read from the beginning of a file
_BEGINNINGS = (
    (b"%PDF", "a PDF document"), (b"\xff\xd8\xff", "a JPEG image"), (b"\x89PNG", "a PNG image"), (b"GIF8", "a GIF image"),
    (b"MATLAB ", MATLAB), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"Rar!\x1a\x07", "a RAR archive, which is not supported"),
    (b"MZ", "a program"), (b"\x7fELF", "a program"), (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", ARCHIVE), (b"PK\x05\x06", ARCHIVE), (b"\x1f\x8b", ARCHIVE), (b"BZh", ARCHIVE), (b"\xfd7zXZ\0", ARCHIVE),
    (b"\x28\xb5\x2f\xfd", ARCHIVE), (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
)  # fmt: skip


def is_web_page(begin: bytes) -> bool:
    """Return whether a file that begins with these bytes is HTML: some sites answer with a web page instead of the file."""
    return begin[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def kind_of(path: Path) -> str:
    """Return the kind of a file as text, such as "a JPEG image", "an archive" or "a file of an unknown kind"."""
    with open(path, "rb") as file:
        begin = file.read(_LOOKED_AT)
    if begin.startswith(b"\x1f\x8b") and _inside(path).lstrip()[:1] in (b"[", b"{"):
        return JSON_GZ
    return kind_of_bytes(begin)


def kind_of_bytes(begin: bytes) -> str:
    """Return the kind of a file with these first bytes as text; see `kind_of`."""
    if not begin:
        return "an empty file"
    for magic, kind in _BEGINNINGS:
        if begin.startswith(magic):
            return kind
    if is_web_page(begin):
        return "a web page"
    if begin[257:262] == b"ustar":
        return ARCHIVE
    if begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return JSON
    if not set(begin) & (set(range(32)) - set(b"\t\n\r\f")):
        return "a text file"
    return "a file of an unknown kind"


def _inside(path: Path) -> bytes:
    """Return the first bytes of a gzip file's contents; b"" for a damaged file."""
    try:
        with gzip.open(path) as file:
            return file.read(_LOOKED_AT)
    except (OSError, EOFError, zlib.error):
        return b""
