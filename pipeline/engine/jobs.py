"""Run a stage as a job of Slurm, submitted by submitit, and wait until it has ended.

The folder exp/.jobs/<stage>-<first 8 digits of the fingerprint> contains the script and the log of the job. Until the job has
ended, the file `job` in this folder contains the number of the job. A command that finds the file `job` waits for this job
instead of submitting another one.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import DataError
from datasets.files import lock_file, write_atomically
from pipeline.engine.nodes import is_first, settings_here
from pipeline.engine.progress import say

RECORD = "job"
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip
FORGOTTEN = "no longer known to Slurm"  # Slurm forgets a job some minutes after its end
FIRST_POLL, LAST_POLL = 0.5, 10.0  # seconds between two queries of the job's state: at first, and later
SEEN_SECONDS = 60  # seconds until a network file system shows the files that another machine has written
MOST_SECONDS = 120  # upper limit of `Job.notice`, in seconds
STOPPED = (130, -signal.SIGTERM)  # exit codes after SIGTERM: of a training that wrote a checkpoint, and of other stages
LONGEST_END = 300  # seconds that Slurm may take to end a job that was requeued
WITHOUT_END = 10**6  # more requeues at the time limit than any training needs


@dataclass(frozen=True)
class Job:
    """A job that makes the result of one stage."""

    name: str  # the job's name in the queue: stage and first digits of the fingerprint
    command: tuple[str, ...]  # command that makes only this stage; it is run in the job's working directory
    minutes: int  # time limit
    options: dict[str, Any]  # further options of submitit's SlurmExecutor
    nodes: int = 1  # number of machines that work on the stage together

    @property
    def notice(self) -> int:
        """Return the seconds between Slurm's signal to stop and the time limit: at most a quarter of the limit."""
        return min(MOST_SECONDS, self.minutes * 15)


class NoAnswer(Exception):
    """The error if Slurm's controller does not answer at present."""


