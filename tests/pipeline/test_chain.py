"""The chain from end to end: which results it makes, and which stages run again when something changes."""

import csv
import hashlib
import json
import re
import shutil

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from stages.network.checkpoints import load_network
from tests.pipeline.conftest import made_again
from tests.ports import Princeton, port
from tests.python_path import ROOT

AFTER_FINETUNING = {
    "penn_action_cropped/hg-256-ft", "mpii/evaluate-finetuned", "penn_action_cropped/evaluate-finetuned", "export", "compare",
    "penn_action_cropped/hg-256-res-clstm", "penn_action_cropped/forecast-scores", "penn_action_cropped/forecast-comparison",
    "export-forecast",
}  # fmt: skip


def new_places(before, after):
    return {name.partition("@")[0] for name in after.keys() - before.keys()}


def test_the_run_ends_with_a_table_and_paths(finished_chain):
    output = (finished_chain / "output.txt").read_text()
    for words in ("MPII valid", "Penn Action valid", "Penn Action test", "before", "after", "exp/export", "predictions.png"):
        assert words in output
    for path in ("export/model.onnx", "export/model.safetensors", "export/model.json", "compare/predictions.png"):
        assert (finished_chain / "exp" / path).stat().st_size > 100


def test_exported_formats_agree(finished_chain):
    export = finished_chain / "exp/export"
    network, description = load_network(export / "model.safetensors")
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images))[-1].numpy()
    session = onnxruntime.InferenceSession(str(export / "model.onnx"))
    assert np.allclose(session.run(["heatmaps"], {"images": images})[0], expected, atol=1e-5)
    # The ONNX file must not contain the path of this source tree.
    assert str(ROOT).encode() not in (export / "model.onnx").read_bytes()
    facts = json.loads((export / "model.json").read_text())
    assert facts["joints"] == list(description.joints) and len(description.joints) == 13
    assert facts["output"]["shape"] == ["N", 13, 8, 8]


def test_contents_of_manifests(finished_chain):
    manifests = [p for p in finished_chain.glob("exp/**/manifest.json") if not p.parent.is_symlink()]
    assert len(manifests) == 19
    for path in manifests:
        facts = json.loads(path.read_text())
        assert path.parent.name.endswith("@" + facts["fingerprint"][:8])
        with open(path.parent / "files.csv") as file:
            rows = list(csv.DictReader(file))
        on_disk = {p.relative_to(path.parent).as_posix() for p in path.parent.rglob("*") if p.is_file()}
        assert {row["path"] for row in rows} == on_disk - {"manifest.json", "files.csv"}
        for row in rows[:3]:
            content = (path.parent / row["path"]).read_bytes()
            assert int(row["bytes"]) == len(content) and row["sha256"] == hashlib.sha256(content).hexdigest()
        assert facts["seconds"] >= 0 and facts["libraries"]["torch"]
        assert (path.parent.parent / path.parent.name.partition("@")[0]).resolve() == path.parent.resolve()


def test_a_second_run_does_nothing(place):
    before = place.results()
    assert "done in" not in place.run("run")
    assert place.results() == before


def test_a_changed_setting_reruns_downstream_stages_and_changing_it_back_none(place):
    before = place.results()
    place.set("[finetune]\nlearning_rate = 0.0001\n")
    assert "stale" in place.run("status", "--config", "profile.cfg")
    assert "learning_rate 0.002 -> 0.0001" in place.run("why", "FinetunePenn", "--config", "profile.cfg")
    assert "input penn_action_cropped/hg-256-ft changed" in place.run("why", "ExportWeights", "--config", "profile.cfg")
    place.run("run", "--config", "profile.cfg")
    after = place.results()
    assert new_places(before, after) == AFTER_FINETUNING
    assert before.items() <= after.items()
    link = (place.exp / "penn_action_cropped/hg-256-ft").resolve().name
    place.run("run")
    assert place.results() == after
    assert (place.exp / "penn_action_cropped/hg-256-ft").resolve().name != link


