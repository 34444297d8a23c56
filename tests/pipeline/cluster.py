"""Slurm for tests: a real cluster of two machines with all files in one folder, and commands that imitate Slurm's."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "unshare")
MACHINES = ("poses1", "poses2")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
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
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000 State=UNKNOWN"
LOGS = ("slurmctld.log", *(f"{name}.log" for name in MACHINES))


def absent() -> str:
    """Return the reason why no cluster can run on this machine; "" if a cluster can run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        return f"{missing[0]} is not installed (Debian: apt install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd starts jobs only as root"
    unshared = subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True)
    return "this container may not give processes a host name of their own" if unshared.returncode else ""


class Cluster:
    """A real cluster of two machines with four cores each; `start` starts it, and `stop` ends it.

    The machines are two slurmd daemons with host names of their own on this machine. They need Debian's packages slurm-wlm and
    munge.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def start(self) -> None:
        """Start the daemons, and wait until a job can run."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o700)
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        port, *ports = _free_ports(1 + len(MACHINES))
        nodes = "\n".join(NODE.format(name=name, port=port) for name, port in zip(MACHINES, ports, strict=True))
        text = CONFIGURATION.format(folder=self.folder, host=socket.gethostname(), port=port, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(MACHINES)}\n")
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.call("munged", "--force", *(f"--{option}={munge / name}" for option, name in files.items()))
        self.call("slurmctld")
        for name in MACHINES:
            command = f"hostname {name} && mount --bind {self.folder}/hosts /etc/hosts && exec slurmd"
            self.call("unshare", "--uts", "--mount", "sh", "-c", command)
        self.wait(lambda: self.call("sinfo", "--noheader", "--format=%D %T").split() == ["2", "idle"], 60)

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
                logs = "\n".join((self.folder / name).read_text()[-2000:] for name in LOGS)
                raise AssertionError(f"it did not happen in {seconds} s\n{self.call('squeue')}\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the jobs and the daemons."""
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        for name in (*(f"{name}.pid" for name in MACHINES), "slurmctld.pid", "munge/pid"):
            path = self.folder / name
            if path.exists():
                _end(int(path.read_text()))


def _end(process: int) -> None:
    """Ask a daemon to end; kill it after 10 s, because slurmd takes longer to end while a job ends."""
    os.kill(process, signal.SIGTERM)
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
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
    """Write commands that imitate Slurm's and start a job at once; return the environment variables for using them."""
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    return {"FAKE": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
