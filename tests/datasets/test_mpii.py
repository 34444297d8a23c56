"""Tests of reading MPII's .mat file with its irregularities, and of all methods to split its people."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datasets.errors import DataError
from datasets.formats import annotations, mpii_published, mpii_release, mpii_split
from tests.shared import SHARED as DATA

SHARED = DATA / "mpii_real_annotations"


def struct(*rows: dict[str, Any]) -> np.ndarray:
    """Return a 1 x N MATLAB struct array; all rows have the fields of the first row."""
    names = list(rows[0])
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row[name] for name in names)
    return array


EMPTY = np.zeros((0, 0), np.uint8)
POINTS = struct(
    {"x": np.uint16(300), "y": np.uint8(200), "id": np.uint8(6), "is_visible": np.uint8(1)},
    {"x": np.uint16(310), "y": np.uint8(100), "id": np.uint8(7), "is_visible": np.uint8(0)},
    {"x": 320.5, "y": 50.25, "id": np.uint8(8), "is_visible": EMPTY},
)
PERSON = {
    "x1": np.uint8(200), "y1": np.uint8(10), "x2": np.uint8(140), "y2": np.uint8(90),
    "annopoints": struct({"point": POINTS}),
    "scale": 2.0,
    "objpos": struct({"x": np.uint8(250), "y": np.uint8(240)}),
}  # fmt: skip


def write_release(path: Path, people: list[Any], training: list[int]) -> Path:
    """Write an annotation file for the images 0.jpg, 1.jpg and so on; return its path.

    people: the field annorect of each image; training: 1 for each training image, 0 for each test image.
    """
    images = [
        {"image": struct({"name": f"{i}.jpg"}), "annorect": annorect, "vididx": EMPTY} for i, annorect in enumerate(people)
    ]
    release = {"annolist": struct(*images), "img_train": np.array([training], np.uint8), "version": "12"}
    savemat(path, {"RELEASE": release}, do_compression=True)
    return path


def read_one(tmp_path: Path, person: dict[str, Any]) -> annotations.Annotations:
    return mpii_release.read(write_release(tmp_path / "one.mat", [struct(person)], [1])).people


def test_a_person_with_compact_numbers(tmp_path: Path) -> None:
    people = read_one(tmp_path, PERSON)
    assert len(people) == 1 and people.images == ["0.jpg"]
    assert people.center.tolist() == [[249, 269]]  # 240 + 15 * 2, in 0-based px: uint8 arithmetic would overflow
    assert people.scale.tolist() == [2.5]
    # The head size is 0.6 x the diagonal of a box of 60 x 80 px, whose corners may have any order.
    assert people.normalize[0] == pytest.approx(60)
    assert people.part[0, 6:9].tolist() == [[299, 199], [309, 99], [319.5, 49.25]]
    assert np.isnan(people.part[0, :6]).all() and np.isnan(people.part[0, 9:]).all()
    assert people.visible[0].nonzero()[0].tolist() == [6, 8]
    assert people.torsoangle[0] == pytest.approx(np.degrees(np.arctan(10 / 100)))  # the torso leans to the right


def test_text_visibility_in_another_field_order_and_extra_fields(tmp_path: Path) -> None:
    points = struct(
        {"id": 0, "x": 5, "y": 6, "is_visible": "0", "extra": "a"},
        {"id": 15, "x": 7, "y": 8, "is_visible": "1", "extra": "b"},
        {"id": 3, "x": 9, "y": 9, "is_visible": "", "extra": "b"},
    )
    people = read_one(tmp_path, PERSON | {"annopoints": struct({"point": points}), "part_occ1": "0"})
    assert people.part[0, 0].tolist() == [4, 5] and people.part[0, 15].tolist() == [6, 7]
    assert people.visible[0].nonzero()[0].tolist() == [3, 15]
    assert people.torsoangle[0] == 0  # the pelvis and the thorax are not labelled


def test_without_is_visible_every_labelled_joint_is(tmp_path: Path) -> None:
    points = struct({"x": 1, "y": 2, "id": 4}, {"x": 0, "y": 0, "id": 5})
    people = read_one(tmp_path, PERSON | {"annopoints": struct({"point": points})})
    assert people.visible[0].nonzero()[0].tolist() == [4]  # (0, 0) means that the joint has no label
    assert np.isnan(people.part[0, 5]).all()


def test_a_label_at_x_0_has_a_place_but_no_torso_angle(tmp_path: Path) -> None:
    points = struct({"x": 0, "y": 20, "id": 6}, {"x": 30, "y": 10, "id": 7}, {"x": -4, "y": 7, "id": 1})
    people = read_one(tmp_path, PERSON | {"annopoints": struct({"point": points})})
    assert people.part[0, 6].tolist() == [-1, 19] and people.part[0, 1].tolist() == [-5, 6]
    assert people.torsoangle.tolist() == [0]


def test_unusable_people_are_left_out_and_keep_their_numbers(tmp_path: Path) -> None:
    bare = {name: PERSON[name] for name in ("x1", "y1", "x2", "y2")}
    good = struct(PERSON | {"scale": EMPTY}, PERSON | {"annopoints": EMPTY}, PERSON | {"objpos": EMPTY}, PERSON)
    test = struct({name: PERSON[name] for name in ("scale", "objpos")})
    path = write_release(tmp_path / "a.mat", [EMPTY, struct(bare), good, test, struct(PERSON)], [1, 1, 1, 0, 1])
    release = mpii_release.read(path)
    assert release.people.index.tolist() == [2, 3, 4] and release.people.person.tolist() == [3, 0, 0]
    assert release.training.tolist() == [True, False, True]
    assert release.images == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert release.people.normalize[1] == -1 and np.isnan(release.people.part[1]).all()


def test_no_head_box_means_unknown_size(tmp_path: Path) -> None:
    person = {name: PERSON[name] for name in ("annopoints", "scale", "objpos")}
    assert read_one(tmp_path, person).normalize.tolist() == [-1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scale": np.nan}, "person 1: field 'scale'"),
        ({"scale": -1.0}, "person 1: field 'scale'"),
        ({"scale": 1.7e308}, "person 1: field 'scale'"),  # multiplied by 1.25, this scale becomes infinite
        ({"x1": "left"}, "person 1: field 'x1'"),
        ({"annopoints": struct({"point": struct({"x": 1, "y": 2, "id": 16})})}, "person 1: annopoints"),
        ({"annopoints": struct({"point": struct({"x": np.nan, "y": 2, "id": 1})})}, "person 1: field 'x'"),
        ({"annopoints": struct({"point": struct({"x": 1, "id": 1})})}, "person 1: annopoints"),
        ({"annopoints": struct({"point": struct({"x": 1, "y": EMPTY, "id": 1})})}, "person 1: annopoints"),
        ({"annopoints": struct({"point": struct({"x": 1, "y": 1, "id": 1, "is_visible": "7"})})}, "person 1: annopoin"),
    ],
)
def test_wrong_people_are_named(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=r"one\.mat: image 0\.jpg, " + match):
        read_one(tmp_path, PERSON | change)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    with pytest.raises(DataError, match=r"x\.mat is missing"):
        mpii_release.read(path)
    path.write_bytes(b"not a mat file" * 50)
    with pytest.raises(DataError, match=r"x\.mat is not readable as MATLAB 5 data"):
        mpii_release.read(path)
    for content, match in (
        ({"other": 1}, "no field 'RELEASE'"),
        ({"RELEASE": 1.0}, "RELEASE is not a single struct"),
        ({"RELEASE": {"img_train": 1}}, "annolist is no struct array"),
        ({"RELEASE": {"annolist": struct({"image": EMPTY, "annorect": EMPTY})}}, "RELEASE.img_train has no number for each"),
        ({"RELEASE": {"annolist": struct({"annorect": EMPTY}), "img_train": 1}}, "no field 'name'"),
        ({"RELEASE": {"annolist": struct({"image": EMPTY, "annorect": EMPTY}), "img_train": 1}}, "no field 'name'"),
        ({"RELEASE": {"annolist": struct({"image": 1, "annorect": 1}), "img_train": [1, 1]}}, "img_train"),
    ):
        savemat(path, content)
        with pytest.raises(DataError, match=match):
            mpii_release.read(path)
    whole = write_release(path, [struct(PERSON)], [1]).read_bytes()
    for length in (60, 130, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"x\.mat"):
            mpii_release.read(path)


def test_image_names_stay_in_their_folder(tmp_path: Path) -> None:
    image = struct({"image": struct({"name": "../secret.jpg"}), "annorect": struct(PERSON)})
    savemat(tmp_path / "x.mat", {"RELEASE": {"annolist": image, "img_train": 1}})
    with pytest.raises(DataError, match="name"):
        mpii_release.read(tmp_path / "x.mat")


@pytest.fixture
def release(tmp_path: Path) -> mpii_release.Release:
    """Return a release of four training images, of which the first two show two people each, and a test image of one person."""
    two, one = struct(PERSON, PERSON), struct(PERSON)
    return mpii_release.read(write_release(tmp_path / "r.mat", [two, two, one, one, one], [1, 1, 1, 1, 0]))


def rows(people: annotations.Annotations) -> list[tuple[int, int]]:
    return list(zip(people.index.tolist(), people.person.tolist(), strict=True))


def test_published_validation_people_and_others_on_their_images(release: mpii_release.Release, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        file["index"], file["person"], file["imgname"] = [1.0, 2.0], [1.0, 0.0], np.array([b"1.jpg", b"2.jpg"])
    entries = [
        {"annolist_index": 2.0, "people_index": 2.0, "img_paths": "1.jpg", "isValidation": 1.0},
        {"annolist_index": 1.0, "people_index": 1.0, "img_paths": "0.jpg", "isValidation": 0.0},
        {"annolist_index": 3.0, "people_index": 1.0, "img_paths": "2.jpg", "isValidation": 1.0},
    ]
    (tmp_path / "all.json").write_text(json.dumps(entries))
    (tmp_path / "all.json.gz").write_bytes(gzip.compress(json.dumps(entries).encode()))
    for name in ("valid.h5", "all.json", "all.json.gz"):
        splits = mpii_split.split(release, tmp_path / name, 0, 0)
        assert rows(splits["valid"]) == [(1, 1), (2, 0)]
        assert rows(splits["train"]) == [(0, 0), (0, 1), (3, 0)]
        assert rows(splits["test"]) == [(4, 0)]


def test_all_people_on_listed_images_are_for_validation(release: mpii_release.Release, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1.jpg\n1.jpg\n3.jpg\n")
    splits = mpii_split.split(release, tmp_path / "list.txt", 0, 0)
    assert rows(splits["valid"]) == [(1, 0), (1, 1), (3, 0)]
    assert rows(splits["train"]) == [(0, 0), (0, 1), (2, 0)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_list_that_a_windows_editor_wrote(release: mpii_release.Release, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes("1.jpg\r\n3.jpg\r\n\r\n".encode(encoding))
    splits = mpii_split.split(release, tmp_path / "list.txt", 0, 0)
    assert rows(splits["valid"]) == [(1, 0), (1, 1), (3, 0)]
    (tmp_path / "list.txt").write_bytes("1.jpg\r\nBücher.jpg\r\n".encode(encoding))
    with pytest.raises(DataError, match="such as Bücher.jpg"):
        mpii_split.split(release, tmp_path / "list.txt", 0, 0)


@pytest.mark.parametrize("offset", [0, 1])
def test_people_are_found_by_position_for_hrnet_and_mmpose(tmp_path: Path, offset: int) -> None:
    """A person must be found by image, objpos and scale, as the files do not number people; some files count px from 0."""
    first, second = (PERSON | {"objpos": struct({"x": x, "y": 300.0}), "scale": 2.5} for x in (200.0, 260.0))
    release = mpii_release.read(write_release(tmp_path / "r.mat", [struct(first, second), struct(first)], [1, 1]))
    entry = {"image": "0.jpg", "center": [260.0 - offset, 300.0 - offset], "scale": 2.5, "joints": [[0, 0]] * 16}
    (tmp_path / "valid.json").write_text(json.dumps([entry]))
    splits = mpii_split.split(release, tmp_path / "valid.json", 0, 0)
    assert rows(splits["valid"]) == [(0, 1)] and rows(splits["train"]) == [(1, 0)]
    for change in ({"center": [230, 300]}, {"scale": 2.6}, {"image": "1.png"}, {"center": [260, math.nan]}):
        (tmp_path / "other.json").write_text(json.dumps([entry | change]))
        with pytest.raises(DataError, match=r"other\.json .* has 0 such training people"):
            mpii_split.split(release, tmp_path / "other.json", 0, 0)


def test_drawn_split_is_by_image_and_by_seed(release: mpii_release.Release) -> None:
    seen = set()
    for seed in range(8):
        splits = mpii_split.split(release, None, 0.5, seed)
        images = set(splits["valid"].index.tolist())
        assert len(images) == 2 and images.isdisjoint(splits["train"].index.tolist())
        assert len(splits["valid"]) + len(splits["train"]) == 6 and rows(splits["test"]) == [(4, 0)]
        assert rows(mpii_split.split(release, None, 0.5, seed)["valid"]) == rows(splits["valid"])
        seen.add(tuple(sorted(images)))
    assert len(seen) > 1


def test_split_files_that_do_not_fit(release: mpii_release.Release, tmp_path: Path) -> None:
    def write_h5(index: float, person: float, name: bytes) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file["index"], file["person"], file["imgname"] = [index], [person], np.array([name])

    for wrong in ((1, 5, b"1.jpg"), (1, 0, b"2.jpg"), (4, 0, b"4.jpg"), (77, 0, b"1.jpg")):
        write_h5(*wrong)
        with pytest.raises(DataError, match="belongs to another release"):
            mpii_split.split(release, tmp_path / "v.h5", 0, 0)
    for name, text in {
        "a.txt": "0.jpg\nnowhere.jpg", "b.txt": "4.jpg", "c.txt": "", "a.json": "[{}]", "b.json": "{", "c.json": "3",
        "a.json.gz": "plain", "a.h5": "no", "a.csv": "0.jpg",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=name):
            mpii_split.split(release, tmp_path / name, 0, 0)
    entry = '[{"isValidation": 1, "img_paths": "0.jpg", "people_index": 1, "annolist_index": 1e999}]'
    (tmp_path / "inf.json").write_text(entry)
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b" " * (mpii_published.MOST_JSON + 2), 1))
    for name in ("inf.json", "bomb.json.gz", "gone.txt", "gone.json", "gone.h5"):
        with pytest.raises(DataError, match=name):
            mpii_split.split(release, tmp_path / name, 0, 0)
    for fraction in (0, 1, -0.1):
        with pytest.raises(DataError, match="fraction"):
            mpii_split.split(release, None, fraction, 0)


def test_every_field_of_the_published_validation_people(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the published MPII annotations are not at hand")
    release = mpii_release.read(SHARED / "mpii_human_pose_v1_u12_1.mat")
    splits = mpii_split.split(release, SHARED / "valid.h5", 0, 0)
    assert {name: len(people) for name, people in splits.items()} == {"train": 22246, "valid": 2958, "test": 0}
    part = release.people.part + 1  # 1-based px; labels outside the image or on its edge are kept
    assert (part < 0).any(axis=2).sum() == 366 and ((part == 0).sum(axis=2) == 1).sum() == 9
    from_json = mpii_split.split(release, SHARED / "mpii_annotations.json.gz", 0, 0)
    assert rows(from_json["valid"]) == rows(splits["valid"]) and rows(from_json["train"]) == rows(splits["train"])
    valid = splits["valid"]
    raw = valid.scale / 1.25
    centers = valid.center + 1 - np.column_stack([0 * raw, 15 * raw])
    entries = [
        {"image": image, "center": center.round().tolist(), "scale": round(scale, 6)}
        for image, center, scale in zip(valid.images, centers, raw, strict=True)
    ]
    (tmp_path / "hrnet.json").write_text(json.dumps(entries))
    assert rows(mpii_split.split(release, tmp_path / "hrnet.json", 0, 0)["valid"]) == rows(valid)
    annotations.write(tmp_path, "valid", splits["valid"])
    assert (tmp_path / "valid_images.txt").read_text() == (SHARED / "valid_images.txt").read_text()
    with h5py.File(SHARED / "valid.h5") as theirs, h5py.File(tmp_path / "valid.h5") as ours:
        assert set(theirs) == set(ours)
        for name in ("index", "person", "imgname", "scale", "visible"):
            assert (theirs[name][:] == ours[name][:]).all(), name
        for name in ("center", "normalize", "torsoangle"):
            np.testing.assert_allclose(ours[name][:], theirs[name][:], rtol=1e-12, atol=1e-12)
        assert (np.trunc(ours["part"][:]) == theirs["part"][:]).all()
        assert (ours["part"][:] != theirs["part"][:]).any()
