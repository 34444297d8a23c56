"""Run the command `clean`: list results of other settings than the current ones and, if confirmed, move them to exp/.trash."""

import argparse
import contextlib
import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from tabulate import tabulate

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error, size_in_words, time_in_words
from datasets.links import RESULT, target
from pipeline import config
from pipeline.engine import links, manifest
from pipeline.engine.digests import without_reading
from pipeline.engine.identity import Identity
from pipeline.engine.manifest import Begun, Manifest, Partial
from pipeline.engine.result import is_locked, lock_of
from pipeline.engine.stage import Stage
from pipeline.engine.trash import Trash, empty
from pipeline.tasks.compare import Pipeline, others
from pipeline.tasks.fetch import Fetch
from pipeline.tasks.train import TrainingStage
from stages.training.logs import METRICS, how_far

FINISHED, TRAINING, OTHER = "finished", "interrupted training", "interrupted"
PARTIAL = ".partial"  # suffix of a folder in which a result is being made


@dataclass(frozen=True)
class Leftover:
    """A finished or unfinished result below exp/ that does not belong to the current settings."""

    folder: Path
    kind: str  # FINISHED, TRAINING or OTHER
    stage: str
    size: int  # bytes
    age: float  # seconds since the result was finished or last changed
    progress: str  # for an unfinished result: text about the progress of the work
    settings: str  # text that lists the differences from the current settings
    content: str = ""  # for a finished result: the digest of its content

    def row(self) -> list[str]:
        """Return the cells of the result's row in the printed table."""
        size, age = size_in_words(self.size), time_in_words(self.age)
        return [self.kind, str(self.folder), size, age, self.progress, self.stage, self.settings]


def clean(options: argparse.Namespace) -> int:
    """Move unfinished results of settings other than the current ones to exp/.trash, except trainings; return exit code 0.

    With --interrupted, unfinished trainings are moved, too; with --others, finished results are moved, too. Finished and
    unfinished results of the current settings stay, and so do results that another process is making or reading. If downloads
    are not kept (setting keep_downloads), the downloads of finished stages are deleted. With --empty-trash, the trash is
    deleted, too.
    """
    with without_reading(), disk_trouble_as_data_error(config.exp()):
        _clean(options, {stage.name: stage for stage in [*Pipeline().stages(), *others()]})
    return 0


def _clean(options: argparse.Namespace, stages: dict[str, Stage]) -> None:
    found = list(_leftovers(stages))
    wanted = {OTHER} | ({TRAINING} if options.interrupted else set()) | ({FINISHED} if options.others else set())
    going = [leftover for leftover in found if leftover.kind in wanted]
    downloads = list(_spare_downloads(stages))
    if going or downloads:
        _show(going, downloads)
    _tell_what_stays([leftover for leftover in found if leftover.kind not in wanted])
    if going or downloads:
        if _agreed(
            f"Move {len(going)} to {_trash().folder}" + f" and delete {len(downloads)} downloads" * bool(downloads), options.yes
        ):
            for leftover in going:
                _move(leftover)
            for path in downloads:
                path.unlink(missing_ok=True)
                print(f"deleted {path}")
            _set_links_right(stages)
    elif not options.empty_trash:
        print("nothing to remove")
    if options.empty_trash:
        _empty_trash(options.yes)


def _leftovers(stages: dict[str, Stage]) -> Iterator[Leftover]:
    """Yield the results of other settings that no process is making or reading; print the results that are in use."""
    folders = list(_results({stage.link.parent for stage in stages.values()}))
    facts = {folder: _facts(folder) for folder in folders}
    at_work = [folder for folder in folders if folder.name.endswith(PARTIAL) and is_locked(_of(folder), config.exp())]
    being_read = {content for folder in at_work for content in _input_contents(facts[folder])}
    current = _Current(stages, facts)
    for folder in folders:
        if current.may_be(folder):
            continue
        leftover = _leftover(folder, facts[folder], current.stage(folder))
        if folder in at_work:
            print(f"kept {folder}: another process is working on it")
        elif leftover.content in being_read:
            print(f"kept {folder}: another process is reading it")
        else:
            yield leftover


def _results(parents: set[Path]) -> Iterator[Path]:
    """Yield the folders of finished and unfinished results in `parents`, which are folders below exp/.

    The results folder of another profile, such as exp/demo, is left out.
    """
    for parent in sorted(parents):
        if parent != config.exp() and _is_exp(parent):
            print(f"kept {parent}: it is another folder of results")
            continue
        for folder in _below(parent, "*"):
            named = RESULT.fullmatch(folder.name.removesuffix(PARTIAL))
            if folder.is_symlink() or not folder.is_dir() or _is_exp(folder):
                continue
            if named or manifest.read(folder):
                yield folder


