"""Datasets of your own from the command line: the example of docs/own_data.md, DeepLabCut, SLEAP, and wrong sources."""

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.own import SUFFIXES, OwnDataset, own_dataset
from stages.fetching import folders
from stages.preparing.annotate import annotate
from stages.preparing.collect import Sources, collect
from tests import fish
from tests.pipeline.conftest import Place, empty, finished_chain, place

__all__ = ["empty", "finished_chain", "place"]  # fixtures
STANDARD = ["nose", "left_fin", "right_fin", "back", "tail"]
PAGE = (Path(__file__).resolve().parents[2] / "docs/own_data.md").read_text()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, flags=re.S)
    assert found
    return found[1]


def test_one_section_and_two_commands_as_the_page_says(empty: Place):
    fish.write_coco(empty.folder / "fish", 20)
    (empty.folder / "fish.cfg").write_text(block("own") + "[recipe:modern]\nwarmup = 0\n")
    small = ("--set", "pretrain.epochs=1", "--set", "pretrain.iterations=4", "--set", "pretrain.batch=4")
    for line in block("own-commands").splitlines():
        empty.run(*line.removeprefix("python -m pipeline ").split(), *small)
    folder = empty.exp / "own/fish"
    found = json.loads((folder / "evaluate-scratch/accuracy.json").read_text())
    assert (found["dataset"], found["joints"]) == ("fish", STANDARD)
    assert set(found["splits"]["valid"]["measures"]) == {"PCK@0.2 of the box"}
    model = json.loads((folder / "export-scratch/model.json").read_text())
    assert model["joints"] == found["joints"] and model["flip_pairs"] == [[1, 2]]
    card = (folder / "export-scratch/MODEL_CARD.md").read_text()
    assert "- fish, fish/labels.json. Owners: not stated." in card and "built-in sample" not in card
    page = (empty.exp / "report/index.html").read_text()
    assert "fish valid: PCK@0.2 of the box" in page and "curves_fish.svg" in page
    assert os.readlink(next(folder.glob("raw@*")) / "images") == str(empty.folder / "fish/images")
    people = annotations.read(folder / "annot", "valid")
    number = int(people.images[0].removesuffix(".png"))
    np.testing.assert_allclose(people.part[0], fish.fish(number)[0])
    # If a setting of the accuracy measure changes, only the evaluation runs again.
    options = ("--config", "fish.cfg", *small, "--set", "dataset:fish.reference=px", "--set", "dataset:fish.threshold=9")
    plan = empty.run("run", "Evaluate:fish:scratch", "--dry-run", *options)
    assert "Evaluate:fish:scratch" in plan and "Pretrain:fish" not in plan and "Annotate:fish" not in plan


def test_fine_tuning_from_the_mpii_network_and_the_tools(place: Place):
    fish.write_coco(place.folder / "fish", 10)
    place.set("[dataset:fish]\nlabels = fish/labels.json\nimages = fish/images\ntitle = Drawn fish\nrename = Nose: head_top\n")
    profile = ("--config", "profile.cfg")
    place.run("run", "Evaluate:fish:finetuned", *profile)
    place.run("run", "Evaluate:fish:pretrained", *profile)  # scored on the only joint that MPII and the labels have in common
    found = json.loads((place.exp / "own/fish/evaluate-pretrained/accuracy.json").read_text())
    assert list(found["splits"]["valid"]["measures"]["PCK@0.2 of the box"]["by_joint"]) == ["head_top"]
    for words, said in (
        (("tools.compare_acc", "exp/own/fish/evaluate-finetuned"), "Drawn fish valid, PCK@0.2 of the box"),
        (("tools.inspect_dataset", "fish"), "left_fin"),
        (("tools.export_labels", "fish", "--predictions", "finetuned"), "the predictions of Evaluate:fish:finetuned"),
        (("tools.export_labels", "fish"), "2 images"),
    ):
        code, out, err = place.call(*words, *profile)
        assert code == 0 and said in out, out + err
    written = json.loads((place.folder / "labels/fish-valid.json").read_text())
    assert written["categories"][0]["keypoints"][:2] == ["head_top", "left_fin"]
    code, _, err = place.call("tools.inspect_dataset", "fisch", *profile)
    assert "unknown dataset fisch. Did you mean fish?" in err and code == 1


