"""The output of a running stage: a progress bar, Luigi's status, and lines of text above the bar."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from tqdm import tqdm

LOG_SECONDS = 30  # s between lines if there is no terminal


def say(text: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(text, file=sys.stderr)


class _Say(logging.Handler):
    """Warnings of the stages' functions."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def show_warnings_of_stages() -> None:
    """Print warnings of the stages' functions as lines above the progress bar."""
    logger = logging.getLogger("stages")
    if not logger.handlers:
        logger.addHandler(_Say())
        logger.propagate = False


class Shown(Protocol):
    """A Luigi task whose progress is shown: its name, and Luigi's two callbacks, which are None outside of a worker."""

    set_status_message: Any
    set_progress_percentage: Any

    @property
    def name(self) -> str: ...


class Progress:
    """A callback `report(done, total, text="", unit="")`: a bar on a terminal, occasional lines elsewhere.

    Luigi's status and percentage follow it, at most once a second, and its scheduler may die without harm.
    """

    def __init__(self, stage: Shown, every_few_seconds: Callable[[], None] = lambda: None) -> None:
        self.stage = stage
        self.bar = tqdm(disable=True)
        self._every_few_seconds = every_few_seconds
        self._counting, self._done = (-1, ""), 0
        self._begun = 0.0, 0  # time and count at the start of the current part
        self._luigi = self._logged = self._noted = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, done: int, total: int, text: str = "", unit: str = "") -> None:
        now = time.monotonic()
        new = self._counting != (total, unit) or done < self._done  # the stage has started another part
        if new:
            self._counting, self._begun = (total, unit), (now, done)
            self._new_bar()
        self._done = done
        self.bar.set_postfix_str(text, refresh=new)
        self.bar.update(done - self.bar.n)
        if now - self._noted > 5:
            self._noted = now
            self._every_few_seconds()
        if now - self._luigi > 1:
            self._luigi = now
            self._tell_luigi(text)
        if now - self._logged > LOG_SECONDS and not sys.stderr.isatty():
            self._logged = now
            say(f"{self.stage.name}: {self._in_words(text)}")

    def _new_bar(self) -> None:
        self.bar.close()
        total, unit = self._counting
        self.bar = tqdm(
            total=total, initial=self._begun[1], desc=self.stage.name, leave=False, file=sys.stderr, unit=unit,
            unit_scale=bool(unit), disable=not sys.stderr.isatty(), dynamic_ncols=True,
        )  # fmt: skip

    def _in_words(self, text: str) -> str:
        """Return the bar's text: share, count, time taken and left, rate."""
        (total, unit), (began, first) = self._counting, self._begun
        return tqdm.format_meter(
            self._done, total, time.monotonic() - began, ncols=0, unit=unit, unit_scale=bool(unit), initial=first, postfix=text
        ).strip()

    def _tell_luigi(self, text: str) -> None:
        try:
            if self.stage.set_status_message:
                self.stage.set_status_message(self._in_words(text))
            if self.stage.set_progress_percentage:
                self.stage.set_progress_percentage(min(100 * self._done / max(self._counting[0], 1), 100))
        except Exception:  # a scheduler that no longer answers must not stop a training
            pass
