"""One training on several machines of a Slurm job: each machine runs the training's command, and the first writes the result.

The other machines need the inputs of the training, but must not touch the result. So their command uses a temporary folder of
results, with symlinks to the finished results and a copy of the training's checkpoint. Each machine needs the checkpoint,
because torch chooses the machine from whose checkpoint all machines continue.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.engine.digests import MEMORY
from pipeline.engine.manifest import PARTIAL

CHECKPOINT = (PARTIAL, "last.safetensors", "before-last.safetensors")  # files from which a training continues
FIRST_PORT, PORTS = 20_000, 40_000  # first port, and number of ports, for the rendezvous of a job's machines


def is_first() -> bool:
    """Return whether this process runs on the first machine of its job."""
    return os.environ.get("SLURM_PROCID", "0") == "0"


@contextlib.contextmanager
def settings_here(nodes: int, exp: Path, fingerprint: str) -> Iterator[list[str]]:
    """Yield command-line arguments: the settings that a training's command needs on this machine of the Slurm job.

    nodes: number of machines; exp: the folder of all results; fingerprint: first 8 digits of the training's fingerprint.
    Raises OSError or CalledProcessError if Slurm does not know the machines of the job.
    """
    if nodes == 1:
        yield []
        return
    question = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    first = subprocess.run(question, capture_output=True, text=True, check=True).stdout.split()[0]
    port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS
    meeting = ["--set", f"workspace.machines={nodes}", "--set", f"workspace.rendezvous={first}:{port}"]
    if is_first():
        yield meeting
        return
    with tempfile.TemporaryDirectory() as copy:
        link_results(exp, Path(copy))
        copy_checkpoint(exp, Path(copy), fingerprint)
        yield [*meeting, "--set", f"workspace.exp={copy}"]


def link_results(exp: Path, copy: Path) -> None:
    """Create symlinks in the folder `copy` to all finished results below exp/, and copy the digests of external files."""
    if (exp / MEMORY).exists():
        shutil.copyfile(exp / MEMORY, copy / MEMORY)
    for result in _below(exp, "*@????????"):
        if not result.is_symlink():
            place = copy / result.relative_to(exp)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(result.resolve(), target_is_directory=True)


def _below(exp: Path, pattern: str) -> list[Path]:
    """Return the folders in exp/ whose names match, up to three levels deep (own/NAME/...), without hidden folders."""
    return [path for depth in ("", "[!.]*/", "own/*/") for path in exp.glob(depth + pattern)]


def copy_checkpoint(exp: Path, copy: Path, fingerprint: str) -> None:
    """Copy the checkpoints of an unfinished training; no machine changes them until all machines have started the training."""
    for partial in _below(exp, f"*@{fingerprint}.partial"):
        place = copy / partial.relative_to(exp)
        place.mkdir(parents=True)
        for name in CHECKPOINT:
            if (partial / name).exists():
                shutil.copyfile(partial / name, place / name)
