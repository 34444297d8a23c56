"""Stages as Slurm jobs: with imitated Slurm commands, and with a real Slurm if it is installed."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from pipeline.engine import manifest
from tests.pipeline.cluster import Cluster, absent, fake_cluster
from tests.pipeline.conftest import Place
from tests.pipeline.test_killed import wait_for

SMALL = "[slurm]\ngpus = 0\ncpus = 1\nmemory = 0\ntime = 30\n"
LONG = SMALL + "[workspace]\ncheckpoint_seconds = 1000000\n[finetune]\nexperiment = jobs\niterations = {}\nepochs = 1\n"
ON_SLURM = ("--on", "slurm", "--config", "profile.cfg")
FILES = ("best.safetensors", "last.safetensors", "train.log", "valid.log")


def trained(place: Place) -> dict[str, bytes]:
    return {name: (place.exp / "penn_action_cropped/jobs" / name).read_bytes() for name in FILES}


def at_work(place: Place, longer_than: int = 0) -> int:
    """Return the size of metrics.csv of the training that is running; 0 if it is at most `longer_than`."""
    sizes = [path.stat().st_size for path in place.exp.glob("penn_action_cropped/jobs@*.partial/logs/metrics.csv")]
    return sizes[0] if sizes and sizes[0] > longer_than else 0


@pytest.fixture
def fake(place, tmp_path) -> Place:
    place.variables = fake_cluster(tmp_path / "fake")
    return place


def test_a_job_that_returns_to_the_queue_ends_with_the_same_weights(fake, tmp_path):
    fake.set(LONG.format(150))
    process = fake.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM)
    wait_for(lambda: at_work(fake))
    os.kill(int((tmp_path / "fake/1.pid").read_text()), signal.SIGUSR2)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert "is Slurm job 1; its log is exp/.jobs/FinetunePenn-" in err and "is running" in err
    (log,) = fake.exp.glob(".jobs/FinetunePenn-*/1_0_log.out")
    assert log.read_text().count("interrupted; the same command carries on") == 1 and "Traceback" not in log.read_text()
    made = trained(fake)
    fake.run("rerun", "FinetunePenn", "--config", "profile.cfg")
    assert trained(fake) == made


def test_several_machines_of_a_job_train_one_network(fake):
    fake.set(SMALL + "machines = 2\n[finetune]\nexperiment = jobs\niterations = 5\n")
    fake.run("run", "FinetunePenn", *ON_SLURM)
    logs = {path.name: path.read_text() for path in fake.exp.glob(".jobs/FinetunePenn-*/*.out")}
    assert logs.keys() == {"1_0_log.out", "1_1_log.out"} and all("FinetunePenn: done" in text for text in logs.values())
    assert not [path for path in fake.exp.glob("penn_action_cropped/*") if ".partial" in path.name]
    made = trained(fake)
    fake.run("rerun", "FinetunePenn", "--config", "profile.cfg", "--set", "workspace.processes=2")
    assert trained(fake) == made  # two processes on one machine write the same files as two machines
    said = fake.run("run", "FinetunePenn", *ON_SLURM, "--again", "--set", "workspace.machines=2",
                    "--set", "workspace.rendezvous=localhost:29400", code=30)  # fmt: skip
    assert "with run_on = slurm, set [slurm] machines" in said


def test_a_job_that_fails_is_reported_with_its_log(fake):
    fake.set(SMALL + "[finetune]\nexperiment = wild\nlearning_rate = 10\n")
    said = fake.run("run", "FinetunePenn", *ON_SLURM, code=30)
    assert "FinetunePenn: Slurm job 1 ended without a result (FAILED). Its log is exp/.jobs/FinetunePenn-" in said
    assert "The loss became" in said.partition("; the last line: ")[2]


def test_a_job_that_slurm_refuses(fake, tmp_path):
    (tmp_path / "fake/sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition specified: gpus >&2; exit 1\n")
    fake.set(SMALL + "[pretrain]\nseed = 9\n")
    said = fake.run("run", "PretrainMpii", *ON_SLURM, code=30)
    assert "Slurm refuses the job (sbatch: error: invalid partition specified: gpus); correct the section [slurm]" in said


def test_a_machine_without_slurm(place, tmp_path):
    place.variables = {"PATH": str(tmp_path)}
    place.set(SMALL + "[pretrain]\nseed = 9\n")
    assert "Slurm's command sbatch is not here" in place.run("run", "PretrainMpii", *ON_SLURM, code=30)


def test_settings_of_one_stage(place):
    place.set("[slurm:PretrainMpi]\ntime = 5\n")
    assert "[slurm:PretrainMpi]: there is no stage PretrainMpi. Did you mean PretrainMpii?" in place.run(
        "run", *ON_SLURM, code=2
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := absent():
        pytest.skip(f"no Slurm: {why}")
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def real(place, cluster) -> Place:
    place.variables = cluster.environment
    return place


def number_of(cluster: Cluster) -> str:
    """Return the number of the newest job in the queue."""
    return cluster.call("squeue", "--noheader", "--format=%i", "--sort=-i").split()[0]


def contents(exp: Path) -> dict[str, str]:
    """Return a dict: name of each result folder -> digest of the folder's content."""
    folders = [path.parent for path in exp.glob("**/*@????????/manifest.json")]
    return {folder.name: found.content for folder in folders if (found := manifest.read(folder))}


