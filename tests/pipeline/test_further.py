"""Datasets outside the chain from the command line: training, fine-tuning and scoring on FLIC, LSP and LSPET."""

import json
import shutil

import h5py
import numpy as np
import pytest

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.lsp import LSP
from datasets.mpii import MPII
from pipeline.cli.commands import find
from stages.settings.sections import Settings
from tests.drawn import write_flic, write_lsp

PROFILE = """
[lsp]
archive = lsp_dataset.zip
valid_fraction = 0.3
[flic]
images = FLIC.zip
annotations = flic_annot
sides = observer
"""


def test_lsp_trained_tuned_and_scored(place):
    write_lsp(place.folder / "lsp_dataset.zip", 20)
    place.set(PROFILE)
    chain = place.results()
    assert "there is no stage Evaluate." in place.run("run", "Evaluate", code=2)
    place.run("run", "Evaluate:lsp", "--config", "profile.cfg")
    made = place.results()
    assert {name: made[name] for name in chain} == chain
    assert {name.partition("@")[0] for name in made.keys() - chain.keys()} == {
        "lsp/raw", "lsp/annot", "lsp/hg-256", "lsp/hg-256-ft",
        "lsp/evaluate-pretrained", "lsp/evaluate-finetuned", "lsp/evaluate-scratch",
    }  # fmt: skip
    for model in ("pretrained", "finetuned", "scratch"):
        splits = json.loads((place.exp / f"lsp/evaluate-{model}/accuracy.json").read_text())["splits"]
        assert {split: facts["people"] for split, facts in splits.items()} == {"valid": 3, "test": 10}
        torso = splits["test"]["measures"]["PCK@0.2 of the torso"]
        assert set(torso["by_joint"]) >= {"neck", "head_top", "left_wrist"}
        assert len(torso["in_mean"]) == 14  # every network, also that of MPII, predicts all 14 joints of LSP
    status = place.run("status", "--config", "profile.cfg")
    assert "Finetune:lsp" in status and "Evaluate:lsp:scratch" in status and "lspet" not in status
    place.run("run", "Export:lsp:scratch", "--config", "profile.cfg")
    facts = json.loads((place.exp / "lsp/export-scratch/model.json").read_text())
    assert len(facts["joints"]) == 14 and len(facts["largest_difference_of_heatmaps"]) == 5
    card = (place.exp / "lsp/export-scratch/MODEL_CARD.md").read_text()
    assert "# lsp/hg-256: 14 joints" in card and "sam.johnson.io" in card and "mpi-inf" not in card
    made = place.results()
    (place.folder / "lsp_dataset.zip").unlink()
    place.run("clean", "--others", "--yes", "--config", "profile.cfg")
    assert "done in" not in place.run("run", "Evaluate:lsp", "--config", "profile.cfg")
    assert place.results() == made


def test_several_datasets_are_trained_on_together(place):
    write_lsp(place.folder / "lsp_dataset.zip", 20)
    before = place.results()
    options = ("--config", "profile.cfg", "--set", "pretrain.also=lsp", "--set", "pretrain.experiment=both")
    place.set(PROFILE)
    said = place.run("run", "EvaluateMpii:pretrained", *options)
    assert "Combine:mpii+lsp: done" in said and "PretrainMpii: done" in said
    made = place.results()
    assert {name: made[name] for name in before} == before and not [n for n in made.keys() - before.keys() if "crops" in n]
    combined = place.exp / "mpii/with-lsp"
    both = {split: annotations.read(combined, split) for split in ("train", "valid", "test")}
    mpii, lsp = (
        {s: annotations.read(place.exp / name / "annot", s) for s in ("train", "valid", "test")} for name in ("mpii", "lsp")
    )
    count = len(mpii["train"])
    assert len(both["train"]) == count + len(lsp["train"])
    for split in ("train", "valid", "test"):  # MPII's people come first, and the validation and test splits are MPII's
        rows = both[split] if split != "train" else both["train"].select(np.arange(count))
        np.testing.assert_array_equal(rows.part, mpii[split].part)
        assert rows.images == [f"mpii/{image}" for image in mpii[split].images]
    names = {"right_ankle": "right_ankle", "upper_neck": "neck", "head_top": "head_top", "left_wrist": "left_wrist"}
    found = both["train"].select(np.arange(count, len(both["train"])))
    for ours, theirs in names.items():
        one, other = MPII.skeleton.joints.index(ours), LSP.skeleton.joints.index(theirs)
        np.testing.assert_array_equal(found.part[:, one], lsp["train"].part[:, other])
        np.testing.assert_array_equal(found.visible[:, one], lsp["train"].visible[:, other])
    assert np.isnan(found.part[:, MPII.skeleton.joints.index("pelvis")]).all()
    np.testing.assert_array_equal(found.center, lsp["train"].center)
    assert all((combined / "images" / image).is_file() for image in both["train"].images)
    assert len(set(both["train"].index[:count]) & set(found.index)) == 0
    place.run("run", "PretrainMpii", *options, "--set", "pretrain.cache=true")
    assert "both" in place.run("why", "PretrainMpii", *options)
    assert "done in" not in place.run("run", "PretrainMpii", *options)  # the setting `cache` changes no result


