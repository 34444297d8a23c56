"""Slurm jobs: what a job does before the time limit, and how the answers of Slurm's commands are read."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engine import jobs, nodes
from pipeline.engine.jobs import InJob, Job, NoAnswer

pytest.importorskip("submitit", reason="submitit is an optional requirement")

SAVES = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); print('ready', flush=True); signal.pause()"
)
LOSES = "import signal; print('ready', flush=True); signal.pause()"
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


def in_job(code: str, minutes: float = 1) -> InJob:
    """Return the function that a job executes to run Python code; minutes: time limit of the job."""
    return InJob(Job("a", (sys.executable, "-c", code), minutes, {}), Path("exp"))


@pytest.mark.parametrize(
    ("code", "ran", "returns"), [(SAVES, 2.0, True), (LOSES, 2.0, False), (LOSES, 0.0, True), (IGNORES, 2.0, True)]
)
def test_only_what_gets_further_returns_to_the_queue(code, ran, returns):
    """A job is not requeued if its command ran for more than half of the time limit of 3 s and saved nothing."""
    job = in_job(code, minutes=0.05)
    process = subprocess.Popen(job.job.command, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    job._process, job._begun = process.pid, time.monotonic() - ran
    assert bool(job.checkpoint()) == returns
    process.communicate()
    assert process.returncode == {SAVES: 130, LOSES: -signal.SIGTERM, IGNORES: -signal.SIGKILL}[code]


def test_the_exit_code_of_a_job_is_that_of_its_command(capfd):
    in_job("")()
    with pytest.raises(SystemExit) as ended:
        in_job("import sys; sys.exit(30)")()
    assert ended.value.code == 30 and not capfd.readouterr().out
    with pytest.raises(SystemExit) as ended:
        in_job("import os; os.kill(os.getpid(), 9)")()
    assert ended.value.code == 9 and "killed (signal 9), perhaps because memory ran out" in capfd.readouterr().out


def test_the_command_does_not_get_the_signal_before_the_time_limit():
    """Slurm sends SIGUSR2 to all processes of a job; by default, this signal would end a process."""
    in_job("import os, signal; os.kill(os.getpid(), signal.SIGUSR2)")()
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def answers(monkeypatch, folder, *lines):
    """Write a script squeue that prints one line at each call; a line that begins with ! is printed as an error."""
    (folder / "answers").write_text("".join(f"{line}\n" for line in lines))
    script = """#!/bin/sh
cd "$(dirname "$0")"; line=$(head -n 1 answers); sed -i 1d answers
case $line in !*) echo "${line#!}" >&2; exit 1;; *) echo "$line";; esac
"""
    (folder / "squeue").write_text(script)
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_what_squeue_answers(monkeypatch, tmp_path):
    answers(
        monkeypatch, tmp_path, "PENDING Pretrain-1", "RUNNING of-another-user", "",
        "!slurm_load_jobs error: Invalid job id specified",
        "!slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    )  # fmt: skip
    assert [jobs._state("7", "Pretrain-1") for _ in range(4)] == ["PENDING", *3 * [jobs.FORGOTTEN]]
    with pytest.raises(NoAnswer, match="Unable to contact slurm controller"):
        jobs._state("7", "Pretrain-1")


def test_waiting_survives_a_restart_of_slurm_and_says_little(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(jobs, "FIRST_POLL", 0.01)
    monkeypatch.setattr(jobs, "LAST_POLL", 0.01)
    answers(monkeypatch, tmp_path, *3 * ["RUNNING a"], *3 * ["!Socket timed out"], *3 * ["RUNNING a"], "COMPLETED a")
    job = Job("a", ("true",), 5, {})
    assert jobs._wait(job, "7") == "COMPLETED"
    assert capfd.readouterr().err.splitlines() == [
        "a: Slurm job 7 is running", "a: Slurm does not answer (Socket timed out); waiting for it.",
    ]  # fmt: skip


@pytest.mark.parametrize(("state", "requeued"), [("RUNNING", True), ("CANCELLED", False)])
def test_a_job_that_is_preempted_returns_to_the_queue_and_a_cancelled_one_does_not(monkeypatch, tmp_path, state, requeued):
    """If a job is preempted or cancelled, Slurm sends SIGTERM to all its processes some seconds before SIGKILL."""
    answers(monkeypatch, tmp_path, f"{state} a")
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* > {tmp_path}/told\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setattr(jobs, "LONGEST_END", 0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(SystemExit):
        in_job("import sys; sys.exit(130)")()
    assert (tmp_path / "told").exists() == requeued and (not requeued or (tmp_path / "told").read_text() == "requeue 7\n")


def test_a_result_that_appears_late_is_waited_for(monkeypatch, tmp_path):
    """A network file system may show the files of another machine some seconds later."""
    answers(monkeypatch, tmp_path, "RUNNING a", "COMPLETED a", "COMPLETED a")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/job").write_text("7")
    seen = iter([False, False, True, True])
    jobs.run(Job("a", ("true",), 5, {}), tmp_path / "jobs", lambda: next(seen))
    assert not (tmp_path / "jobs/job").exists()


def test_the_other_machines_of_a_job_see_the_results_and_write_elsewhere(monkeypatch, tmp_path):
    exp = tmp_path / "exp"
    for name in ("mpii/annot@12345678", "export@12345678", "mpii/hg@12345678.partial"):
        (exp / name).mkdir(parents=True)
    (exp / "mpii/annot@12345678/train.h5").write_text("labels")
    (exp / "mpii/hg@12345678.partial/last.safetensors").write_text("checkpoint")
    (exp / "mpii/annot").symlink_to("annot@12345678")
    (exp / ".digests.json").write_text("{}")
    (tmp_path / "scontrol").write_text(
        "#!/bin/sh\n[ $* = 'show hostnames n[3-4]' ] && echo n3; echo n4\n".replace("$*", '"$*"')
    )
    (tmp_path / "scontrol").chmod(0o755)
    for name, value in {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[3-4]", "SLURM_JOB_ID": "40007"}.items():
        monkeypatch.setenv(name, value)
    meeting = ["--set", "workspace.machines=2", "--set", "workspace.rendezvous=n3:20007"]
    monkeypatch.setenv("SLURM_PROCID", "0")
    with nodes.settings_here(1, exp, "12345678") as alone, nodes.settings_here(2, exp, "12345678") as first:
        assert (alone, first) == ([], meeting)
    monkeypatch.setenv("SLURM_PROCID", "1")
    with nodes.settings_here(2, exp, "12345678") as second:
        assert second[:-1] == [*meeting, "--set"] and second[-1].startswith("workspace.exp=")
        copy = Path(second[-1].partition("=")[2])
        found = {path.relative_to(copy).as_posix() for path in (*copy.iterdir(), *copy.glob("*/*"))}
        assert found == {".digests.json", "mpii", "mpii/annot@12345678", "export@12345678", "mpii/hg@12345678.partial"}
        assert (copy / "mpii/hg@12345678.partial/last.safetensors").read_text() == "checkpoint"
        assert (copy / "mpii/annot@12345678/train.h5").read_text() == "labels"
    assert not copy.exists() and (exp / "mpii/annot@12345678/train.h5").exists()
