"""The Dockerfile: the image is built and its environment works. Skipped on a machine without a container engine."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "poses-test"


def engine() -> str | None:
    """Return the name of a program that can build images now; a client without a running engine does not count."""
    for program in ("docker", "podman"):
        if shutil.which(program) and not subprocess.run([program, "info"], capture_output=True).returncode:
            return program
    return None


def test_the_image_runs_the_commands_of_the_readme():
    program = engine()
    if not program:
        pytest.skip("no engine of docker or podman runs on this machine")
    subprocess.run([program, "build", "--tag", IMAGE, str(ROOT)], check=True)
    found = subprocess.run(
        [program, "run", "--rm", IMAGE, "make", "--dry-run", "demo", "test"], check=True, capture_output=True, text=True
    )
    assert "-m pipeline run --config configs/demo.cfg" in found.stdout and "-m pytest tests" in found.stdout
    assert "pip install" not in found.stdout  # the environment of the image is complete
    status = [program, "run", "--rm", IMAGE, ".venv/bin/python", "-m", "pipeline", "status", "--config", "configs/demo.cfg"]
    assert "MakeSample" in subprocess.run(status, check=True, capture_output=True, text=True).stdout
