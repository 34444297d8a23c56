"""Run Python modules as commands, each in a fork of a process that has already imported what the commands import.

A command that starts in a new Python process imports torch, luigi and others for 1 to 3 seconds, which would be a third of the
time of all tests. A fork hides faults that depend on a new process: a missing import of a module in IMPORTED, the order of sets
(all forks of a server share the seed of hashes), and crashes at the end of the interpreter. So the chain that most tests copy
is run by a new process (`tests.pipeline.conftest.finished_chain`), and so are commands that are killed or interrupted.
"""

import atexit
import multiprocessing
import multiprocessing.forkserver
import os
import random
import runpy
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from luigi.configuration import LuigiConfigParser

from tests.python_path import python_path

IMPORTED = [
    "pipeline.cli.commands", "stages.training.heatmaps", "stages.training.train", "torch._dynamo", "scipy.stats",
    "matplotlib.pyplot",
]  # fmt: skip


def run(module: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run python -m `module` with the arguments in a folder; return the exit code, stdout and stderr.

    Raises TimeoutError after 15 minutes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as name:
        # The server's folder must not have a luigi.cfg, because luigi reads one when it is imported.
        with chdir(name), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", python_path())
            multiprocessing.forkserver.ensure_running()
        texts = [Path(name, kind) for kind in ("out", "err")]
        for text in texts:
            text.touch()
        process = context.Process(target=_work, args=(module, arguments, folder, environment, texts))
        process.start()
        process.join(900)
        out, err = (text.read_text() for text in texts)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{module} {arguments}: {out}{err}")
        return process.exitcode, out, err


def _work(module: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], texts: list[Path]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in zip((1, 2), texts, strict=True):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    # A new process would start others by the default method, find the folder of temporary files, read the folder's luigi.cfg,
    # and have random states of its own.
    multiprocessing.set_start_method(None, force=True)
    tempfile.tempdir = None
    LuigiConfigParser.reload()
    random.seed()
    np.random.seed()
    sys.argv = [module, *arguments]
    sys.path.insert(0, str(folder))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
