"""Comparisons of networks, run from the command line on the finished tiny chain."""

import json
import shutil
import sys
from dataclasses import fields

import h5py
import numpy as np
import pandas as pd
import pytest
from luigi.configuration import LuigiConfigParser
from luigi.task_register import Register

from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.progress import silent
from pipeline import config
from pipeline.engine import manifest
from pipeline.engine.identity import Identity
from tests.pipeline.conftest import Place
from tests.python_path import ROOT
from tools import compare_acc, decoders


@pytest.fixture
def tool(place, monkeypatch, capsys):
    """A function that runs a tool in the folder of the chain and returns its output: tool(compare_acc, *arguments)."""

    def settings_of(folder):
        """Make Luigi read the luigi.cfg of this folder, and forget the settings that it read in another folder."""
        monkeypatch.chdir(folder)
        LuigiConfigParser.reload()
        config.settings.cache_clear()
        Register.clear_instance_cache()

    def run(module, *arguments, code=0):
        settings_of(place.folder)
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        assert module.main() == code
        return "".join(capsys.readouterr())

    yield run
    settings_of(ROOT)


def test_a_symlink_to_a_result_of_other_settings_is_not_used(place, tool):
    folder = place.exp / "mpii/evaluate-finetuned"
    ours = folder.resolve()
    other = shutil.copytree(ours, ours.with_name("evaluate-finetuned@00000000"))
    facts = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(facts | {"fingerprint": "0" * 64}))
    figures = json.loads((other / "accuracy.json").read_text())
    figures["splits"]["valid"]["people"] = 77777
    (other / "accuracy.json").write_text(json.dumps(figures))
    folder.unlink()
    folder.symlink_to(other.name)
    assert "77777" not in tool(compare_acc, "exp/mpii/evaluate-finetuned")
    assert "77777" in tool(compare_acc, "exp/mpii/evaluate-finetuned@00000000")
    shutil.rmtree(ours)
    said = tool(compare_acc, "exp/mpii/evaluate-finetuned", code=1)
    assert "points at evaluate-finetuned@00000000, of other settings" in said and "run EvaluateMpii:finetuned" in said


def test_all_evaluations_are_compared(place, tool):
    stored = place.exp / "mpii/evaluate-stored@00000000"  # the evaluation of stored predictions names no network
    stored.mkdir()
    facts = json.loads((place.exp / "mpii/evaluate-finetuned/manifest.json").read_text())
    facts["identity"]["inputs"].pop("model")
    (stored / "manifest.json").write_text(json.dumps(facts))
    text = tool(compare_acc, "--out", "compared")
    for title in ("MPII valid, PCKh@0.5", "Penn Action test, PCK@0.05", "Penn Action valid, PCK@0.2 of the torso"):
        assert title in text
    assert "hg-256-ft " in text and "published" not in text and "verdict" in text
    made = {path.name for path in (place.folder / "compared").iterdir()}
    assert {"parts.csv", "parts.md", "joints.csv", "tests.csv", "pck_mpii.pdf", "curves_mpii.png"} <= made
    assert made >= {path.name for path in (place.exp / "compare").iterdir() if path.name.startswith(("parts", "tests", "pck"))}


def test_the_folder_of_an_experiment_selects_its_evaluations(place, tool):
    text = tool(compare_acc, "exp/mpii/hg-256")
    assert "MPII valid" in text and "Penn Action test" in text and "hg-256-ft " not in text
    assert "verdict" not in text  # there is no second network with which hg-256 could be compared
    link = place.exp / "mpii/hg-256"
    result = link.resolve()
    link.unlink()
    result.rename(link)  # a folder in place of the symlink, as in a copy by a program that follows symlinks
    assert tool(compare_acc, "exp/mpii/hg-256") == text
    one = tool(compare_acc, "exp/mpii/evaluate-finetuned")
    assert "hg-256-ft " in one and "Penn" not in one


def test_a_folder_without_evaluations_is_refused(place, tool):
    assert "holds no evaluation of a network" in tool(compare_acc, "configs", code=1)
    (place.exp / "mpii/evaluate-pretrained/manifest.json").write_text("{}")
    assert "evaluate again" in tool(compare_acc, code=1)


def test_a_folder_that_cannot_be_written_is_named(place, tool):
    (place.folder / "taken").write_text("a file")
    assert "error: taken cannot be written" in tool(compare_acc, "exp/mpii/evaluate-finetuned", "--out", "taken", code=1)


def test_networks_get_the_shortest_unique_names(tmp_path):
    folders = [tmp_path / name for name in ("mpii/hg@11111111", "penn/hg-ft@22222222")]
    assert list(compare_acc.short_names(folders).values()) == ["hg", "hg-ft"]
    folders.append(tmp_path / "penn/hg@33333333")
    assert list(compare_acc.short_names(folders).values()) == ["mpii/hg", "penn/hg-ft", "penn/hg"]
    folders.append(tmp_path / "penn/hg@44444444")
    assert list(compare_acc.short_names(folders).values())[2:] == ["penn/hg@33333333", "penn/hg@44444444"]


