"""What a result folder says about itself: manifest.json and files.csv."""

import csv
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets.progress import Report
from stages.files import sha256, write_atomically

MANIFEST, FILES = "manifest.json", "files.csv"
PARTIAL = "partial.json"  # in a folder that is being made: what from, and the seconds spent
LIBRARIES = ("torch", "numpy", "scipy", "h5py", "opencv-python-headless", "pandas", "luigi")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a result, or None: a folder without a readable manifest is no result."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    needed = {"fingerprint", "identity", "input_contents", "content", "files", "finished", "seconds"}
    return found if isinstance(found, dict) and needed <= found.keys() else None


def read_partial(folder: Path) -> dict[str, Any]:
    """What an unfinished result is made from, and the seconds spent in it; nothing where that is missing or damaged."""
    try:
        found = json.loads((folder / PARTIAL).read_text())
        return found | {"seconds": float(found["seconds"])}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def write(folder: Path, facts: dict[str, Any], report: Report) -> None:
    """List and hash the folder's files, then write the manifest, last.

    `content` identifies the result: the digest of the list of files, leaving out logs/, where times are kept.
    """
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, FILES, PARTIAL))
    rows = []
    for i, path in enumerate(paths):
        rows.append((path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)))
        report(i + 1, len(paths), "listing files")
    with open(folder / FILES, "w", newline="") as file:
        csv.writer(file).writerows([("path", "bytes", "sha256"), *rows])
    content = hashlib.sha256(json.dumps([r for r in rows if not r[0].startswith("logs/")]).encode()).hexdigest()
    facts = facts | {
        "content": content,
        "files": {"count": len(rows), "bytes": sum(row[1] for row in rows), "list": FILES},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "libraries": {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "commit": _commit(),
    }
    write_atomically(folder / MANIFEST, json.dumps(facts, indent=1, sort_keys=True).encode())


def _version(library: str) -> str | None:
    """None where another distribution, such as opencv-python, provides it."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The git commit of this source tree, with + where it has changes; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
