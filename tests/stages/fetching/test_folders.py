"""Folders of unpacked datasets: finding the parts of a dataset in a folder, and the digest of the folder's contents."""

import os
import shutil

import pytest

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.progress import silent
from pipeline.engine.digests import Digests
from pipeline.tasks.fetch import digest_of_folder
from stages.fetching.folders import count, find

IMAGES, ANNOTATIONS = DATASETS["mpii"].sources["images"], DATASETS["mpii"].sources["annotations"]
PENN, LSP = DATASETS["penn_action"].sources["archive"], DATASETS["lsp"].sources["archive"]
FLIC = DATASETS["flic"].sources["annotations"]


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("given", ["images", ".", "..", "../.."])
def test_images_are_found_in_the_folder_or_above_it(tmp_path, given):
    put(tmp_path, "x/mpii/images/1.jpg", "x/mpii/preview.jpg", "x/mpii/images/._1.jpg", "__MACOSX/1.jpg", "x/.trash/1.jpg")
    found = find((tmp_path / "x/mpii" / given), IMAGES)
    assert found.parts["images"].resolve() == tmp_path / "x/mpii/images" and count(found, IMAGES) == 1


def test_a_folder_of_images_may_have_any_name(tmp_path):
    put(tmp_path, "mpii_jpegs/1.jpg", "mpii_jpegs/2.jpg", "mpii_jpegs/list.txt")
    assert count(find(tmp_path, IMAGES), IMAGES) == 2


def test_penn_action_and_lsp_are_found(tmp_path):
    put(
        tmp_path, "Penn_Action 2/frames/0001/000001.jpg", "Penn_Action 2/frames/0001/Thumbs.db", "Penn_Action 2/labels/0001.mat"
    )
    found = find(tmp_path, PENN)
    assert {name: path.name for name, path in found.parts.items()} == {"frames": "frames", "labels": "labels"}
    assert count(found, PENN) == 2
    put(tmp_path / "lsp", "images/im0001.jpg", "joints.mat", "visualized/im0001.jpg")
    found = find(tmp_path / "lsp", LSP)
    assert found.parts["images"].name == "images" and [path.name for path in found.copied] == ["joints.mat"]


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (
            ["readme.txt", "labels/0001.mat"],
            IMAGES,
            r"has no images/\*\.jpg; it has labels/, readme\.txt. Give the right",
        ),
        (
            [f"{i}.jpg" for i in range(9)],
            PENN,
            "has no frames/.*; it has 0.jpg, 1.jpg, .* and 3 more. Give the right",
        ),
        ([], PENN, "it has nothing. Give the right folder"),
        (["a/1.jpg", "b/1.jpg"], IMAGES, r"has images/\*\.jpg in several folders, such as .*; give one"),
        (["im0001.jpg"], LSP, r"has no joints\.mat and im\*\.jpg; it has im0001\.jpg"),
        (["train.jpg"], FLIC, "has no train.h5, .*; it has train.jpg"),
    ],
)
def test_the_error_for_another_folder_lists_its_contents(tmp_path, names, wanted, said):
    with pytest.raises(DataError, match=said):
        find(put(tmp_path, *names), wanted)


def identity(folder, wanted=PENN, contents=False):
    return digest_of_folder(folder, wanted, contents, Digests(folder.parent / ".digests.json", silent, "put it back"))


@pytest.mark.parametrize("contents", [False, True])
def test_a_changed_folder_is_noticed(tmp_path, contents):
    folder = put(tmp_path / "penn", *(f"frames/0001/00000{i}.jpg" for i in range(1, 5)), "labels/0001.mat", "labels/0002.mat")
    known = {identity(folder, contents=contents)}
    put(folder, "notes.txt", "frames/0001/.DS_Store")
    assert identity(folder, contents=contents) in known  # files that no dataset needs do not change the digest
    frame = folder / "frames/0001/000002.jpg"
    for change in (
        lambda: frame.write_text("other"),
        lambda: frame.rename(frame.with_name("000009.jpg")),
        lambda: (folder / "labels/0002.mat").unlink(),
        lambda: put(folder, "frames/0002/000001.jpg"),
    ):
        change()
        now = identity(folder, contents=contents)
        assert now not in known
        known.add(now)


def test_times_count_only_without_content_digests(tmp_path):
    folder = put(tmp_path / "penn", "frames/0001/000001.jpg", "labels/0001.mat")
    times, contents = identity(folder), identity(folder, contents=True)
    shutil.copytree(folder, tmp_path / "moved")
    assert identity(tmp_path / "moved") == times and identity(tmp_path / "moved", contents=True) == contents
    os.utime(folder / "labels/0001.mat", (1, 1))
    assert identity(folder) != times and identity(folder, contents=True) == contents


def test_a_missing_folder_keeps_its_digest(tmp_path):
    """Results made from a folder stay valid if it is deleted; only a stage that must read the folder reports an error."""
    folder = put(tmp_path / "penn", "frames/0001/000001.jpg", "labels/0001.mat")
    known = identity(folder)
    shutil.rmtree(folder)
    assert identity(folder) == known
    with pytest.raises(DataError, match="never_there does not exist; put it back"):
        identity(tmp_path / "never_there")
