"""Sources -> files: a path is read where it is; an address is downloaded once, checked, and known again later.

A source is what a setting says: a path, or one or more addresses of the same file, separated by spaces. Either may end
in #sha256=..., the digest that the file must have, or at least 8 digits of its beginning.
"""

import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from filelock import FileLock

from datasets.errors import DataError
from datasets.files import NotEnoughSpace, disk_trouble_as_data_error, sha256, write_atomically
from datasets.progress import Report, silent

RECORD = ".record.json"  # beside a download: the size and digest that the address had when it was first fetched
PIN = re.compile(r"#sha256=(?P<digest>.*)$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a file is: a path, or addresses to try in their order; and its digest where the settings name it."""

    path: Path | None
    addresses: tuple[str, ...]
    sha256: str | None  # or its beginning

    def accepts(self, digest: str) -> bool:
        return digest.startswith(self.sha256 or "")


def read_source(text: str) -> Source:
    """What a setting says. Raises DataError for an address that is neither http(s):// nor file://."""
    several = text.startswith(("http://", "https://"))
    words = text.split() if several else [text]
    digests = {match["digest"].lower() for word in words if (match := PIN.search(word))}
    if len(digests) > 1 or not all(re.fullmatch("[0-9a-f]{8,64}", digest) for digest in digests):
        raise DataError(
            f"{text}: #sha256= is followed by the 64 hexadecimal digits of one file's digest, or by 8 or more that begin it."
        )
    digest, words = next(iter(digests), None), [PIN.sub("", word) for word in words]
    if several:
        if not all(_is_address(word) for word in words):
            raise DataError(f"{text}: expected addresses that begin with http:// or https://, separated by spaces.")
        return Source(None, tuple(words), digest)
    if words[0].startswith("file://"):
        return Source(Path(unquote(words[0].removeprefix("file://"))), (), digest)
    if "://" in words[0]:
        raise DataError(f"{text}: expected a path or an address that begins with http://, https:// or file://.")
    return Source(Path(os.path.expanduser(words[0])), (), digest)


def _is_address(word: str) -> bool:
    try:
        return word.startswith(("http://", "https://")) and bool(urlparse(word).hostname)
    except ValueError:
        return False


def obtain(source: str, downloads: Path, report: Report = silent, unpacked: bool = False) -> Path:
    """The file that a source means: its path, or the download of its address below `downloads`.

    A download that is there already is checked, not fetched again. Its digest is the one that the source names, or else
    the one that the address had at first: other content is set aside and refused. With `unpacked`, space for its
    contents is asked for, too. Raises DataError naming what failed at every address, and the remedy.
    """
    wanted = read_source(source)
    if wanted.path:
        if wanted.path.is_dir():
            raise DataError(f"{wanted.path} is a folder; give the path of the file in it.")
        if not wanted.path.is_file():
            raise DataError(f"{wanted.path} is not there; put the file in this place or correct its path in the settings.")
        return wanted.path
    target = download_of(source, downloads)
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk_trouble_as_data_error(downloads), FileLock(target.parent / ".lock"):
        if not _is_there(target, wanted, report):
            _fetch(target, wanted, report, unpacked)
    return target


def download_of(source: str, downloads: Path) -> Path:
    """Where an address's download is. Each has a folder of its own, because different files often have the same name.

    A name never begins with a dot there: those are our own files.
    """
    address = read_source(source).addresses[0]
    name = PurePosixPath(unquote(urlparse(address).path)).name.lstrip(".")
    return downloads / hashlib.sha256(address.encode()).hexdigest()[:8] / (re.sub(r"[^\w.+ -]", "_", name)[-100:] or "download")


def record_of(download: Path) -> dict[str, Any]:
    """The address, size, sha256 and day of a download; empty where nothing was fetched yet. It outlives the file."""
    try:
        found = json.loads((download.parent / RECORD).read_text())
        return found if {"address", "bytes", "sha256", "fetched"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_there(target: Path, wanted: Source, report: Report) -> bool:
    """Whether the download is there, whole and right; a wrong one is set aside."""
    aside = _aside(target)
    if not target.exists() and wanted.sha256 and aside.exists() and wanted.accepts(sha256(aside, report)):
        os.replace(aside, target)  # refused before, accepted by now
    if not target.exists():
        return False
    try:
        _check(target, target, wanted.addresses[0], wanted, report)
    except DataError as error:
        _log.warning("%s It is fetched again.", error)
        return False
    return True


def _fetch(target: Path, wanted: Source, report: Report, unpacked: bool) -> None:
    """Download from the first address that has the right file."""
    from stages.fetching.download import download  # heavy imports stay out of the command line

    failures: list[str] = []
    for address in wanted.addresses:
        if failures:
            _log.warning("%s Trying %s.", failures[-1], address)
        try:
            _check(download(address, target, report, unpacked), target, address, wanted, report)
        except NotEnoughSpace:
            raise
        except DataError as error:
            failures.append(str(error))
        else:
            for part in target.parent.glob(".*.part*"):  # of other addresses
                part.unlink()
            return
    raise DataError(" ".join(failures))


def _check(path: Path, target: Path, address: str, wanted: Source, report: Report) -> None:
    """Compare a file with the digest that it must have, record it, and put it in its place; set a wrong one aside."""
    known, digest = record_of(target), sha256(path, report)
    expected = wanted.sha256 or known.get("sha256", digest)
    if digest.startswith(expected):
        if digest != known.get("sha256"):
            today = datetime.now(UTC).date().isoformat()
            record = {"address": address, "bytes": path.stat().st_size, "sha256": digest, "fetched": today}
            write_atomically(target.parent / RECORD, json.dumps(record, indent=1).encode())
        os.replace(path, target)
        return
    aside = _aside(target)
    os.replace(path, aside)
    before = "as the settings say" if wanted.sha256 else f"as on {known['fetched']}, when it was first fetched"
    raise DataError(
        f"{address}: the file has sha256 {digest}, not {expected} {before}. It was set aside as {aside}. "
        f"If it is the one that you want, let the source in the settings be {wanted.addresses[0]}#sha256={digest}"
    )


def _aside(target: Path) -> Path:
    return target.with_name(target.name + ".wrong")


def how_to_replace(path: Path) -> str:
    """What to do about a damaged file: a download may be had again, and then need not be the same as before."""
    if record_of(path):
        return f"Delete the folder {path.parent} and run again to fetch it again."
    return "Fetch it again from its owner."
