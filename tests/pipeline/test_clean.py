"""The command `clean` lists results, asks for confirmation and moves the listed results to the trash, but nothing else."""

import json
import os
import pty
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock

from tests.python_path import python_path

OTHER = "f" * 56  # the last 56 of the 64 digits of an invented fingerprint


def leftover(place, like, digits, unfinished, **settings):
    """Copy the result `like` so that it looks like a finished or unfinished result of other settings; return the new folder."""
    whole = (place.exp / like).resolve()
    folder = whole.with_name(f"{like.rpartition('/')[2]}@{digits}" + ".partial" * unfinished)
    shutil.copytree(whole, folder)
    facts = json.loads((folder / "manifest.json").read_text())
    facts["fingerprint"] = digits + OTHER
    facts["identity"]["settings"] |= settings
    if unfinished:
        (folder / "manifest.json").unlink()
        kept = {name: facts[name] for name in ("fingerprint", "input_contents", "identity")}
        (folder / "partial.json").write_text(json.dumps(kept | {"seconds": 7500.0}))
    else:
        (folder / "manifest.json").write_text(json.dumps(facts | {"content": digits}))
    return folder


@pytest.fixture
def littered(place):
    """The finished chain, and three results of earlier settings: interrupted training, interrupted crops, finished export."""
    place.training = leftover(place, "penn_action_cropped/hg-256-ft", "11111111", True, learning_rate=0.5)
    place.crops = leftover(place, "penn_action_cropped/data", "22222222", True, jpeg_quality=12)
    place.export = leftover(place, "export", "33333333", False)
    return place


def left(place):
    return [folder.exists() for folder in (place.training, place.crops, place.export)]


def test_only_the_requested_results_are_moved_after_confirmation(littered):
    place, before = littered, littered.results()
    said = place.run("clean", "--others", "--interrupted", code=2)
    assert "Add --yes" in said and left(place) == [True, True, True]
    row = next(line for line in said.splitlines() if "hg-256-ft@11111111.partial" in line)
    assert "2 h of work" in row and "learning_rate 0.5 -> 0.002" in row and "FinetunePenn" in row
    assert "iteration 8 of 8" in row  # 2 epochs of 4 iterations: the tiny training was complete
    assert "jpeg_quality 12 -> 95" in said and "export@33333333" in said

    said = place.run("clean", "--yes")
    assert left(place) == [True, False, True]
    assert "--interrupted moves them, too" in said and "--others moves them, too" in said
    place.run("clean", "--interrupted", "--yes")
    assert left(place) == [False, False, True]
    place.run("clean", "--others", "--yes")
    assert left(place) == [False, False, False]
    assert before.items() - place.results().items() == {("export@33333333", before["export@33333333"])}

    trashed = {path.name for path in (place.exp / ".trash").glob("*/*")}
    assert trashed == {"hg-256-ft@11111111.partial", "data@22222222.partial", "export@33333333"}
    assert "Add --yes" in place.run("clean", "--empty-trash", code=2)
    assert len(list((place.exp / ".trash").iterdir())) == 3
    place.run("clean", "--empty-trash", "--yes")
    assert not list((place.exp / ".trash").iterdir())
    assert "nothing to remove" in place.run("clean")


