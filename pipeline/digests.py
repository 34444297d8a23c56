"""sha256 of the files outside exp/ that stages read, remembered by path, size and time so that each is read once."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from datasets.errors import DataError
from stages.files import sha256

SMALL = 64 << 20  # bytes that are read at once even where an answer is wanted quickly


def digest(path: Path, memory: Path, report: Callable[..., object] | None) -> str:
    """Hex sha256 of a file's content.

    A file that is gone keeps its last known digest: results made from it stay valid when the archive is deleted to free
    space. Without `report`, large unknown files are not read. Raises DataError in both unhappy cases.
    """
    known = json.loads(memory.read_text()) if memory.exists() else {}
    key = str(path.absolute())
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
    known[key] = stamp | {"sha256": sha256(path, report or (lambda *_: None))}
    memory.parent.mkdir(parents=True, exist_ok=True)
    temporary = memory.with_name(f"{memory.name}.{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=1))
    os.replace(temporary, memory)
    return known[key]["sha256"]
