"""Results of worker processes come in the order that was asked for; a single process is this one."""

import os
import time
from pathlib import Path

from stages.machine.pool import each


def work(number: int, folder: Path) -> tuple[int, int]:
    """Return the number and the process; job 0 ends only after job 1."""
    end = time.monotonic() + 60
    while number == 0 and not (folder / "1").exists() and time.monotonic() < end:
        time.sleep(0.01)
    (folder / str(number)).touch()
    return number, os.getpid()


def test_results_come_in_the_order_of_the_jobs_or_of_completion(tmp_path: Path) -> None:
    for name, in_job_order in (("ordered", True), ("completed", False)):
        (tmp_path / name).mkdir()
        found = list(each(work, [(0, tmp_path / name), (1, tmp_path / name)], 2, in_job_order))
        assert [number for number, _ in found] == ([0, 1] if in_job_order else [1, 0])
        assert os.getpid() not in {process for _, process in found}
    assert list(each(work, [], 2)) == []


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    assert list(each(work, [(2, tmp_path), (3, tmp_path)], 1)) == [(2, os.getpid()), (3, os.getpid())]
