"""Define the settings of Slurm jobs."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from datasets.errors import DataError
from datasets.section import Section, insignificant, unquoted

SLURM_PREFIX = "slurm:"  # beginning of the names of sections for single stages


class Slurm(Section):
    """Settings of Slurm jobs. None of these settings changes a result."""

    intro = (
        "Slurm jobs, for [workspace] run_on = slurm. A section [slurm:STAGE], such as [slurm:PretrainMpii], has the "
        "settings that differ for one stage."
    )

    partition: str = insignificant("", "Partition. Empty: the cluster's default.")
    machines: int = insignificant(
        1,
        "Machines (nodes) of a job that trains an hourglass, forecasts or the converter; they train one network together. "
        "Other jobs have one machine.",
        ge=1,
        le=1024,
    )
    gpus: int = insignificant(1, "GPUs of a job on each machine; 0: none.", ge=0, le=64)
    cpus: int = insignificant(8, "CPU cores of a job on each machine.", ge=1, le=1024)
    memory: float = insignificant(32.0, "Memory of a job on each machine in GB; 0: the cluster's default.", ge=0)
    time: int = insignificant(
        1440,
        "Time limit of a job in minutes. A training that needs longer writes a checkpoint and returns to the queue, as often "
        "as needed; any other stage that needs longer fails.",
        ge=5,
    )
    jobs: int = insignificant(4, "Largest number of stages that run at the same time.", ge=1, le=64)
    options: str = insignificant(
        "", "Further options of sbatch, NAME=VALUE, several separated by spaces, such as account=vision qos=low."
    )

    @model_validator(mode="after")
    def _options_have_names(self) -> "Slurm":
        for word in self.options.split():
            if not re.fullmatch(r"[a-z][a-z-]*(=\S+)?", word):
                raise ValueError(f"options = {self.options}: it should be NAME=VALUE, several separated by spaces.")
        return self

    def for_submitit(self) -> dict[str, Any]:
        """Return the parameters of submitit's SlurmExecutor."""
        further = {name: value or True for name, _, value in (word.partition("=") for word in self.options.split())}
        found: dict[str, Any] = {"cpus_per_task": self.cpus, "additional_parameters": further}
        found |= {"partition": self.partition} if self.partition else {}
        found |= {"gpus_per_node": self.gpus} if self.gpus else {}
        return found | ({"mem": f"{self.memory * 1000:.0f}M"} if self.memory else {})


def read_slurm_stages(sections: Mapping[str, Mapping[str, str]]) -> dict[str, Slurm]:
    """Return stage -> settings of [slurm:STAGE], completed by those of [slurm]. Raises DataError for a wrong setting."""
    found: dict[str, Slurm] = {}
    for section in (name for name in sections if name.startswith(SLURM_PREFIX)):
        values = {key: unquoted(text) for key, text in {**sections.get("slurm", {}), **sections[section]}.items()}
        try:
            found[section.removeprefix(SLURM_PREFIX)] = Slurm(**values)
        except DataError as error:
            raise DataError(f"[{section}] {error}") from None
    return found
