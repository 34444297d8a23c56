"""Tests of reading Penn Action's irregular labels, of the crop window, the published split, and rows of cropped frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datasets import penn_action
from datasets.errors import DataError
from datasets.formats import penn_labels
from datasets.formats.penn_labels import Label
from datasets.penn_action import Window


def content(frames: int = 3) -> dict[str, Any]:
    """Return the content of a label file like the published ones, in which whole numbers have small unsigned types."""
    return {
        "action": "pullup",
        "pose": "back",
        "x": np.full((frames, 13), 10, np.uint8),
        "y": np.full((frames, 13), 20, np.uint8),
        "visibility": np.ones((frames, 13), np.uint8),
        "train": np.int32(-1),
        "bbox": np.tile(np.array([30, 40, 90, 100], np.uint8), (frames, 1)),
        "dimensions": np.array([[270, 480, frames]], np.uint16),
        "nframes": np.uint8(frames),
    }


def write_mat(folder: Path, **changes: Any) -> Path:
    path = folder / "0007.mat"
    fields = {name: value for name, value in (content() | changes).items() if value is not None}
    savemat(path, fields, do_compression=True)
    return path


def label(sequence: str = "0001", frames: int = 1, **changes: Any) -> Label:
    fields: dict[str, Any] = {
        "action": "squat",
        "pose": "front",
        "train": True,
        "joints": np.full((frames, 13, 2), 5.0),
        "visible": np.ones((frames, 13), bool),
        "bbox": np.tile([0.0, 0.0, 9.0, 9.0], (frames, 1)),
        "width": 40,
        "height": 30,
    }
    return Label(sequence, **(fields | changes))


def test_read_casts_before_arithmetic(tmp_path: Path) -> None:
    read = penn_labels.read_label(write_mat(tmp_path, x=np.zeros((3, 13), np.uint8)))
    assert read.sequence == "0007" and read.action == "pullup" and read.pose == "back" and not read.train
    assert (read.width, read.height, read.frames) == (480, 270, 3)
    assert read.joints.dtype == np.float64 and read.joints[2, 12].tolist() == [-1, 19]
    moved = penn_action.crop_label(read, penn_action.crop_window(read))
    # Relative to the box's corner, the joint is at x = 0 - 30 and y = 20 - 40 px, which would overflow in unsigned arithmetic.
    assert moved.joints[0, 0].tolist() == [-30, -20]
    assert moved.bbox[0].tolist() == [0, 0, 60, 60]
    assert (moved.width, moved.height) == (61, 61)


def test_one_box_fewer_than_frames_is_read(tmp_path: Path) -> None:
    read = penn_labels.read_label(write_mat(tmp_path, bbox=content(2)["bbox"], visibility=np.ones((3, 13))))
    assert len(read.bbox) == 2 and read.frames == 3 and read.visible.dtype == bool


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, None) for name in penn_labels.FIELDS]
    + [
        ("x", np.full((3, 13), np.nan)),
        ("x", np.zeros((2, 13))),
        ("y", np.zeros((3, 12))),
        ("y", "text"),
        ("visibility", np.full((3, 13), 2)),
        ("bbox", np.full((3, 4), np.inf)),
        ("bbox", np.full((3, 4), 1e300)),
        ("bbox", np.zeros((0, 4))),
        ("bbox", np.zeros((3, 5))),
        ("train", 0),
        ("nframes", 4),
        ("nframes", 0),
        ("dimensions", [[270.0]]),
        ("dimensions", [[0, 480, 3]]),
        ("action", 3.0),
        ("action", " "),
        ("pose", np.array(["ab", "cd"])),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, field: str, value: Any) -> None:
    path = write_mat(tmp_path, **{field: value})
    # If nframes is a wrong number, x is the first field whose length differs from it.
    culprit = "x" if field == "nframes" and value is not None else field
    with pytest.raises(DataError, match=rf"0007\.mat.* field '{culprit}'"):
        penn_labels.read_label(path)


def test_damaged_labels_are_named(tmp_path: Path) -> None:
    path = write_mat(tmp_path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], whole[:-5], b"\x89HDF" + whole):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"0007\.mat"):
            penn_labels.read_label(path)


def test_written_labels_have_the_distributions_layout(tmp_path: Path) -> None:
    visible = np.ones((2, 13), bool)
    visible[1, 3] = False
    mine = label("0012", frames=2, visible=visible, joints=np.arange(52.0).reshape(2, 13, 2) - 0.5)
    path = tmp_path / "0012.mat"
    penn_labels.write_label(path, mine)
    assert [entry.name for entry in tmp_path.iterdir()] == ["0012.mat"]
    raw = loadmat(path)
    assert raw["action"].tolist() == ["squat"] and raw["pose"].tolist() == ["front"]
    assert raw["x"].shape == (2, 13) and raw["x"][0, :2].tolist() == [0.5, 2.5] and raw["y"][0, 0] == 1.5
    assert raw["visibility"][1, 2:5].tolist() == [1, 0, 1]
    assert raw["train"].tolist() == [[1]] and raw["nframes"].tolist() == [[2]]
    assert raw["dimensions"].tolist() == [[30, 40, 2]] and raw["bbox"][0].tolist() == [1, 1, 10, 10]
    back = penn_labels.read_label(path)
    for name in ("joints", "visible", "bbox"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mine, name))
    assert (back.action, back.train, back.width, back.height) == ("squat", True, 40, 30)
    first = path.read_bytes()
    penn_labels.write_label(path, mine)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.5, 1), (1.5, 2), (2.5, 3), (2.4999, 2), (-0.5, -1), (-2.5, -3), (-2.4, -2), (0, 0)]
)
def test_halves_round_away_from_zero(value: float, rounded: int) -> None:
    assert penn_action.round_half_away(value) == rounded


@pytest.mark.parametrize(
    ("boxes", "window"),
    [
        # boxes in 1-based px, as in the files; windows in 0-based px
        ([[3, 4, 10, 12]], Window(2, 3, 8, 9)),
        ([[3.5, 4.5, 10.5, 12.5]], Window(3, 4, 8, 9)),  # in MATLAB: columns 4:11, rows 5:13
        ([[3.4, 4, 10, 12], [5, 2, 20.4, 11]], Window(2, 1, 18, 11)),
        ([[0.67, 0.67, 5, 5]], Window(0, 0, 5, 5)),
        ([[3, 4, 10, 12], [6, 6, 6, 6]], Window(2, 3, 8, 9)),  # a box without an area
        ([[3, 4, 10, 12], [9, 11, 5, 6]], Window(2, 3, 8, 9)),  # an inverted box
        ([[1, 1, 7, 7]], Window(0, 0, 7, 7)),
        ([[5, 5, 5, 5]], Window(4, 4, 1, 1)),
        ([[-3, 2, 40.5, 30.7]], Window(0, 1, 40, 29)),  # a box that extends beyond the frame of 40 x 30 px
    ],
)
def test_window(boxes: list[list[float]], window: Window) -> None:
    assert penn_action.crop_window(label(bbox=np.array(boxes) - 1.0)) == window


@pytest.mark.parametrize("box", [[50, 1, 60, 9], [1, -9, 9, -2], [9, 1, 2, 9]])
def test_windows_without_a_pixel_are_refused(box: list[float]) -> None:
    with pytest.raises(DataError, match="sequence 0001"):
        penn_action.crop_window(label(bbox=np.array([box]) - 1.0))


def unseen(joints: list[int]) -> np.ndarray:
    visible = np.zeros((1, 13), bool)
    visible[0, joints] = True
    return visible


def test_frames_count_by_the_joints_below_the_shoulders() -> None:
    visible = np.concatenate([unseen([0, 1, 2]), unseen([]), unseen([3]), unseen([12])])
    assert label(frames=4, visible=visible).counted.tolist() == [False, False, True, True]


def test_split_takes_the_last_sequences_of_each_action() -> None:
    # A frame counts if a joint below the shoulders is visible; a sequence counts if one of its frames counts. The number of an
    # action's validation sequences is 0.092 x the number of its training sequences that count, rounded. Action a has 17
    # training sequences that count and one that does not: 0.092 x 17 = 1.564 is rounded to 2. Action b has 16 training
    # sequences that count and one that does not: 0.092 x 16 = 1.472 is rounded to 1, but 0.092 x 17 would give 2.
    labels = [label(f"{i:04d}", action="b" if i % 2 else "a") for i in range(1, 33)] + [label("0033", action="a")]
    labels += [label("0034", action="a", visible=unseen([0])), label("0035", action="b", visible=unseen([]))]
    labels += [label("0036", action="a", train=False), label("0037", action="c")]
    splits = penn_action.split(labels)
    assert [member.sequence for member in splits["valid"]] == ["0031", "0032", "0033"]
    assert [member.sequence for member in splits["test"]] == ["0036"]
    train = [member.sequence for member in splits["train"]]
    assert train == [f"{i:04d}" for i in range(1, 31)] + ["0034", "0035", "0037"]


def test_rows_of_a_frame_that_is_not_square() -> None:
    visible = np.ones((3, 13), bool)
    visible[1] = False
    visible[2, 4] = False
    rows = penn_action.annotations([label("0042", frames=3, visible=visible, width=40, height=30)], {"0042": 100})
    assert rows.images == ["0042/000001.jpg", "0042/000003.jpg"] and rows.index.tolist() == [100, 102]
    # As published, in 1-based px: the centre (20.5, 15.5) moves down by 15 x 0.2, and the scale 40 / 200 grows 1.25 times.
    np.testing.assert_allclose(rows.center + 1, [[20.5, 18.5]] * 2)
    np.testing.assert_allclose(rows.scale, [0.25, 0.25])
    assert np.isnan(rows.part[1, 4]).all() and rows.part[1, 5].tolist() == [5, 5]
    assert rows.visible[1].sum() == 12 and rows.person.tolist() == [0, 0]
    assert rows.normalize.tolist() == [-1, -1] and rows.torsoangle.tolist() == [-1, -1]


def test_label_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels"):
        penn_labels.label_paths(tmp_path)
    (tmp_path / "labels").mkdir()
    for name in ("0002.mat", "0001.mat", "README"):
        (tmp_path / "labels" / name).touch()
    assert [path.name for path in penn_labels.label_paths(tmp_path)] == ["0001.mat", "0002.mat"]
    (tmp_path / "labels" / "copy of 1.mat").touch()
    with pytest.raises(DataError, match="copy of 1"):
        penn_labels.label_paths(tmp_path)