def test_insignificant_settings_rerun_nothing(place):
    before = place.results()
    place.set("[workspace]\nworkers = 2\ndevice = auto\ncheckpoint_seconds = 5\n")
    place.run("run", "--config", "profile.cfg")
    assert place.results() == before


def test_rerun_keeps_downstream_results_if_the_content_is_equal(place):
    before = place.results()
    assert "The content is the same" in place.run("rerun", "AnnotatePenn")
    after = place.results()
    changed = {name for name in before if before[name] != after[name]}
    assert {name.partition("@")[0] for name in changed} == {"penn_action_cropped/annot"}
    assert len(list((place.exp / ".trash").iterdir())) == 1
    place.run("clean", "--empty-trash", "--yes")
    assert not list((place.exp / ".trash").iterdir())
    assert place.results() == after


def test_a_dry_run_prints_the_stages_and_runs_none(place):
    before = place.results()
    assert "Nothing would be made" in place.run("run", "--dry-run")
    place.set("[finetune]\nlearning_rate = 0.0001\n")
    plan = place.run("run", "--dry-run", "--config", "profile.cfg")
    rows = {line.split()[0]: line.split()[1] for line in plan.splitlines() if line and line[0].isupper()}
    assert rows["FinetunePenn"] == rows["ExportWeights"] == "stale" and "PretrainMpii" not in rows
    assert "learning_rate 0.002 -> 0.0001" in plan and place.results() == before
    (place.exp / "mpii/annot").resolve().rename(place.folder / "away")  # an input of finished stages: `run` does not make it
    assert "Nothing would be made" in place.run("run", "CompareAccuracy", "--dry-run")
    (place.folder / "away").rename((place.exp / "mpii/annot").resolve())
    assert "took" in place.run("why", "FinetunePenn", "--config", "profile.cfg")
    assert re.match(r"pose-workspace \d", place.run("--version"))


def test_a_changed_content_of_the_last_stage_is_not_called_the_same(place):
    folder = (place.exp / "compare").resolve()
    (folder / "from_elsewhere.txt").write_text("")
    made_again(folder)
    assert "The content changed; no other result was made from it" in place.run("rerun", "CompareAccuracy")


def test_the_whole_chain_is_made_again_when_asked(place):
    """Stages that are inputs of other requested stages are made again, too."""
    before = place.results()
    assert "The content is the same" in place.run("rerun", "Pipeline")
    after = place.results()
    assert len(before) == 19 and before.keys() == after.keys()
    assert [name for name in before if before[name] == after[name]] == []
    assert [name for name in before if before[name][:64] != after[name][:64]] == []


def test_changed_content_reruns_downstream_stages(place):
    """If an input is made again with different content under an unchanged fingerprint, downstream stages run again."""
    annot = (place.exp / "mpii/annot").resolve()
    (annot / "another.txt").write_text("")
    made_again(annot)
    assert "mpii/annot was made again with other content" in place.run("why", "PretrainMpii")
    before = place.results()
    place.run("run", "PretrainMpii")
    after = place.results()
    assert {n.partition("@")[0] for n in before if before[n] != after[n]} == {"mpii/hg-256"}


def test_same_seed_same_bytes(finished_chain, empty):
    empty.run("run", "ExportWeights")
    theirs, ours = finished_chain / "exp/export", empty.exp / "export"
    names = {path.name for path in theirs.iterdir()} - {"manifest.json"}
    assert len(names) == 9
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


