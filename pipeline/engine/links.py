"""Update the symlinks exp/<path> of stages: `run` and `status` point each symlink at the result of the current settings.

The symlinks do not determine which result is used. Programs use `Stage.folder`, the folder whose manifest has the fingerprint
of the current settings.
"""

import contextlib
from pathlib import Path

from datasets.errors import DataError
from datasets.links import RESULT, point, target
from pipeline.engine import manifest
from pipeline.engine.manifest import Manifest
from pipeline.engine.progress import say
from pipeline.engine.result import Result
from pipeline.engine.trash import Trash


def elsewhere(result: Result) -> str:
    """Return a text that says where the symlink points; "" if it points at the result of the current settings."""
    link, mine = result.link, result.manifest()
    found = target(link)
    if found:
        if found == result.folder and found.exists():
            return ""
        return f"the link points at {found.name}" + (" (other settings)" if found.exists() else ", which is not there")
    if not link.exists() or _says_the_same(manifest.read(link), mine):
        return ""
    return f"{link} is a folder, not a link" + (", with another result" if manifest.read(link) else " to a result")


def _says_the_same(one: Manifest | None, other: Manifest | None) -> bool:
    """Return whether two manifests belong to the same result, or to a result and a copy of it."""
    return bool(one and other and (one.fingerprint, one.content) == (other.fingerprint, other.content))


def check(link: Path) -> None:
    """Raise DataError if a file, or a folder that is no result, lies at the path of the symlink."""
    if target(link) or not link.exists():
        return
    found = manifest.read(link)
    if not found or not RESULT.fullmatch(_name_of_copy(link, found)):
        raise DataError(f"{link} should be a symlink to a result, but is something else; move it elsewhere.")


def _name_of_copy(link: Path, found: Manifest) -> str:
    """Return the proper name, NAME@<8 digits>, for a result folder at the path of a symlink; found: the folder's manifest."""
    return f"{link.name}@{found.fingerprint[:8]}"


def follow_settings(result: Result) -> None:
    """Point the symlink of a result at the result's folder.

    If a folder with another result lies at the path of the symlink, this folder is renamed to its proper name first. Raises
    DataError if that folder is no result. If the disk cannot be written, a message is printed and the symlink stays as it is.
    """
    if not elsewhere(result) and (result.link.exists() or result.link.is_symlink()):
        return
    check(result.link)
    try:
        _make_way(result.link, result.trash)
        point(result.link, result.folder.name)
    except OSError as error:
        say(f"{result.link} cannot be pointed at {result.folder.name} ({error.strerror}). The result itself is complete.")


def _make_way(link: Path, trash: Trash) -> None:
    """Rename a result folder at the path of a symlink to its proper name; if this name exists, move the folder to the trash."""
    found = manifest.read(link)
    if target(link) or not found:
        return
    home = link.with_name(_name_of_copy(link, found))
    with contextlib.suppress(FileNotFoundError):  # another process has already moved the folder
        if home.exists():
            say(f"{link} was a folder with another result of the same settings; it is now in {trash.take(link).parent}.")
        else:
            link.rename(home)
            say(f"{link} was a result, not a link; it is now {home}.")
