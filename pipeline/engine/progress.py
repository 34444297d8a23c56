"""Show the progress of a running stage: a progress bar, lines of text above the bar, and Luigi's status."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from tqdm import tqdm

LOG_SECONDS = 30  # seconds between two lines of progress if the output is no terminal (a terminal shows a bar instead)


def say(text: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(text, file=sys.stderr)


class _Say(logging.Handler):
    """A log handler that prints messages above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def show_warnings_of_stages() -> None:
    """Print warnings of the stages' functions as lines above the progress bar."""
    logger = logging.getLogger("stages")
    if not logger.handlers:
        logger.addHandler(_Say())
        logger.propagate = False


class Shown(Protocol):
    """A Luigi task whose progress is shown. The two callbacks below are None unless a Luigi worker runs the task."""

    set_status_message: Any
    set_progress_percentage: Any

    @property
    def name(self) -> str: ...


class Progress:
    """A callback `report(done, total, text="", unit="")` that shows a bar on a terminal, or else prints lines of text.

    The callback updates Luigi's status and percentage at most once per second, and ignores errors of Luigi's scheduler.
    """

    def __init__(self, stage: Shown, every_few_seconds: Callable[[], None] = lambda: None) -> None:
        self.stage = stage
        self.bar = tqdm(disable=True)
        self._every_few_seconds = every_few_seconds
        self._counting, self._done = (-1, ""), 0
        self._begun = 0.0, 0  # time and count at the start of the current part of the work
        self._luigi = self._logged = self._noted = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, done: int, total: int, text: str = "", unit: str = "") -> None:
        now = time.monotonic()
        new = self._counting != (total, unit) or done < self._done  # the stage has started another part of its work
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
        """Return the progress as text: percentage, count, elapsed and remaining time, rate."""
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
        except Exception:  # ignore errors: a scheduler that no longer answers must not stop a training
            pass