def test_evaluations_of_one_network_get_different_names(tmp_path):
    # The last two evaluations have equal settings, so only their fingerprints distinguish them.
    for digits, flip in (("aaaaaaaa", True), ("bbbbbbbb", False), ("cccccccc", False)):
        folder = tmp_path / f"mpii/evaluate-pretrained@{digits}"
        folder.mkdir(parents=True)
        inputs, settings = {"model": "12345678" + "0" * 56}, {"flip": flip, "decoder": "subpixel"}
        identity = Identity(stage="E", version=1, settings=settings, inputs=inputs, external_inputs={})
        begun = manifest.Begun(fingerprint=digits + "0" * 56, input_contents={}, identity=identity)
        manifest.write(folder, begun, {}, 1.0, silent)
    evaluations = compare_acc.evaluations_of(tmp_path)
    networks = compare_acc.short_names([compare_acc.network_of(evaluations[0])])
    names = compare_acc.evaluation_names(evaluations, networks)
    expected = ["flip True", "flip False, evaluate-pretrained@bbbbbbbb", "flip False, evaluate-pretrained@cccccccc"]
    assert list(names.values()) == [f"network, {text}" for text in expected]


def test_decoders_are_compared_on_the_chain_s_own_network(tool):
    network = ("exp/mpii/hg-256/best.safetensors", "exp/mpii/annot", "exp/mpii/raw/images")
    text = tool(decoders, *network)
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith(("subpixel", "quarter", "argmax"))]
    assert rows == [[d, flip] for flip in ("no", "yes", "yes") for d in ("argmax", "quarter", "subpixel")]
    assert "no labels" in tool(decoders, *network, "--split", "test", code=1)
    assert "does not exist" in tool(decoders, "nothing.safetensors", "exp/mpii/annot", "exp/mpii/raw/images", code=1)


@pytest.fixture(scope="module")
def with_more(finished_chain, tmp_path_factory):
    """The chain with a network trained from scratch, predictions for MPII's test people, and evaluation at two image scales."""
    place = Place(shutil.copytree(finished_chain, tmp_path_factory.mktemp("more") / "place", symlinks=True))
    place.set("[compare]\nscratch = true\n[evaluate]\nmpii_test = true\ntest_scales = 1 0.9\n")
    place.run("run", "--config", "profile.cfg")
    return place


def test_from_scratch_is_compared_when_asked(with_more):
    table = (with_more.exp / "compare/accuracy.csv").read_text().splitlines()
    assert table[0] == "split,people,measure,joints,before,after,scratch"
    assert table[1].endswith(",") and not table[-1].endswith(",")  # the network from scratch is scored only on Penn Action
    assert "penn_action_cropped/hg-256 " in (with_more.exp / "compare/tests.txt").read_text()
    assert (with_more.exp / "penn_action_cropped/evaluate-scratch/preds_test.h5").exists()


def test_mpii_s_test_people_are_predicted_when_asked(with_more):
    folder = with_more.exp / "mpii/evaluate-pretrained"
    assert (folder / "pred_keypoints_mpii.mat").exists() and (folder / "preds_test.h5").exists()
    splits = json.loads((folder / "accuracy.json").read_text())["splits"]
    assert splits["test"]["acc"] is None and splits["test"]["measures"]["PCKh@0.5"]["value"] is None
    assert "MPII test" not in (with_more.exp / "compare/parts.txt").read_text()


def test_stored_predictions_are_compared_on_the_same_people(place):
    """Our network's predictions, shuffled and mixed with those for other people, must get the accuracy of our evaluation."""
    rows = annotations.read(place.exp / "mpii/annot", "valid")
    with h5py.File(place.exp / "mpii/evaluate-pretrained/preds_valid.h5") as file:
        preds = file["preds"][()]
    train = annotations.read(place.exp / "mpii/annot", "train")
    order = np.random.default_rng(0).permutation(len(rows) + len(train))
    names = [field.name for field in fields(Annotations) if field.name != "images"]
    both = {name: np.concatenate([getattr(rows, name), getattr(train, name)])[order] for name in names}
    (place.folder / "published").mkdir()
    images = [(rows.images + train.images)[i] for i in order]
    annotations.write(place.folder / "published", "valid", Annotations(images=images, **both))
    stored = np.concatenate([preds, np.full((len(train), 16, 2), 7.0)])[order]
    np.save(place.folder / "ours.npy", stored)
    off = stored + 500
    off[order % 2 == 0, 9] = np.nan  # half of the people have no prediction for the top of the head
    np.save(place.folder / "off.npy", off)
    place.set("[compare]\npredictions = ours=ours.npy off=off.npy\norder = published/valid.h5\n")
    place.run("run", "CompareAccuracy", "--config", "profile.cfg")
    parts = pd.read_csv(place.exp / "compare/parts.csv")
    pckh = parts[(parts["split"] == "MPII valid") & (parts["measure"] == "PCKh@0.5")].set_index("network")
    for column in ("people", "head", "ankle", "overall", "low", "high", "auc"):
        assert pckh.loc["ours (stored)", column] == pytest.approx(pckh.loc["mpii/hg-256", column], nan_ok=True)
    assert pckh.loc["off (stored)", "overall"] == 0 and "ours (stored)" not in set(
        parts[parts["measure"] == "training metric"]["network"]
    )
    tests = pd.read_csv(place.exp / "compare/tests.csv")
    against = tests[tests["than"] == "ours (stored)"].iloc[0]
    assert against["network"] == "mpii/hg-256" and against["difference"] == 0 and against["p"] == 1
    assert tests[tests["than"] == "off (stored)"]["p"].notna().tolist() == [True]
    for text, said in (("ours.npy", "it should be NAME=FILE"), ("a=ours.npy", "predictions need `order`")):
        place.set(f"[compare]\npredictions = {text}\n")
        assert said in place.run("status", "--config", "profile.cfg", code=2)
    place.set("[compare]\npredictions = ours=nowhere.npy\norder = published/valid.h5\n")
    assert "nowhere.npy does not exist" in place.run("status", "--config", "profile.cfg")
