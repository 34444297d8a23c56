"""Slurm for tests: a real cluster of one machine with all files in one folder, and commands that imitate Slurm's."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_d}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def absent() -> str:
    """Return the reason why no cluster can run on this machine; "" if a cluster can run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        return f"{missing[0]} is not installed (Debian: apt install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "slurmd starts jobs only as root"


class Cluster:
    """A real cluster of one machine with four cores, to `start` and `stop`. It needs Debian's packages slurm-wlm and munge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def start(self) -> None:
        """Start the three daemons, and wait until a job can run."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o700)
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        ports = _free_ports()
        text = CONFIGURATION.format(folder=self.folder, host=socket.gethostname(), port=ports[0], port_d=ports[1])
        (self.folder / "slurm.conf").write_text(text)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.call("munged", "--force", *(f"--{option}={munge / name}" for option, name in files.items()))
        self.call("slurmctld")
        self.call("slurmd")
        self.wait(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"), 60)

    def call(self, *command: str) -> str:
        """Run a command of Slurm and return its output."""
        found = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        return found.stdout + found.stderr

    def state(self, number: str) -> str:
        """Return the state of a job and the number of its restarts, such as RUNNING 1."""
        words = dict(word.partition("=")[::2] for word in self.call("scontrol", "show", "job", number).split())
        return f"{words.get('JobState')} {words.get('Restarts')}"

    def wait(self, condition, seconds: float) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = "\n".join((self.folder / name).read_text()[-2000:] for name in ("slurmctld.log", "slurmd.log"))
                raise AssertionError(f"it did not happen in {seconds} s\n{self.call('squeue')}\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the jobs and the daemons."""
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.folder / name
            if path.exists():
                _end(int(path.read_text()))


def _end(process: int) -> None:
    """End a process, by force if it takes longer than 10 s, as slurmd does while a job ends."""
    os.kill(process, signal.SIGTERM)
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)


def _free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


FAKES = {
    "sbatch": r"""
number=$(($(cat "$FAKE/count" 2>/dev/null || echo 0) + 1)); echo $number > "$FAKE/count"
name=$(sed -n "s/^#SBATCH --job-name=//p" "$1"); cp "$1" "$FAKE/$number.sh"; echo "RUNNING $name" > "$FAKE/$number.state"
(
    touch "$FAKE/$number.again"
    while [ -e "$FAKE/$number.again" ]; do
        rm "$FAKE/$number.again"; SLURM_JOB_ID=$number sh "$FAKE/$number.sh"; code=$?
    done
    [ $code = 0 ] && state=COMPLETED || state=FAILED
    echo "$state $name" > "$FAKE/$number.state"
) < /dev/null > /dev/null 2>&1 &
echo "Submitted batch job $number"
""",
    "srun": r"""
while true; do case "$1" in --output) out=$2; shift 2;; --ntasks=*) n=${1#*=}; shift;; --*) shift;; *) break;; esac; done
echo $$ > "$FAKE/$SLURM_JOB_ID.pid"
export SLURM_JOB_NODELIST=machines SLURM_NTASKS=$n SLURM_PROCID
log() { echo "$out" | sed "s/%j/$SLURM_JOB_ID/; s/%t/$SLURM_PROCID/"; }
for SLURM_PROCID in $(seq 1 $((n - 1))); do "$@" >> "$(log)" 2>&1 & done
SLURM_PROCID=0
exec "$@" >> "$(log)" 2>&1
""",
    "squeue": r"""
for word in "$@"; do case $word in --jobs=*) cat "$FAKE/${word#--jobs=}.state" 2>/dev/null && exit;; esac; done
echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1
""",
    "scontrol": r"""case "$1 $2" in "requeue "*) touch "$FAKE/$2.again";; "show hostnames") echo localhost;; esac""",
}


def fake_cluster(folder: Path) -> dict[str, str]:
    """Write imitated Slurm commands, which start a job at once; return environment variables with which they are found."""
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    return {"FAKE": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
