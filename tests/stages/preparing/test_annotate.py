"""Annotation stages: files, label checks and counts, for small datasets and for the published labels."""

import math
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datasets import penn_action
from datasets.errors import DataError
from datasets.formats import annotations, mpii_release, penn_labels
from datasets.formats.penn_labels import Label
from datasets.mpii import MPII, Mpii
from datasets.penn_action import PENN_ACTION, PennAction
from datasets.progress import silent
from stages.preparing.annotate import annotate, write_conversion
from stages.settings.sections import Settings
from tests.shared import SHARED


def struct(*rows: dict[str, Any]) -> np.ndarray:
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


@pytest.fixture
def raw_mpii(tmp_path: Path) -> Path:
    """Four images of 60 x 40 px, of which the last is a test image.

    Each image shows a person; each of the first three people has one labelled joint inside and one below the image.
    """
    raw = tmp_path / "mpii"
    (raw / "images").mkdir(parents=True)
    person = {
        "annopoints": struct({"point": struct({"x": 60, "y": 40, "id": 0}, {"x": 5, "y": 41, "id": 1})}),
        "scale": 0.1,
        "objpos": struct({"x": 30, "y": 20}),
    }
    images = [{"image": struct({"name": f"{i}.jpg"}), "annorect": struct(person)} for i in range(3)]
    images += [{"image": struct({"name": "3.jpg"}), "annorect": struct({n: person[n] for n in ("scale", "objpos")})}]
    savemat(raw / mpii_release.MAT_NAME, {"RELEASE": {"annolist": struct(*images), "img_train": [[1, 1, 1, 0]]}})
    for i in range(4):
        cv2.imwrite(str(raw / f"images/{i}.jpg"), np.zeros((40, 60, 3), np.uint8))
    (raw / "split.txt").write_text("1.jpg\n")
    return raw


def annotate_mpii(raw: Path, out: Path, split_file: Path | None = None, report=silent, **settings: Any):
    files = {"split_file": split_file} if split_file else {}
    return annotate(MPII, raw, out, Mpii(**settings), files, 1, report)