def _is_exp(folder: Path) -> bool:
    """Return whether a folder is the results folder of a profile, such as exp/ or exp/demo."""
    marks = (".locks", ".trash", ".digests.json")
    return any((folder / mark).exists() for mark in marks) or any(
        RESULT.fullmatch(path.name.removesuffix(PARTIAL)) for path in _below(folder, "*/*@*")
    )


def _trash() -> Trash:
    return Trash(config.exp())


def _below(folder: Path, pattern: str) -> list[Path]:
    """Return the matching files and folders, sorted. Unlike Path.glob, ignore folders that other processes move meanwhile."""
    return [folder / name for name in sorted(glob.glob(pattern, root_dir=folder))]


def _of(folder: Path) -> Path:
    """Return the path of a result, given its folder or the `.partial` folder in which it is made."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def _facts(folder: Path) -> Begun | None:
    """Return the manifest of a finished result or the partial.json of an unfinished one; None for unreadable files."""
    # If a process was killed just before it renamed a complete result, the `.partial` folder has a manifest but no
    # partial.json.
    return (manifest.read_partial(folder) if folder.name.endswith(PARTIAL) else None) or manifest.read(folder)


def _input_contents(facts: Begun | None) -> Iterable[str]:
    """Return the content digests of a result's direct and indirect inputs."""
    return {*facts.input_contents.values(), *facts.upstream_contents.values()} if facts else ()


class _Current:
    """Decides which results belong to the current settings.

    If an archive is missing, the fingerprints that depend on it are unknown. A result with such a fingerprint may belong to the
    current settings if its settings and the settings of its inputs equal the current ones.
    """

    def __init__(self, stages: dict[str, Stage], facts: dict[Path, Begun | None]) -> None:
        self.stages, self.facts = stages, facts
        self.places = {stage.link: stage for stage in stages.values()}
        self.identities = {known.fingerprint: known.identity for known in facts.values() if known}

    def stage(self, folder: Path) -> Stage | None:
        """Return the stage to which a result folder belongs; None if the stage is unknown.

        The stage is found by the manifest or, if the folder has no manifest, by the path of the folder.
        """
        facts = self.facts[folder]
        place = folder.with_name(folder.name.partition("@")[0])
        return self.stages.get(facts.identity.stage) if facts else self.places.get(place)

    def may_be(self, folder: Path) -> bool:
        """Return whether a result belongs, or may belong, to the current settings."""
        stage, facts = self.stage(folder), self.facts[folder]
        fingerprint = facts.fingerprint if facts else _of(folder).name.rpartition("@")[2]
        return stage is not None and self._fits(stage, fingerprint, facts.identity if facts else None)

    def _fits(self, stage: Stage, fingerprint: str, identity: Identity | None) -> bool:
        try:
            return stage.fingerprint.startswith(fingerprint)
        except DataError:  # an archive is missing that this stage or an upstream stage reads
            return identity is None or self._could_be(stage, identity)

    def _could_be(self, stage: Stage, identity: Identity) -> bool:
        """Return whether a result has a stage's version and settings, and inputs that may belong to the current settings."""
        needed = stage.requires()
        return (
            (identity.version, identity.settings) == (stage.version, stage.settings())
            and identity.inputs.keys() == needed.keys()
            and all(self._fits(needed[name], one, self.identities.get(one)) for name, one in identity.inputs.items())
        )


def _leftover(folder: Path, facts: Begun | None, stage: Stage | None) -> Leftover:
    name = facts.identity.stage if facts else stage.name if stage else "unknown"
    settings = _difference(stage, facts)
    if not folder.name.endswith(PARTIAL):
        size = facts.files.bytes if isinstance(facts, Manifest) else _size(folder)
        progress = "" if facts else "without a manifest"
        content = facts.content if isinstance(facts, Manifest) else ""
        return Leftover(folder, FINISHED, name, size, _age(folder, facts), progress, settings, content)
    is_training = isinstance(stage, TrainingStage) or (folder / METRICS).exists() or bool(_below(folder, "*.safetensors"))
    spent = f"{time_in_words(facts.seconds)} of work" if isinstance(facts, (Partial, Manifest)) else ""
    progress = ", ".join(filter(None, [how_far(folder) if is_training else "", spent]))
    return Leftover(folder, TRAINING if is_training else OTHER, name, _size(folder), _age(folder, facts), progress, settings)


