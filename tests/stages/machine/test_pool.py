"""Results of worker processes come in the order that was asked for; a single process is this one."""

import os
import time

from stages.machine.pool import each


def work(number: int) -> tuple[int, int]:
    time.sleep(0.3 if number == 0 else 0)
    return number, os.getpid()


def test_results_come_in_the_order_of_the_jobs_or_of_completion() -> None:
    jobs = [(number,) for number in range(6)]
    ordered = list(each(work, jobs, 2, in_job_order=True))
    assert [number for number, _ in ordered] == [0, 1, 2, 3, 4, 5]
    assert os.getpid() not in {process for _, process in ordered}
    assert sorted(number for number, _ in each(work, jobs, 2)) == [0, 1, 2, 3, 4, 5]
    assert list(each(work, [], 2)) == []


def test_one_process_is_this_one() -> None:
    assert list(each(work, [(1,), (2,)], 1)) == [(1, os.getpid()), (2, os.getpid())]
    assert list(each(work, [(3,)], 4)) == [(3, os.getpid())]
