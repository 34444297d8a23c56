"""Run Python modules as commands, each in a fork of a process that has already imported what the commands import.

A command that starts in a new Python process imports torch, luigi and others for 1 to 3 seconds, which would be a third of the
time of all tests.
"""

import atexit
import multiprocessing
import multiprocessing.forkserver
import os
import random
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
from luigi.configuration import LuigiConfigParser

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
    # The server's folder must not have a luigi.cfg, because luigi reads one when it is imported.
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            os.chdir(here)
        texts = [Path(name, kind) for kind in ("out", "err")]
        process = context.Process(target=_work, args=(module, arguments, folder, environment, texts))
        process.start()
        process.join(900)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{module} {arguments}: " + "".join(text.read_text() for text in texts))
        out, err = (text.read_text() for text in texts)
        return process.exitcode or 0, out, err


def _work(module: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], texts: list[Path]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in zip((1, 2), texts, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    # A new process would start others by the default method, read the folder's luigi.cfg, and have random states of its own.
    multiprocessing.set_start_method(None, force=True)
    LuigiConfigParser.reload()
    random.seed()
    np.random.seed()
    sys.argv = [module, *arguments]
    sys.path.insert(0, str(folder))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
