"""Define the Luigi tasks that make finished stages again, for the command `rerun`."""

from collections.abc import Iterable
from typing import Any

import luigi

from pipeline.engine.stage import Stage


class _StageParameter(luigi.Parameter[Stage]):
    """A parameter that is a stage; Luigi prints the name of the stage."""

    def serialize(self, x: Stage) -> str:
        return x.name


class _StagesParameter(luigi.Parameter[tuple[Stage, ...]]):
    """A parameter that is several stages; Luigi prints the names of the stages."""

    def serialize(self, x: tuple[Stage, ...]) -> str:
        return " ".join(stage.name for stage in x)


class Again(luigi.Task):
    """A task that makes one stage again, once. The old result stays until the new result is complete."""

    stage = _StageParameter(description="stage that is made again")
    request = _StagesParameter(description="all stages that are made again, each after the stages that it reads")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made = False

    @property
    def name(self) -> str:
        """The stage's name, for messages."""
        return self.stage.name

    def requires(self) -> list[luigi.Task]:
        """Return the stage's inputs; an input that is also made again is returned as an `Again` task."""
        needed = self.stage.requires().values()
        return [Again(stage=one, request=self.request) if one in self.request else one for one in needed]

    def complete(self) -> bool:
        """Return whether this task has already made its stage."""
        return self._made

    def run(self) -> None:
        """Make the stage's result again."""
        self.stage.make(again=True)
        self._made = True


def again(stages: Iterable[Stage]) -> list[Again]:
    """Return one `Again` task for each stage. stages: sorted so that each stage comes after the stages that it reads."""
    request = tuple(stages)
    return [Again(stage=stage, request=request) for stage in request]
