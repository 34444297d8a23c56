"""What the files outside exp/ that stages read are known by: their sha256, remembered so that each file is read once."""

import contextlib
import json
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.files import sha256, write_atomically
from datasets.progress import Report, silent
from stages.fetching import folders
from stages.fetching.sources import read_source

SMALL = 64 << 20  # bytes that are read at once even where an answer is wanted quickly


def identity(source: str, memory: Path, report: Report | None, remedy: str) -> str:
    """What a source counts as in a fingerprint: the digest of its content, or for an address without #sha256= its text.

    An address's content may be unknown until it is fetched, and a fingerprint must not change when it becomes known.
    Raises DataError for a file that is missing (with the remedy) or has another digest than the source says.
    """
    wanted = read_source(source)
    if wanted.path is None:
        return wanted.sha256 or wanted.addresses[0]
    found = _digest(wanted.path, memory, report, remedy)
    if not wanted.accepts(found):
        raise DataError(
            f"{wanted.path} has sha256 {found}, not {wanted.sha256} as expected; fetch it again, or correct the settings."
        )
    return found


def of_folder(folder: Path, wanted: folders.Wanted, contents: bool, memory: Path, report: Report | None, remedy: str) -> str:
    """What the wanted files of a folder count as, see `folders.identity`; of a folder that is gone, what they counted as last.

    Raises DataError where something is missing in the folder.
    """
    if not folder.is_dir():
        return _digest(folder, memory, report, remedy)
    found = folders.find(folder, wanted)

    def digest(path: Path) -> str:
        return _digest(path, memory, report, remedy)

    def of_file(path: Path) -> str:
        return sha256(path)

    told = folders.identity(found, wanted, digest, None, report or silent)
    known, key = _read(memory), str(folder.absolute())
    stamp = {"size": len(told), "mtime_ns": 0, "listing": told}
    if contents:
        if key in known and known[key].get("listing") == told and known[key].get("contents"):
            return known[key]["sha256"]
        if report is None:
            raise DataError(f"{folder} is new or changed and has not been read yet; a run reads it.")
        told = folders.identity(found, wanted, digest, of_file, report)
    facts = stamp | {"sha256": told, "contents": contents}
    if known.get(key) != facts:
        _write(memory, known | {key: facts})
    return told


def _digest(path: Path, memory: Path, report: Report | None, remedy: str) -> str:
    """Hex sha256 of a file's content, remembered by path, size and time.

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
        raise DataError(f"{path} is not there; {remedy}.")
    stat = path.stat()
    stamp = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if key in known and {k: known[key][k] for k in stamp} == stamp:
        return known[key]["sha256"]
    if report is None and stat.st_size > SMALL:
        raise DataError(f"{path} is new or changed and has not been read yet; a run reads it.")
    known[key] = stamp | {"sha256": sha256(path, report or silent)}
    _write(memory, known)
    return known[key]["sha256"]


def _write(memory: Path, known: dict[str, dict]) -> None:
    with contextlib.suppress(OSError):  # a full or read-only disk costs reading the file once more
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(known, indent=1).encode())


def _read(memory: Path) -> dict[str, dict]:
    """Path -> size, time and digest; nothing where the memory is missing or damaged."""
    try:
        known = json.loads(memory.read_bytes())
        return {path: facts for path, facts in known.items() if _is_digest(facts)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _is_digest(facts: Any) -> bool:
    types = {"size": int, "mtime_ns": int, "sha256": str}
    return isinstance(facts, dict) and all(isinstance(facts.get(name), kind) for name, kind in types.items())