def test_two_chains_as_jobs_share_them_and_give_the_same_bytes(real, cluster):
    """The jobs run all stages downstream of the annotations: two trainings, four evaluations, and the comparison."""
    before = contents(real.exp)
    for folder in [path.parent for path in real.exp.glob("**/*@????????/manifest.json")]:
        if not folder.name.startswith(("sample@", "raw@", "data@", "annot@")):
            shutil.rmtree(folder)
    real.set(SMALL)
    for process in [real.start("-m", "pipeline", "run", "CompareAccuracy", *ON_SLURM) for _ in range(2)]:
        _, err = process.communicate(timeout=900)
        assert process.returncode == 0 and "Traceback" not in err, err
    made = contents(real.exp)
    assert len(made) == 13 and made.items() <= before.items()
    logs = [path.parent.name.partition("-")[0] for path in real.exp.glob(".jobs/*/*_0_log.out")]
    assert sorted(logs) == sorted(["PretrainMpii", "FinetunePenn", *2 * ["EvaluateMpii", "EvaluatePenn"]])


def test_a_training_that_returns_to_the_queue_twice(real, cluster):
    real.set(LONG.format(300))
    process = real.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM)
    size = 0
    for restarts in (1, 2):
        wait_for(lambda size=size: at_work(real, size))
        number = number_of(cluster)
        cluster.call("scancel", "--signal=USR2", number)
        cluster.wait(lambda n=number, r=restarts: cluster.state(n) == f"RUNNING {r}", 90)
        size = at_work(real)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    made = trained(real)
    real.run("rerun", "FinetunePenn", "--config", "profile.cfg")
    assert trained(real) == made


def test_two_machines_of_a_job_that_returns_to_the_queue_train_one_network(real, cluster):
    real.set(LONG.format(100) + "[slurm:FinetunePenn]\nmachines = 2\n")
    process = real.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM)
    wait_for(lambda: at_work(real))
    number = number_of(cluster)
    cluster.call("scancel", "--signal=USR2", number)
    cluster.wait(lambda: cluster.state(number) == "RUNNING 1", 90)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    logs = {path.name: path.read_text() for path in real.exp.glob(".jobs/FinetunePenn-*/*.out")}
    assert logs.keys() == {f"{number}_0_log.out", f"{number}_1_log.out"}
    assert all("FinetunePenn: done" in text and "interrupted" in text for text in logs.values())
    made = trained(real)
    real.run("rerun", "FinetunePenn", "--config", "profile.cfg", "--set", "workspace.processes=2")
    assert trained(real) == made


def test_a_job_that_is_cancelled(real, cluster):
    real.set(LONG.format(100000))
    process = real.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM)
    wait_for(lambda: at_work(real))
    number = number_of(cluster)
    cluster.call("scancel", number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 30 and f"Slurm job {number} ended without a result (CANCELLED). Its log is" in err


def test_an_interrupted_command_leaves_its_job_which_two_commands_find(real, cluster):
    real.set(LONG.format(600))
    process = real.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM)
    wait_for(lambda: at_work(real))
    number = number_of(cluster)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert f"goes on as Slurm job {number}; to end it: scancel {number}" in err
    both = [real.start("-m", "pipeline", "run", "FinetunePenn", *ON_SLURM) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0 and f"is Slurm job {number} already" in err, err
    assert (real.exp / "penn_action_cropped/jobs/best.safetensors").exists()
    assert len(list(real.exp.glob(".jobs/*/*_0_log.out"))) == 1
