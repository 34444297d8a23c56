"""Fixtures: folders with the results of a tiny chain, which is run only once, and the command line as a user runs it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

from datasets.progress import silent
from pipeline.engine import manifest
from tests import forked
from tests.python_path import python_path

TINY = """
[workspace]
exp = exp
device = cpu
workers = 1
checkpoint_seconds = 0.001
[mpii]
images = sample
annotations = sample
[penn_action]
archive = sample
[sample]
people = 24
sequences = 10
frames = 4
[network]
stem = 2 4 4
features = 8
depth = 2
[input]
resolution = 32
[recipe:published]
target_sigma = 1
target_radius = 2
[pretrain]
epochs = 2
iterations = 4
batch = 4
[finetune]
epochs = 2
iterations = 4
batch = 4
learning_rate = 0.002
head = matching
[forecast]
epochs = 3
iterations = 2
batch = 2
[pose_only]
iterations = 20
batch = 16
[converter]
preset = res-64-modern
features = 8
[train_converter]
recipe = converter-modern
epochs = 2
iterations = 3
batch = 4
[lifter]
width = 16
iterations = 4
batch = 8
[retcode]
task_failed = 30
"""


@dataclass
class Place:
    """A folder with a luigi.cfg and an exp/, in which the program can be run."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)  # further environment variables of the processes
    code: Path | None = None  # a changed copy of the code, which is run instead of this working tree

    @property
    def exp(self) -> Path:
        return self.folder / "exp"

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([*([str(self.code)] if self.code else []), python_path()])
        found = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | self.variables
        found.pop("LUIGI_CONFIG_PATH", None)
        return found

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run python -m pipeline ARGUMENTS; check the exit code, and that no traceback is printed; return stdout and stderr."""
        found, out, err = self.call("pipeline", *arguments)
        assert found == code, out + err
        assert "Traceback" not in out + err, out + err
        return out + err

    def call(self, module: str, *arguments: str) -> tuple[int, str, str]:
        """Run python -m MODULE ARGUMENTS; return the exit code, stdout and stderr."""
        if self.code:
            process = self.start("-m", module, *arguments)
            out, err = process.communicate(timeout=900)
            return process.returncode, out, err
        return forked.run(module, arguments, self.folder, self.environment)

    def set(self, text: str) -> None:
        """Write profile.cfg, a profile for the option --config."""
        (self.folder / "profile.cfg").write_text(text)

    def results(self) -> dict[str, str]:
        """Return a dict: folder of each finished result -> its content digest, followed by its time of finishing in ns."""
        found = {}
        for path in sorted(self.exp.glob("**/manifest.json")):
            # If a process was killed between writing the manifest and renaming the folder, the name still ends in .partial.
            is_final = "@" in path.parent.name and not path.parent.name.endswith(".partial")
            if is_final and not path.parent.is_symlink() and ".trash" not in path.parts:
                facts = json.loads(path.read_text())
                found[path.parent.relative_to(self.exp).as_posix()] = facts["content"] + str(path.stat().st_mtime_ns)
        return found


def made_again(folder: Path) -> None:
    """Write a new manifest for a result whose files were changed, as if `rerun` had run only the stage of this result."""
    found = manifest.read(folder)
    assert found
    begun = manifest.Begun(fingerprint=found.fingerprint, identity=found.identity, input_contents=found.input_contents)
    manifest.write(folder, begun, found.summary, found.seconds, silent)


@pytest.fixture(scope="session")
def finished_chain(tmp_path_factory) -> Path:
    """A folder in which `run` has finished the whole chain; all test processes share this folder."""
    base = tmp_path_factory.getbasetemp()  # the folder of this test session or, with several test processes, of this process
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-chain"
    with FileLock(str(shared) + ".lock"):
        if not (shared / "done").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir(parents=True)
            (shared / "luigi.cfg").write_text(TINY)
            process = Place(shared).start("-m", "pipeline", "run")  # in a new process, see tests.forked
            out, err = process.communicate(timeout=900)
            assert process.returncode == 0 and "Traceback" not in err, out + err
            (shared / "output.txt").write_text(out + err)
            (shared / "done").touch()
    return shared


@pytest.fixture(scope="session")
def chain_in_3d(finished_chain) -> Path:
    """A folder with a chain that forecasts in 3D, which needs larger heatmaps; all test processes share this folder.

    The folder begins as a copy of the finished chain, whose forecasts are in 2D to save time.
    """
    shared = finished_chain.with_name("chain-in-3d")
    with FileLock(str(shared) + ".lock"):
        if not (shared / "done").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shutil.copytree(finished_chain, shared, symlinks=True)
            (shared / "done").unlink()
            in_3d = TINY.replace("resolution = 32", "resolution = 64") + "[forecaster]\nconverter = trained\n"
            (shared / "luigi.cfg").write_text(in_3d)
            for stage in ("CompareForecasts", "ExportForecast", "EvaluateConverter"):
                Place(shared).run("run", stage)
            (shared / "done").touch()
    return shared


@pytest.fixture
def place(finished_chain, tmp_path) -> Place:
    """A copy of the finished chain that a test may change."""
    shutil.copytree(finished_chain, tmp_path / "place", symlinks=True)
    return Place(tmp_path / "place")


@pytest.fixture
def empty(tmp_path) -> Place:
    """A folder with the settings of the tiny chain, but without any results."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "luigi.cfg").write_text(TINY)
    return Place(tmp_path / "empty")
