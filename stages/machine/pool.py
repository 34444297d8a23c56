"""Work spread over processes that leave nothing behind, whatever ends them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from datasets.errors import DataError

MOST = 16  # processes beyond this wait for the disk


def processes(workers: int) -> int:
    """How many processes a setting `workers` means: 0 stands for one on each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or min(cores, MOST)


def each(function: Callable[..., Any], jobs: Iterable[tuple], workers: int) -> Iterator[Any]:
    """function(*job) for every job, in processes, results as they come.

    An exception of a job passes once all processes have ended; jobs that have not begun are dropped. Raises DataError
    where a process was killed.
    """
    jobs = list(jobs)
    if not jobs:
        return
    with _pool(min(processes(workers), len(jobs))) as pool:
        # Processes inherit that Ctrl-C is blocked, and so leave it to this one from their first moment on.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = [pool.submit(function, *job) for job in jobs]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise DataError("A worker process was killed, perhaps for want of memory; set fewer [workspace] workers.") from None


def in_order(pool: Executor, function: Callable[..., Any], jobs: Iterable[tuple], ahead: int) -> Iterator[Any]:
    """function(*job) for every job, results in the order of the jobs, of which at most `ahead` more than needed are begun."""
    waiting: deque[Future] = deque()
    for job in jobs:
        waiting.append(pool.submit(function, *job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """A context for threads of our own: OpenCV does not spread one image's work over threads, for which these would wait."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes: forks of a process that has used OpenCV or torch can hang."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """End with the parent process even if that is killed; use one core, and keep OpenCV's own messages."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process, at once, when its parent ends; to be run in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
