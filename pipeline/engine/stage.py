"""Stage: the base task, and with it the contract that every stage keeps.

A stage is a pure function of its settings, its inputs and its version. Its result stands in
`exp/<place>@<first 8 digits of its fingerprint>/`, made in a `.partial` folder beside it and renamed when it is whole;
the link `exp/<place>` points at the result that the current settings mean.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import luigi
from filelock import FileLock, Timeout

from datasets.errors import DataError
from datasets.files import allow_open_files, disk_trouble_as_data_error, sync, write_atomically
from datasets.links import target
from pipeline import config
from pipeline.engine import digests, links, manifest
from pipeline.engine.manifest import PARTIAL
from pipeline.engine.progress import Progress, say
from pipeline.engine.trash import discard, to_trash


@dataclass(frozen=True)
class Status:
    """Where a stage stands. `state`: done, stale, damaged, missing, interrupted or running; `why` says what is behind it."""

    state: str
    why: str = ""


class Stage(luigi.Task):
    """A task with a fingerprint, an atomic result, a manifest and a lock.

    A subclass gives `result_path`, does its work in `work`, and where it has them gives `settings`, `external_inputs` and
    `requires`.
    """

    version: ClassVar[int] = 1  # raise it when the code changes what comes out
    read_large_files: ClassVar[bool] = True  # off while only a quick answer is wanted
    reads_at_once: ClassVar[bool] = False  # external inputs are read as the work begins; they may change once the work is done
    leaf: ClassVar[str] = ""  # how the last part of `result_path` begins, where it depends on parameters
    remade_unasked: ClassVar[bool] = True  # whether `run` makes a damaged result again; not where that takes days
    redo = False  # set by `rerun`

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config.check_or_exit()
        super().__init__(*args, **kwargs)

    # What a stage says of itself.

    @property
    def result_path(self) -> str:
        """Where the result stands below exp/, such as mpii/hg-256."""
        raise AttributeError(f"{type(self).__name__} has no result_path")

    def settings(self) -> dict[str, Any]:
        """The settings that its result depends on."""
        return {}

    def external_inputs(self) -> dict[str, str]:
        """Name -> source (path or address) of what it reads from outside exp/."""
        return {}

    @property
    def remedy(self) -> str:
        """What to do where one of the external inputs is missing."""
        return "put the file in this place or correct its path in the settings"

    def requires(self) -> dict[str, "Stage"]:
        """Name -> the stage whose result it reads."""
        return {}

    def work(self, folder: Path, inputs: dict[str, Path], report: Progress) -> dict[str, Any] | None:
        """Fill `folder` from the inputs' folders; `folder` may hold what an interrupted run left. Facts for the manifest."""
        raise AttributeError(f"{type(self).__name__} has no work")

    def published(self) -> None:
        """What is left to do once the result is whole and in its place."""

    def before_use(self) -> None:
        """Raise DataError where the finished result leads to files outside exp/ that are not what they were."""

    # What follows from it.

    @property
    def name(self) -> str:
        """The stage's name on the command line: EvaluatePenn:pretrained."""
        return ":".join([type(self).__name__, *self.param_kwargs.values()])

    @property
    def exp(self) -> Path:
        return config.exp()

    @property
    def link(self) -> Path:
        return self.exp / self.result_path

    @property
    def home(self) -> Path:
        """The folder in which the result of the current settings is made: exp/<place>@<8 digits>."""
        return self.exp / f"{self.result_path}@{self.fingerprint[:8]}"

    @property
    def folder(self) -> Path:
        """The result of the current settings: its home, or a folder next to it that holds the manifest of this result.

        An experiment that was given another name has such a folder, and so has a copy of exp/ in which links became folders.
        """
        if not self._is_mine(self.home):
            for folder in (*sorted(self.home.parent.glob(f"*@{self.fingerprint[:8]}")), self.link):
                if self._is_mine(folder):
                    return folder
        return self.home

    def _is_mine(self, folder: Path) -> bool:
        found = manifest.read(folder)
        return found is not None and found["fingerprint"] == self.fingerprint

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(self.folder / manifest.MANIFEST)

    @cached_property
    def external_digests(self) -> dict[str, str]:
        """`digest_external_inputs` when this process first asked: what the fingerprint is made from."""
        return self.digest_external_inputs()

    def digest_external_inputs(self) -> dict[str, str]:
        """Name -> what each outside file is known by: `digests.identity`. Raises DataError where one is missing."""
        memory = self.exp / ".digests.json"
        with Progress(self) as report:
            return {
                name: self.digest_of(name, source, memory, report if self.read_large_files else None)
                for name, source in self.external_inputs().items()
            }

    def digest_of(self, name: str, source: str, memory: Path, report: Progress | None) -> str:
        """What the outside file `name` is known by."""
        return digests.identity(source, memory, report, self.remedy)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is the digest of."""
        return {
            "stage": self.name,
            "version": self.version,
            "settings": self.settings(),
            "inputs": {name: stage.fingerprint for name, stage in self.requires().items()},
            "external_inputs": self.external_digests,
        }

    @cached_property
    def fingerprint(self) -> str:
        canonical = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    # The state of the result.

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the result that the current settings mean, or None."""
        found = manifest.read(self.folder)
        return found if found and found.get("fingerprint") == self.fingerprint else None

    def status(self) -> Status:
        """done, or why not. Raises DataError where an outside file is missing."""
        mine = self.manifest()
        if mine is None:
            if (self.partial / PARTIAL).exists():
                return Status("interrupted", "continues where it stopped")
            before = self.previous()
            return Status("stale", self.difference(before)) if before else Status("missing")
        if damage := manifest.quick_damage(self.folder, mine["content"]):
            return Status("damaged", damage)
        for name, stage in self.requires().items():
            theirs = stage.manifest()
            if theirs is None:
                continue  # an input that was deleted after use takes nothing from this result
            if stage.status().state == "stale":
                return Status("stale", f"input {stage.result_path} is stale")
            if theirs["content"] != mine["input_contents"].get(name):
                return Status("stale", f"input {stage.result_path} was redone with another content")
        return Status("done")

    def is_running(self) -> bool:
        """Whether a process is making the result at this moment."""
        return is_locked(self.folder)

    def state(self) -> Status:
        """The status, or running where it is not done and a process is at it."""
        found = self.status()
        return Status("running") if found.state != "done" and self.is_running() else found

    def complete(self) -> bool:
        """Luigi's question. As a side effect, the link follows the current settings."""
        try:
            done = not self.redo and self.status().state == "done"
            if done:
                links.follow_settings(self)
            return done
        except DataError:
            return False  # `run` says it, as a sentence

    def previous(self) -> dict[str, Any] | None:
        """The manifest of the result that the link points at, or else of the newest of other settings."""
        others = [manifest.read(folder) for folder in self.link.parent.glob(f"{self.link.name}@????????")]
        newest_first = sorted(filter(None, others), key=lambda m: m["finished"], reverse=True)
        candidates = filter(None, [manifest.read(target(self.link) or self.link), *newest_first])
        return next((m for m in candidates if m["identity"]["stage"] == self.name), None)

    def difference(self, other: dict[str, Any]) -> str:
        """In words, what distinguishes the current identity from that of another result."""
        old, new, words = other["identity"], self.identity, []
        if old["version"] != new["version"]:
            words.append(f"code version {old['version']} -> {new['version']}")
        for key in sorted(old["settings"].keys() | new["settings"].keys()):
            a, b = old["settings"].get(key, "unset"), new["settings"].get(key, "unset")
            if a != b:
                words.append(f"{key} {a} -> {b}")
        for key in sorted(old["inputs"].keys() | new["inputs"].keys()):
            if old["inputs"].get(key) != new["inputs"].get(key):
                words.append(f"input {self.requires()[key].result_path if key in new['inputs'] else key} changed")
        for key in sorted(old["external_inputs"].keys() | new["external_inputs"].keys()):
            if old["external_inputs"].get(key) != new["external_inputs"].get(key):
                source = self.external_inputs().get(key, key)
                words.append(f"{'folder' if Path(source).is_dir() else 'file'} {source} changed")
        return "; ".join(words)

    # Making it.

    @property
    def partial(self) -> Path:
        """The folder of the unfinished result; that of the same training under another name, where there is one."""
        home = self.home.with_name(self.home.name + ".partial")
        others = () if home.exists() else sorted(home.parent.glob(f"*@{self.fingerprint[:8]}.partial"))
        facts = ((path, manifest.read_partial(path) or manifest.read(path) or {}) for path in others)
        return next((path for path, known in facts if known.get("fingerprint") == self.fingerprint), home)

    def run(self) -> None:
        """Make the result, or wait for the process that is making it. Raises DataError with a sentence for the user."""
        with Progress(self) as report, disk_trouble_as_data_error(self.exp):
            allow_open_files()
            self.check_exp()
            _ = self.fingerprint  # reads the outside files, or says which is missing
            links.check(self.link)
            with self.lock():
                state = self.status()
                if state.state == "damaged" and not (self.redo or self.remade_unasked):
                    raise self.damaged(state.why)
                if self.redo or state.state != "done":
                    self._make(report)
                self.redo = False
            links.follow_settings(self)

    def damaged(self, what: str) -> DataError:
        """What to say where a file of the finished result is not what it was, and nobody asked to make it again."""
        return DataError(
            f"{self.folder} was finished, but {what}. Put the file back from a copy ({manifest.FILES} has its digest), or make "
            f"the result again with: {config.command('rerun ' + self.name)}"
        )

    @contextlib.contextmanager
    def lock(self):
        """One writer at a time for each result; a killed process holds no lock."""
        held = lock_of(self.folder)
        try:
            held.acquire(timeout=0)
        except Timeout:
            say(f"{self.name} is being made by another process; waiting for it.")
            held.acquire()
        try:
            yield
        finally:
            held.release()

    def _make(self, report: Progress) -> None:
        inputs = {name: stage.folder for name, stage in self.requires().items()}
        contents = {}
        for name, stage in self.requires().items():
            theirs = stage.manifest()
            if theirs is None:
                raise DataError(f"{self.name} needs {stage.name}; make it with: {config.command('run ' + stage.name)}")
            contents[name] = theirs["content"]
            try:
                manifest.check_contents(stage.folder, theirs["content"], report)
            except manifest.Damaged as damage:
                raise stage.damaged(str(damage)) from None
            stage.before_use()
        self._check_outside()
        begun = {"fingerprint": self.fingerprint, "input_contents": contents}
        if self._was_finished(begun):
            return self._publish()
        spent = self._open_partial(begun)
        started = time.monotonic()

        def note_time() -> None:
            self._note(begun, spent + elapsed())

        def elapsed() -> float:
            return time.monotonic() - started

        report.every_few_seconds = note_time
        try:
            summary = self.work(self.partial, inputs, report) or {}
        except DataError:
            if not [p for p in self.partial.iterdir() if p.name != PARTIAL]:
                discard(self.partial)  # nothing in it that could be continued
            raise
        if not self.reads_at_once:
            try:
                self._check_outside()
            except DataError:
                discard(self.partial)  # made from the other file: going on from it would mix the two
                raise
        facts = begun | {"identity": self.identity, "summary": summary, "seconds": round(spent + elapsed(), 1)}
        manifest.write(self.partial, facts, report)
        self._publish()
        say(f"{self.name}: done in {spent + elapsed():.1f} s, {self.folder}")

    def _check_outside(self) -> None:
        """An archive that was replaced since its digest was taken must not give a result in the old one's name."""
        if self.digest_external_inputs() != self.external_digests:
            raise DataError(f"A file that {self.name} reads was changed while it was at work; run again.")

    def _open_partial(self, begun: dict[str, Any]) -> float:
        """Make the partial folder ready, emptied unless it was begun from the same inputs; seconds spent in it so far.

        What took days, if it is of other inputs, goes to the trash.
        """
        found = manifest.read_partial(self.partial)
        spent = found.get("seconds", 0.0)
        if {name: found.get(name) for name in begun} != begun:
            if self.partial.exists() and not self.remade_unasked:
                say(f"{self.partial} is not of these inputs; it is now in {to_trash(self.partial).parent}.")
            discard(self.partial)
            spent = 0.0
        self.partial.mkdir(parents=True, exist_ok=True)
        self._note(begun, spent)
        return spent

    def _note(self, begun: dict[str, Any], seconds: float) -> None:
        """Write into the partial folder what it is made from, and the seconds spent in it."""
        facts = begun | {"identity": self.identity, "seconds": seconds}
        write_atomically(self.partial / PARTIAL, json.dumps(facts).encode())

    def _was_finished(self, begun: dict[str, Any]) -> bool:
        """Whether the partial folder is a whole result of these inputs, of a process that was killed before it published it."""
        found = manifest.read(self.partial)
        if self.redo or not found or {name: found[name] for name in begun} != begun:
            return False
        try:
            manifest.check_sizes(self.partial, found["content"])
        except manifest.Damaged:  # by a power cut
            (self.partial / manifest.MANIFEST).unlink()
            return False
        return True

    def _publish(self) -> None:
        """Rename the partial folder to the result; an older result goes to the trash.

        All its files are on the disk before: after a power cut, a result is whole or not there.
        """
        partial = self.partial  # which is known by what stands in it
        sync(partial)
        for older in (self.folder, self.home):
            if older.exists():
                to_trash(older)
        (partial / PARTIAL).unlink(missing_ok=True)
        partial.rename(self.home)
        sync(self.home.parent)
        self.published()

    def check_exp(self) -> None:
        """Make the folder of the result's place. Raises DataError where that cannot be."""
        try:
            self.link.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"[workspace] exp = {self.exp} cannot be made a folder of results ({error.strerror}); name another place."
            ) from None


def lock_path(folder: Path, exp: Path | None = None) -> Path:
    """Where the lock of a result folder below exp/ is: one lock for all names of an experiment."""
    return (exp or config.exp()) / ".locks" / f"{folder.name.rpartition('@')[2]}.lock"


def with_inputs(stages: Iterable[Stage]) -> list[Stage]:
    """The stages and all that they read, directly or not; each once, and after those that it reads."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for needed in stage.requires().values():
            visit(needed)
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        visit(stage)
    return list(ordered.values())


def is_locked(folder: Path, exp: Path | None = None) -> bool:
    """Whether a process is making the result folder below exp/, or another exp, at this moment."""
    path = lock_path(folder, exp)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def lock_of(folder: Path) -> FileLock:
    """The lock of a result folder below exp/, whether it is there or not."""
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
