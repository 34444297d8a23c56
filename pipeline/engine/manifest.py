"""Read, write and check the files that describe a result: manifest.json and files.csv."""

import contextlib
import csv
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import AwareDatetime, BaseModel, field_serializer

from datasets.errors import DataError
from datasets.files import WRITING, csv_cell, csv_text, sha256, write_atomically
from datasets.progress import Report
from pipeline.engine.identity import Identity

MANIFEST, FILES = "manifest.json", "files.csv"
PARTIAL = "partial.json"  # file that describes an unfinished result: its inputs, and the seconds spent on it
LOOK = 60  # seconds for which `quick_damage` reuses the outcome of its last check
LOGS = "logs/"  # folder of log files, which contain times; these files may change after the result is finished
LIBRARIES = ("torch", "numpy", "scipy", "h5py", "opencv-python-headless", "pandas", "luigi")


class Files(BaseModel):
    """Number and total size of a result's files; `list`: name of the file with the table of files."""

    count: int
    bytes: int
    list: str = FILES


class Begun(BaseModel):
    """The identity and the inputs of a result, known when the work on it begins."""

    fingerprint: str
    input_contents: dict[str, str]  # name of the input -> its content digest
    upstream_contents: dict[str, str] = {}  # name of each direct or indirect input's stage -> content digest of its result
    identity: Identity


class Partial(Begun):
    """The content of partial.json, in the folder of an unfinished result."""

    seconds: float  # seconds of work spent on the result so far


class Manifest(Begun):
    """The content of manifest.json, in the folder of a finished result."""

    content: str  # digest of the list of files without those in logs/; results with equal contents have equal digests
    files: Files
    finished: AwareDatetime
    seconds: float
    summary: dict[str, Any] = {}
    libraries: dict[str, str | None] = {}
    commit: str | None = None

    @field_serializer("finished")
    def _in_utc(self, moment: datetime) -> str:
        return moment.isoformat(timespec="seconds")

    def text(self) -> str:
        """Return the text of manifest.json."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a result, or None: a folder without a readable manifest is no result."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def read_partial(folder: Path) -> Partial | None:
    """Return partial.json of an unfinished result; None if the file is missing or damaged."""
    try:
        return Partial.model_validate_json((folder / PARTIAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def write_partial(folder: Path, begun: Begun, seconds: float) -> None:
    """Write partial.json. seconds: work spent on the result so far."""
    write_atomically(folder / PARTIAL, Partial(**dict(begun), seconds=seconds).model_dump_json().encode())


def write(folder: Path, begun: Begun, summary: dict[str, Any], seconds: float, report: Report) -> None:
    """Write files.csv, with the digests of all files in the folder, and then the manifest as the last file.

    Files that an earlier, killed process was writing, such as manifest.json.writing, are deleted: they would be listed, and
    missing as soon as they are written again.
    """
    for unfinished in folder.rglob(f"*{WRITING}"):
        unfinished.unlink()
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, FILES, PARTIAL))
    rows = []
    for i, path in enumerate(paths):
        rows.append(File(path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)))
        report(i + 1, len(paths), "listing files")
    with open(folder / FILES, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([File._fields, *((csv_text(row.path), *row[1:]) for row in rows)])
    manifest = Manifest(
        **dict(begun),
        content=_content(rows),
        files=Files(count=len(rows), bytes=sum(row.bytes for row in rows)),
        finished=datetime.now(UTC),
        seconds=round(seconds, 1),
        summary=summary,
        libraries={name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        commit=_commit(),
    )
    write_atomically(folder / MANIFEST, manifest.text().encode())


class File(NamedTuple):
    """A row of files.csv."""

    path: str  # path relative to the result's folder
    bytes: int
    sha256: str


class Damaged(DataError):
    """The error for a result with a file that is missing or has changed since the result was finished."""


def _content(rows: list[File]) -> str:
    """Return the digest of a result's content, that is of all files except those in logs/, which contain times."""
    return hashlib.sha256(json.dumps([row for row in rows if not row.path.startswith(LOGS)]).encode()).hexdigest()


