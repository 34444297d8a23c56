"""Stage: the base class of all stages.

The result of a stage depends only on its settings, its inputs, its external files and its version (see
`pipeline.engine.identity`). `pipeline.engine.result` defines the folder of the result.
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
from pipeline.engine import jobs, links, manifest
from pipeline.engine.digests import MEMORY, Digests
from pipeline.engine.identity import Identity
from pipeline.engine.manifest import PARTIAL, Begun, Manifest
from pipeline.engine.progress import Progress, say
from pipeline.engine.result import Result

JOBS = ".jobs"  # folder below exp/ with the scripts and logs of Slurm jobs


@dataclass(frozen=True)
class Status:
    """The state of a stage: done, stale, damaged, missing, interrupted or running; `why`: the reason for this state."""

    state: str
    why: str = ""


class Stage(luigi.Task):
    """A Luigi task whose result has a fingerprint, a manifest and a lock, and is either complete or missing.

    A subclass defines `exp`, `command`, `result_path` and `work` and, if it has settings or inputs, `settings`,
    `external_inputs` and `requires`.
    """

    version: ClassVar[int] = 1  # version of the stage: increase it when a change of the code changes the result
    # True if external inputs are read only at the start of the work, so that later changes of these files do no harm.
    reads_at_once: ClassVar[bool] = False
    leaf: ClassVar[str] = ""  # prefix of the last part of `result_path`, if this part depends on parameters
    # Whether the command `run` makes a damaged result again; false for trainings, which take days.
    remade_unasked: ClassVar[bool] = True

    # Members that a subclass defines or may override.

    @property
    def exp(self) -> Path:
        """Return the folder of all results."""
        raise NotImplementedError

    def command(self, words: str) -> str:
        """Return the full command line of `words`, such as `run FinetunePenn`, for messages."""
        raise NotImplementedError

    @property
    def result_path(self) -> str:
        """Return the path of the result below exp/, such as mpii/hg-256."""
        raise AttributeError(f"{type(self).__name__} has no result_path")

    def settings(self) -> dict[str, Any]:
        """Return the settings that the result depends on."""
        return {}

    def external_inputs(self) -> dict[str, str]:
        """Return name -> source of each external file.

        A source is a path, or another text such as an address; `digest_of` computes its digest.
        """
        return {}

    @property
    def remedy(self) -> str:
        """The advice to the user in the error message for a missing external input."""
        return "put the file in this place or correct its path in the settings"

    def requires(self) -> dict[str, "Stage"]:
        """Return name -> stage for each input: the stages whose results this stage reads."""
        return {}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        """Write the files of the result into `folder`; return a summary for the manifest.

        inputs: name -> result folder of each input. `folder` may contain files of an interrupted run.
        """
        raise AttributeError(f"{type(self).__name__} has no work")

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        """Return the digest of the external input `name`; source: the value of its setting, such as a path or a URL."""
        return digests.of_file(Path(source))

    def published(self) -> None:
        """Do further work after the result was published, such as deleting downloads; by default, do nothing."""

    def before_use(self) -> None:
        """Raise DataError if external files to which a finished result refers have changed.

        Called before the result is read.
        """

    def job(self, again: bool) -> jobs.Job | None:
        """Return the Slurm job that makes the result; None (the default): this process makes the result. again: see `make`."""
        return None

    # Members that are derived from the members above.

    @property
    def name(self) -> str:
        """The stage's name on the command line, such as EvaluatePenn:pretrained."""
        return ":".join([type(self).__name__, *self.param_kwargs.values()])

    @cached_property
    def result(self) -> Result:
        """The result of the current settings."""
        return Result(self.exp, self.result_path, lambda: self.fingerprint)

    @property
    def link(self) -> Path:
        """The path of the stage's symlink, which points at a result."""
        return self.result.link

    @property
    def folder(self) -> Path:
        """The result folder of the current settings."""
        return self.result.folder

    def output(self) -> luigi.LocalTarget:
        """Return the manifest as Luigi's target of this task."""
        return luigi.LocalTarget(self.folder / manifest.MANIFEST)

    @cached_property
    def external_digests(self) -> dict[str, str]:
        """The value of `digest_external_inputs`, computed once per process; part of the fingerprint."""
        return self.digest_external_inputs()

    def digest_external_inputs(self) -> dict[str, str]:
        """Return name -> digest of each external file. Raises DataError if a file is missing."""
        with Progress(self) as report:
            digests = Digests(self.exp / MEMORY, report, self.remedy)
            return {name: self.digest_of(name, source, digests) for name, source in self.external_inputs().items()}

    @cached_property
    def identity(self) -> Identity:
        """The identity of the result of the current settings: everything that this result depends on."""
        return Identity(
            stage=self.name,
            version=self.version,
            settings=self.settings(),
            inputs={name: stage.fingerprint for name, stage in self.requires().items()},
            external_inputs=self.external_digests,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of `identity`."""
        return self.identity.fingerprint

    # The state of the result.

    def manifest(self) -> Manifest | None:
        """Return the manifest of the result of the current settings, or None if there is no such result."""
        return self.result.manifest()

    def status(self) -> Status:
        """Return the state of the stage without checking whether it is running; see `state`.

        Raises DataError if an external file is missing.
        """
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
            if theirs is None:  # a finished result stays valid if its input is deleted later
                for further in stage.nearest_results():
                    content, other = mine.upstream_contents.get(further.name), further.manifest()
                    if content and other and other.content != content:
                        return Status("stale", f"input {further.result_path} was made again with other content")
                continue
            if stage.status().state == "stale":
                return Status("stale", f"input {stage.result_path} is stale")
            if theirs.content != mine.input_contents.get(name):
                return Status("stale", f"input {stage.result_path} was made again with other content")
        return Status("done")

    def nearest_results(self) -> "list[Stage]":
        """Return the inputs that have results and, for each input without a result, the nearest results behind it."""
        found: dict[str, Stage] = {}
        for stage in self.requires().values():
            for near in [stage] if stage.manifest() else stage.nearest_results():
                found.setdefault(near.name, near)
        return list(found.values())

    def difference(self, other: Identity) -> str:
        """Return a text that lists the differences between the identity of another result and the current identity."""

        def input_name(key: str) -> str:
            return self.requires()[key].result_path if key in self.requires() else key

        def source_name(key: str) -> str:
            source = self.external_inputs().get(key, key)
            return f"{'folder' if Path(source).is_dir() else 'file'} {source}"

        return self.identity.difference(other, input_name, source_name)

    def state(self) -> Status:
        """Return the state of the stage; it is running if a process is making the result."""
        found = self.status()
        return Status("running") if found.state != "done" and self.result.is_locked() else found

    def complete(self) -> bool:
        """Return whether the result is done; if it is, point the symlink at it. Luigi calls this method."""
        try:
            done = self.status().state == "done"
            if done:
                links.follow_settings(self.result)
            return done
        except DataError:
            return False  # `run` will raise the same error, which is then reported

    # Making the result.

    def run(self) -> None:
        """Make the result. Luigi calls this method. Raises DataError with a message for the user."""
        self.make()

    def make(self, again: bool = False) -> None:
        """Make the result, or wait for another process that is making it. again: make the result even if it is done."""
        if job := self.job(again):
            self._make_as_job(job, again)
            return
        with Progress(self) as report, disk_trouble_as_data_error(self.exp):
            allow_open_files()
            self.result.make_parent()
            _ = self.fingerprint  # computing the fingerprint reads the external files, or raises the error for a missing file
            links.check(self.link)
            with self.result.lock(lambda: say(f"{self.name} is being made by another process; waiting for it.")):
                state = self.status()
                if state.state == "damaged" and not (again or self.remade_unasked):
                    raise self.damaged(state.why)
                if again or state.state != "done":
                    self._make(report, again)
            links.follow_settings(self.result)

    def _make_as_job(self, job: jobs.Job, again: bool) -> None:
        """Let a Slurm job make the result, and wait for the job."""
        before = self.manifest()
        old = before.finished if before and again else None

        def done() -> bool:
            found = self.manifest()
            return bool(found and found.finished != old and self.status().state == "done")

        with disk_trouble_as_data_error(self.exp):
            jobs.run(job, self.exp / JOBS / job.name, done)
        links.follow_settings(self.result)

    def damaged(self, what: str) -> DataError:
        """Return the error for a damaged result, with advice on how to repair it. what: a text about the damage."""
        return DataError(
            f"{self.folder} was finished, but {what}. Put the file back from a copy ({manifest.FILES} has its digest), or make "
            f"the result again with: {self.command('rerun ' + self.name)}"
        )

    def _make(self, report: Progress, again: bool) -> None:
        inputs = self._check_inputs(report)
        contents = {name: found.content for name, found in inputs.items()}
        upstream = dict[str, str]()
        for found in inputs.values():
            upstream |= found.upstream_contents
        upstream |= {self.requires()[name].name: content for name, content in contents.items()}
        begun = Begun(fingerprint=self.fingerprint, input_contents=contents, upstream_contents=upstream, identity=self.identity)
        self._check_outside()
        if again or not self.result.was_finished(begun):
            self._work(begun)
        self.result.publish()
        self.published()

    def _check_inputs(self, report: Progress) -> dict[str, Manifest]:
        """Return name -> manifest of the inputs. Raises DataError if an input is missing or damaged."""
        found = {}
        for name, stage in self.requires().items():
            theirs = stage.manifest()
            if theirs is None:
                raise DataError(f"{self.name} needs {stage.name}; make it with: {self.command('run ' + stage.name)}")
            found[name] = theirs
            try:
                manifest.check_contents(stage.folder, theirs.content, report)
            except manifest.Damaged as damage:
                raise stage.damaged(str(damage)) from None
            stage.before_use()
        return found

    def _work(self, begun: Begun) -> None:
        """Do the work in the partial folder, and write the manifest into it."""
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
                    self.result.trash.discard(partial)  # the folder contains nothing with which a later run could continue
                raise
            if not self.reads_at_once:
                try:
                    self._check_outside()
                except DataError:
                    # A later run that continued in this folder would mix results of the external file's old and new contents.
                    self.result.trash.discard(partial)
                    raise
            manifest.write(partial, begun, summary, elapsed(), report)
        say(f"{self.name}: done in {elapsed():.1f} s, {self.result.home}")

    def _forget(self, partial: Path) -> None:
        """Move an unfinished training with unknown or changed inputs to the trash, because it would otherwise be deleted."""
        if not self.remade_unasked:
            say(f"{partial} was started from unknown or changed inputs; it is now in {self.result.trash.take(partial).parent}.")

    def _check_outside(self) -> None:
        """Raise DataError if an external file has changed since the fingerprint was computed.

        Without this check, a result made from the new file would get the fingerprint of the old file.
        """
        if self.digest_external_inputs() != self.external_digests:
            raise DataError(f"A file that {self.name} reads was changed while the stage was at work; run again.")


def with_inputs(stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages and all their direct and indirect inputs, without duplicates, each after its own inputs."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for needed in stage.requires().values():
            visit(needed)
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        visit(stage)
    return list(ordered.values())
