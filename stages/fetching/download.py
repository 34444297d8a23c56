"""Download one file from one address, resumably: with requests, or with gdown for Google Drive.

The bytes that have arrived are kept in the file .<hash of the address>.part. After a broken connection, or in a later run, the
server is asked for the remaining bytes, provided that the file on the server has not changed (If-Range). If the server cannot
send a part of a file, the download starts from the beginning.
"""

import hashlib
import logging
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlparse

import requests
import urllib3

from datasets.errors import DataError
from datasets.files import require_space, size_in_words
from datasets.progress import Report, silent
from stages.fetching.kinds import is_web_page

WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each retry; after an attempt that received data, the first wait is used again
LONGEST_WAIT = 120  # seconds; the longest wait, even if the server's Retry-After asks for more
SILENCE = 60  # seconds without data until the connection times out
PIECE = 1 << 17  # bytes per write; a broken connection loses at most one such block
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes of temporary errors
GOOGLE_DRIVE = ("drive.google.com", "docs.google.com")

_log = logging.getLogger(__name__)


class _Interrupted(Exception):
    """An attempt that failed for a temporary reason; `wait`: seconds that the server asks to wait before a retry."""

    def __init__(self, text: str, wait: int = 0) -> None:
        super().__init__(text)
        self.wait = wait


class _UnknownHost(_Interrupted):
    """An attempt that failed because the host name is unknown: retried only if the host sent data earlier."""


def download(address: str, target: Path, report: Report = silent, unpacked: bool = False) -> Path:
    """Download the file at an address; return the path of the downloaded file, which lies next to `target`.

    The caller verifies the file and moves it to `target`. unpacked: also require disk space for the unpacked contents. Raises
    DataError if the download fails.
    """
    part = target.parent / f".{hashlib.sha256(address.encode()).hexdigest()[:8]}.part"
    copies = 2 if unpacked else 1
    if urlparse(address).hostname in GOOGLE_DRIVE:
        _from_google_drive(address, part, target.name, report, copies)
        return part
    waits, arrived = iter(WAITS), _size(part)
    while True:
        before = _size(part)
        try:
            _receive(address, part, target.name, report, copies)
            return part
        except _Interrupted as error:
            if isinstance(error, _UnknownHost) and _size(part) <= arrived:
                raise DataError(
                    f"{address} could not be fetched: {error}. Correct the address in the settings, or check the network."
                ) from None
            if _size(part) > before:
                waits = iter(WAITS)
            patience = next(waits, None)
            if patience is None:
                raise DataError(
                    f"{address} could not be fetched: {error}. Run again to resume ({size_in_words(_size(part))} have arrived "
                    "and are kept), or download the file by hand and give its path in the settings."
                ) from None
            wait = max(patience, min(error.wait, LONGEST_WAIT))
            _log.warning("%s: %s; trying again in %d s.", address, error, wait)
            time.sleep(wait)
        except requests.RequestException as error:  # the address is wrong, so a retry would not help
            raise DataError(f"{address} could not be fetched: {error}.") from None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(address: str, part: Path, name: str, report: Report, copies: int) -> None:
    """Make one attempt: request the missing bytes of `part` and append them. Raises _Interrupted for temporary errors."""
    tag = part.with_suffix(".part-tag")  # contains the ETag or Last-Modified of the file on the server
    start = _size(part) if tag.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # no compression, so that lengths and ranges count bytes of the file itself
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text()}
    try:
        with requests.get(address, stream=True, timeout=SILENCE, headers=headers) as reply:
            if reply.status_code == 416 and reply.headers.get("Content-Range") == f"bytes */{start}":
                return  # an earlier run received the whole file, but was killed before it returned
            if reply.status_code == 416 or (reply.status_code == 206 and not _resumes(reply, start, tag)):
                tag.unlink(missing_ok=True)
                raise _Interrupted("the file on the server has changed, or the server cannot resume the download")
            _check_answer(address, reply)
            if reply.status_code == 200:
                start = 0
            length = reply.headers.get("Content-Length", "")
            total = start + int(length) if re.fullmatch("[0-9]+", length) else None
            require_space(part.parent, (total or 0) * copies - start, f"Fetching {address}")
            if not start:
                _begin(part, tag, reply)
            with open(part, "ab") as file:
                for piece in reply.raw.stream(PIECE, decode_content=False):
                    if file.tell() == 0 and is_web_page(piece):
                        raise _page(address)
                    file.write(piece)
                    report(file.tell(), total or 0, f"fetching {name}", unit="B")
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        if _is_unknown_host(error):
            raise _UnknownHost(f"there is no host called {urlparse(address).hostname}") from None
        raise _Interrupted(_root_cause(error)) from None
    if total not in (None, _size(part)):
        raise _Interrupted(f"the connection ended after {_size(part)} of {total} bytes")


