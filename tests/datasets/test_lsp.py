"""Tests of reading joints.mat of LSP and LSPET: axes, meaning of a joint's third number, boxes, splits and damaged files."""

import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from datasets import lsp
from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats import annotations
from datasets.lsp import LSP, Lsp
from stages.preparing.annotate import annotate
from tests.drawn import peak_error, write_lsp

NAMES = [f"im{i:04d}.jpg" for i in range(1, 7)]


@pytest.fixture
def joints():
    """Return (6, 14, 3) float64: x and y in 1-based px, and a third number, by which LSP marks occluded joints.

    The third number is 1 for two joints of the first person, and 0 for all other joints.
    """
    values = np.random.default_rng(0).uniform(20, 80, (6, 14, 3)).round(3)
    values[..., 2] = 0
    values[0, [4, 11], 2] = 1
    return values


def write(folder, joints, order=(2, 1, 0)):
    savemat(folder / "joints.mat", {"joints": joints.transpose(order)})
    return folder / "joints.mat"


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)], ids=["3 x 14 x N", "14 x 3 x N"])
def test_either_order(tmp_path, joints, order):
    people = lsp.read_people(write(tmp_path, joints, order), NAMES, "occluded")
    assert np.array_equal(people.part, joints[..., :2] - 1)
    assert people.images == NAMES and people.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.argwhere(~people.visible).tolist() == [[0, 4], [0, 11]]


def test_a_single_image_has_no_third_dimension(tmp_path, joints):
    assert np.array_equal(lsp.read_people(write(tmp_path, joints[:1]), NAMES[:1], "occluded").part, joints[:1, :, :2] - 1)


def test_in_lspet_1_marks_labelled_joints(tmp_path, joints):
    joints[..., 2] = 1 - joints[..., 2]
    joints[0, 4, :2] = np.nan  # the coordinates of a joint without a label are meaningless
    people = lsp.read_people(write(tmp_path, joints), NAMES, "visible")
    labelled = ~np.isnan(people.part).any(axis=2)
    assert np.argwhere(~labelled).tolist() == [[0, 4], [0, 11]] and np.array_equal(people.visible, labelled)


def test_small_integer_types_are_read(tmp_path, joints):
    whole = joints.round().astype(np.uint8)
    whole[0, 0, :2] = 0  # (0, 0) means that the joint has no label
    whole[1, 0, 0] = 0  # a label one pixel outside the image
    people = lsp.read_people(write(tmp_path, whole), NAMES, "occluded")
    assert np.isnan(people.part[0, 0]).all() and not people.visible[0, 0]
    assert people.part[1, 0].tolist() == [-1, whole[1, 0, 1] - 1]


def test_boxes_and_torsos(tmp_path, joints):
    joints = np.concatenate([joints, joints])
    joints[..., 2] = 1
    joints[1] = (30, 40, 0)
    joints[1, [9, 2]] = (10, 100, 1), (40, 60, 1)  # the left shoulder and the right hip are 50 px apart
    joints[2] = (30, 40, 0)
    joints[2, [8, 3]] = (10, 40, 1), (10, 100, 1)  # the right shoulder and the left hip are 60 px apart
    joints[3] = (30, 40, 0)
    joints[3, [0, 1]] = (10, 40, 1), (50, 40, 1)  # no labelled shoulder and hip, so no torso
    joints[4] = (30, 40, 1)  # all joints are at one point: this person has no box and is left out
    joints[5] = (30, 40, 0)
    joints[5, 0] = (30, 40, 1)
    people = lsp.read_people(write(tmp_path, joints), [f"im{i}.jpg" for i in range(12)], "visible")
    assert people.index.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11] and people.images[4] == "im6.jpg"
    assert people.normalize[1:4].tolist() == [50, 60, -1]
    assert people.center[1:4].tolist() == [[24, 79], [9, 69], [29, 39]]
    assert np.allclose(people.scale[1:4] * 200, [1.25 * 40, 1.25 * 60, 1.25 * 40])


def test_splits(tmp_path):
    joints = np.random.default_rng(1).uniform(1, 99, (40, 14, 3))
    joints[..., 2] = 0
    people = lsp.read_people(write(tmp_path, joints), [f"im{i:04d}.jpg" for i in range(1, 41)], "occluded")
    splits = lsp.split(people, 40, 0.25, 3, test_half=True)
    assert splits["test"].index.tolist() == list(range(20, 40))
    assert len(splits["valid"]) == 5 and len(splits["train"]) == 15
    assert sorted([*splits["train"].index, *splits["valid"].index]) == list(range(20))
    again = lsp.split(people, 40, 0.25, 3, test_half=True)["valid"].index.tolist()
    assert splits["valid"].index.tolist() == again != lsp.split(people, 40, 0.25, 4, test_half=True)["valid"].index.tolist()
    extended = lsp.split(people, 40, 0.25, 3, test_half=False)
    assert [len(extended[split]) for split in ("train", "valid", "test")] == [30, 10, 0]


def test_wrong_files_are_refused(tmp_path, joints):
    cases = [
        (joints, NAMES[:5], "labels 6 images, but 5 exist"),
        (joints[:, :13], NAMES, r"shape \(3, 13, 6\), expected 3 x 14 x N or 14 x 3 x N"),
        (joints.astype(object), NAMES, "field .joints. .*a cell does not hold structs"),
        (np.where(joints == 1, 2, joints), NAMES, "neither 0 nor 1"),
        (np.where(joints == joints.max(), np.inf, joints), NAMES, "too large a number"),
        (np.where(joints == joints.max(), 1e300, joints), NAMES, "too large a number"),
        (1 - joints, NAMES, "marks most joints as occluded"),
    ]
    for values, names, words in cases:
        with pytest.raises(DataError, match=words):
            lsp.read_people(write(tmp_path, values), names, "occluded")
    (tmp_path / "joints.mat").write_bytes(b"no .mat")
    with pytest.raises(DataError, match=r"joints\.mat is not readable as MATLAB 5 data"):
        lsp.read_people(tmp_path / "joints.mat", NAMES, "occluded")
    with pytest.raises(DataError, match="is missing"):
        lsp.image_names(tmp_path / "nowhere")


def test_images_by_number(tmp_path):
    for name in ("im10000.png", "im00002.png", "im00030.jpg", "manifest.json", "joints.mat", "im00002.png.part"):
        (tmp_path / name).touch()
    assert lsp.image_names(tmp_path) == ["im00002.png", "im00030.jpg", "im10000.png"]


def test_files_and_samples_from_an_archive(tmp_path):
    part = write_lsp(tmp_path / "lsp.zip", 8)
    with zipfile.ZipFile(tmp_path / "lsp.zip") as archive:
        archive.extractall(tmp_path)
    summary = annotate(LSP, tmp_path, tmp_path / "annot", Lsp(valid_fraction=0.25, split_seed=0), workers=1)
    assert [summary[split]["rows"] for split in ("train", "valid", "test")] == [3, 1, 4]
    assert summary["test"]["joints_labelled"] == 4 * 14
    test = annotations.read(tmp_path / "annot", "test")
    assert test.images[0] == "im0005.jpg" and np.allclose(test.part, part[4:])
    errors = peak_error(DatasetFiles(LSP, tmp_path / "annot", tmp_path / "images"), "test")
    assert len(errors) > 48 and errors.max() <= 2.01
