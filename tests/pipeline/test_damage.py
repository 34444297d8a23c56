"""Finished results with changed files or damaged manifests are reported, and made again unless they are trainings."""

import json
import os
from types import SimpleNamespace

import pytest

from datasets.progress import silent
from pipeline.engine import manifest
from pipeline.engine.digests import Digests


def test_a_missing_or_emptied_file_is_seen_and_made_again(place):
    made = place.results()
    (place.exp / "export/model.onnx").unlink()
    (place.exp / "mpii/annot/valid.h5").write_bytes(b"")
    (place.exp / "compare/accuracy.txt").unlink()
    told = place.run("status")
    assert "model.onnx is missing" in told and "accuracy.txt is missing" in told
    assert "valid.h5 has 0 bytes instead of" in " ".join(told.split())
    place.run("run")
    # Each new result has the content of the deleted or damaged one.
    assert [s for s, old in made.items() if place.results()[s][:64] != old[:64]] == []
    assert "damaged" not in place.run("status") and "whole" in place.run("verify")


def test_a_file_with_a_changed_bit_is_not_used(place):
    path = (place.exp / "mpii/annot/train.h5").resolve()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    place.run("status")
    assert "train.h5 has changed since" in place.run("verify", "AnnotateMpii", code=1)
    told = place.run("verify", "AnnotateMpii", "--set", "mpii.images=nowhere.tar", code=1)
    assert "AnnotateMpii: not checked, because it is unknown which result is current" in told
    place.set("[pretrain]\nseed = 9\n")
    told = place.run("run", "PretrainMpii", "--config", "profile.cfg", code=30)
    assert f"{path.parent.relative_to(place.folder)} was finished, but train.h5 has changed since" in told
    assert "rerun AnnotateMpii" in told and path.read_bytes() == data
    place.run("rerun", "AnnotateMpii")
    place.run("run", "PretrainMpii", "--config", "profile.cfg")


def test_a_damaged_training_is_not_made_again_unasked(place):
    best = place.exp / "mpii/hg-256/best.safetensors"
    folder, data = best.parent.resolve(), best.read_bytes()
    best.write_bytes(data[:-1])
    told = place.run("run", code=20)
    assert "Put the file back from a copy" in told and "rerun PretrainMpii" in told
    assert (folder / "best.safetensors").read_bytes() == data[:-1]
    (folder / "best.safetensors").write_bytes(data)
    before = place.results()
    place.run("run")
    assert place.results() == before


def test_a_result_whose_process_was_killed_before_it_was_published(place):
    """The process is killed after it wrote the manifest, just before or during the renaming of the folder."""
    before = place.results()
    for stage, place_name, left in (("AnnotateMpii", "mpii/annot", True), ("PretrainMpii", "mpii/hg-256", False)):
        folder = (place.exp / place_name).resolve()
        facts = json.loads((folder / "manifest.json").read_text())
        partial = folder.rename(folder.with_name(folder.name + ".partial"))
        if left:
            begun = {name: facts[name] for name in ("fingerprint", "input_contents")}
            (partial / "partial.json").write_text(json.dumps(begun | {"seconds": 1.0}))
        assert "done in" not in place.run("run", stage)
        assert not list(place.exp.glob("**/partial.json"))
    assert place.results() == before


def test_an_unpublished_result_that_a_power_cut_damaged_is_made_again(place):
    folder = (place.exp / "mpii/annot").resolve()
    content = place.results()[folder.relative_to(place.exp.resolve()).as_posix()][:64]
    partial = folder.rename(folder.with_name(folder.name + ".partial"))
    (partial / "train.h5").write_bytes(b"")
    assert "AnnotateMpii: done" in place.run("run", "AnnotateMpii")
    assert place.results()[folder.relative_to(place.exp.resolve()).as_posix()][:64] == content


