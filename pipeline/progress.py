"""What a stage shows while it works: a progress bar, Luigi's own status, and lines of text that keep clear of the bar."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from pipeline.stage import Stage

LOG_SECONDS = 30  # between lines where there is no terminal


def say(text: str) -> None:
    """A line for the person, above any bar."""
    tqdm.write(text, file=sys.stderr)


class Progress:
    """A callback `report(done, total, text="")` with a bar on a terminal, a line now and then elsewhere.

    Luigi's status and percentage follow it, at most once a second, and its scheduler may die without harm.
    """

    def __init__(self, stage: "Stage") -> None:
        self.stage = stage
        self.bar: tqdm | None = None
        self.every_few_seconds: Callable[[], None] = lambda: None
        self._luigi = self._logged = self._noted = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        now = time.monotonic()
        self._show(done, total, text)
        if now - self._noted > 5:
            self._noted = now
            self.every_few_seconds()
        if now - self._luigi > 1:
            self._luigi = now
            self._tell_luigi(done, total, text)
        if now - self._logged > LOG_SECONDS and not sys.stderr.isatty():
            self._logged = now
            say(f"{self.stage.name}: {done}/{total} {text}")

    def _show(self, done: int, total: int, text: str) -> None:
        if self.bar is not None and self.bar.total != total:  # the stage has gone on to something else
            self.bar.close()
            self.bar = None
        if self.bar is None:
            self.bar = tqdm(
                total=total, initial=done, desc=self.stage.name, leave=False, file=sys.stderr, unit_scale=True,
                disable=not sys.stderr.isatty(), dynamic_ncols=True,
            )  # fmt: skip
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def _tell_luigi(self, done: int, total: int, text: str) -> None:
        try:
            if self.stage.set_status_message:
                self.stage.set_status_message(f"{done}/{total} {text}")
            if self.stage.set_progress_percentage:
                self.stage.set_progress_percentage(100 * done / max(total, 1))
        except Exception:  # a scheduler that went away must not stop a training
            pass
