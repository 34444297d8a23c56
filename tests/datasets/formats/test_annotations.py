"""Annotation files: their layout, the conversions, and the error messages for damaged files."""

import errno
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from tests.shared import SHARED


def people(joints: int = 16) -> Annotations:
    """Return annotations of two rows. In the second row, joint 1 has no label, and joint 2 is labelled but occluded."""
    part = np.arange(2 * joints * 2, dtype=np.float64).reshape(2, joints, 2) + 0.25
    part[1, 1] = np.nan
    visible = np.ones((2, joints), bool)
    visible[1, 1:3] = False
    return Annotations(
        images=["a.jpg", "long_name.jpg"],
        index=np.array([4, 9]),
        person=np.array([0, 2]),
        center=np.array([[10.0, 20.5], [30.0, 40.0]]),
        scale=np.array([1.5, 2.25]),
        part=part,
        visible=visible,
        normalize=np.array([33.5, -1.0]),
        torsoangle=np.array([-4.0, 0.0]),
    )


def test_writing_in_parts_equals_writing_at_once(tmp_path: Path) -> None:
    rows = people(joints=13)
    for name, cuts in (("whole", [slice(None)]), ("parts", [slice(0, 0), slice(0, 1), slice(1, None)])):
        (tmp_path / name).mkdir()
        with annotations.Writer(tmp_path / name, "train", len(rows), one_person=True) as writer:
            for cut in cuts:
                writer.append(rows.select(np.arange(len(rows))[cut]))
    for name in ("train.h5", "train_images.txt"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ValueError, match="do not fit"), annotations.Writer(tmp_path, "train", 1) as writer:
        writer.append(rows)
    with pytest.raises(ValueError, match="needs 2 more rows"), annotations.Writer(tmp_path, "train", len(rows) + 2) as writer:
        writer.append(rows)


def test_write_gives_the_published_layout(tmp_path: Path) -> None:
    annotations.write(tmp_path, "valid", people(), "mpii")
    assert (tmp_path / "valid_images.txt").read_bytes() == b"a.jpg\nlong_name.jpg\n"
    with h5py.File(tmp_path / "valid.h5") as file:
        assert file.attrs["name"] == "mpii"
        assert file["imgname"].dtype == "S13" and file["imgname"][0] == b"a.jpg"
        assert {name for name in file if file[name].dtype == np.float64} == set(file) - {"imgname"}
        assert file["index"][:].tolist() == [4, 9] and file["person"][:].tolist() == [0, 2]
        assert file["center"][:].tolist() == [[11, 21.5], [31, 41]]  # pixels count from 1 in files
        assert file["part"][0, 0].tolist() == [1.25, 2.25]
        assert file["part"][1, 1].tolist() == [0, 0]
        assert file["visible"][1, :4].tolist() == [1, 0, 0, 1]
        assert file["scale"][:].tolist() == [1.5, 2.25]


def test_penn_files_have_the_fields_of_the_published_ones(tmp_path: Path) -> None:
    annotations.write(tmp_path, "test", people(joints=13), "penn_action", one_person=True)
    with h5py.File(tmp_path / "test.h5") as file:
        assert file.attrs["name"] == "penn_action"
        assert set(file) == {"index", "center", "scale", "part", "visible", "normalize", "torsoangle"}
    assert annotations.read(tmp_path, "test").person.tolist() == [0, 0]


def test_read_returns_what_was_written(tmp_path: Path) -> None:
    rows = people()
    annotations.write(tmp_path, "train", rows)
    back = annotations.read(tmp_path, "train")
    assert back.images == rows.images
    for name in ("index", "person", "center", "scale", "part", "visible", "normalize", "torsoangle"):
        np.testing.assert_array_equal(getattr(back, name), getattr(rows, name))
    assert back.visible.dtype == bool and back.index.dtype == np.int64


def test_empty_splits_are_written_and_read(tmp_path: Path) -> None:
    annotations.write(tmp_path, "test", people().select(np.zeros(2, bool)))
    assert annotations.read(tmp_path, "test").part.shape == (0, 16, 2)


def test_equal_annotations_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        annotations.write(tmp_path / name, "train", people())
    assert (tmp_path / "one/train.h5").read_bytes() == (tmp_path / "two/train.h5").read_bytes()


def test_only_joints_at_0_0_are_unlabelled(tmp_path: Path) -> None:
    annotations.write(tmp_path, "train", people())
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file["part"][0, 0] = (0, 7)
        file["part"][0, 1] = (0, 0)
    part = annotations.read(tmp_path, "train").part
    assert part[0, 0].tolist() == [-1, 6] and np.isnan(part[0, 1]).all()


def test_select_keeps_rows_together() -> None:
    chosen = people().select(np.array([False, True]))
    assert len(chosen) == 1 and chosen.images == ["long_name.jpg"]
    assert chosen.index.tolist() == [9] and chosen.scale.tolist() == [2.25] and chosen.part.shape == (1, 16, 2)
    assert people().select(np.array([1, 0])).images == ["long_name.jpg", "a.jpg"]


