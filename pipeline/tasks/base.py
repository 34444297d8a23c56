"""Define ChainStage, the base class of the chain's stages, which adds to `Stage` all that depends on this project."""

import shlex
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import luigi

from datasets.errors import DataError
from pipeline import config
from pipeline.engine.digests import Digests
from pipeline.engine.jobs import Job
from pipeline.engine.stage import Stage
from stages.fetching.sources import read_source


class DatasetName(luigi.Parameter):
    """A parameter of a task whose value is the name of a dataset; `among` returns the legal names."""

    def __init__(self, among: Callable[[], Collection[str]], description: str, **rest: Any) -> None:
        super().__init__(description=f"{description}: the name of a dataset", **rest)
        self._among = among

    def normalize(self, x: str) -> str:
        """Return the name. Raises ValueError, as luigi.ChoiceParameter does, for a name that is not legal."""
        config.check_or_exit()
        if x not in self._among():
            raise ValueError(f"{x!r} is not one of the datasets {', '.join(self._among())}")
        return x


class ChainStage(Stage):
    """A stage with settings from luigi.cfg; its external inputs are sources, that is paths or addresses."""

    heavy: ClassVar[bool] = False  # whether the stage becomes a Slurm job if [workspace] run_on = slurm
    on_several_machines: ClassVar[bool] = False  # whether several machines of a job can make the stage together

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config.check_or_exit()
        super().__init__(*args, **kwargs)

    @property
    def exp(self) -> Path:
        """The folder of all results, [workspace] exp."""
        return config.exp()

    def command(self, words: str) -> str:
        """Return the full command line for `words`: `run FinetunePenn` becomes `python -m pipeline run FinetunePenn`.

        The command line contains the --workspace, --config, --set and --models options of this process.
        """
        return config.command(words)

    def job(self, again: bool) -> Job | None:
        """Return the Slurm job that makes the stage if the stage is heavy and [workspace] run_on = slurm; otherwise None."""
        settings = config.settings()
        if not self.heavy or settings.workspace.run_on != "slurm":
            return None
        if settings.workspace.machines > 1:
            raise DataError("[workspace] machines is for commands without Slurm; with run_on = slurm, set [slurm] machines.")
        section = settings.slurm_of(self.name)
        words = shlex.split(config.command(f"run {self.name} --only{' --again' if again else ''}"))
        return Job(
            name=f"{self.name.replace(':', '-')}-{self.fingerprint[:8]}",
            command=(sys.executable, *words[1:], "--set", "workspace.run_on=here"),
            minutes=section.time,
            options=section.for_submitit(),
            nodes=section.machines if self.on_several_machines else 1,
        )

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        """Return the digest of a source.

        For a path, this is the sha256 of the file. For an address, it is the digest that is written in the address; if none is
        written there, the address itself, because the file's digest is unknown before the download, and the stage must have the
        same fingerprint before and after the download.
        Raises DataError for a file that is missing or does not have the digest that the source states.
        """
        wanted = read_source(source)
        if wanted.path is None:
            return wanted.sha256 or wanted.addresses[0]
        found = digests.of_file(wanted.path)
        if not wanted.accepts(found):
            raise DataError(
                f"{wanted.path} has sha256 {found}, not {wanted.sha256} as expected; fetch it again, or correct the settings."
            )
        return found
