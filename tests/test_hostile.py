"""Damaged files give an error message or a right result, but never a crash, a hang, high memory use or a partial result."""

import io
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from datasets.errors import DataError
from datasets.imaging.images import read_image
from tests.hostile import KINDS, image

ROOT = Path(__file__).resolve().parents[1]


def test_damaged_files() -> None:
    """Every kind of damaged file must be read or refused without a crash; a separate process reads the files (`tests.hostile`).

    To read more files than this test does: python -m tests.hostile 0 5000
    """
    command = [sys.executable, "-m", "tests.hostile", "0", "40"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, f"{process.stdout.splitlines()[-1]}: {process.stderr[-2000:]}"
    refused = dict(re.findall(r"^(.+) \{.*'refused': (\d+)", process.stdout, re.MULTILINE))
    assert set(refused) == set(KINDS) and all(int(count) > 5 for count in refused.values())


def test_pictures_that_claim_too_many_pixels(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 32000, 32000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    png = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(DataError, match=r"a\.png is refused: its header claims 32000 x 32000 px"):
        read_image(tmp_path / "a.png")
    jpeg = image(".jpg")
    size = jpeg.index(b"\xff\xc0") + 5  # height and width in the frame header
    (tmp_path / "a.jpg").write_bytes(jpeg[:size] + b"\x80\0\x80\0" + jpeg[size + 4 :])
    with pytest.raises(DataError, match=r"a\.jpg is refused: its header claims 32768 x 32768 px"):
        read_image(tmp_path / "a.jpg")


def segments(jpeg: bytes) -> list[bytes]:
    """Return the segments of a JPEG; header and data of a scan form one segment."""
    starts = [m.start() for m in re.finditer(rb"\xff[^\x00\xd0-\xd7\xff]", jpeg)]
    return [jpeg[a:b] for a, b in zip(starts, [*starts[1:], len(jpeg)], strict=True)]


def test_a_jpeg_of_many_scans(tmp_path: Path) -> None:
    """A valid JPEG of 882 scans of a few bytes each (14 scans for each of 63 coefficients) must be refused within a second."""
    file = io.BytesIO()
    Image.new("L", (6400, 6400)).save(file, "JPEG", progressive=True)
    parts = segments(file.getvalue())
    first = next(i for i, part in enumerate(parts) if part[:2] == b"\xff\xda")
    head, table, blocks = parts[: first + 1], parts[first + 1], parts[first + 2][10:]
    scans = [bytes([k, k, (low + 1) % 14 << 4 | low]) for k in range(1, 64) for low in range(13, -1, -1)]
    jpeg = b"".join([*head, table, *(b"\xff\xda\0\x08\1\1\0" + scan + blocks for scan in scans), b"\xff\xd9"])
    assert len(jpeg) < 200_000
    (tmp_path / "a.jpg").write_bytes(jpeg)
    began = time.perf_counter()
    with pytest.raises(DataError, match=r"a\.jpg is refused: it is a JPEG of more than 100 scans"):
        read_image(tmp_path / "a.jpg")
    assert time.perf_counter() - began < 1
    # A phone's picture may contain a video after the image; the video's bytes must not be counted as scans.
    (tmp_path / "a.jpg").write_bytes(file.getvalue() + b"\xff\xda" * 200)
    assert read_image(tmp_path / "a.jpg").shape == (6400, 6400, 3)


def test_a_file_of_too_many_bytes(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.write(image(".jpg"))
        file.truncate(1 << 30)  # a sparse file, which takes no disk space
    with pytest.raises(DataError, match=r"a\.jpg is refused: it has 1074 MB"):
        read_image(tmp_path / "a.jpg")
