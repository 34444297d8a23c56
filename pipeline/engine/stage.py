"""Stage: the base task, and with it the contract that every stage keeps.

A stage is a pure function of its settings, its inputs and its version (`pipeline.engine.identity`). `pipeline.engine.result`
says where its result stands and how it is made whole.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import luigi

from datasets.errors import DataError
from datasets.files import allow_open_files, disk_trouble_as_data_error
from datasets.progress import Report
from pipeline.engine import links, manifest
from pipeline.engine.digests import Digests
from pipeline.engine.identity import Identity
from pipeline.engine.manifest import PARTIAL, Begun, Manifest
from pipeline.engine.progress import Progress, say
from pipeline.engine.result import Result


@dataclass(frozen=True)
class Status:
    """Where a stage stands. `state`: done, stale, damaged, missing, interrupted or running; `why` gives the reason."""

    state: str
    why: str = ""


class Stage(luigi.Task):
    """A task with a fingerprint, an atomic result, a manifest and a lock.

    A subclass gives `exp`, `command` and `result_path`, does its work in `work`, and where it has them gives `settings`,
    `external_inputs` and `requires`.
    """

    version: ClassVar[int] = 1  # raise it when the code changes what comes out
    reads_at_once: ClassVar[bool] = False  # external inputs are read as the work begins; they may change once the work is done
    leaf: ClassVar[str] = ""  # how the last part of `result_path` begins, where it depends on parameters
    remade_unasked: ClassVar[bool] = True  # whether `run` makes a damaged result again; not where that takes days

    # What a stage says of itself.

    @property
    def exp(self) -> Path:
        """The folder of all results."""
        raise NotImplementedError

    def command(self, words: str) -> str:
        """Return what the user types for a command, such as `run FinetunePenn`."""
        raise NotImplementedError

    @property
    def result_path(self) -> str:
        """Where the result stands below exp/, such as mpii/hg-256."""
        raise AttributeError(f"{type(self).__name__} has no result_path")

    def settings(self) -> dict[str, Any]:
        """Return the settings that its result depends on."""
        return {}

    def external_inputs(self) -> dict[str, str]:
        """Return name -> source of what it reads from outside exp/: a path, or whatever `digest_of` understands."""
        return {}

    @property
    def remedy(self) -> str:
        """What to do where one of the external inputs is missing."""
        return "put the file in this place or correct its path in the settings"

    def requires(self) -> dict[str, "Stage"]:
        """Return name -> the stage whose result it reads."""
        return {}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        """Fill `folder` from the inputs' folders; return facts for the manifest.

        `folder` may hold what an interrupted run left.
        """
        raise AttributeError(f"{type(self).__name__} has no work")

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        """Return what the external input `name` is known by: the digest of the file."""
        return digests.of_file(Path(source))

    def published(self) -> None:
        """Do what is left to do once the result is whole and in its place."""

    def before_use(self) -> None:
        """Raise DataError where the finished result leads to files outside exp/ that are not what they were."""

    # What follows from it.

    @property
    def name(self) -> str:
        """The stage's name on the command line: EvaluatePenn:pretrained."""
        return ":".join([type(self).__name__, *self.param_kwargs.values()])

    @cached_property
    def result(self) -> Result:
        """The folder of the result that the current settings mean."""
        return Result(self.exp, self.result_path, lambda: self.fingerprint)

    @property
    def link(self) -> Path:
        """The link that points at the result of the last run."""
        return self.result.link

    @property
    def folder(self) -> Path:
        """The folder of the result that the current settings mean."""
        return self.result.folder

    def output(self) -> luigi.LocalTarget:
        """Return Luigi's target: the manifest."""
        return luigi.LocalTarget(self.folder / manifest.MANIFEST)

    @cached_property
    def external_digests(self) -> dict[str, str]:
        """`digest_external_inputs` when this process first asked: what the fingerprint is made from."""
        return self.digest_external_inputs()

    def digest_external_inputs(self) -> dict[str, str]:
        """Return name -> what each outside file is known by. Raises DataError where one is missing."""
        with Progress(self) as report:
            digests = Digests(self.exp / ".digests.json", report, self.remedy)
            return {name: self.digest_of(name, source, digests) for name, source in self.external_inputs().items()}

    @cached_property
    def identity(self) -> Identity:
        """What the result is a function of."""
        return Identity(
            stage=self.name,
            version=self.version,
            settings=self.settings(),
            inputs={name: stage.fingerprint for name, stage in self.requires().items()},
            external_inputs=self.external_digests,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the identity."""
        return self.identity.fingerprint

    # The state of the result.

    def manifest(self) -> Manifest | None:
        """Return the manifest of the result that the current settings mean, or None."""
        return self.result.manifest()

    def status(self) -> Status:
        """Return done, or why not. Raises DataError where an outside file is missing."""
        mine = self.manifest()
        if mine is None:
            if (self.result.partial / PARTIAL).exists():
                return Status("interrupted", "continues where it stopped")
            before = self.result.previous(self.name)
            return Status("stale", self.difference(before.identity)) if before else Status("missing")
        if damage := manifest.quick_damage(self.folder, mine.content):
            return Status("damaged", damage)
        for name, stage in self.requires().items():
            theirs = stage.manifest()
            if theirs is None:
                continue  # an input that was deleted after use takes nothing from this result
            if stage.status().state == "stale":
                return Status("stale", f"input {stage.result_path} is stale")
            if theirs.content != mine.input_contents.get(name):
                return Status("stale", f"input {stage.result_path} was redone with another content")
        return Status("done")

    def difference(self, other: Identity) -> str:
        """Return in words what distinguishes the current identity from that of another result."""

        def input_name(key: str) -> str:
            return self.requires()[key].result_path if key in self.requires() else key

        def source_name(key: str) -> str:
            source = self.external_inputs().get(key, key)
            return f"{'folder' if Path(source).is_dir() else 'file'} {source}"

        return self.identity.difference(other, input_name, source_name)

    def state(self) -> Status:
        """Return the status, or running where it is not done and a process is at it."""
        found = self.status()
        return Status("running") if found.state != "done" and self.result.is_locked() else found

    def complete(self) -> bool:
        """Answer Luigi's question. As a side effect, the link follows the current settings."""
        try:
            done = self.status().state == "done"
            if done:
                links.follow_settings(self.result)
            return done
        except DataError:
            return False  # `run` reports it

    # Making it.

    def run(self) -> None:
        """Make the result, as Luigi asks. Raises DataError for the user."""
        self.make()

    def make(self, again: bool = False) -> None:
        """Make the result, with `again` even if it is done, or wait for the process that is making it."""
        with Progress(self) as report, disk_trouble_as_data_error(self.exp):
            allow_open_files()
            self.result.make_parent()
            _ = self.fingerprint  # reads the outside files, or says which is missing
            links.check(self.link)
            with self.result.lock(lambda: say(f"{self.name} is being made by another process; waiting for it.")):
                state = self.status()
                if state.state == "damaged" and not (again or self.remade_unasked):
                    raise self.damaged(state.why)
                if again or state.state != "done":
                    self._make(report, again)
            links.follow_settings(self.result)

    def damaged(self, what: str) -> DataError:
        """Return the error for a finished result of which a file changed, where nobody asked to make it again."""
        return DataError(
            f"{self.folder} was finished, but {what}. Put the file back from a copy ({manifest.FILES} has its digest), or make "
            f"the result again with: {self.command('rerun ' + self.name)}"
        )

    def _make(self, report: Progress, again: bool) -> None:
        begun = Begun(fingerprint=self.fingerprint, input_contents=self._check_inputs(report), identity=self.identity)
        self._check_outside()
        if again or not self.result.was_finished(begun):
            self._work(begun)
        self.result.publish()
        self.published()

    def _check_inputs(self, report: Progress) -> dict[str, str]:
        """Return name -> content of the inputs. Raises DataError where one is missing, or not what its manifest says."""
        contents = {}
        for name, stage in self.requires().items():
            theirs = stage.manifest()
            if theirs is None:
                raise DataError(f"{self.name} needs {stage.name}; make it with: {self.command('run ' + stage.name)}")
            contents[name] = theirs.content
            try:
                manifest.check_contents(stage.folder, theirs.content, report)
            except manifest.Damaged as damage:
                raise stage.damaged(str(damage)) from None
            stage.before_use()
        return contents

    def _work(self, begun: Begun) -> None:
        """Do the work in the partial folder, and write the manifest there."""
        inputs = {name: stage.folder for name, stage in self.requires().items()}
        spent = self.result.open_partial(begun, self._forget)
        partial, started = self.result.partial, time.monotonic()

        def elapsed() -> float:
            return spent + time.monotonic() - started

        with Progress(self, lambda: manifest.write_partial(partial, begun, elapsed())) as report:
            try:
                summary = self.work(partial, inputs, report) or {}
            except DataError:
                if not [path for path in partial.iterdir() if path.name != PARTIAL]:
                    self.result.trash.discard(partial)  # nothing in it that could be continued
                raise
            if not self.reads_at_once:
                try:
                    self._check_outside()
                except DataError:
                    self.result.trash.discard(partial)  # made from the other file: going on from it would mix the two
                    raise
            manifest.write(partial, begun, summary, elapsed(), report)
        say(f"{self.name}: done in {elapsed():.1f} s, {self.result.home}")

    def _forget(self, partial: Path) -> None:
        """Move to the trash what took days, if it is of other inputs, instead of deleting it."""
        if not self.remade_unasked:
            say(f"{partial} is not of these inputs; it is now in {self.result.trash.take(partial).parent}.")

    def _check_outside(self) -> None:
        """Raise DataError where an outside file changed: its result must not count as that of the old file."""
        if self.digest_external_inputs() != self.external_digests:
            raise DataError(f"A file that {self.name} reads was changed while it was at work; run again.")


def with_inputs(stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages and all that they read, directly or not; each once, and after those that it reads."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for needed in stage.requires().values():
            visit(needed)
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        visit(stage)
    return list(ordered.values())
