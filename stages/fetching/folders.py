"""Folders of unpacked datasets, which are read in place: where their parts are, and what the folders are known by.

Nothing is copied but annotation files, which are small: a result has a symlink to each folder of images.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets.errors import DataError
from datasets.progress import Report, silent
from datasets.sources import Part, Wanted

DEPTH = 3  # folders in folders that are searched: Downloads/Penn_Action 2/Penn_Action/frames
NAMED = 6  # of what a folder holds in place of what is expected, so many names are shown
NOT_OURS = ("__MACOSX",)


@dataclass(frozen=True)
class Found:
    """What is wanted of a folder and was found."""

    place: Path  # the folder
    parts: dict[str, Path]  # name of the part -> its folder
    copied: tuple[Path, ...]

    def give(self, result: Path) -> None:
        """Copy the single files into a result and let its symlinks point at the parts."""
        for path in self.copied:
            shutil.copyfile(path, result / path.name)
        point(result, self.parts)


def point(result: Path, parts: dict[str, Path]) -> None:
    """Let the symlinks in a result point at the folders of its parts. Raises DataError on a disk without symlinks."""
    for name, folder in parts.items():
        link = result / name
        if link.is_symlink() and os.readlink(link) == str(folder):
            continue
        if link.is_dir() and not link.is_symlink():
            continue  # a copy of exp/ in which links became folders
        temporary = result / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            os.symlink(folder, temporary)
        except OSError as error:
            raise DataError(
                f"{result} is on a disk that takes no symlink to {folder} ({error.strerror}); set [workspace] exp to another "
                "disk, or give the archive in place of the folder."
            ) from None
        os.replace(temporary, link)


def find(folder: Path, wanted: Wanted) -> Found:
    """Find what is wanted in a folder or up to three folders below it.

    Raises DataError that says what was found and what was expected, also where two folders could be meant.
    """
    parts = {part.name: _one(folder, partial(_is_part, part), part.name, wanted) for part in wanted.parts}
    if not wanted.copied:
        return Found(folder, parts, ())
    place = _one(folder, lambda place: bool(_names(place, wanted.copied)), "", wanted)
    return Found(folder, parts, tuple(place / name for name in _names(place, wanted.copied)))


def identity(
    found: Found, wanted: Wanted, digest: Callable[[Path], str], contents: Callable[[Path], str] | None, report: Report = silent
) -> str:
    """Hex sha256 of the names, sizes and times of the files of all parts, and of the digests of the single files.

    contents: gives the digest that stands in place of a time; None: times. Where the folder stands does not count.
    """
    rows: list[tuple[str, int, int | str]] = [(path.name, 0, digest(path)) for path in found.copied]
    for part in wanted.parts:
        folder = found.parts[part.name]
        for name, stat in sorted(_files(folder, part)):
            rows.append((f"{part.name}/{name}", stat.st_size, contents(folder / name) if contents else stat.st_mtime_ns))
            report(len(rows), 0, f"looking at {folder}")
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def count(found: Found, wanted: Wanted) -> int:
    """The number of files that are wanted."""
    return len(found.copied) + sum(1 for part in wanted.parts for _ in _files(found.parts[part.name], part))


def _files(folder: Path, part: Part) -> Iterator[tuple[str, os.stat_result]]:
    """(name below the folder, size and time) of a part's files."""
    for entry in _scan(folder):
        if not part.inner and re.fullmatch(part.pattern, entry.name) and entry.is_file():
            yield entry.name, entry.stat()
        elif part.inner and re.fullmatch(part.inner, entry.name) and entry.is_dir():
            for inner in _scan(Path(entry.path)):
                if re.fullmatch(part.pattern, inner.name) and inner.is_file():
                    yield f"{entry.name}/{inner.name}", inner.stat()


def _is_part(part: Part, folder: Path) -> bool:
    return (not part.named or folder.name == part.name) and next(_files(folder, part), None) is not None


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(entry.name for entry in _scan(folder) if re.fullmatch(pattern, entry.name) and entry.is_file())


def _one(folder: Path, fits: Callable[[Path], bool], name: str, wanted: Wanted) -> Path:
    """The one folder that fits on the first level where any does; of several the one that is called `name`."""
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [place for place in level if fits(place)]
        below = [Path(e.path) for place in level for e in _scan(place) if e.is_dir()]
        named = [place for place in (found if len(found) > 1 else below) if name and place.name == name and fits(place)]
        if len(named) == 1:
            return named[0].absolute()  # also beside a stray picture
        if len(found) == 1:
            return found[0].absolute()
        if found:
            raise DataError(f"{folder} has {wanted.expected} in several folders, such as {found[0]} and {found[1]}; give one.")
        level = below
    raise DataError(f"{folder} has no {wanted.expected}, as expected, but {_held(folder)}; give the right folder.")


def _held(folder: Path) -> str:
    """What a folder holds, in words."""
    entries = sorted(_scan(folder), key=lambda entry: entry.name)
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    if not names:
        return "nothing"
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """What stands in a folder, without hidden files (._* of macOS). Raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in NOT_OURS]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror}); check its rights or its path.") from None
