"""Archives from a path or an address, and their contents, unpacked safely.

Archives come from the internet: only the wanted regular files are taken out of them, each is written by us below the
target folder, and nothing in the archive decides where.
"""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self
from urllib.parse import unquote, urlparse

from filelock import FileLock

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages.files import CHUNK

LARGEST_MEMBER = 4 << 30  # no file in these datasets comes near; more is a damaged or hostile archive

DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip


def is_address(source: str) -> bool:
    """Whether a source is fetched over the network; everything else is a path (a file:// address too)."""
    return source.startswith(("http://", "https://"))


def local_path(source: str) -> Path:
    """The path that a source which is no address means."""
    if source.startswith("file://"):
        return Path(unquote(urlparse(source).path))
    if "://" in source:
        raise DataError(f"{source}: expected a path or an address that begins with http://, https:// or file://.")
    return Path(source).expanduser()


def obtain(source: str, downloads: Path, report: Report = silent) -> Path:
    """The file that a source means: its path, or the download of its address below `downloads` (made once, resumed).

    Each address has a folder of its own there, because different files often have the same name.
    """
    if not is_address(source):
        path = local_path(source)
        if path.is_dir():
            raise DataError(f"{path} is a folder; give the path of the archive file in it.")
        if not path.is_file():
            raise DataError(f"{path} is not there; put the file in this place or correct its path in the settings.")
        return path
    folder = downloads / hashlib.sha256(source.encode()).hexdigest()[:8]
    target = folder / (PurePosixPath(unquote(urlparse(source).path)).name or "download")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not target.exists():
            _download(source, target, report)
    return target


def _download(address: str, target: Path, report: Report) -> None:
    """Fetch what is missing of `target`.part, if the server still has the same file, and rename it when it is whole."""
    import requests  # here, because the command line imports this module and should answer at once

    part, tag = target.with_name(target.name + ".part"), target.with_name(target.name + ".tag")
    start = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the length and the ranges are those of the file itself
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text()}
    try:
        with requests.get(address, stream=True, timeout=60, headers=headers) as reply:
            if reply.status_code == 416 and reply.headers.get("Content-Range") == f"bytes */{start}":
                os.replace(part, target)  # killed after the last byte
                return
            if reply.status_code == 416:
                part.unlink()
            reply.raise_for_status()
            if reply.status_code != 206:
                start = 0
            tag.unlink(missing_ok=True)
            identity = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
            if identity and not identity.startswith("W/"):
                tag.write_text(identity)
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


def unpack(archive: Path, pattern: str, folder: Path, report: Report = silent) -> int:
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
    except DAMAGE as error:
        how = "Delete it and run again" if "downloads" in archive.parts else "Fetch the archive again"
        raise DataError(f"{archive} is damaged or cut off: reading broke after {last} ({error}). {how}.") from None
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
    zipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            _check_name(member.name, archive)
            if member.isreg() and (stored := tar.extractfile(member)):
                yield member.name, member.size, stored
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every member that it has seen
    while stream.read(CHUNK):  # to the checksum that ends a gzip file
        pass


class _Member(tarfile.TarInfo):
    """tarfile takes a damaged header, or the file's end between two members, for the end of the archive; we do not."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # the block of zeros at the end
                raise
            raise tarfile.ReadError(str(error)) from None


def _check_name(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"{archive} holds a member named {name!r}, which points outside the folder it is unpacked to. This is not the "
            "published archive; fetch it again from its owner."
        )


def _write_member(path: Path, size: int, content: IO[bytes], what: str) -> None:
    """One member, whole or not at all."""
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
    os.replace(temporary, path)
