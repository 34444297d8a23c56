"""Damaged files: each ends in a sentence or a right result, never in a crash, a hang, much memory or half a result."""

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from datasets.errors import DataError
from datasets.images import read_image
from tests.hostile import KINDS, image

ROOT = Path(__file__).resolve().parents[1]


def test_damaged_files() -> None:
    """In a process of its own, so that a crash is seen; see `tests.hostile`. More of them: python -m tests.hostile 0 5000"""
    command = [sys.executable, "-m", "tests.hostile", "0", "40"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, f"{process.stdout.splitlines()[-1]}: {process.stderr[-2000:]}"
    refused = dict(re.findall(r"^(.+) \{.*'refused': (\d+)", process.stdout, re.MULTILINE))
    assert set(refused) == set(KINDS) and all(int(count) > 5 for count in refused.values())


def test_pictures_that_claim_too_many_pixels(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    png = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(DataError, match=r"a\.png is damaged"):
        read_image(tmp_path / "a.png")
    jpeg = image(".jpg")
    size = jpeg.index(b"\xff\xc0") + 5  # height and width in the start of the frame
    (tmp_path / "a.jpg").write_bytes(jpeg[:size] + b"\x80\0\x80\0" + jpeg[size + 4 :])
    with pytest.raises(DataError, match=r"a\.jpg is damaged \(its header claims 32768 x 32768 px"):
        read_image(tmp_path / "a.jpg")
