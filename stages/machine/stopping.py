"""Stop a training between two iterations when the system asks for it, as Slurm does before a job's time is over."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """A context manager in whose block the stop signals only set `asked` to True, instead of ending this process.

    An error that occurs in the block after such a signal is raised as KeyboardInterrupt, because the error may only mean that
    the signal has also ended the processes that read images.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS) -> None:
        """Store `signals`; each of these signals sets the attribute `asked` to True within the block."""
        self.asked, self.signals = False, signals
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # Python allows no other thread to set handlers
            self._before = {number: signal.signal(number, self._ask) for number in self.signals}
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self.asked and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


@contextmanager
def passed_to_children() -> Iterator[None]:
    """Within the block, pass the stop signals on to the child processes as SIGUSR1, instead of ending this process."""

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGUSR1)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
