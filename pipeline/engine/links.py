"""The link exp/<place> of a stage: it points at the result of the last run, and `run` and `status` set it right.

Nothing is found through a link alone: `Stage.folder` finds a result by its settings.
"""

import contextlib
from pathlib import Path
from typing import Any, Protocol

from datasets.errors import DataError
from datasets.links import RESULT, point, target
from pipeline.engine import manifest
from pipeline.engine.progress import say
from pipeline.engine.trash import to_trash


class Linked(Protocol):
    """A stage, as far as its link is concerned."""

    @property
    def link(self) -> Path: ...

    @property
    def folder(self) -> Path: ...

    def manifest(self) -> dict[str, Any] | None: ...


def elsewhere(stage: Linked) -> str:
    """Return what the stage's link is where it is not the result of the current settings, in words; "" where it is right."""
    link, mine = stage.link, stage.manifest()
    found = target(link)
    if found:
        if found == stage.folder and found.exists():
            return ""
        return f"the link points at {found.name}" + (" (other settings)" if found.exists() else ", which is not there")
    if not link.exists() or _says_the_same(manifest.read(link), mine):
        return ""
    return f"{link} is a folder, not a link" + (", with another result" if manifest.read(link) else " of ours")


def _says_the_same(one: dict | None, other: dict | None) -> bool:
    """Whether two manifests are of one result, or of a result and its copy."""
    return bool(one and other) and all(one[key] == other[key] for key in ("fingerprint", "content"))  # type: ignore[index]


def check(link: Path) -> None:
    """Raise DataError where something that is not ours stands in the place of a link."""
    if target(link) or not link.exists():
        return
    found = manifest.read(link)
    if not found or not RESULT.fullmatch(_name_of_copy(link, found)):
        raise DataError(f"{link} is in the way: it should be a link of ours; move it elsewhere.")


def _name_of_copy(link: Path, found: dict) -> str:
    """The name of the result's folder that stands in the place of a link."""
    return f"{link.name}@{str(found['fingerprint'])[:8]}"


def follow_settings(stage: Linked) -> None:
    """Let the stage's link point at the result of the current settings, which is there.

    A folder in its place, which is a result of other settings, is first given its own name. Raises DataError where the folder
    is no result. A disk that cannot be written leaves the link as it is, which is said.
    """
    if not elsewhere(stage) and (stage.link.exists() or stage.link.is_symlink()):
        return
    check(stage.link)
    try:
        _make_way(stage.link)
        point(stage.link, stage.folder.name)
    except OSError as error:
        say(f"{stage.link} cannot be pointed at {stage.folder.name} ({error.strerror}). The result itself is whole.")


def _make_way(link: Path) -> None:
    """Rename a result that stands in the place of a link to its own name; where that is taken, move it to the trash."""
    found = manifest.read(link)
    if target(link) or not found:
        return
    home = link.with_name(_name_of_copy(link, found))
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        if home.exists():
            say(f"{link} was a folder with another result of the same settings; it is now in {to_trash(link).parent}.")
        else:
            link.rename(home)
            say(f"{link} was a result, not a link; it is now {home}.")