@pytest.mark.parametrize(
    ("section", "also", "said"),
    [
        ("pretrain", "lps", "unknown dataset lps. Did you mean lsp?"), ("finetune", "lsp lsp", "a dataset is named twice"),
        ("forecast", "lsp", "forecasts are trained on Penn Action alone"),
    ],
)  # fmt: skip
def test_further_datasets_that_are_wrong_are_named(section, also, said):
    with pytest.raises(DataError, match=said):
        Settings.from_text({section: {"also": also}})


def test_stages_of_the_chain_have_a_name_by_dataset_too():
    for name, meant in (
        ("Fetch:penn_action", ["FetchPennAction"]), ("Annotate:mpii", ["AnnotateMpii"]), ("Pretrain:mpii", ["PretrainMpii"]),
        ("Finetune:penn_action", ["FinetunePenn"]), ("Export:penn_action:finetuned", ["ExportWeights"]),
        ("Evaluate:penn_action", ["EvaluatePenn:finetuned", "EvaluatePenn:pretrained"]),
        ("Export:penn_action:scratch", ["Export:penn_action:scratch"]), ("Evaluate:lsp:scratch", ["Evaluate:lsp:scratch"]),
    ):  # fmt: skip
        assert sorted(stage.name for stage in find(name)) == meant


def test_flic_from_a_folder_and_from_an_archive(empty):
    write_flic(empty.folder / "FLIC.zip", empty.folder / "flic_annot", 6, 4)
    empty.set(PROFILE)
    empty.run("run", "Annotate:flic", "--config", "profile.cfg")
    with h5py.File(empty.exp / "flic/annot/valid.h5") as ours, h5py.File(empty.folder / "flic_annot/valid.h5") as theirs:
        assert (abs(ours["part"][:] - theirs["part"][:]) < 1e-9).all() and ours.attrs["name"] == "flic"
    assert len(empty.results()) == 2
    shutil.rmtree(empty.folder / "flic_annot")
    assert "done" in empty.run("why", "Annotate:flic", "--config", "profile.cfg")
    write_flic(empty.folder / "FLIC.zip", empty.folder / "flic_annot", 6, 4)
    shutil.make_archive(str(empty.folder / "annot"), "gztar", empty.folder, "flic_annot")
    empty.set(PROFILE.replace("annotations = flic_annot", "annotations = annot.tar.gz"))
    empty.run("run", "Annotate:flic", "--config", "profile.cfg")
    contents = {content[:64] for name, content in empty.results().items() if name.startswith("flic/annot@")}
    assert len(empty.results()) == 4 and len(contents) == 1
    empty.set(PROFILE.replace("annotations = flic_annot", "annotations = nowhere"))
    assert "nowhere does not exist" in empty.run("run", "Annotate:flic", "--config", "profile.cfg", code=30)


def test_lsp_and_flic_from_unpacked_folders(empty):
    """Unpacked folders are read in place, and give the same annotation files as the archives."""
    write_flic(empty.folder / "FLIC.zip", empty.folder / "flic_annot", 6, 4)
    write_lsp(empty.folder / "lsp.zip", 12)
    for name in ("FLIC", "lsp"):
        shutil.unpack_archive(str(empty.folder / f"{name}.zip"), str(empty.folder / name))
    contents = []
    for flic, lsp in (("FLIC.zip", "lsp.zip"), ("FLIC", "lsp")):
        empty.set(f"[flic]\nimages = {flic}\nannotations = flic_annot\n[lsp]\narchive = {lsp}\n")
        for stage in ("Annotate:flic", "Annotate:lsp"):
            empty.run("run", stage, "--config", "profile.cfg")
        folders = [(empty.exp / name).resolve() for name in ("flic/annot", "lsp/annot")]
        contents.append([sorted((p.name, p.read_bytes()) for p in f.iterdir() if p.suffix in (".h5", ".txt")) for f in folders])
    assert contents[0] == contents[1] and all(contents[0])
    assert all((empty.exp / f"{name}/raw").resolve().joinpath("images").is_symlink() for name in ("flic", "lsp"))


def test_lspet_is_called_lspet(place):
    """LSPET has the joints of LSP, but files, tables and titles must call the dataset LSPET, not LSP."""
    write_lsp(place.folder / "lspet.zip", 12, extended=True)
    place.set("[lspet]\narchive = lspet.zip\nvalid_fraction = 0.5\n")
    place.run("run", "Evaluate:lspet:pretrained", "--config", "profile.cfg")
    evaluated = place.exp / "lspet/evaluate-pretrained"
    assert json.loads((evaluated / "accuracy.json").read_text())["dataset"] == "lspet"
    with h5py.File(place.exp / "lspet/annot/valid.h5") as file:
        assert file.attrs["name"] == "lspet"
    _, out, err = place.call("tools.compare_acc", "exp")
    assert "LSPET valid, PCK@0.2 of the torso" in out and "LSP valid" not in out, out + err
