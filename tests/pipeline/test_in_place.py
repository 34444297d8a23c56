"""Unpacked datasets are read where they are; between two runs they are changed, moved or deleted."""

import json
import os
import shutil
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

PENN = "[penn_action]\narchive = penn\n"


@pytest.fixture
def unpacked(empty, finished_chain):
    """A folder with the two unpacked datasets of the sample, and without results."""
    sample = (finished_chain / "exp/sample").resolve()
    for name, place in (("Penn_Action.tar.gz", "unpacked"), ("mpii_human_pose_v1.tar.gz", "mpii")):
        with tarfile.open(sample / name) as tar:
            tar.extractall(empty.folder / place, filter="data")
    with zipfile.ZipFile(sample / "mpii_human_pose_v1_u12_2.zip") as file:
        (member,) = (name for name in file.namelist() if name.endswith(".mat"))
        (empty.folder / "annotations.mat").write_bytes(file.read(member))
    (empty.folder / "unpacked/Penn_Action").rename(empty.folder / "penn")
    empty.set(PENN)
    return empty


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".h5", ".txt")
    }


def test_an_unpacked_penn_action_is_read_where_it_is(unpacked, finished_chain):
    unpacked.run("run", "AnnotatePenn", "--config", "profile.cfg")
    raw, annot = unpacked.exp / "penn_action/raw", "exp/penn_action_cropped/annot"
    assert os.readlink(raw / "frames") == str(unpacked.folder / "penn/frames")
    assert not [path for path in raw.resolve().rglob("*") if path.suffix in (".jpg", ".mat")]
    assert files((unpacked.folder / annot).resolve()) == files((finished_chain / annot).resolve())
    before = unpacked.results()

    shutil.move(unpacked.folder / "penn", unpacked.folder / "elsewhere")
    unpacked.set("[penn_action]\narchive = elsewhere\n")
    unpacked.run("run", "AnnotatePenn", "--config", "profile.cfg")
    assert unpacked.results() == before and os.readlink(raw / "frames") == str(unpacked.folder / "elsewhere/frames")

    frame = next((unpacked.folder / "elsewhere/frames").glob("*/000001.jpg"))
    frame.write_bytes(frame.read_bytes() + b"\0")
    said = unpacked.run("why", "FetchPennAction", "--config", "profile.cfg")
    assert "FetchPennAction is stale: folder elsewhere changed" in said
    assert "damaged" not in unpacked.run("status", "--config", "profile.cfg")
    unpacked.run("run", "AnnotatePenn", "--config", "profile.cfg")
    assert len(unpacked.results()) == 2 * len(before)

    shutil.rmtree(unpacked.folder / "elsewhere")
    assert "AnnotatePenn is done" in unpacked.run("why", "AnnotatePenn", "--config", "profile.cfg")
    said = unpacked.run("rerun", "CropPenn", "--config", "profile.cfg", code=30)
    assert "elsewhere, whose files FetchPennAction reads in place, is not there; open https://upenn" in said


@pytest.mark.parametrize("annotations", ["annotations.mat", "published"])
def test_mpii_from_a_folder_of_images_and_loose_annotations(unpacked, finished_chain, annotations):
    annot = "exp/mpii/annot"
    shutil.copytree((finished_chain / annot).resolve(), unpacked.folder / "published")
    unpacked.set(f"[mpii]\nimages = mpii/images\nannotations = {annotations}\n")
    unpacked.run("run", "AnnotateMpii", "--config", "profile.cfg")
    assert files((unpacked.folder / annot).resolve()) == files((finished_chain / annot).resolve())
    assert not list((unpacked.exp / "mpii/raw").resolve().rglob("*.jpg"))


