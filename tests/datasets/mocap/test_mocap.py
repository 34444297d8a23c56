"""Tests of reading motion capture from each kind of file, and of the error messages for damaged and wrong files."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets.errors import DataError
from datasets.mocap import clips, human36m
from datasets.mocap.sources import read_clips
from datasets.penn_action import PENN_ACTION
from datasets.sample.motions import write_motions
from tests.shared import SHARED

# Positions of the head, the right ankle and the left ankle, in mm.
PERSON = np.array([[0, 0, 1700], [0, -100, 100], [0, 100, 100]], np.float32)
JOINTS = ("head", "right_ankle", "left_ankle")


def made(poses: np.ndarray, **other: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of a file with one clip; the arrays in `other` replace those of the same name."""
    arrays = {"poses": poses, "start": np.array([0, len(poses)]), "names": np.array(["a/walk_1"]), "fps": np.array([25.0])}
    return arrays | {"joints": np.array(["head", "r_ankle", "l_ankle"])} | other


def test_npz_files_are_read_with_plain_joint_names(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    poses = np.stack([PERSON, PERSON + 10])
    arrays = made(poses.astype(np.int16), start=np.array([0, 1, 2]), names=np.array(["b/01_07", "a/walk_1"]), fps=np.ones(2))
    np.savez(path, **arrays)
    found = read_clips(path)
    assert found.joints == JOINTS and found.poses.dtype == np.float32
    np.testing.assert_array_equal(found.poses, poses)
    assert found.actions == ("b/01", "walk") and found.clip.tolist() == [0, 1]
    two = found.with_joints(("left_ankle", "head"))
    np.testing.assert_array_equal(two.poses[0], [[0, 100, 100], [0, 0, 1700]])
    split = found.split(["b/"])
    assert split["valid"].names == ("b/01_07",) and split["train"].names == ("a/walk_1",)
    np.testing.assert_array_equal(split["train"].poses, poses[1:])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_motions(tmp_path / "a.npz", 3, 6, seed=5)
    found = read_clips(tmp_path / "a.npz")
    clips.write(tmp_path / "b.npz", found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (made(PERSON[None] / 1000), "expected people in mm"),
        (made(np.full((1, 3, 3), np.nan)), "pose 0 of clip a/walk_1"),
        (made(PERSON[None, :, [0, 2, 1]]), "z axis up"),
        (made(PERSON[None], start=np.array([0, 5])), "start should rise"),
        (made(PERSON[None], start=np.array([0.0, 1.0])), "start should rise"),
        (made(PERSON[None], joints=np.array(["head", "r_ankle"])), "do not fit"),
        (made(PERSON[None], joints=np.array(["head", "head", "l_ankle"])), "two joints of one name"),
        (made(np.empty((0, 3, 3)), start=np.array([0]), names=np.empty(0, "U1"), fps=np.empty(0)), "holds no pose"),
        (made(PERSON[None], names=np.array([7])), "names holds int64"),
        (made(PERSON[None], names=np.array([2**31], np.uint32).view("U1")), "illegal characters"),
    ],
)
def test_wrong_contents_as_data_error(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    path = tmp_path / "motion.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said) as error:
        read_clips(path)
    assert str(path) in str(error.value)


class Harm:
    def __reduce__(self) -> tuple:
        return (open, ("harm.txt", "w"))


def test_objects_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "motion.npz"
    np.savez(path, **made(np.array([Harm()], object)), allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected numbers or texts"):
        read_clips(path)
    assert not (tmp_path / "harm.txt").exists()
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match="not a readable .npz"):
        read_clips(path)
    assert not (tmp_path / "harm.txt").exists()


def test_claimed_sizes_are_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 17, 3)})
    np.savez(path, **{name: values for name, values in made(PERSON[None]).items() if name != "poses"})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("poses.npy", content.getvalue())
    with pytest.raises(DataError, match="damaged"):
        read_clips(path)


def test_cut_short_missing_and_other_files_as_data_error(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    np.savez(path, **made(PERSON[None]))  # type: ignore[arg-type]
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="motion.npz"):
            read_clips(path)
    with pytest.raises(DataError, match="does not exist"):
        read_clips(tmp_path / "other")
    with pytest.raises(DataError, match="is none of these"):
        read_clips(tmp_path)


def test_held_out_people_have_to_exist(tmp_path: Path) -> None:
    np.savez(tmp_path / "motion.npz", **made(PERSON[None]))  # type: ignore[arg-type]
    found = read_clips(tmp_path / "motion.npz")
    with pytest.raises(DataError, match="no clip has a name that begins with b; the names begin with a"):
        found.split(["b"])
    with pytest.raises(DataError, match="none is left to train on"):
        found.split(["a"])
    with pytest.raises(DataError, match="no joint left_knee"):
        found.with_joints(["left_knee"])


