"""Find the image folders and annotation files of unpacked datasets, and compute their digest. Images are read in place.

Only annotation files, which are small, are copied into a stage's result. The result has a symlink to each folder of images.
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

DEPTH = 3  # number of levels of subfolders that are searched, as in Downloads/Penn_Action 2/Penn_Action/frames
NAMED = 6  # number of names in a folder that an error message lists
NOT_OURS = ("__MACOSX",)


@dataclass(frozen=True)
class Found:
    """What was found in a folder: the wanted folders of images ("parts") and the wanted single files."""

    place: Path  # folder of the single files; the searched folder if no single files are wanted
    parts: dict[str, Path]  # name of the part -> its folder
    copied: tuple[Path, ...]  # paths of the single files, which are copied into a result

    def give(self, result: Path) -> None:
        """Copy the single files into a result folder, and create symlinks in it to the parts."""
        for path in self.copied:
            shutil.copyfile(path, result / path.name)
        point(result, self.parts)


def point(result: Path, parts: dict[str, Path]) -> None:
    """Create or update the symlinks in a result folder that lead to the dataset's folders in `parts`.

    Raises DataError on a disk that does not support symlinks.
    """
    for name, folder in parts.items():
        link = result / name
        if link.is_symlink() and os.readlink(link) == str(folder):
            continue
        if link.is_dir() and not link.is_symlink():
            continue  # a program that followed symlinks has copied exp/, so there is a folder in place of the symlink
        temporary = result / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            os.symlink(folder, temporary)
        except OSError as error:
            raise DataError(
                f"{result} is on a disk that cannot hold the symlink to {folder} ({error.strerror}); set [workspace] exp to a "
                "folder on another disk, or give the archive instead of the folder."
            ) from None
        os.replace(temporary, link)


def find(folder: Path, wanted: Wanted) -> Found:
    """Return the wanted folders of images ("parts") and single files in a folder and its subfolders, up to three levels deep.

    Raises DataError, with the expected and the found names, if a part is missing or several folders match.
    """
    parts = {part.name: _one(folder, partial(_is_part, part), part.name, wanted) for part in wanted.parts}
    if not wanted.copied:
        return Found(folder, parts, ())
    place = _one(folder, lambda place: bool(_names(place, wanted.copied)), "", wanted)
    return Found(folder, parts, tuple(place / name for name in _names(place, wanted.copied)))


def identity(
    found: Found, wanted: Wanted, digest: Callable[[Path], str], contents: Callable[[Path], str] | None, report: Report = silent
) -> str:
    """Return the hex sha256 of names, sizes and modification times of the files in all parts, and of single files' digests.

    digest: function that returns the digest of a single file. contents: function that returns the digest of a file of a part;
    if it is given, these digests are used instead of modification times. The path of the folder does not change the result.
    """
    rows: list[tuple[str, int, int | str]] = [(path.name, 0, digest(path)) for path in found.copied]
    for part in wanted.parts:
        folder = found.parts[part.name]
        for name, stat in sorted(_files(folder, part)):
            rows.append((f"{part.name}/{name}", stat.st_size, contents(folder / name) if contents else stat.st_mtime_ns))
            report(len(rows), 0, f"looking at {folder}")
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def tree_identity(
    folder: Path, suffixes: tuple[str, ...], without: Path, contents: Callable[[Path], str] | None, report: Report = silent
) -> str:
    """Return the hex sha256 of the names, sizes and modification times of all files with these suffixes below a folder.

    Symlinks are followed. Hidden files, hidden folders, dead symlinks and the folder `without` are left out. contents: as for
    `identity`. The path of the folder does not change the result.
    """
    rows: list[tuple[str, int, int | str]] = []
    seen, without = set[Path](), without.resolve()
    for place, below, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        if real in seen or real == without:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in NOT_OURS)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in suffixes and path.is_file():
                stat, named = path.stat(), path.relative_to(folder).as_posix()
                rows.append((named, stat.st_size, contents(path) if contents else stat.st_mtime_ns))
                report(len(rows), 0, f"looking at {folder}")
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def count(found: Found, wanted: Wanted) -> int:
    """Return the number of wanted files that were found."""
    return len(found.copied) + sum(1 for part in wanted.parts for _ in _files(found.parts[part.name], part))


def _files(folder: Path, part: Part) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file of a part: its name below the folder, and its os.stat_result."""
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
    """Return the folder for which `fits` is true, on the first level that has such a folder.

    Among several such folders, the folder called `name` is returned. If one folder and its subfolder called `name` both fit,
    the subfolder is returned. Raises DataError if no folder fits, or if several fit but not exactly one of them is called
    `name`.
    """
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [place for place in level if fits(place)]
        below = [Path(e.path) for place in level for e in _scan(place) if e.is_dir()]
        named = [place for place in (found if len(found) > 1 else below) if name and place.name == name and fits(place)]
        if len(named) == 1:
            # A folder of the right name is preferred to its parent, which may fit only because of a stray image.
            return named[0].absolute()
        if len(found) == 1:
            return found[0].absolute()
        if found:
            raise DataError(
                f"{folder} has {wanted.expected} in several folders, such as {found[0]} and {found[1]}; give one of them."
            )
        level = below
    raise DataError(f"{folder} has no {wanted.expected}; it has {_listing(folder)}. Give the right folder.")


def _listing(folder: Path) -> str:
    """Return the first names in a folder as text, or "nothing" for an empty folder."""
    entries = sorted(_scan(folder), key=lambda entry: entry.name)
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    if not names:
        return "nothing"
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries without hidden files (such as ._* of macOS). Raises DataError for an unreadable folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in NOT_OURS]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror}); check its path and permissions.") from None
