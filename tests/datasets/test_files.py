"""Tests of writing files, and of the error messages for full disks and for limits of the operating system."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from datasets import files
from datasets.errors import DataError
from datasets.files import csv_cell, csv_text, disk_trouble_as_data_error, write_atomically
from tests.python_path import python_path

LIMIT = "import resource; resource.setrlimit(resource.{name}, ({soft}, {hard})); "


def limited(name, soft, hard, code):
    """Run `code` in a process with the limit `name`; return the last line of its stderr, and its stdout."""
    program = LIMIT.format(name=name, soft=soft, hard=hard) + code
    environment = os.environ | {"PYTHONPATH": python_path()}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    return (found.stderr.strip().splitlines() or [""])[-1], found.stdout


ALLOW = "from datasets.files import allow_open_files; allow_open_files(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


def test_the_limit_of_open_files_is_raised():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = files.MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, files.MANY_FILES)
    assert limited("RLIMIT_NOFILE", 300, hard, ALLOW) == ("", f"{many}\n")
    assert limited("RLIMIT_NOFILE", 300, 500, ALLOW) == ("", "500\n")
    assert "Only 100 files may be open at a time; allow more: ulimit -n" in limited("RLIMIT_NOFILE", 64, 100, ALLOW)[0]


def test_a_file_that_may_not_grow_is_reported_as_an_error(tmp_path):
    code = (
        f"from pathlib import Path; from datasets.files import *\nwith disk_trouble_as_data_error(Path('exp')):\n"
        f" write_atomically(Path({str(tmp_path / 'a')!r}), bytes(10**6))"
    )
    code = f"exec({code!r})"
    assert (
        "would exceed the limit on the size of files; raise the limit (ulimit -f), and run again"
        in limited("RLIMIT_FSIZE", 1000, 1000, code)[0]
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "error, sentence",
    [
        (OSError(errno.EMFILE, "x"), "Too few files may be open at a time"),
        (OSError(errno.EDQUOT, "x"), "The disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "exp/a"), "exp/a must not be written"),
        (OSError(errno.ENOLCK, "No locks available"), "cannot lock files.*exp to another disk.*local_lock"),
        (MemoryError(), "There is too little memory"),
    ],
)
def test_errors_that_the_user_can_remedy_are_data_errors(tmp_path, error, sentence):
    with pytest.raises(DataError, match=f"{sentence}.*Finished results are kept"), disk_trouble_as_data_error(tmp_path):
        raise error
    with pytest.raises(OSError), disk_trouble_as_data_error(tmp_path):
        raise OSError(errno.EIO, "x")  # errors that the user cannot remedy must be raised unchanged


def test_the_previous_file_is_kept_on_request(tmp_path):
    for data in (b"1", b"2", b"3"):
        write_atomically(tmp_path / "a", data, tmp_path / "b")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"3", "b": b"2"}


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-a", "@a", "\ta", "'a", "a", "", "images/=a.jpg"])
def test_csv_cells_are_restored(cell):
    assert csv_cell(csv_text(cell)) == cell and csv_text(cell)[:1] not in ("=", "+", "-", "@", "\t")