def test_a_deeplabcut_project_and_a_sleap_file_are_read(empty: Place):
    pytest.importorskip("sleap_io")
    fish.write_deeplabcut(empty.folder / "dlc", 8)
    fish.write_sleap(empty.folder / "slp", 8)
    fish.write_sleap(empty.folder / "pkg", 8, inside=True)
    os.remove(empty.folder / "pkg/swim.mp4")
    (empty.folder / "elsewhere").mkdir()
    shutil.move(empty.folder / "slp/swim.mp4", empty.folder / "elsewhere/swim.mp4")
    empty.set(
        "[dataset:dlc]\nlabels = dlc\nsplit_by = folder\nvalid = 0.5\n"
        "[dataset:slp]\nlabels = slp/swim.slp\nimages = elsewhere\nvalid = 0.25\n"
        "[dataset:pkg]\nlabels = pkg/swim.pkg.slp\nvalid = 0.25\n"
    )
    for name in ("dlc", "slp", "pkg"):
        empty.run("run", f"Annotate:{name}", "--config", "profile.cfg")
    assert os.readlink(next((empty.exp / "own/dlc").glob("raw@*")) / "images") == str(empty.folder / "dlc")
    skeleton = json.loads((empty.exp / "own/dlc/annot/skeleton.json").read_text())
    names = skeleton["joints"]  # in the order in which sleap-io sorts the joints
    assert [{names[a], names[b]} for a, b in skeleton["limbs"]] == [{"nose", "back"}, {"back", "tail"}]
    for split, people in (("train", 4), ("valid", 4)):
        rows = annotations.read(empty.exp / "own/dlc/annot", split)
        assert len({image.split("/")[1] for image in rows.images}) == 1 and len(rows) == people
        for image, joints in zip(rows.images, rows.part, strict=True):
            drawn = fish.fish(int(Path(image).stem.removeprefix("img")))[0]
            np.testing.assert_allclose(joints, drawn[[STANDARD.index(name) for name in names]], atol=1e-3)
    for name in ("slp", "pkg"):
        images = empty.exp / f"own/{name}/raw/images"
        rows = annotations.read(empty.exp / f"own/{name}/annot", "train")
        assert len(rows) == sum(len(fish.fish(int(Path(image).stem))) for image in set(rows.images))
        for image, person, joints in zip(rows.images, rows.person, rows.part, strict=True):
            number = int(Path(image).stem)
            np.testing.assert_allclose(joints, fish.fish(number)[person], atol=1e-3)
            shown = cv2.imread(str(images / image))[:, :, ::-1]
            # Pixels of a different frame would differ by more than 15.
            assert np.abs(shown.astype(int) - fish.picture(number)).mean() < 8, image


def test_wrong_sources_are_named(empty: Place):
    for section, said in (
        ("labels = nowhere.json\nimages = fish/images", "nowhere.json does not exist; put it there, or correct its path"),
        ("labels = fish/broken.json\nimages = fish/images", "or is cut off (Expecting value"),
        ("labels = fish/labels.json\nimages = fish/images\nreference = torso", "needs the joints left_shoulder and right_hip"),
    ):
        fish.write_coco(empty.folder / "fish", 6)
        (empty.folder / "fish/broken.json").write_text('{"images": [')
        empty.set(f"[dataset:fish]\n{section}\n")
        answer = empty.run("run", "Annotate:fish", "--config", "profile.cfg", code=30)
        assert said in answer, answer


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": ""}, r"\[dataset:fish\] labels is empty; give the file of labels"),
        ({"labels": "mice/config.yaml"}, r"mice/config\.yaml is the file of a DeepLabCut project; give the folder"),
        ({"images": ""}, r"\[dataset:fish\] images is empty; give the folder of the images"),
        ({"images": "fish/labels.json"}, "this is a file; give the folder of the images"),
        ({"images": "fish"}, "lacks 6 of the 6 images that are annotated, such as 000.png"),
        ({"labels": "fish/labels.slp"}, "labels.slp cannot be read as labels"),
        ({"labels": "fish/images"}, "cannot be read as labels"),
        ({"valid": "fish/valid.txt"}, "the list in `valid`, line 1: no labelled image is, or lies in, nobody.png"),
    ],
)
def test_wrong_labels_and_images_are_named(tmp_path, monkeypatch, settings, said):
    pytest.importorskip("sleap_io")
    monkeypatch.chdir(tmp_path)
    fish.write_coco(tmp_path / "fish", 6)
    (tmp_path / "fish/labels.slp").write_text("no labels")
    (tmp_path / "fish/valid.txt").write_text("nobody.png\n")
    (tmp_path / "raw").mkdir()
    section = OwnDataset(**{"labels": "fish/labels.json", "images": "fish/images"} | settings)
    with pytest.raises(DataError, match=said):
        collect(Sources.of(section, "[dataset:fish]"), tmp_path / "raw")
        annotate(own_dataset("fish", section), tmp_path / "raw", tmp_path / "annot", section, workers=1)


