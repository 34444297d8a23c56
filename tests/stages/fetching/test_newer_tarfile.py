"""The archive tests with the tarfile of newer Python versions, whose private methods changed when CVE-2025-13462 was fixed."""

import subprocess
import sys

import pytest

from tests.python_path import ROOT

PROGRAM = """
import sys
import backports.zstd.tarfile as newer
assert hasattr(newer.TarInfo, "_frombuf")
sys.modules["tarfile"] = newer
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/stages/fetching/test_archives.py",
                      "-k", "header or cut or damaged or tar"]))
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python's own tarfile is the newer one")
def test_archives_with_the_newer_tarfile():
    command = [sys.executable, "-c", PROGRAM]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0 and " passed" in found.stdout, found.stdout[-3000:] + found.stderr[-1000:]