def test_mpii_from_a_json_file(unpacked, finished_chain):
    """A JSON file with the people of the .mat file gives equal annotations, except for head sizes; a message reports this."""
    annot = (finished_chain / "exp/mpii/annot").resolve()
    entries = []
    for split in ("train", "valid"):
        names = (annot / f"{split}_images.txt").read_text().split()
        with h5py.File(annot / f"{split}.h5") as file:
            for i, name in enumerate(names):
                scale, (x, y) = file["scale"][i] / 1.25, file["center"][i]
                joints = [[*point, visible] for point, visible in zip(file["part"][i], file["visible"][i], strict=True)]
                numbers = {"annolist_index": file["index"][i] + 1, "people_index": file["person"][i] + 1}
                box = {"objpos": [x, y - 15 * scale], "scale_provided": scale}
                entries.append(
                    {"img_paths": name, "isValidation": float(split == "valid"), "joint_self": joints} | numbers | box
                )
    (unpacked.folder / "any_name.json").write_text(json.dumps(entries))
    unpacked.set("[mpii]\nimages = mpii\nannotations = any_name.json\n")
    assert "has no head boxes" in unpacked.run("run", "AnnotateMpii", "--config", "profile.cfg")
    found = (unpacked.exp / "mpii/annot").resolve()
    for split in ("train", "valid"):
        with h5py.File(annot / f"{split}.h5") as wanted, h5py.File(found / f"{split}.h5") as file:
            for field in set(file) - {"imgname", "normalize"}:
                np.testing.assert_allclose(file[field][:], wanted[field][:], atol=1e-9, err_msg=field)
            assert (file["normalize"][:] == -1).all() and len(file["part"]) > 0
        assert (annot / f"{split}_images.txt").read_text() == (found / f"{split}_images.txt").read_text()
    unpacked.set("[mpii]\nimages = mpii\nannotations = any_name.json\nsplit_file = any_name.json\n")
    said = unpacked.run("run", "AnnotateMpii", "--config", "profile.cfg", code=30)
    assert "other annotation files bring their own split: leave split_file empty" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            "[mpii]\nimages = penn/labels\nannotations = annotations.mat\n",
            "penn/labels has no images/*.jpg; it has 0001.mat",
        ),
        (
            "[mpii]\nimages = mpii/images\nannotations = published\n",
            "published is a text file; expected an archive with mpii_human",
        ),
        ("[mpii]\nimages = mpii\nannotations = penn/labels/0001.mat\n", "has no field 'RELEASE'; it has action, "),
        (
            "[mpii]\nimages = annotations.mat\nannotations = annotations.mat\n",
            "annotations.mat is a MATLAB file; expected an archive with",
        ),
        ("[mpii]\nimages = mpii\nannotations = annotations.mat\nsplit_file = nowhere.txt\n", "nowhere.txt does not exist"),
    ],
)
def test_the_error_for_a_wrong_source_names_its_kind(unpacked, settings, said):
    (unpacked.folder / "published").write_text("on the server")
    unpacked.set(settings)
    output = unpacked.run("run", "AnnotateMpii", "--config", "profile.cfg", code=30)
    assert said in output and "damaged" not in output


def test_the_error_for_missing_images_names_the_folder(unpacked):
    next((unpacked.folder / "penn/frames").glob("*/000002.jpg")).unlink()
    said = unpacked.run("run", "CropPenn", "--config", "profile.cfg", code=30)
    assert "/000002.jpg is missing; " in said and "was made from penn.)" in said
    next((unpacked.folder / "mpii/images").iterdir()).unlink()
    unpacked.set("[mpii]\nimages = mpii\nannotations = annotations.mat\n")
    said = unpacked.run("run", "AnnotateMpii", "--config", "profile.cfg", code=30)
    assert " lacks 1 of the " in said and "give the whole dataset, and the annotations of its images. (raw@" in said
    assert "was made from mpii and annotations.mat.)" in said


def test_a_home_folder_is_named_by_a_tilde(unpacked, monkeypatch):
    monkeypatch.setenv("HOME", str(unpacked.folder))
    unpacked.set("[penn_action]\narchive = ~/penn\n[workspace]\nexp = ~/results\nfolder_identity = content\n")
    unpacked.run("run", "FetchPennAction", "--config", "profile.cfg")
    assert os.readlink(unpacked.folder / "results/penn_action/raw/frames") == str(unpacked.folder / "penn/frames")