class InJob:
    """The function that submitit calls on each machine of a job: it runs the job's command, and stops it before a requeue."""

    def __init__(self, job: Job, exp: Path) -> None:
        """Store the job; exp: folder of all results."""
        self.job, self.exp = job, exp
        self._process, self._begun = 0, 0.0

    def __call__(self) -> None:
        """Run the command; exit this process with the command's exit code, if the code is not 0."""
        with settings_here(self.job.nodes, self.exp, self.job.name[-8:]) as further:
            self._run([*self.job.command, *further])

    def _run(self, command: list[str]) -> None:
        # Before the time limit, Slurm sends SIGUSR2 to all processes of the job. Only this process handles the signal; child
        # processes inherit the mask that blocks it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            process = subprocess.Popen(command)
            self._process, self._begun = process.pid, time.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        from submitit.core.utils import UncompletedJobError

        try:
            while process.poll() is None:
                time.sleep(0.1)
        except UncompletedJobError:  # raised by submitit's signal handler, which has called `checkpoint`
            print("The stage was stopped by the job's time limit; set a longer `time` in [slurm] of the settings.", flush=True)
            sys.exit(1)
        if process.returncode in STOPPED:
            if not is_first():
                # If this machine ended now, Slurm would end the job before the first machine can requeue it.
                time.sleep(LONGEST_END)
            else:
                self._return_to_queue()
        if process.returncode < 0:
            print(f"The stage was killed (signal {-process.returncode}), perhaps because memory ran out.", flush=True)
        if process.returncode:
            sys.exit(abs(process.returncode))

    def _return_to_queue(self) -> None:
        """Requeue a preempted job, but not a cancelled one; called when a signal of Slurm has ended the job's command."""
        number = os.environ["SLURM_JOB_ID"]
        with contextlib.suppress(NoAnswer):
            if _state(number, self.job.name) == "RUNNING":
                print("The job is preempted; it returns to the queue.", flush=True)
                if subprocess.run(["scontrol", "requeue", number]).returncode == 0:
                    time.sleep(LONGEST_END)  # wait until Slurm ends this process

    def checkpoint(self) -> Any:
        """Stop the command; return the function call that the requeued job executes, or None if the job should not be requeued.

        Called by submitit before it requeues the job. A training writes a checkpoint and ends by itself. Any other stage saves
        nothing: if it has already run for half of the time limit, the job is not requeued, because its next run would probably
        reach the limit, too.
        """
        from submitit.helpers import DelayedSubmission

        os.kill(self._process, signal.SIGTERM)
        end = time.monotonic() + 0.75 * self.job.notice
        # Without WNOWAIT, `waitid` would take the exit code away from `poll` in `_run`, which this method may have interrupted.
        while (ended := os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
            time.sleep(0.1)
        saved = (ended.si_code, ended.si_status) != (os.CLD_KILLED, signal.SIGTERM)
        again = saved or time.monotonic() - self._begun < 30 * self.job.minutes
        return DelayedSubmission(InJob(self.job, self.exp)) if again else None


def run(job: Job, folder: Path, done: Callable[[], bool]) -> None:
    """Submit a job, or find the job that another command has submitted for the same stage, and wait until the job ends.

    folder: folder of the job's files; done: function that returns whether the stage's result exists. Raises DataError if
    the job ends without the result (the message contains the path of the log), if Slurm is not installed, or if Slurm
    refuses the job.
    """
    number = _submitted(job, folder)
    state = _wait(job, number)
    end = time.monotonic() + SEEN_SECONDS
    while not done() and state in ("COMPLETED", FORGOTTEN) and time.monotonic() < end:
        time.sleep(1)
    (folder / RECORD).unlink(missing_ok=True)
    if not done():
        raise DataError(f"Slurm job {number} ended without a result ({state}). {_last_line(log_of(folder, number))}")


def going_on(name: str, folder: Path) -> str:
    """Return the number of a job that has not ended; "" if it has ended. name: the job's name; folder: the job's files."""
    number = _recorded(folder)
    try:
        return "" if not number or _state(number, name) in ENDED | {FORGOTTEN} else number
    except NoAnswer:
        return number


def log_of(folder: Path, number: str) -> Path:
    """Return the path of a job's log."""
    return folder / f"{number}_0_log.out"


def _submitted(job: Job, folder: Path) -> str:
    """Return the job's number in Slurm's queue, after submitting the job if it is not in the queue."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / "lock"):  # so that two commands at the same time submit only one job
        number = _recorded(folder)
        if number and _patiently(number, job.name) not in ENDED | {FORGOTTEN}:
            say(f"{job.name} is Slurm job {number} already; its log is {log_of(folder, number)}")
            return number
        number = _submit(job, folder)
        write_atomically(folder / RECORD, number.encode())
    say(f"{job.name} is Slurm job {number}; its log is {log_of(folder, number)}")
    return number


def _recorded(folder: Path) -> str:
    try:
        number = (folder / RECORD).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return number if number.isdigit() else ""


def _submit(job: Job, folder: Path) -> str:
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
        from submitit.helpers import clean_env, environment_variables
    except ImportError:
        raise DataError("Jobs of Slurm need submitit, which is not installed; run: pip install submitit") from None
    if missing := [command for command in ("sbatch", "srun", "squeue", "scontrol") if not shutil.which(command)]:
        raise DataError(
            f"Slurm's command {missing[0]} is not here; run this program on a machine from which jobs are submitted, or leave "
            "out --on slurm ([workspace] run_on)."
        )
    executor = submitit.SlurmExecutor(folder, max_num_timeout=WITHOUT_END)
    further = {"requeue": True} | job.options.get("additional_parameters", {})
    # Since Slurm 22.05, srun no longer takes the number of CPUs per task from sbatch: without these options, it starts several
    # tasks if the job has several CPUs.
    srun = [f"--ntasks={job.nodes}", f"--cpus-per-task={job.options['cpus_per_task']}", "--kill-on-bad-exit=1"]
    executor.update_parameters(
        **job.options | {"additional_parameters": further, "srun_args": srun, "nodes": job.nodes, "ntasks_per_node": 1},
        job_name=job.name, time=job.minutes, signal_delay_s=job.notice, stderr_to_stdout=True,
    )  # fmt: skip
    configuration = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        # This process may itself run in a Slurm job; the environment variables of that job must not reach the new job.
        with clean_env(), environment_variables(**configuration):
            return executor.submit(InJob(job, folder.resolve().parent.parent)).job_id
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
        raise DataError(f"Slurm refuses the job ({lines[-1].strip()}); correct the section [slurm] of the settings.") from None


def _wait(job: Job, number: str) -> str:
    """Wait until a job has ended, and return its last state."""
    said, pause = "", FIRST_POLL
    while True:
        state = _patiently(number, job.name)
        if state in ENDED or state == FORGOTTEN:
            return state
        if state not in (said, "COMPLETING"):
            say(f"{job.name}: Slurm job {number} is {state.lower()}")
            said = state
        time.sleep(pause)
        pause = min(pause * 1.2, LAST_POLL)


def _patiently(number: str, name: str) -> str:
    """Return the state of a job, as `_state` does; while Slurm does not answer, wait."""
    waits = False
    while True:
        try:
            return _state(number, name)
        except NoAnswer as error:
            if not waits:
                say(f"{name}: Slurm does not answer ({error}); waiting for it.")
            waits = True
            time.sleep(LAST_POLL)


def _state(number: str, name: str) -> str:
    """Return the state of a job, such as PENDING; FORGOTTEN if Slurm has no job with this number and name.

    Raises NoAnswer if Slurm's controller does not answer, and DataError if the command squeue is missing.
    """
    question = ["squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T %j"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise DataError("Slurm's command squeue is not here; run this program on a machine that has it.") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer("no answer in 60 s") from None
    if answer.returncode:
        if "Invalid job id" in answer.stderr:
            return FORGOTTEN
        raise NoAnswer((answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1])
    state, _, its_name = answer.stdout.strip().partition(" ")
    return state if its_name == name else FORGOTTEN


def _last_line(log: Path) -> str:
    """Return a sentence with the path of a log and the last line that the stage has printed to the log, if any."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return f"The log {log} does not exist; its folder must be shared by all machines of the cluster."
    ours = [line for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd", "submitit "))]
    return f"Its log is {log}" + (f"; the last line: {ours[-1].strip()}" if ours else "")
