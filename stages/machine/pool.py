"""Run jobs in parallel, in processes that always end with their parent process."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import starmap
from typing import Any

from datasets.errors import DataError

MOST = 16  # largest number of processes if the setting is 0; further processes would only wait for the disk


def processes(workers: int) -> int:
    """Return the number of processes for a setting `workers`.

    0 means one process per core that this process may use, but no more than 16 processes.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or min(cores, MOST)


def each(function: Callable[..., Any], jobs: Iterable[tuple], workers: int, in_job_order: bool = False) -> Iterator[Any]:
    """Yield function(*job) for every job, computed in worker processes, or with `workers` = 1 in this process.

    The results come in order of completion, or in the order of the jobs if `in_job_order` is true. An exception of a job is
    raised after all processes have ended; pending jobs are cancelled. Raises DataError if a worker process was killed.
    """
    jobs = list(jobs)
    if processes(workers) == 1:
        with one_opencv_thread(), _silent_opencv():
            yield from starmap(function, jobs)
        return
    if not jobs:
        return
    with _pool(min(processes(workers), len(jobs))) as pool:
        # SIGINT is blocked while the worker processes start. They inherit the block, so that Ctrl-C reaches only this process.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = deque(pool.submit(function, *job) for job in jobs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            if in_job_order:
                while futures:  # a future is removed before its result is used, so that used results do not stay in memory
                    yield futures.popleft().result()
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise DataError(
                "A worker process was killed, perhaps because memory ran out; set fewer [workspace] workers."
            ) from None


def in_order(pool: Executor, function: Callable[..., Any], jobs: Iterable[tuple], ahead: int) -> Iterator[Any]:
    """Yield function(*job) for every job in the order of the jobs; at most `ahead` jobs are started in advance."""
    waiting: deque[Future] = deque()
    for job in jobs:
        waiting.append(pool.submit(function, *job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Use one OpenCV thread per call within the block, because the threads of this program already occupy the cores."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _silent_opencv() -> Iterator[None]:
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Provide a pool of spawned processes, because forks of a process that has used OpenCV or torch can hang."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Set up a worker process: it uses one OpenCV thread, prints no OpenCV messages, and ends when its parent process ends."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process as soon as its parent process ends, even if the parent is killed. Run this function in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