def write_human36m(path: Path, index: list[list[int]], height: float = 1700.0) -> np.ndarray:
    """Write a train.mat or val.mat with random people who stand upright; return their joints (N, 17, 3)."""
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 100, (len(index), 17, 3))
    joints[..., 2] += np.array([9, 9, 5, 1, 9, 5, 1, 12, 14, 16, 17, 14, 11, 9, 14, 11, 9]) / 17 * height
    content = {"ind2sub": np.array(index, np.int32), "coord_w": joints.reshape(len(index), 51).astype(np.float32)}
    savemat(path, content | {"focal": np.ones((4, 2))})
    return joints


def test_human36m_files_are_read_clip_by_clip(tmp_path: Path) -> None:
    train = write_human36m(tmp_path / "train.mat", [[1, 2, 1, 6], [1, 2, 1, 16], [1, 2, 2, 6], [7, 14, 1, 6]])
    valid = write_human36m(tmp_path / "val.mat", [[5, 16, 2, 6]])
    found = read_clips(tmp_path)
    assert found.names == (
        "train/S1/directions/1",
        "train/S1/directions/2",
        "train/S7/walking/1",
        "valid/S5/walking_together/2",
    )
    assert found.first.tolist() == [0, 2, 3, 4, 5] and found.fps[0] == 5
    assert found.actions == ("directions", "directions", "walking", "walking_together")
    np.testing.assert_allclose(found.poses, np.concatenate([train, valid]), atol=1e-3)
    assert found.split(["valid/"])["valid"].names == ("valid/S5/walking_together/2",)


def test_the_joints_of_penn_action_are_those_that_skeleton2d3d_takes() -> None:
    published = [10, 15, 12, 16, 13, 17, 14, 2, 5, 3, 6, 4, 7]  # FORECAST.md 3, counted from 1
    assert [human36m.JOINTS.index(name) + 1 for name in PENN_ACTION.skeleton.joints] == published


def test_damaged_human36m_files_as_data_error(tmp_path: Path) -> None:
    write_human36m(tmp_path / "train.mat", [[1, 2, 1, 6]])
    with pytest.raises(DataError, match="val.mat is missing"):
        read_clips(tmp_path)
    write_human36m(tmp_path / "val.mat", [[5, 99, 1, 6]])
    with pytest.raises(DataError, match="val.mat: ind2sub has actions outside of 2 to 16"):
        read_clips(tmp_path)
    savemat(tmp_path / "val.mat", {"ind2sub": np.ones((2, 4)), "coord_w": np.ones((2, 34))})
    with pytest.raises(DataError, match="expected N x 4 and N x 51"):
        read_clips(tmp_path)
    whole = (tmp_path / "train.mat").read_bytes()
    (tmp_path / "val.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="val.mat"):
        read_clips(tmp_path)


def test_the_sample_writes_its_people_as_motion_capture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_motions(tmp_path / f"{name}.npz", 3, 8, seed=2)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_clips(tmp_path / "a.npz")
    assert found.joints == PENN_ACTION.skeleton.joints
    assert set(found.actions) == {"bowl", "golf_swing", "jumping_jacks", "pushup", "squat", "everyday"}
    jacks = found.select(np.array(found.actions) == "jumping_jacks")
    where = {name: jacks.poses[:, found.joints.index(name)] for name in found.joints}
    # The people face the direction of x, and z points up.
    assert (where["left_shoulder"][:, 1] > where["right_shoulder"][:, 1] + 200).all()
    assert (where["head"][:, 2] > 1300).all() and (where["left_ankle"][:, 2] < 200).all()
    thigh = np.linalg.norm(where["left_hip"] - where["left_knee"], axis=-1)
    for clip in range(len(jacks)):
        assert np.ptp(thigh[jacks.clip == clip]) < 0.1  # mm: the limbs of a person keep their lengths
    assert set(found.split(["valid/"])) == {"train", "valid"}


@pytest.mark.skipif(not (SHARED / "mocap").is_dir(), reason="needs the motion capture of ../shared/data/mocap")
def test_real_motion_capture_is_read() -> None:
    found = read_clips(SHARED / "mocap/mocap17.npz").with_joints(PENN_ACTION.skeleton.joints)
    assert found.poses.shape == (20125, 13, 3) and len(found) == 97
    split = found.split(["cmu/02", "cmu/03"])
    assert {name[:6] for name in split["valid"].names} == {"cmu/02", "cmu/03"}
    assert len(split["train"].poses) + len(split["valid"].poses) == 20125
    left, right = (found.poses[:, found.joints.index(f"{side}_hip")] for side in ("left", "right"))
    assert 100 < np.linalg.norm(left - right, axis=-1).mean() < 300
