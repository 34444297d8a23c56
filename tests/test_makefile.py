"""Error messages of `make` for a Python that is too old or missing, and for a .venv of another Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


@pytest.fixture
def make(tmp_path):
    """Return a function that runs `make` with the given arguments and returns (exit code, stderr).

    `make` runs in a folder with the Makefile and empty files setup.py and requirements.txt.
    """
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("setup.py", "requirements.txt"):
        (tmp_path / name).touch()

    def make(*arguments):
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
        done = subprocess.run(["make", *arguments], cwd=tmp_path, env=environment, text=True, capture_output=True)
        return done.returncode, done.stderr

    return make


def python(path, version):
    """Write a program that acts as a Python of the given version; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nexec \'{sys.executable}\' -c "import sys; sys.version_info = {version}; exec(sys.argv[2])" "$@"\n'
    )
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_or_not_there(make, tmp_path):
    code, said = make("setup", f"PYTHON={python(tmp_path / 'old', (3, 10, 13))}")
    assert code and "old is Python 3.10, which is too old; give Python 3.11 or later: make setup PYTHON=" in said
    code, said = make("setup", "PYTHON=./nowhere")
    assert code and "./nowhere cannot be run; give Python 3.11 or later" in said
    assert said.count("\n") == 2 and not (tmp_path / ".venv").exists()  # `make` itself prints a second line
    assert make("python", f"PYTHON={sys.executable}")[0] == 0


def test_a_venv_of_another_python(make, tmp_path):
    inside = tmp_path / ".venv" / "bin" / "python"
    python(inside, (3, 99, 0))
    assert make("python") == (0, "")  # without PYTHON=, every new enough .venv is accepted
    code, said = make("setup", f"PYTHON={sys.executable}")
    assert code and f".venv has Python 3.99, not the version of PYTHON={sys.executable}; remove it (rm -r .venv)" in said
    assert make("python", f"PYTHON={python(tmp_path / 'other', (3, 99, 1))}") == (0, "")
    python(inside, (3, 10, 0))
    for _ in range(2):
        code, said = make("setup")
        assert code and ".venv is incomplete, or its Python is missing or too old; remove it (rm -r .venv)" in said
        inside.unlink(missing_ok=True)
        inside.symlink_to(tmp_path / "gone")
    assert inside.parent.exists()