def _read_list(folder: Path, content: str) -> list[File]:
    """Return the rows of files.csv. Raises Damaged if the rows do not match the manifest."""
    try:
        with open(folder / FILES, newline="", encoding="utf-8") as file:
            cells = [[row[name] for name in File._fields] for row in csv.DictReader(file)]
        rows = [File(csv_cell(path), int(size), digest) for path, size, digest in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        raise Damaged(f"{FILES} is missing or damaged") from None
    if _content(rows) != content:
        raise Damaged(f"{FILES} does not match {MANIFEST}")
    return rows


def check_sizes(folder: Path, content: str) -> None:
    """Raise Damaged if a file of a result, except in logs/, is missing, or its size is not the size in files.csv."""
    for row in _read_list(folder, content):
        if not row.path.startswith(LOGS):
            _checked_size(folder, row)


# (result folder, time of its manifest) -> time and outcome of the last check in `quick_damage`.
_looks: dict[tuple[Path, int], tuple[float, str]] = {}


def quick_damage(folder: Path, content: str) -> str:
    """Return the error text of `check_sizes`; "" if there is no error.

    The outcome is reused for LOOK seconds, because `status` calls this function for each stage that reads a result, and some
    results have 160,000 files.
    """
    try:
        key = folder, os.stat(folder / MANIFEST).st_ctime_ns
    except OSError:  # another process has just moved the result
        return f"{MANIFEST} is missing"
    when, found = _looks.get(key, (-math.inf, ""))
    if time.monotonic() - when > LOOK:
        try:
            check_sizes(folder, content)
            found = ""
        except Damaged as damage:
            found = str(damage)
        _looks[key] = time.monotonic(), found
    return found


def _checked_size(folder: Path, row: File) -> os.stat_result:
    try:
        stat = os.stat(folder / row.path)
    except OSError:
        raise Damaged(f"{row.path} is missing") from None
    if stat.st_size != row.bytes:
        raise Damaged(f"{row.path} has {stat.st_size} bytes instead of {row.bytes}")
    return stat


def check_contents(folder: Path, content: str, report: Report, every: bool = False) -> None:
    """Raise Damaged if a file of a result, except in logs/, has changed since the result was finished.

    Digests are computed only for files whose ctime is later than the manifest's ctime; if `every` is true, for all files. If
    all digests are right, the manifest's ctime is set to now, so that these digests are not computed again next time.
    """
    try:
        written, suspects = os.stat(folder / MANIFEST), list[File]()
    except OSError:
        raise Damaged(f"{MANIFEST} is missing") from None
    for row in _read_list(folder, content):
        if not row.path.startswith(LOGS) and (_checked_size(folder, row).st_ctime_ns > written.st_ctime_ns or every):
            suspects.append(row)
    for i, row in enumerate(suspects):
        if sha256(folder / row.path) != row.sha256:
            raise Damaged(f"{row.path} has changed since the result was finished")
        report(i + 1, len(suspects), f"checking {folder.name}")
    if suspects:
        with contextlib.suppress(OSError):  # if the ctime cannot be changed, the digests are computed again next time
            os.utime(folder / MANIFEST, ns=(written.st_atime_ns, written.st_mtime_ns))


def damage(folder: Path, content: str, report: Report) -> str:
    """Check the digests of all files of a result; return a text about a file that has changed, or "" if no file has."""
    try:
        check_contents(folder, content, report, every=True)
    except Damaged as damage:
        return f"damaged: {damage}"
    return ""


def _version(library: str) -> str | None:
    """Return a library's version; None if it is not installed (opencv-python may replace opencv-python-headless)."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of this source code, with + if it has uncommitted changes; None outside a git repository."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