def labelled_videos(folder: Path, videos: dict[str, range], name: str) -> None:
    """Write a SLEAP file with labels of video frames. videos: path -> frame numbers; frame n has the labels `fish.fish(n)`."""
    sleap_io = pytest.importorskip("sleap_io")
    skeleton, frames = sleap_io.Skeleton(list(fish.JOINTS), symmetries=[("FinL", "FinR")]), []
    for path, numbers in videos.items():
        video = sleap_io.Video(filename=path)
        for number in numbers:
            people = [sleap_io.Instance.from_numpy(joints, skeleton=skeleton) for joints in fish.fish(number)]
            frames.append(sleap_io.LabeledFrame(video=video, frame_idx=number, instances=people))
    sleap_io.Labels(frames).save(str(folder / name), verbose=False)


def test_videos_of_one_name_are_kept_apart(empty: Place):
    for day in ("day1", "day2"):
        fish.write_sleap(empty.folder / "videos" / day, 6)
    labelled_videos(empty.folder, {"/x/day1/swim.mp4": range(3), "/x/day2/swim.mp4": range(3, 6)}, "both.slp")
    empty.set("[dataset:fish]\nlabels = both.slp\nimages = videos\nvalid = 0.5\n")
    empty.run("run", "Annotate:fish", "--config", "profile.cfg")
    written = sorted(p.relative_to(p.parents[1]).as_posix() for p in (empty.exp / "own/fish/raw/images").glob("*/*.png"))
    assert [name.partition("/")[0] for name in written] == ["swim"] * 3 + ["swim_"] * 3
    empty.set("[dataset:fish]\nlabels = both.slp\nimages = videos/day1\nvalid = 0.5\n")
    said = empty.run("run", "Collect:fish", "--config", "profile.cfg", code=30)
    assert "labels both /x/day1/swim.mp4 and /x/day2/swim.mp4" in said and "set `images` to the folder above" in said
    # A video that has different paths on two computers is recognised as one video, so that no frame is in both train and valid.
    labelled_videos(empty.folder, {"/a/swim.mp4": range(6)}, "train.slp")
    labelled_videos(empty.folder, {"/b/swim.mp4": range(2)}, "valid.slp")
    empty.set("[dataset:fish]\nlabels = train.slp\nimages = videos/day1\nvalid = valid.slp\n")
    empty.run("run", "Annotate:fish", "--config", "profile.cfg")
    train, valid = (annotations.read(empty.exp / "own/fish/annot", split) for split in ("train", "valid"))
    assert len(set(valid.images)) == 2 and len(set(train.images)) == 4 and not set(train.images) & set(valid.images)


def test_images_of_one_name_in_two_folders_are_not_taken_for_one(empty: Place):
    pytest.importorskip("sleap_io")
    fish.write_deeplabcut(empty.folder / "dlc", 8)
    place = empty.folder / "dlc/labeled-data/two"
    table = place / "CollectedData_me.csv"
    for number in range(4):
        shutil.move(place / f"img{number + 4:04d}.png", place / f"img{number:04d}.png")
        table.write_text(table.read_text().replace(f"img{number + 4:04d}", f"img{number:04d}"))
    empty.set("[dataset:fish]\nlabels = dlc\nimages = dlc/labeled-data/one\n")
    said = empty.run("run", "Collect:fish", "--config", "profile.cfg", code=30)
    assert "labels both" in said and "img0000.png" in said and "set `images` to the folder above" in said
    empty.set("[dataset:fish]\nlabels = dlc\n")
    (place / "img0001.png").unlink()
    said = empty.run("run", "Collect:fish", "--config", "profile.cfg", code=30)
    assert "CollectedData_me.csv labels img0001.png, which is not in the same folder" in said


def test_only_changes_of_images_make_a_dataset_stale(tmp_path):
    images, far = tmp_path / "images", tmp_path / "far"
    fish.write_pictures(images, 4)
    far.mkdir()
    shutil.move(images / "000.png", far / "000.png")
    (images / "sub").symlink_to(far)
    (images / "self").symlink_to(images)
    (images / "dead.png").symlink_to("nowhere")
    shutil.move(images / "001.png", images / "001.jfif")
    (images / "exp").mkdir()

    def identity() -> str:
        return folders.tree_identity(images, SUFFIXES["images"], images / "exp", None)

    before = identity()
    for other in ("notes.csv", "exp/result.png", ".hidden.png"):
        (images / other).write_bytes((images / "002.png").read_bytes())
        assert identity() == before, other
    for path in (far / "000.png", images / "001.jfif", images / "002.png"):
        path.write_bytes(b"another image")
        assert identity() != before, path
        before = identity()
    # For labels, the digest also covers .csv files, such as the tables of a DeepLabCut project.
    assert folders.tree_identity(images, SUFFIXES["labels"], images / "exp", None) != before


def test_labels_of_the_user_are_not_overwritten(empty: Place):
    (empty.folder / "mine.json").write_text("mine")
    code, _, err = empty.call("tools.export_labels", "mpii", "--out", "mine.json")
    assert "--out mine.json exists and may contain your labels" in err
    assert code == 1 and (empty.folder / "mine.json").read_text() == "mine"
