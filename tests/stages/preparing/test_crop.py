"""Cropping sequences: pixels and labels, damaged frames, and interruptions."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets import penn_action
from datasets.errors import DataError
from datasets.formats import penn_labels
from datasets.formats.penn_labels import Label
from stages.preparing import crop
from tests.python_path import ROOT, python_path

WIDTH, HEIGHT = 48, 32


def make_dataset(root: Path, sequences: int = 2, frames: int = 2, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write sequences with smooth frames, in which red increases to the right and green increases downwards."""
    (root / "labels").mkdir(parents=True)
    (root / "frames").mkdir()
    y, x = np.mgrid[:height, :width]
    image = np.dstack([np.full_like(x, 60), y * 200 // height, x * 200 // width]).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    for number in range(1, sequences + 1):
        folder = root / "frames" / f"{number:04d}"
        folder.mkdir()
        for frame in range(frames):
            (folder / penn_action.frame_name(frame)).write_bytes(jpeg)
        label = Label(
            sequence=f"{number:04d}", action="squat", pose="front", train=True,
            joints=np.full((frames, 13, 2), 15.0), visible=np.ones((frames, 13), bool),
            bbox=np.tile([10.0, 4.0, 39.0, 25.0], (frames, 1)), width=width, height=height,
        )  # fmt: skip
        penn_labels.write_label(root / "labels" / f"{number:04d}.mat", label)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "raw")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for folder in ("frames", "labels"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    return tmp_path / "out"


def test_frames_and_labels_are_cut_alike(source: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    (source / "frames/0001/000003.jpg").write_bytes(b"no label tells of this frame")
    totals = crop.crop_penn(source, tmp_path / "o", 95, 2, lambda *progress: calls.append(progress))
    assert totals == {"sequences": 2, "frames": 4, "frames_without_label": 1}
    assert calls == [(0, 2), (1, 2), (2, 2)]
    assert sorted(str(path.relative_to(tmp_path / "o")) for path in (tmp_path / "o").rglob("*.*")) == [
        "frames/0001/000001.jpg", "frames/0001/000002.jpg", "frames/0002/000001.jpg", "frames/0002/000002.jpg",
        "labels/0001.mat", "labels/0002.mat",
    ]  # fmt: skip
    whole = cv2.imread(str(source / "frames/0002/000002.jpg"))
    cut = cv2.imread(str(tmp_path / "o/frames/0002/000002.jpg"))
    assert whole is not None and cut is not None and cut.shape == (22, 30, 3)
    difference = np.abs(cut.astype(int) - whole[4:26, 10:40]).mean()
    assert difference < 3  # a horizontal shift by one pixel would change red by 4
    label = penn_labels.read_label(tmp_path / "o/labels/0002.mat")
    assert (label.width, label.height, label.frames) == (30, 22, 2)
    assert label.joints[1, 7].tolist() == [5, 11] and label.bbox[0].tolist() == [0, 0, 29, 21]


def test_finished_sequences_are_skipped_and_others_done_again(source: Path, tmp_path: Path) -> None:
    crop.crop_penn(source, tmp_path / "o", 90, 1)
    (tmp_path / "o/labels/0001.mat").unlink()
    for sequence in ("0001", "0002"):
        (tmp_path / f"o/frames/{sequence}/000001.jpg").write_bytes(b"half")
    assert crop.crop_penn(source, tmp_path / "o", 90, 1) == {"sequences": 2, "frames": 4, "frames_without_label": 0}
    assert (tmp_path / "o/frames/0001/000001.jpg").stat().st_size > 100
    assert (tmp_path / "o/frames/0002/000001.jpg").read_bytes() == b"half"


def damage(kind: str, data: bytes) -> bytes:
    middle = len(data) // 2 + 60
    return {
        "cut": data[:middle],
        "cut by the last byte": data[:-1],
        "cut and filled up": data[:middle] + bytes(len(data) - middle),
        "cut with an end put on": data[:middle] + b"\xff\xd9",
        "overwritten inside": data[:middle] + bytes(30) + data[middle + 30 :],
        "empty": b"",
        "another kind": b"GIF89a" + bytes(50) + b"\xff\xd9",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["cut", "cut by the last byte", "cut and filled up", "cut with an end put on", "overwritten inside", "empty",
     "another kind"],
)  # fmt: skip
def test_damaged_frames_are_named(source: Path, out: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    frame = source / "frames/0002/000002.jpg"
    cv2.imwrite(str(frame), noise)
    frame.write_bytes(damage(kind, frame.read_bytes()))
    with pytest.raises(DataError, match=r"frames/0002/000002\.jpg is (damaged|empty|neither)"):
        crop.crop_sequence(source, out, "0002", 90)
    assert not list((out / "labels").iterdir())


def test_missing_frames_and_frames_of_another_size_are_named(source: Path, out: Path) -> None:
    frame = source / "frames/0001/000002.jpg"
    cv2.imwrite(str(frame), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r"frames/0001/000002\.jpg is 32 x 48 px, .* says 48 x 32"):
        crop.crop_sequence(source, out, "0001", 90)
    frame.unlink()
    with pytest.raises(DataError, match=r"frames/0001/000002\.jpg is missing"):
        crop.crop_sequence(source, out, "0001", 90)


def test_a_grey_frame_with_bytes_after_its_end_is_taken(source: Path, out: Path) -> None:
    frame = source / "frames/0001/000002.jpg"
    cv2.imwrite(str(frame), np.full((HEIGHT, WIDTH), 99, np.uint8))
    frame.write_bytes(frame.read_bytes() + b"camera notes")
    crop.crop_sequence(source, out, "0001", 90)
    assert (out / "frames/0001/000002.jpg").exists() and (out / "labels/0001.mat").exists()


def test_errors_of_worker_processes_are_raised(source: Path, tmp_path: Path) -> None:
    frame = source / "frames/0002/000001.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    with pytest.raises(DataError, match="frames/0002/000001"):
        crop.crop_penn(source, tmp_path / "o", 90, 2)
    assert not (tmp_path / "o/labels/0002.mat").exists()


def test_a_full_disk_raises_oserror(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        crop.crop_sequence(source, out, "0001", 90)
    assert not list((out / "labels").iterdir())


def test_disk_space_is_checked_before_cropping(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 4 frames of 30 x 22 px need 8984 bytes: 0.3 bytes per pixel at quality 95, and half a disk block per frame."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(8983))
    with pytest.raises(DataError, match=r"Cropping 2 sequences needs 9 kB in .*, where 9 kB are free"):
        crop.crop_penn(source, tmp_path / "o", 95, 1)
    assert not list((tmp_path / "o").rglob("*.jpg"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(8984))
    crop.crop_penn(source, tmp_path / "o", 95, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    crop.crop_penn(source, tmp_path / "o", 95, 1)  # all cropped frames exist


def test_wrong_folders(source: Path, tmp_path: Path) -> None:
    (source / "labels/0001.mat").rename(source / "labels/0003.mat")
    with pytest.raises(DataError, match="1 sequences have no frames, such as 0003"):
        crop.crop_penn(source, tmp_path / "o", 90, 1)
    (source / "labels/0003.mat").unlink()
    with pytest.raises(DataError, match="1 sequences have no label, such as 0001"):
        crop.crop_penn(source, tmp_path / "o", 90, 1)


PROGRAM = """
import sys
from pathlib import Path
from stages.preparing import crop
if __name__ == "__main__":
    try:
        crop.crop_penn(Path(sys.argv[1]), Path(sys.argv[2]), 90, 2, lambda done, total: print(done, flush=True))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def members(group: int) -> list[int]:
    """Return the running processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process_and_resumes(tmp_path: Path, how: signal.Signals) -> None:
    source = make_dataset(tmp_path / "raw", sequences=120, frames=6, width=320, height=240)
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(source), str(tmp_path / "o")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": python_path()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert [process.stdout.readline() for _ in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
    if how == signal.SIGINT:
        os.killpg(process.pid, signal.SIGINT)  # as with Ctrl+C in a terminal, the worker processes get the signal, too
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130 and error == ""
    else:
        process.kill()
        process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process.pid) == []
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "o/labels").glob("*.mat")}
    assert 3 <= len(finished) < 120
    totals = crop.crop_penn(source, tmp_path / "o", 90, 2)
    assert totals == {"sequences": 120, "frames": 720, "frames_without_label": 0}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(list((tmp_path / "o/frames").rglob("*.jpg"))) == 720
