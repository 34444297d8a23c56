"""Files that are written whole or not at all, and their digests."""

import hashlib
import os
from pathlib import Path

from datasets.errors import DataError
from datasets.progress import Report, silent

CHUNK = 1 << 20


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the whole new one, whatever kills the process or the machine."""
    temporary = path.with_name(path.name + ".writing")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256(path: Path, report: Report = silent) -> str:
    """Hex digest of a file's content, read in pieces. Raises DataError where it cannot be read."""
    digest, done = hashlib.sha256(), 0
    try:
        total = path.stat().st_size
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                report(done, total, f"reading {path.name}")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path in the settings.") from None
    return digest.hexdigest()