def test_a_training_with_unknown_inputs_is_moved_to_the_trash(place):
    folder = (place.exp / "mpii/hg-256").resolve()
    partial = folder.rename(folder.with_name(folder.name + ".partial"))
    last = (partial / "last.safetensors").read_bytes()
    (partial / "manifest.json").write_text("")
    (partial / "partial.json").write_text("")
    assert "was started from unknown or changed inputs; it is now in exp/.trash/" in place.run("run", "PretrainMpii")
    (kept,) = place.exp.glob(".trash/*/*/last.safetensors")
    assert kept.read_bytes() == last == (folder / "last.safetensors").read_bytes()


@pytest.fixture
def result(tmp_path):
    """A result folder with a valid manifest."""
    identity = {"stage": "S", "version": 1, "settings": {}, "inputs": {}, "external_inputs": {}}
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "=cmd.txt").write_text("b")
    begun = manifest.Begun(fingerprint="f" * 64, identity=identity, input_contents={})
    manifest.write(tmp_path, begun, {}, 1.0, silent)
    return tmp_path


WRONG = {
    "fingerprint": 7, "identity": {"stage": "S"}, "input_contents": {"x": 1}, "content": None, "files": [1],
    "finished": "2026-01-01T00:00:00", "seconds": "soon",
}  # fmt: skip


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_manifest_with_a_wrong_type_is_ignored(result, name, missing):
    facts = json.loads((result / "manifest.json").read_text())
    del facts[name]
    (result / "manifest.json").write_text(json.dumps(facts if missing else facts | {name: WRONG[name]}))
    assert manifest.read(result) is None


def test_names_that_spreadsheets_would_take_for_formulas_are_text(result):
    assert "\n'=cmd.txt," in (result / "files.csv").read_text()
    manifest.check_contents(result, manifest.read(result).content, silent, every=True)


def test_a_check_of_sizes_is_reused_for_a_minute(result, monkeypatch):
    content, now, looks = manifest.read(result).content, [1000.0], []
    monkeypatch.setattr(manifest, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(manifest, "check_sizes", lambda *given: looks.append(given))
    for seconds in (0, 59, 2, 1):  # the checks are called at 0, 59, 61 and 62 seconds
        now[0] += seconds
        assert manifest.quick_damage(result, content) == ""
    assert len(looks) == 2
    made = manifest.read(result)
    begun = manifest.Begun(fingerprint=made.fingerprint, identity=made.identity, input_contents={})
    manifest.write(result, begun, {}, 1.0, silent)  # the result is made again, so its manifest is a new file
    manifest.quick_damage(result, content)
    assert len(looks) == 3


def test_the_digests_of_a_copy_are_checked_once(result, monkeypatch):
    content, taken = manifest.read(result).content, []
    whole = manifest.sha256
    monkeypatch.setattr(manifest, "sha256", lambda path: taken.append(path.name) or whole(path))
    manifest.check_contents(result, content, silent)
    assert taken == []
    (result / "a.txt").write_text("a")  # the file is written again with the same content
    for _ in range(2):
        manifest.check_contents(result, content, silent)
    assert taken == ["a.txt"]
    (result / "a.txt").write_text("b")
    os.utime(result / "a.txt", ns=(0, 0))  # set back the mtime, as copying does; only the ctime cannot be set
    with pytest.raises(manifest.Damaged, match=r"a\.txt has changed since"):
        manifest.check_contents(result, content, silent)
    (result / "files.csv").write_text("path,bytes,sha256\n")
    with pytest.raises(manifest.Damaged, match=r"files\.csv does not match"):
        manifest.check_sizes(result, content)


@pytest.mark.parametrize(
    "memory", ["null", '{"a": null}', '{"FILE": {"size": null, "mtime_ns": 1, "sha256": 2}}', "[", "\udcff"]
)
def test_a_damaged_cache_of_digests_is_made_again(tmp_path, memory):
    path = tmp_path / "archive"
    path.write_bytes(b"abc")
    (tmp_path / "m.json").write_bytes(memory.replace("FILE", str(path)).encode("utf-8", "surrogateescape"))
    found = Digests(tmp_path / "m.json", silent, "").of_file(path)
    assert found == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # the digest of `abc` in FIPS 180-2
