"""Archives from a path or an address, and their contents, unpacked safely.

Archives come from the internet: only the wanted regular files are taken out of them, each is written by us below the
target folder, and nothing in the archive decides where.
"""

import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlparse

from datasets.errors import DataError
from stages.files import CHUNK

LARGEST_MEMBER = 4 << 30  # no file in these datasets comes near; more is a damaged or hostile archive

Report = Callable[..., object]


def is_address(source: str) -> bool:
    """Whether a source is fetched over the network; everything else is a path (a file:// address too)."""
    return source.startswith(("http://", "https://"))


def local_path(source: str) -> Path:
    """The path that a source which is no address means."""
    return Path(unquote(urlparse(source).path)) if source.startswith("file://") else Path(source).expanduser()


def obtain(source: str, downloads: Path, report: Report = lambda *_: None) -> Path:
    """The file that a source means: its path, or the download of its address in `downloads` (made once, resumed)."""
    if not is_address(source):
        path = local_path(source)
        if not path.is_file():
            raise DataError(f"{path} is not there; put the archive in this place or correct its path in the settings.")
        return path
    target = downloads / (PurePosixPath(unquote(urlparse(source).path)).name or "download")
    if not target.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        _download(source, target, report)
    return target


def _download(address: str, target: Path, report: Report) -> None:
    import requests  # here, because the command line imports this module and should answer at once

    part = target.with_name(target.name + ".part")
    start = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(address, stream=True, timeout=60, headers={"Range": f"bytes={start}-"} if start else {}) as reply:
            if reply.status_code == 416:  # the server's file is no longer than our part: start again
                part.unlink()
                return _download(address, target, report)
            reply.raise_for_status()
            if reply.status_code != 206:
                start = 0
            expected = start + int(reply.headers["Content-Length"]) if "Content-Length" in reply.headers else None
            with open(part, "ab" if start else "wb") as file:
                for chunk in reply.iter_content(CHUNK):
                    file.write(chunk)
                    report(file.tell(), expected or file.tell(), f"fetching {target.name}")
    except requests.RequestException as error:
        raise DataError(
            f"{address} could not be fetched ({error}). What has arrived is kept: run again to go on, or download it by hand "
            "and give its path in the settings."
        ) from None
    if expected is not None and part.stat().st_size != expected:
        raise DataError(
            f"{address} ended after {part.stat().st_size} of {expected} bytes. What has arrived is kept: run again to go on."
        )
    os.replace(part, target)


def unpack(archive: Path, pattern: str, folder: Path, report: Report = lambda *_: None) -> int:
    """Unpack the members of a .tar(.gz) or .zip whose name matches `pattern` into `folder`; returns their number.

    pattern: regular expression over the whole name whose group `to` is the path below `folder`. Files that an earlier,
    interrupted call has written whole are kept. Raises DataError for a damaged archive (naming the last good member),
    a member that points outside, and an archive in which nothing matches.
    """
    wanted, count, last = re.compile(pattern), 0, "the beginning"
    try:
        with open(archive, "rb") as raw:
            total = archive.stat().st_size
            for name, size, content in _members(raw, archive):
                match = wanted.fullmatch(name.removeprefix("./"))
                if match:
                    _write_member(folder / match["to"], size, content, f"{archive}, member {name}")
                    count += 1
                last = name
                report(raw.tell(), total, f"unpacking {archive.name}")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive} is damaged or cut off: reading broke after {last} ({error}). Fetch the archive again."
        ) from None
    if not count:
        raise DataError(f"{archive} holds nothing like {pattern}; is it the right archive?")
    return count


def _members(raw: IO[bytes], archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(name, size, content) of the regular files; every name is checked, also of members that nobody wants."""
    if zipfile.is_zipfile(raw):
        raw.seek(0)
        with zipfile.ZipFile(raw) as file:
            for info in file.infolist():
                _check_name(info.filename, archive)
                if not info.is_dir():
                    with file.open(info) as content:
                        yield info.filename, info.file_size, content
        return
    raw.seek(0)
    with tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            _check_name(member.name, archive)
            if member.isreg() and (stored := tar.extractfile(member)):
                yield member.name, member.size, stored


def _check_name(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"{archive} holds a member named {name!r}, which points outside the folder it is unpacked to. This is not the "
            "published archive; fetch it again from its owner."
        )


def _write_member(path: Path, size: int, content: IO[bytes], what: str) -> None:
    """One member, whole or not at all. A JPEG must begin and end like one."""
    if path.exists() and path.stat().st_size == size:
        return
    if size > LARGEST_MEMBER:
        raise DataError(f"{what} claims {size} bytes, more than any file of these datasets; fetch the archive again.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    if temporary.stat().st_size != size:
        raise EOFError(f"{what} has {temporary.stat().st_size} of {size} bytes")
    if path.suffix == ".jpg":
        _check_jpeg(temporary, what)
    os.replace(temporary, path)


def _check_jpeg(path: Path, what: str) -> None:
    with open(path, "rb") as file:
        start = file.read(2)
        file.seek(-min(1024, path.stat().st_size), os.SEEK_END)
        end = file.read()
    if start != b"\xff\xd8" or b"\xff\xd9" not in end:
        raise DataError(f"{what} is not a whole JPEG image; fetch the archive again.")
