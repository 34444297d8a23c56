import subprocess
import sys

import pytest

from datasets.errors import DataError
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


def test_a_closed_output_pipe_is_no_error():
    tool = subprocess.Popen(
        [sys.executable, "-m", "tools.describe", "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    tool.stdout.close()
    assert tool.stderr.read() == ""
    assert tool.wait() == 0
