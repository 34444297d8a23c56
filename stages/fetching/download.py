"""The download engine: one address -> one whole file, by requests, or by gdown for Google Drive.

What has arrived is kept in a file .*.part. After a broken connection, or in a later run, the server is asked for the rest,
on condition that it still has the same file (If-Range); where it ignores that, the file comes from the beginning.
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

WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each further attempt; counted from the first after an attempt that made progress
LONGEST_WAIT = 120  # seconds that a server may ask for
SILENCE = 60  # seconds until a server that says nothing counts as gone
PIECE = 1 << 17  # bytes; what a broken connection loses at most
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be better the next time
GOOGLE_DRIVE = ("drive.google.com", "docs.google.com")

_log = logging.getLogger(__name__)


class _Interrupted(Exception):
    """An attempt that may go better the next time; `wait`: seconds that the server asks for."""

    def __init__(self, text: str, wait: int = 0) -> None:
        super().__init__(text)
        self.wait = wait


class _NoHost(_Interrupted):
    """An attempt that failed because no host has the address's name: worth repeating only if the host was there before."""


def download(address: str, target: Path, report: Report = silent, unpacked: bool = False) -> Path:
    """Fetch an address; returns a whole file in the folder of `target`, which is to be moved there once it is checked.

    unpacked: the space on the disk must do for its contents, too. Raises DataError where the address cannot be had.
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
            if isinstance(error, _NoHost) and _size(part) <= arrived:
                raise DataError(
                    f"{address} could not be fetched: {error}. Correct the address in the settings, or check the network."
                ) from None
            if _size(part) > before:
                waits = iter(WAITS)
            patience = next(waits, None)
            if patience is None:
                raise DataError(
                    f"{address} could not be fetched: {error}. Run again to go on ({size_in_words(_size(part))} have arrived "
                    "and are kept), or download it by hand and give its path in the settings."
                ) from None
            wait = max(patience, min(error.wait, LONGEST_WAIT))
            _log.warning("%s: %s; trying again in %d s.", address, error, wait)
            time.sleep(wait)
        except requests.RequestException as error:  # not of the connection, but of the address
            raise DataError(f"{address} could not be fetched: {error}.") from None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(address: str, part: Path, name: str, report: Report, copies: int) -> None:
    """One attempt: ask for what is missing of `part`, and write what comes."""
    tag = part.with_suffix(".part-tag")  # what the server calls the file that `part` is the beginning of
    start = _size(part) if tag.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the length and the ranges are those of the file itself
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text()}
    try:
        with requests.get(address, stream=True, timeout=SILENCE, headers=headers) as reply:
            if reply.status_code == 416 and reply.headers.get("Content-Range") == f"bytes */{start}":
                return  # killed after the last byte
            if reply.status_code == 416 or (reply.status_code == 206 and not _goes_on(reply, start, tag)):
                tag.unlink(missing_ok=True)
                raise _Interrupted("the server has another file now, or cannot go on with this one")
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
        if _is_unknown_name(error):
            raise _NoHost(f"there is no host called {urlparse(address).hostname}") from None
        raise _Interrupted(_in_words(error)) from None
    if total not in (None, _size(part)):
        raise _Interrupted(f"it ended after {_size(part)} of {total} bytes")


def _goes_on(reply: requests.Response, start: int, tag: Path) -> bool:
    """Whether an answer with a part of the file is the part that was asked for, of the same file."""
    begun = tag.read_text() if tag.exists() else ""
    same = reply.headers.get("ETag" if begun.startswith('"') else "Last-Modified") in (None, begun)
    return same and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _check_answer(address: str, reply: requests.Response) -> None:
    answer = f"the server answered {reply.status_code} {reply.reason}"
    if reply.status_code in PASSING:
        asked = reply.headers.get("Retry-After", "")
        raise _Interrupted(answer, int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 0)
    if reply.status_code not in (200, 206):
        raise DataError(f"{address} could not be fetched: {answer}; correct it in the settings, or give the path of the file.")
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise _page(address)


def _page(address: str) -> DataError:
    return DataError(
        f"{address} is a page for people, not a file: open it in a browser, download the file there, and give its path in the "
        "settings."
    )


def _begin(part: Path, tag: Path, reply: requests.Response) -> None:
    """Empty the part, then note whose beginning it will be: a kill in between must not give old bytes a new name."""
    tag.unlink(missing_ok=True)
    part.write_bytes(b"")
    strong = reply.headers.get("ETag", "")
    identity = strong if strong.startswith('"') else reply.headers.get("Last-Modified", "")
    if identity and identity.isascii() and identity.isprintable():
        tag.write_text(identity)


def _is_unknown_name(error: BaseException | None) -> bool:
    """Whether a connection failed because its host's name is not known, for good (a resolver out of reach is another error)."""
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    unknown = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    return isinstance(error, socket.gaierror) and error.errno in unknown


def _in_words(error: BaseException) -> str:
    """The innermost cause, without the connection's description: requests and urllib3 wrap errors in several layers."""
    while isinstance(inner := getattr(error, "reason", error.args[-1] if error.args else None), BaseException):
        error = inner
    return str(error).rsplit("): ", 1)[-1]


def _from_google_drive(address: str, part: Path, name: str, report: Report, copies: int) -> None:
    """gdown finds its way through the pages that Google Drive puts before large files; it resumes and retries itself."""
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
        why = " ".join(_in_words(error.__cause__ or error).split())
        raise DataError(
            f"{address} could not be fetched from Google Drive ({why}). Run again later, or download it in a browser and give "
            "its path in the settings."
        ) from None
    with open(part, "rb") as file:
        if is_web_page(file.read(1000)):
            part.unlink()
            raise _page(address)