@pytest.mark.parametrize("answer", ["n", "y"])
def test_the_user_is_asked_for_confirmation(littered, answer):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "clean"], cwd=littered.folder, stdin=theirs, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": python_path()},
    )  # fmt: skip
    os.write(ours, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "[y/N]" in out
    assert left(littered) == [True, answer == "n", True]
    os.close(ours)
    os.close(theirs)


def test_another_exp_below_is_never_entered(littered):
    """`clean` skips a folder inside exp/ that is itself the exp/ of another chain, such as exp/demo, even if this folder is at
    the path of a dataset's results, such as exp/mpii.
    """
    place = littered
    for inner in (place.exp / "demo", place.exp / "mpii"):
        for name in ("raw", "hg-256"):
            shutil.copytree((place.exp / "mpii" / name).resolve(), inner / f"mpii/{name}@44444444")
    other = leftover(place, "mpii/annot", "55555555", False)
    before = place.results()
    said = place.run("clean", "--others", "--interrupted", "--yes")
    assert "exp/mpii: it is another folder of results" in said and other.exists()
    assert before.keys() - place.results().keys() == {"export@33333333"}
    shutil.rmtree(place.exp / "mpii/mpii")
    place.run("clean", "--others", "--yes")
    assert not other.exists() and (place.exp / "demo/mpii/hg-256@44444444").exists()


def test_without_the_archives_results_that_may_be_current_are_kept(littered):
    place = littered
    archive = place.folder / "Penn_Action.tar.gz"
    shutil.copy(place.exp / "sample" / archive.name, archive)
    place.set(f"[penn_action]\narchive = {archive.name}\n")
    drawn = place.results()
    place.run("run", "CropPenn", "--config", "profile.cfg")
    mine = place.results().keys() - drawn.keys()
    assert {name.partition("@")[0] for name in mine} == {"penn_action/raw", "penn_action_cropped/data"}
    archive.unlink()
    (place.exp / ".digests.json").unlink()
    assert "unknown" in place.run("status", "--config", "profile.cfg")
    said = place.run("clean", "--others", "--interrupted", "--yes", "--config", "profile.cfg")
    assert left(place) == [False, False, False] and "learning_rate 0.5 -> 0.002" in said
    assert mine < place.results().keys()
    assert {name.partition("@")[0] for name in drawn.keys() - place.results().keys()} == {
        "penn_action/raw", "penn_action_cropped/data", "penn_action_cropped/annot", "penn_action_cropped/hg-256-ft",
        "penn_action_cropped/evaluate-pretrained", "penn_action_cropped/evaluate-finetuned", "mpii/evaluate-finetuned",
        "compare", "export", "penn_action_cropped/pose-only", "penn_action_cropped/hg-256-res-clstm",
        "penn_action_cropped/forecast-scores", "penn_action_cropped/forecast-comparison", "export-forecast",
    }  # fmt: skip


def test_results_in_use_are_kept(littered):
    place = littered
    partial = json.loads((place.training / "partial.json").read_text())
    partial["input_contents"]["model"] = "33333333"  # as if the training were reading the export 33333333
    (place.training / "partial.json").write_text(json.dumps(partial))
    with FileLock(place.exp / ".locks/11111111.lock"):
        said = place.run("clean", "--others", "--interrupted", "--yes")
    assert left(place) == [True, False, True]
    assert "another process is working on it" in said and "another process is reading it" in said


def test_several_clean_commands_at_a_time(littered):
    place = littered
    for number in range(40):
        folder = shutil.copytree(place.crops, place.crops.with_name(f"data@{number:08x}.partial"))
        facts = json.loads((folder / "partial.json").read_text()) | {"fingerprint": f"{number:08x}" + OTHER}
        (folder / "partial.json").write_text(json.dumps(facts))
    arguments = ("-m", "pipeline", "clean", "--others", "--interrupted", "--empty-trash", "--yes")
    processes = [place.start(*arguments) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in err, out + err
    place.run(*arguments[2:])
    assert left(place) == [False, False, False] and not list((place.exp / ".trash").iterdir())


def test_symlinks_to_moved_results_are_removed(littered):
    """The symlink to a trashed experiment is removed; the symlink to a trashed export then points at the current export."""
    place = littered
    whole = leftover(place, "penn_action_cropped/hg-256-ft", "66666666", False, learning_rate=0.25)
    other = whole.rename(whole.with_name("other@66666666"))
    link, export = place.exp / "penn_action_cropped/other", place.exp / "export"
    ours = os.readlink(export)
    export.unlink()
    for path, target in ((link, other), (export, place.export)):
        path.symlink_to(target.name)
    place.run("clean", "--others", "--yes")
    assert not other.exists() and not link.is_symlink()
    assert os.readlink(export) == ours and export.exists()