def test_person_box_moves_down_and_grows() -> None:
    center, scale = annotations.person_box(np.array([[100, 50]], dtype=np.uint8), np.array([2.0]))
    assert center.tolist() == [[100, 80]] and scale.tolist() == [2.5]


@pytest.mark.parametrize("field", ["part", "visible", "scale", "index", "center", "normalize", "torsoangle"])
def test_missing_field_is_named(tmp_path: Path, field: str) -> None:
    annotations.write(tmp_path, "train", people())
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        del file[field]
    with pytest.raises(DataError, match=rf"train\.h5 has no field '{field}'"):
        annotations.read(tmp_path, "train")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("center", np.zeros((2, 3))),
        ("visible", np.zeros((2, 15))),
        ("part", np.zeros((3, 16, 2))),
        ("scale", np.array([b"1", b"2"])),
        ("scale", np.array([1.0, np.nan])),
        ("scale", np.array([1.0, 1e300])),
        ("scale", np.array([1.0, 0.0])),
        ("index", np.array([1e300, 2.0])),
        ("person", np.array([0.5, 2.0])),
    ],
)
def test_wrong_field_is_named(tmp_path: Path, field: str, value: np.ndarray) -> None:
    annotations.write(tmp_path, "train", people())
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        del file[field]
        file[field] = value
    with pytest.raises(DataError, match=rf"train\.h5: field '{field}'"):
        annotations.read(tmp_path, "train")


def test_claimed_sizes_take_no_memory(tmp_path: Path) -> None:
    annotations.write(tmp_path, "train", people())
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        del file["part"]
        file.create_dataset("part", shape=(2, 10**12, 2), dtype="f8", chunks=(1, 1024, 2))
    with pytest.raises(DataError, match="field 'part'"):
        annotations.read(tmp_path, "train")


def test_compressed_and_linked_fields_are_refused(tmp_path: Path) -> None:
    annotations.write(tmp_path, "train", people())
    (tmp_path / "elsewhere.bin").write_bytes(bytes(16))
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file.create_dataset("packed", data=np.zeros(1000), compression="gzip")
        file.create_dataset("outside", shape=(2,), dtype="f8", external=[(str(tmp_path / "elsewhere.bin"), 0, 16)])
        file["other"] = h5py.ExternalLink("train.h5", "/scale")
        file["soft"] = h5py.SoftLink("/scale")
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "train.h5"), "scale", (2,))
        file.create_virtual_dataset("virtual", layout)
        for name in ("packed", "outside", "other", "soft", "virtual"):
            del file["scale"]
            file.move(name, "scale")
            file.flush()
            with pytest.raises(DataError, match="field 'scale'"):
                annotations.read(tmp_path, "train")


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    annotations.write(tmp_path, "train", people())
    path = tmp_path / "train.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"train\.h5"):
        annotations.read(tmp_path, "train")
    path.unlink()
    with pytest.raises(DataError, match=r"train\.h5 is missing"):
        annotations.read(tmp_path, "train")
    (tmp_path / "train_images.txt").unlink()
    with pytest.raises(DataError, match=r"train_images\.txt is missing"):
        annotations.read(tmp_path, "train")


@pytest.mark.parametrize("name", ["caf\u00e9.jpg", "two\nlines.jpg", ""])
def test_invalid_image_names_are_refused(tmp_path: Path, name: str) -> None:
    rows = people()
    rows.images[1] = name
    with pytest.raises(DataError, match="name"):
        annotations.write(tmp_path, "train", rows)


def test_files_are_read_on_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations.write(tmp_path, "train", people())
    opened, refusals = h5py.File, [errno.ENOLCK, errno.EOPNOTSUPP, errno.EAGAIN]

    def without_locks(path: Path, mode: str, locking: bool | None = None) -> h5py.File:
        if locking is not False:
            raise OSError(refusals.pop(0), "Unable to synchronously open file (unable to lock file)")
        return opened(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert len(annotations.read(tmp_path, "train")) == len(annotations.read(tmp_path, "train")) == 2
    with pytest.raises(DataError, match="train.h5"):  # a file that another program is writing cannot be locked
        annotations.read(tmp_path, "train")


def test_published_valid_h5_survives_reading_and_writing(tmp_path: Path) -> None:
    source = SHARED / "mpii_real_annotations"
    if not source.is_dir():
        pytest.skip("the published MPII annotations are not at hand")
    shutil.copy(source / "valid_images.txt", tmp_path)
    shutil.copy(source / "valid.h5", tmp_path)
    rows = annotations.read(tmp_path, "valid")
    assert len(rows) == 2958 and rows.part.shape == (2958, 16, 2)
    annotations.write(tmp_path, "again", rows, "mpii")
    with h5py.File(source / "valid.h5") as a, h5py.File(tmp_path / "again.h5") as b:
        assert set(a) == set(b) and a.attrs["name"] == b.attrs["name"]
        for name in a:
            assert a[name].dtype == b[name].dtype
            if name == "center":  # coordinates below 1 lose their last digit when they are converted to 0-based px and back
                np.testing.assert_allclose(a[name][:], b[name][:], rtol=1e-14)
            else:
                assert (a[name][:] == b[name][:]).all(), name
