"""kill -9, Ctrl-C and two commands at a time: finished results are kept, and unfinished results are never used."""

import shutil
import signal
import time

import pytest
from filelock import FileLock


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"the condition was not true within {seconds} s")


LONG = "[finetune]\nexperiment = {}\niterations = 100\nepochs = 1\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_resumes_to_the_same_result(place, number):
    place.set(LONG.format("killed"))
    process = place.start("-m", "pipeline", "run", "FinetunePenn", "--config", "profile.cfg")
    wait_for(lambda: list(place.exp.glob("penn_action_cropped/killed@*.partial/last.safetensors")))
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert not [p for p in place.exp.glob("penn_action_cropped/killed@*") if not p.name.endswith(".partial")]
    assert "interrupted" in place.run("status", "--config", "profile.cfg")
    if number == signal.SIGINT:
        assert "carries on" in err and "Traceback" not in err
    contents = []
    for command in ("run", "rerun"):
        place.run(command, "FinetunePenn", "--config", "profile.cfg")
        names = ("best.safetensors", "last.safetensors", "train.log", "valid.log")
        contents.append({name: (place.exp / "penn_action_cropped/killed" / name).read_bytes() for name in names})
    assert contents[0] == contents[1]


def test_kill_at_any_moment_then_the_same_command(empty, finished_chain):
    """The chain is killed several times and started again; its exported network equals that of an undisturbed run."""
    finished: set[str] = set()
    for pause in (0.6, 2.5, 4, 5.5, 7.5):
        process = empty.start("-m", "pipeline", "run", "ExportWeights")
        time.sleep(pause)
        process.kill()
        process.communicate()
        now = empty.results()
        assert finished <= now.items(), "a finished result was lost or redone"
        finished = set(now.items())
    empty.run("run", "ExportWeights")
    assert finished <= empty.results().items()
    model = "export/model.safetensors"
    assert (empty.exp / model).read_bytes() == (finished_chain / "exp" / model).read_bytes()


def test_two_commands_at_once(place):
    place.set("[finetune]\nexperiment = two\niterations = 60\n")
    one, two = (place.start("-m", "pipeline", "run", "FinetunePenn", "--config", "profile.cfg") for _ in range(2))
    said = [process.communicate(timeout=300) for process in (one, two)]
    assert one.returncode == two.returncode == 0
    assert sum("done in" in err for _, err in said) == 1
    assert sum("is being made by another process" in err for _, err in said) == 1


def test_unfinished_results_of_other_inputs_are_not_continued(place):
    annot = (place.exp / "penn_action_cropped/annot").resolve()
    partial = annot.with_name(annot.name + ".partial")
    partial.mkdir()
    (partial / "left-over").touch()
    (partial / "partial.json").write_text('{"fingerprint": "of something else", "input_contents": {}}')
    place.run("rerun", "AnnotatePenn")
    assert (place.exp / "penn_action_cropped/annot/valid.h5").exists()
    assert not (place.exp / "penn_action_cropped/annot/left-over").exists()


def test_a_killed_training_from_the_cache_resumes(place):
    place.set("[pretrain]\nexperiment = cached\niterations = 100\nepochs = 1\ncache = true\n")
    before = place.results()
    process = place.start("-m", "pipeline", "run", "PretrainMpii", "--config", "profile.cfg")
    wait_for(lambda: list(place.exp.glob("mpii/cached@*.partial/last.safetensors")))
    process.kill()
    process.communicate()
    crops = place.results().keys() - before.keys()
    assert [name.partition("@")[0] for name in crops] == ["mpii/crops"]
    made = place.results()
    place.run("run", "PretrainMpii", "--config", "profile.cfg")
    assert made.items() <= place.results().items()
    assert (place.exp / "mpii/cached/best.safetensors").exists()
    (path,) = (place.exp / "mpii/crops").glob("*.rgb")
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path.name} has" in place.run("status", "--config", "profile.cfg")
    place.set("[pretrain]\nseed = 9\ncache = true\n")
    assert "CacheCrops:mpii: done" in place.run("run", "PretrainMpii", "--config", "profile.cfg")


def test_a_branch_whose_origin_is_made_again_meanwhile_is_kept(place):
    origin = place.folder / "origin"
    shutil.copytree(place.exp / "penn_action_cropped/hg-256-ft", origin)
    place.set("[finetune]\nexperiment = branch\nepochs = 3\niterations = 100\nbranch_from = origin\n")
    process = place.start("-m", "pipeline", "run", "FinetunePenn", "--config", "profile.cfg")
    wait_for(lambda: list(place.exp.glob("penn_action_cropped/branch@*.partial/last.safetensors")))
    shutil.copy(place.exp / "mpii/hg-256/last.safetensors", origin / "other")
    (origin / "other").replace(origin / "last.safetensors")  # a training, too, replaces its checkpoint in one step
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (place.exp / "penn_action_cropped/branch/train.log").read_text().count("\n") == 4


def test_a_branch_from_a_changing_checkpoint_is_refused(place):
    origin = (place.exp / "penn_action_cropped/hg-256-ft").resolve()
    place.set("[finetune]\nepochs = 3\nbranch_from = exp/penn_action_cropped/hg-256-ft\n")
    said = place.run("run", "FinetunePenn", "--config", "profile.cfg", code=30)
    assert "hg-256-ft is the result of this training itself; give the branch another experiment name" in said
    place.set("[finetune]\nexperiment = branch\nepochs = 3\nbranch_from = exp/penn_action_cropped/hg-256-ft\n")
    with FileLock(place.exp / ".locks" / f"{origin.name.rpartition('@')[2]}.lock"):
        said = place.run("run", "FinetunePenn", "--config", "profile.cfg", code=30)
    assert "belongs to a training that is still running" in said
    assert "unknown" not in place.run("status", "--config", "profile.cfg")
