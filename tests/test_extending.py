"""The example dataset of docs/extending.md: it is added to a copy of the workspace, as the page describes, and used."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.pipeline.conftest import Place, finished_chain, place

__all__ = ["finished_chain", "place"]  # fixtures
ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
JOINTS = {"right_shoulder": (12, 10), "left_shoulder": (28, 10), "right_hip": (14, 40), "left_hip": (26, 40)}


@pytest.fixture
def extended(place: Place) -> Place:
    """Return a finished chain to whose folder gym.zip and a copy of the code are added.

    The copy of the code also has the module and the catalog entry of docs/extending.md.
    """
    code = place.folder / "code"
    for package in ("datasets", "stages", "pipeline", "tools"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = re.search(r"```dataset\n(.*?)```", PAGE, flags=re.S)
    assert module
    (code / "datasets/gym.py").write_text(module[1])
    catalog = code / "datasets/catalog.py"
    text = catalog.read_text()
    listed = text.replace("from datasets.lsp", "from datasets.gym import GYM\nfrom datasets.lsp").replace(
        "LSPET)}", "LSPET, GYM)}"
    )
    assert listed.count("GYM") == 2
    catalog.write_text(listed)
    place.code = code
    with zipfile.ZipFile(place.folder / "gym.zip", "w") as archive:
        rows = ["image,split,joint,x,y"]
        for number, split in enumerate(["train"] * 8 + ["valid"] * 2):
            picture = np.random.default_rng(number).integers(0, 255, (60, 50, 3), np.uint8)
            archive.writestr(f"gym/photos/{number}.jpg", cv2.imencode(".jpg", picture)[1].tobytes())
            rows += [f"{number}.jpg,{split},{joint},{x},{y + number}" for joint, (x, y) in JOINTS.items()]
        archive.writestr("gym/labels.csv", "\n".join(rows) + "\n")
    return place


def test_the_dataset_of_the_manual_has_all_that_the_others_have(extended: Place):
    extended.run("run", "Evaluate:gym:finetuned")
    extended.run("run", "Evaluate:gym:pretrained")
    found = json.loads((extended.exp / "gym/evaluate-finetuned/accuracy.json").read_text())
    assert (found["dataset"], found["title"]) == ("gym", "Gym") and found["splits"]["valid"]["people"] == 2
    measure = found["splits"]["valid"]["measures"]["PCK@0.2 of the box"]
    assert set(measure["by_joint"]) == set(found["joints"]) >= set(JOINTS)
    assert "example.org/gym" in (extended.exp / "gym/raw/CITATION.txt").read_text()
    status = extended.run("status")
    assert "Annotate:gym" in status and "Finetune:gym" in status
    assert "[gym]\n# Source of gym.zip" in extended.run("settings")
    assert "Gym valid, PCK@0.2 of the box" in show(extended, "tools.compare_acc", "exp/gym/evaluate-finetuned")
    assert "right_knee" in show(extended, "tools.inspect_dataset", "gym")


def test_a_wrong_row_of_its_table_is_named(extended: Place):
    with zipfile.ZipFile(extended.folder / "gym.zip") as archive:
        archive.extractall(extended.folder / "unpacked")
    table = extended.folder / "unpacked/gym/labels.csv"
    table.write_text(table.read_text() + "0.jpg,train,nose,3,4\n")
    extended.set("[gym]\narchive = unpacked\n")
    said = extended.run("run", "Annotate:gym", "--config", "profile.cfg", code=30)
    assert "labels.csv, line 42 has no legal split, joint, x and y: ['0.jpg', 'train', 'nose', '3', '4']" in said


def show(extended: Place, *arguments: str) -> str:
    _, out, err = extended.call(*arguments)
    assert "Traceback" not in err, err
    return out
