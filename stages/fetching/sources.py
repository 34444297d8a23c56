"""Turn sources into files: a path is read in place; the file at an address is downloaded once, verified, and reused.

A source is the text of a setting: a path, or one or more addresses of one file, separated by spaces. A path or an address may
end in #sha256=DIGEST, the digest that the file must have; the first 8 or more of its digits suffice.
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

from datasets.errors import DataError
from datasets.files import NotEnoughSpace, disk_trouble_as_data_error, lock_file, sha256, write_atomically
from datasets.progress import Report, silent

RECORD = ".record.json"  # name of a file next to each download; it contains the download's address, size, digest and date
PIN = re.compile(r"#sha256=(?P<digest>.*)$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The location of a file: a path, or addresses that are tried in order. Also its digest, if the setting states it."""

    path: Path | None
    addresses: tuple[str, ...]
    sha256: str | None  # the digest, or its first digits; None if it is unknown

    def accepts(self, digest: str) -> bool:
        return digest.startswith(self.sha256 or "")


def read_source(text: str) -> Source:
    """Return the source that a setting's text describes.

    Raises DataError for an address that does not begin with http://, https:// or file://, and for an invalid digest.
    """
    several = text.startswith(("http://", "https://"))
    words = text.split() if several else [text]
    digests = {match["digest"].lower() for word in words if (match := PIN.search(word))}
    if len(digests) > 1 or not all(re.fullmatch("[0-9a-f]{8,64}", digest) for digest in digests):
        raise DataError(
            f"{text}: #sha256= must be followed by the 64 hexadecimal digits of one file's digest, or by at least the first 8."
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
    """Return the path of a source's file: the path in the source, or that of the file downloaded to a folder in `downloads`.

    An existing download is verified, not fetched again. It must have the digest in the source or, if the source has none,
    the digest of the first download; a file with another digest is renamed to *.wrong. unpacked: also require disk space for
    the unpacked contents. Raises DataError, which states why each address failed, and what to do.
    """
    wanted = read_source(source)
    if wanted.path:
        if wanted.path.is_dir():
            raise DataError(f"{wanted.path} is a folder; give the path of the file in it.")
        if not wanted.path.is_file():
            raise DataError(f"{wanted.path} does not exist; put the file there, or correct its path in the settings.")
        return wanted.path
    target = download_of(source, downloads)
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk_trouble_as_data_error(downloads), lock_file(target.parent / ".lock"):
        if not _is_verified(target, wanted, report):
            _fetch(target, wanted, report, unpacked)
    return target


def download_of(source: str, downloads: Path) -> Path:
    """Return the path to which the first address of a source is downloaded.

    Each address has its own folder, because different files often share a name. The name of a download never begins with a
    dot, because such names are reserved for this module's own files in the folder.
    """
    address = read_source(source).addresses[0]
    name = PurePosixPath(unquote(urlparse(address).path)).name.lstrip(".")
    return downloads / hashlib.sha256(address.encode()).hexdigest()[:8] / (re.sub(r"[^\w.+ -]", "_", name)[-100:] or "download")


def record_of(download: Path) -> dict[str, Any]:
    """Return the address, size, sha256 and date of a download; an empty dictionary if nothing was fetched yet.

    The record remains if the download is deleted.
    """
    try:
        found = json.loads((download.parent / RECORD).read_text())
        return found if {"address", "bytes", "sha256", "fetched"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_verified(target: Path, wanted: Source, report: Report) -> bool:
    """Return whether the download exists and has the right digest; rename a file with a wrong digest to *.wrong."""
    aside = _aside(target)
    if not target.exists() and wanted.sha256 and aside.exists() and wanted.accepts(sha256(aside, report)):
        os.replace(aside, target)  # an earlier run renamed this file; since then the user wrote its digest into the settings
    if not target.exists():
        return False
    try:
        _check(target, target, wanted.addresses[0], wanted, report)
    except DataError as error:
        _log.warning("%s The file is fetched again.", error)
        return False
    return True


def _fetch(target: Path, wanted: Source, report: Report, unpacked: bool) -> None:
    """Download from the first address that has the right file. Raises DataError, with all failures, if no address has it."""
    from stages.fetching.download import download  # slow imports, which other commands should not wait for

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
            for part in target.parent.glob(".*.part*"):  # unfinished downloads from other addresses
                part.unlink()
            return
    raise DataError(" ".join(failures))


def _check(path: Path, target: Path, address: str, wanted: Source, report: Report) -> None:
    """Move a file with the right digest to `target` and record the digest.

    Raises DataError for a file with a wrong digest, after renaming the file to *.wrong.
    """
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
        f"{address}: the file has sha256 {digest}, not {expected} {before}. It was moved to {aside}. "
        f"If you want this new file, set the source in the settings to {wanted.addresses[0]}#sha256={digest}"
    )


def _aside(target: Path) -> Path:
    return target.with_name(target.name + ".wrong")


def how_to_replace(path: Path) -> str:
    """Return a sentence that tells the user how to replace a damaged file.

    For a download, the user should delete the whole folder, because the folder also contains the recorded digest, which a new
    download would have to match.
    """
    if record_of(path):
        return f"Delete the folder {path.parent} and run again to fetch the file again."
    return "Fetch the file again from its owner."
