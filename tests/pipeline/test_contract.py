"""The stage contract after damage: damaged manifests, files that change while a stage runs, and deleted inputs."""

import json
import shutil
import signal
import time

import pytest


def test_damaged_manifests_are_ignored(place):
    before = place.results()
    manifest = (place.exp / "mpii/annot").resolve() / "manifest.json"
    whole = manifest.read_text()
    for damage in ("", "[1]", "{}", whole[: len(whole) // 2]):
        manifest.write_text(damage)
        assert "AnnotateMpii" in place.run("status")
    place.run("run", "AnnotateMpii")
    assert place.results().keys() == before.keys()
    (place.exp / ".digests.json").write_text('{"half')
    place.run("status")


def test_an_archive_replaced_during_a_run_is_noticed(place):
    """The digest of an archive is computed when the run begins; a change before the archive is unpacked must stop the run."""
    sample = (place.exp / "sample").resolve()
    archive = place.folder / "Penn_Action.tar.gz"
    shutil.copy(sample / archive.name, archive)
    place.set("[penn_action]\narchive = Penn_Action.tar.gz\n[pretrain]\niterations = 150\n")
    process = place.start("-m", "pipeline", "run", "FinetunePenn", "--config", "profile.cfg")
    time.sleep(0.2)
    while not list(place.exp.glob("mpii/hg-256@*.partial/last.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    early = list(place.exp.glob("penn_action/raw@*"))
    archive.write_bytes(archive.read_bytes() + bytes(512))
    out, err = process.communicate(timeout=300)
    if len(early) > 1:  # the archive was unpacked before it was changed
        pytest.skip("the archive was read before it could be replaced")
    assert process.returncode == 30 and "was changed while the stage was at work" in err, out + err
    assert list(place.exp.glob("penn_action/raw@*")) == early


def test_a_deleted_input_is_made_again_with_other_content(place):
    """A result that becomes stale during a run must not stop the run.

    Luigi plans the run when the run starts, from the stages that are done then.
    """
    model = (place.exp / "mpii/hg-256").resolve()
    dependent = (place.exp / "penn_action_cropped/hg-256-ft").resolve()
    facts = json.loads((dependent / "manifest.json").read_text())
    facts["input_contents"]["model"] = "what the deleted network had"
    (dependent / "manifest.json").write_text(json.dumps(facts))
    shutil.rmtree(model)
    shutil.rmtree((place.exp / "compare").resolve())
    assert "FinetunePenn is done" in place.run("why", "FinetunePenn")
    place.run("run")
    assert "is done" in place.run("why", "FinetunePenn")
    assert json.loads((dependent / "manifest.json").read_text())["input_contents"]["model"] != "what the deleted network had"


def test_clean_keeps_unfinished_results_in_use(place):
    place.set("[finetune]\nexperiment = long\niterations = 30\n")
    process = place.start("-m", "pipeline", "run", "FinetunePenn", "--config", "profile.cfg")
    while not list(place.exp.glob("penn_action_cropped/long@*.partial/last.safetensors")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)  # so that the training is unfinished during the next two commands
    assert "another process is working on it" in place.run("clean", "--interrupted", "--others", "--yes")
    assert "FinetunePenn is running" in place.run("why", "FinetunePenn", "--config", "profile.cfg")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=300)
    assert process.returncode == 0


def test_a_folder_in_the_way_of_a_link_is_named(place):
    link = place.exp / "mpii/annot"
    target = link.resolve()
    link.unlink()
    link.mkdir()
    assert "mpii/annot should be a symlink" in place.run("run", "AnnotateMpii", code=30)
    assert target.exists()


@pytest.mark.parametrize("exp", ["luigi.cfg", "/proc/exp"])
def test_an_exp_that_cannot_be_a_folder(place, exp):
    place.set(f"[workspace]\nexp = {exp}\n")
    assert f"exp = {exp} cannot be used as the folder" in place.run("run", "MakeSample", "--config", "profile.cfg", code=30)


def test_the_remedy_names_the_profiles(empty):
    empty.set("[finetune]\nseed = 4\n")
    output = empty.run("run", "AnnotatePenn", "--only", "--config", "profile.cfg", code=2)
    assert "python -m pipeline run CropPenn --config profile.cfg" in output


def test_an_experiment_with_the_name_of_another_result_is_refused(place):
    for name in ("annot", "export-pretrained", "evaluate-x", "Data"):
        place.set(f"[pretrain]\nexperiment = {name}\n")
        said = place.run("status", "--config", "profile.cfg", code=2)
        assert f"experiment = {name}: the result of another stage has this name" in said
        assert "evaluate-..., evaluate-stored, export-..., forecast-comparison" in said
    place.set("[finetune]\nexperiment = HG-256\n")
    assert "choose different names" in place.run("status", "--config", "profile.cfg", code=2)
    place.set("[models]\nsource = precomputed\nmpii =\n")
    assert "source = precomputed needs" in place.run("status", "--config", "profile.cfg", code=2)


def test_work_on_a_replaced_archive_is_not_continued(place):
    """If an archive is replaced while its stage runs, and is then put back, the next run starts from the beginning."""
    shutil.copy((place.exp / "sample").resolve() / "Penn_Action.tar.gz", place.folder / "given.tar.gz")
    place.set("[penn_action]\narchive = given.tar.gz\n")
    code = (
        "import sys, pipeline.tasks.fetch as f\n"
        "def unpack(archive, pattern, folder, report, expected):\n"
        "    (folder / 'of-the-other-file').touch()\n"
        "    archive.write_bytes(b'another')\n"
        "f.unpack = unpack\n"
        "from pipeline.__main__ import main\n"
        "sys.exit(main(['run', 'FetchPennAction', '--config', 'profile.cfg']))\n"
    )
    process = place.start("-c", code)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 30 and "was changed while the stage was at work" in err, err
    assert not list(place.exp.glob("penn_action/*.partial"))


def test_the_names_of_all_results_are_reserved():
    from datasets.catalog import DATASETS
    from pipeline.tasks.compare import Pipeline, others
    from pipeline.tasks.train import CacheCrops, TrainingStage, reserved_names

    stages = [*Pipeline().stages(), *others(), *(CacheCrops(names=name) for name in DATASETS)]
    below = [
        stage.result_path.split("/")[1] for stage in stages if "/" in stage.result_path and not isinstance(stage, TrainingStage)
    ]
    assert len(below) > 40
    for name in below:
        assert name in reserved_names() or name.startswith(tuple(n for n in reserved_names() if n.endswith("-"))), name