def test_mpii_files_and_counts(raw_mpii: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    out = tmp_path / "new" / "annot"
    summary = annotate_mpii(raw_mpii, out, raw_mpii / "split.txt", report=lambda *p: calls.append(p))
    assert summary["train"] == {
        "rows": 2, "images": 2, "joints_labelled": 4, "joints_visible": 4, "joints_outside": 2,
        "suspicious": 2, "kinds": {"joints outside": 2},
    }  # fmt: skip
    assert summary["valid"]["rows"] == 1 and summary["test"]["rows"] == 1 and summary["test"]["joints_labelled"] == 0
    assert (out / "train_images.txt").read_text() == "0.jpg\n2.jpg\n"
    assert (out / "suspicious.csv").read_text().splitlines() == [
        "split,row,image,person,what", "train,0,0.jpg,0,joints outside", "train,1,2.jpg,0,joints outside",
        "valid,0,1.jpg,0,joints outside",
    ]  # fmt: skip
    assert annotations.read(out, "valid").index.tolist() == [1]
    assert annotations.read(out, "test").images == ["3.jpg"]
    assert calls[-1][:2] == (4, 4) and all(call[0] <= call[1] for call in calls)


def test_mpii_without_a_split_file_draws_one(raw_mpii: Path, tmp_path: Path) -> None:
    summary = annotate_mpii(raw_mpii, tmp_path / "a", valid_fraction=0.4, split_seed=5)
    assert (summary["train"]["rows"], summary["valid"]["rows"]) == (2, 1)
    with pytest.raises(DataError, match=r"valid split of .* has no labelled people"):
        annotate_mpii(raw_mpii, tmp_path / "b", valid_fraction=0.05, split_seed=5)


def test_mpii_images_that_are_missing_or_no_images(raw_mpii: Path, tmp_path: Path) -> None:
    (raw_mpii / "images/1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.jpg is neither a JPEG nor a PNG"):
        annotate_mpii(raw_mpii, tmp_path / "a", raw_mpii / "split.txt")
    for i in (1, 3):
        (raw_mpii / f"images/{i}.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 2 of the 4 images that are annotated, such as 1\.jpg"):
        annotate_mpii(raw_mpii, tmp_path / "a", raw_mpii / "split.txt")
    assert not (tmp_path / "a").exists()


@pytest.fixture
def cropped(tmp_path: Path) -> Path:
    """Seven training and two test sequences of two frames; in the second frame of 0001 only the head is visible."""
    root = tmp_path / "cropped"
    (root / "labels").mkdir(parents=True)
    for number in range(1, 10):
        visible = np.ones((2, 13), bool)
        if number == 1:
            visible[1, 1:] = False
        label = Label(
            sequence=f"{number:04d}", action="squat", pose="front", train=number <= 7,
            joints=np.full((2, 13, 2), 15.0), visible=visible, bbox=np.zeros((2, 4)), width=30, height=20,
        )  # fmt: skip
        penn_labels.write_label(root / f"labels/{number:04d}.mat", label)
        (root / f"frames/{number:04d}").mkdir(parents=True)
        for frame in (1, 2):
            (root / f"frames/{number:04d}/00000{frame}.jpg").touch()
    return root


def test_penn_files_and_counts(cropped: Path, tmp_path: Path) -> None:
    out = tmp_path / "annot"
    summary = annotate(PENN_ACTION, cropped, out, PennAction())
    assert {split: (counts["sequences"], counts["rows"]) for split, counts in summary.items()} == {
        "train": (6, 11), "valid": (1, 2), "test": (2, 4),
    }  # fmt: skip
    assert (out / "valid_ind.txt").read_text() == (out / "penn-crop/valid_ind.txt").read_text() == "7\n"
    train = annotations.read(out, "train")
    assert train.images[:2] == ["0001/000001.jpg", "0002/000001.jpg"] and train.index[:3].tolist() == [0, 2, 3]
    assert annotations.read(out, "test").index.tolist() == [14, 15, 16, 17]
    sizes = {}
    for name in ("train", "val", "test"):
        with h5py.File(out / f"penn-crop/{name}.h5") as file:
            sizes[name] = len(file["part"])
            assert set(file) == {"ind2sub", "part"}
    assert sizes == {"train": 12, "val": 2, "test": 4}


def test_penn_missing_frames_and_empty_splits_are_refused(cropped: Path, tmp_path: Path) -> None:
    (cropped / "frames/0005/000002.jpg").unlink()
    with pytest.raises(DataError, match=r"0005 lacks 1 of the 2 images .* such as 000002\.jpg"):
        annotate(PENN_ACTION, cropped, tmp_path / "a", PennAction())
    for number in (4, 5, 6):
        (cropped / f"labels/{number:04d}.mat").unlink()
    with pytest.raises(DataError, match="valid split"):  # of 4 sequences, 0.092 x 4 is rounded to 0
        annotate(PENN_ACTION, cropped, tmp_path / "a", PennAction())


def test_memory_does_not_grow_with_the_sequences(tmp_path: Path) -> None:
    shown, peaks = np.ones((200, 13), bool), []
    for count in (20, 80):
        heads = [
            Label(f"{number:04d}", "squat", "front", 4 * number < 3 * count, np.broadcast_to(np.nan, (200, 13, 2)), shown,
                  np.zeros((1, 4)), 30, 20)
            for number in range(1, count + 1)
        ]  # fmt: skip
        tracemalloc.start()
        found = penn_action.conversion(heads, lambda head: replace(head, joints=np.full(head.joints.shape, 15.0)))
        write_conversion(PENN_ACTION, found, tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]  # the rows of 12,000 further frames would take 5 MB


def test_labels_that_cannot_be_stored_are_refused(cropped: Path, tmp_path: Path) -> None:
    label = penn_labels.read_label(cropped / "labels/0003.mat")
    label.joints[0, 4] = -1  # written as (0, 0), which means that the joint has no label
    penn_labels.write_label(cropped / "labels/0003.mat", label)
    with pytest.raises(DataError, match="image 0003/000001.jpg lies exactly at"):
        annotate(PENN_ACTION, cropped, tmp_path / "a", PennAction())


def test_published_counts_of_the_real_labels(tmp_path: Path) -> None:
    archive = SHARED / "penn_real_labels.tar.gz"
    if not archive.is_file():
        pytest.skip("Penn Action's real labels are missing")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    labels = [penn_labels.read_label(path) for path in penn_labels.label_paths(tmp_path / "Penn_Action")]
    assert len(labels) == 2326 and sum(label.frames for label in labels) == 163841
    cropped = [penn_action.crop_label(label, penn_action.crop_window(label)) for label in labels]
    assert max(label.width for label in cropped) == 479 and max(label.height for label in cropped) == 440
    assert (cropped[1515].sequence, cropped[1515].width, cropped[1515].height) == ("1516", 7, 7)
    # In the real labels, a few sequences have visible joints far outside the crop. More such sequences would mean that
    # crop windows or frame numbers are wrong.
    seen = [(label.joints[label.visible] + 1, label) for label in cropped]
    before = [(label.sequence, int((xy < 0.5).any(axis=1).sum())) for xy, label in seen]
    beyond = [(label.sequence, int((xy > (label.width, label.height)).any(axis=1).sum())) for xy, label in seen]
    assert {sequence for sequence, count in before if count} == {"0525", "2276"} and sum(c for _, c in before) == 3
    assert {sequence for sequence, count in beyond if count} == {"0979", "1021", "1024", "1032", "1407"}
    assert sum(count for _, count in beyond) == 1015
    summary = write_conversion(PENN_ACTION, penn_action.conversion(cropped, lambda head: head), tmp_path / "annot")
    assert {split: (counts["rows"], counts["sequences"]) for split, counts in summary.items()} == {
        "train": (78723, 1142), "valid": (8721, 115), "test": (76206, 1068),
    }  # fmt: skip
    finetune = Settings().finetune  # each epoch of the published training uses every frame once
    assert finetune.iterations == math.ceil(summary["train"]["rows"] / finetune.batch) == 13121
    kinds = [counts["kinds"] for counts in summary.values()]
    exchanged = [line for line in (tmp_path / "annot/suspicious.csv").read_text().splitlines() if line.endswith("exchanged")]
    assert "0003/000074.jpg,0,ankles exchanged" in exchanged[0] and len(exchanged) == 7
    assert [split["joints outside"] for split in kinds] == [43, 40, 87]
    assert [counts["joints_outside"] for counts in summary.values()] == [331, 211, 475]
    action = {int(label.sequence): label.action for label in labels}
    order = list(dict.fromkeys(action.values()))
    valid = [action[int(line)] for line in (tmp_path / "annot/valid_ind.txt").read_text().split()]
    assert [valid.count(name) for name in order] == [10, 11, 6, 12, 4, 8, 4, 5, 9, 9, 5, 10, 4, 7, 11]
    assert valid == sorted(valid, key=order.index)
    frames = 0
    for name in ("train", "val", "test"):
        with h5py.File(tmp_path / f"annot/penn-crop/{name}.h5") as file:
            frames += len(file["ind2sub"])
    assert frames == 163841
