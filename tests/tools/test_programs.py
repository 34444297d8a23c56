import signal
import subprocess
import sys

import pytest

from datasets.errors import DataError
from tests.python_path import ROOT
from tools import program


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("x.h5 is gone; make it again."), 1, "error: x.h5 is gone; make it again."),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_tool_prints_an_error_and_returns_a_code(error, code, told, capsys):
    @program
    def main() -> None:
        raise error

    assert main() == code
    assert capsys.readouterr().err.strip() == told


def test_sigterm_ends_a_tool_as_ctrl_c_does(capsys):
    finished, before = [], signal.getsignal(signal.SIGTERM)

    @program
    def main() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            finished.append(True)

    assert main() == 130 and finished and capsys.readouterr().err.strip() == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_closed_output_pipe_is_no_error():
    tool = subprocess.Popen(
        [sys.executable, "-m", "tools.describe", "hg-256"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    tool.stdout.close()
    assert tool.stderr.read() == ""
    assert tool.wait() == 0


@pytest.mark.parametrize("tool", sorted(p.stem for p in (ROOT / "tools").glob("*.py") if "__main__" in p.read_text()))
def test_every_tool_starts_in_a_new_process(tool):
    """Other tests run tools in processes that have already imported most modules."""
    found = subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0 and f"tools.{tool}" in found.stdout, found.stdout + found.stderr