def test_a_changed_archive_reruns_downstream_stages(place):
    sample = (place.exp / "sample").resolve()
    shutil.copy(sample / "Penn_Action.tar.gz", place.folder / "Penn_Action.tar.gz")
    place.set("[penn_action]\narchive = Penn_Action.tar.gz\n")
    place.run("run", "--config", "profile.cfg")
    before = place.results()
    with open(place.folder / "Penn_Action.tar.gz", "ab") as file:
        file.write(b"\0" * 512)  # the archive keeps its members, but its digest changes
    assert "file Penn_Action.tar.gz changed" in place.run("why", "FetchPennAction", "--config", "profile.cfg")
    place.run("run", "CropPenn", "--config", "profile.cfg")
    assert new_places(before, place.results()) == {"penn_action/raw", "penn_action_cropped/data"}
    # The archive is deleted to free space; results that were made from this archive stay valid.
    (place.folder / "Penn_Action.tar.gz").unlink()
    assert "done" in place.run("why", "CropPenn", "--config", "profile.cfg")


def test_the_published_layout_to_evaluation_and_export_in_one_command(place):
    unpacked = place.folder / "models" / "penn_action_cropped" / "hg-256-ft"
    unpacked.mkdir(parents=True)
    shutil.copy(place.exp / "export/best_model.t7", unpacked)
    place.set("[models]\nmpii = regularization_2hg checkpoint.pth.tar\npenn_action = hg-256-ft models\n")
    before = place.results()
    place.run("run", "ExportWeights", "--models", "precomputed", "--config", "profile.cfg")
    made = new_places(before, place.results())
    assert made == {"penn_action_cropped/precomputed", "penn_action_cropped/evaluate-finetuned", "export"}
    assert "Others trained the network, hg-256-ft (https://drive" in (place.exp / "export/MODEL_CARD.md").read_text()
    trained = load_file(place.exp / "penn_action_cropped/hg-256-ft/best.safetensors")
    for name, tensor in load_file(place.exp / "penn_action_cropped/precomputed/best.safetensors").items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, trained[name]), name

    checkpoint = port(Princeton)
    torch.save({"state_dict": checkpoint.state_dict()}, place.folder / "checkpoint.pth.tar")
    place.run("run", "FetchPrecomputed:mpii", "--models", "precomputed", "--config", "profile.cfg")
    converted = load_file(place.exp / "mpii/precomputed/best.safetensors")
    theirs = checkpoint.pre["0"]["conv"].weight.detach()
    assert torch.allclose(converted["stem.conv.weight"][:, 2], theirs[:, 2] / 0.1472)
    assert torch.allclose(converted["mean"], torch.tensor([0.3643, 0.3437, 0.3156]))
    place.set("[models]\nmpii = checkpoint.pth.tar\npenn_action = hg-257\n")
    say = place.run("why", "FetchPrecomputed:mpii", "--models", "precomputed", "--config", "profile.cfg")
    assert "mean [0.3643, 0.3437, 0.3156] -> unset" in say
    say = place.run("run", "ExportWeights", "--models", "precomputed", "--config", "profile.cfg", code=30)
    assert "hg-257 does not exist" in say and "python -m pipeline models" in say
    assert "regularization_2hg" in place.run("models")


def test_precomputed_models_instead_of_training(place):
    best = (place.exp / "mpii/hg-256/best.safetensors").resolve()
    tuned = (place.exp / "penn_action_cropped/hg-256-ft/best.safetensors").resolve()
    shutil.copy(best, place.folder / "m.safetensors")
    shutil.copy(tuned, place.folder / "p.safetensors")
    place.set("[models]\nsource = precomputed\nmpii = m.safetensors\npenn_action = p.safetensors\nforecaster =\n")
    before = place.results()
    output = place.run("run", "--config", "profile.cfg")
    assert "mpii/precomputed" in output
    made = new_places(before, place.results())
    assert {"mpii/precomputed", "penn_action_cropped/precomputed"} < made and "mpii/hg-256" not in made
    place.set("[models]\nsource = precomputed\nmpii = p.safetensors\npenn_action = p.safetensors\nforecaster =\n")
    assert "predicts 13 joints" in place.run("run", "--config", "profile.cfg", code=30)
