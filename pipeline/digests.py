"""sha256 of the files outside exp/ that stages read, remembered by path, size and time so that each is read once."""

import contextlib
import json
from pathlib import Path

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages.files import sha256, write_atomically

SMALL = 64 << 20  # bytes that are read at once even where an answer is wanted quickly


def digest(path: Path, memory: Path, report: Report | None) -> str:
    """Hex sha256 of a file's content.

    A file that is gone keeps its last known digest: results made from it stay valid when the archive is deleted to free
    space. Without `report`, large unknown files are not read. Raises DataError in both unhappy cases.
    """
    known = _read(memory)
    key = str(path.absolute())
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of the file in it.")
    if not path.is_file():
        if key in known:
            return known[key]["sha256"]
        raise DataError(f"{path} is not there; put the file in this place or correct its path in the settings.")
    stat = path.stat()
    stamp = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if key in known and {k: known[key][k] for k in stamp} == stamp:
        return known[key]["sha256"]
    if report is None and stat.st_size > SMALL:
        raise DataError(f"{path} is new or changed and has not been read yet; a run reads it.")
    known[key] = stamp | {"sha256": sha256(path, report or silent)}
    with contextlib.suppress(OSError):  # a full or read-only disk costs reading the file once more
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(known, indent=1).encode())
    return known[key]["sha256"]


def _read(memory: Path) -> dict[str, dict]:
    """Path -> size, time and digest; nothing where the memory is missing or damaged."""
    try:
        known = json.loads(memory.read_text())
        return {path: facts for path, facts in known.items() if {"size", "mtime_ns", "sha256"} <= facts.keys()}
    except (OSError, ValueError, AttributeError):
        return {}