def _resumes(reply: requests.Response, start: int, tag: Path) -> bool:
    """Return whether a partial answer (206) begins at byte `start` and belongs to the file that `tag` identifies."""
    begun = tag.read_text() if tag.exists() else ""
    same = reply.headers.get("ETag" if begun.startswith('"') else "Last-Modified") in (None, begun)
    return same and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _check_answer(address: str, reply: requests.Response) -> None:
    answer = f"the server answered {reply.status_code} {reply.reason}"
    if reply.status_code in PASSING:
        asked = reply.headers.get("Retry-After", "")
        raise _Interrupted(answer, int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 0)
    if reply.status_code not in (200, 206):
        raise DataError(
            f"{address} could not be fetched: {answer}; correct the address in the settings, or give the path of the file."
        )
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise _page(address)


def _page(address: str) -> DataError:
    return DataError(
        f"{address} is a web page, not a file: open the page in a browser, download the file by hand, and give its path in "
        "the settings."
    )


def _begin(part: Path, tag: Path, reply: requests.Response) -> None:
    """Empty the file `part`, then write the ETag or Last-Modified of the file on the server to the file `tag`.

    The order matters: if the process is killed between the two steps, no old bytes are left next to the tag of a new file.
    """
    tag.unlink(missing_ok=True)
    part.write_bytes(b"")
    strong = reply.headers.get("ETag", "")
    identity = strong if strong.startswith('"') else reply.headers.get("Last-Modified", "")
    if identity and identity.isascii() and identity.isprintable():
        tag.write_text(identity)


def _is_unknown_host(error: BaseException | None) -> bool:
    """Return whether a connection failed because its host name does not exist; a DNS server out of reach does not count."""
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    unknown = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    return isinstance(error, socket.gaierror) and error.errno in unknown


def _root_cause(error: BaseException) -> str:
    """Return the text of the innermost of the nested errors that requests raises, without the description of the connection."""
    while isinstance(inner := getattr(error, "reason", error.args[-1] if error.args else None), BaseException):
        error = inner
    return str(error).rsplit("): ", 1)[-1]


def _from_google_drive(address: str, part: Path, name: str, report: Report, copies: int) -> None:
    """Download with gdown, which passes the confirmation pages of Google Drive, resumes, and retries by itself."""
    import gdown

    def progress(done: int, total: int | None) -> None:
        require_space(part.parent, (total or 0) * copies - done, f"Fetching {address}")
        report(done, total or 0, f"fetching {name}", unit="B")

    try:
        gdown.download(
            address, str(part), quiet=True, use_cookies=False, resume=True, retries=len(WAITS), timeout=SILENCE,
            progress=progress,
        )  # fmt: skip
    except (gdown.exceptions.DownloadError, requests.RequestException) as error:
        why = " ".join(_root_cause(error.__cause__ or error).split())
        raise DataError(
            f"{address} could not be fetched from Google Drive ({why}). Run again later, or download the file in a browser and "
            "give its path in the settings."
        ) from None
    with open(part, "rb") as file:
        if is_web_page(file.read(1000)):
            part.unlink()
            raise _page(address)