def _difference(stage: Stage | None, facts: Begun | None) -> str:
    """Return a text that lists the differences between a result's settings and the current settings."""
    if not facts:
        return "not recorded"
    if not stage:
        return "no stage of the current settings"
    try:
        return stage.difference(facts.identity)
    except DataError:  # an archive is missing: only the settings can be compared
        old, new = facts.identity.settings, stage.settings()
        differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        return "; ".join(f"{name} {old.get(name, 'unset')} -> {new.get(name, 'unset')}" for name in differing)


def _age(folder: Path, facts: Begun | None) -> float:
    """Return the seconds since a result was finished or last changed."""
    if isinstance(facts, Manifest):
        return max(0.0, time.time() - facts.finished.timestamp())
    with contextlib.suppress(OSError):
        newest = max(path.stat().st_mtime for path in (folder, *_below(folder, "*.*")))
        return max(0.0, time.time() - newest)
    return 0.0


def _size(folder: Path) -> int:
    """Return the total bytes of all files below a folder; files that other processes delete meanwhile are not counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _spare_downloads(stages: dict[str, Stage]) -> Iterator[Path]:
    for stage in stages.values():
        with contextlib.suppress(DataError):  # an archive is missing: the state of the stage is unknown
            if isinstance(stage, Fetch) and stage.manifest():
                yield from stage.spare_downloads()


def _show(going: list[Leftover], downloads: list[Path]) -> None:
    """Print the table of the results to move and the downloads to delete."""
    rows = [leftover.row() for leftover in going]
    rows += [["download", str(path), size_in_words(path.stat().st_size), "", "", "", ""] for path in downloads if path.exists()]
    heads = ["what", "where", "size", "age", "how far", "stage", "its settings -> the current ones"]
    print(tabulate(rows, heads, disable_numparse=True, colalign=("left", "left", "right", "right", *("left",) * 3),
                   maxcolwidths=[None] * 6 + [50]))  # fmt: skip


def _tell_what_stays(staying: list[Leftover]) -> None:
    """Print the number and size of the results that only --interrupted or --others would move."""
    for kind, words, option in (
        (TRAINING, "interrupted trainings", "--interrupted"), (FINISHED, "finished results", "--others"),
    ):  # fmt: skip
        sizes = [leftover.size for leftover in staying if leftover.kind == kind]
        if sizes:
            print(f"kept: {words} of other settings ({len(sizes)}, {size_in_words(sum(sizes))}); {option} moves them, too")


def _agreed(question: str, yes: bool) -> bool:
    """Ask the user for confirmation, and return whether it was given.

    yes: return True without asking. Raises UsageError if there is no terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise config.UsageError(
            "nothing was removed: there is no terminal on which to ask. Add --yes to agree to what is listed."
        )
    try:
        answer = input(f"{question}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("nothing was removed")
    return False


def _move(leftover: Leftover) -> None:
    """Move a result to the trash and remove its symlink, unless a process is working on it or has moved it already."""
    folder = leftover.folder
    link = folder.with_name(folder.name.partition("@")[0])
    try:
        with lock_of(_of(folder), config.exp()).acquire(timeout=0):
            _trash().take(folder)
            if target(link) == folder:
                link.unlink(missing_ok=True)
    except Timeout:
        print(f"kept {folder}: another process is working on it")
    except FileNotFoundError:
        print(f"{folder} is gone already")
    else:
        print(f"moved {folder} to {_trash().folder}")


def _set_links_right(stages: dict[str, Stage]) -> None:
    for stage in stages.values():
        with contextlib.suppress(DataError):
            if stage.manifest():
                links.follow_settings(stage.result)


def _empty_trash(yes: bool) -> None:
    """Delete the contents of the trash after confirmation.

    yes: do not ask. Folders that other processes add meanwhile are kept.
    """
    there = _below(_trash().folder, "*")
    if not there:
        print(f"{_trash().folder} is empty")
        return
    rows = [[path.name.rpartition("-")[0], size_in_words(_size(path)), time_in_words(_age(path, None))] for path in there]
    print(tabulate(rows, [f"in {_trash().folder}", "size", "age"], disable_numparse=True, colalign=("left", "right", "right")))
    if _agreed(f"Delete these {len(there)} for good", yes):
        for path in there:
            empty(path)
        print(f"{_trash().folder} was emptied")
