"""Write the built-in sample data, which are drawn people packed like the archives of MPII Human Pose and Penn Action.

The sample can replace the real archives, which are large or need a download by hand. The code that unpacks the archives, and
all code after it, processes the sample like the real data. Equal seeds give equal bytes. This module labels and packs the
images that `pictures` draws. The drawn joints are in 0-based pixels; the formats of both archives are 1-based, so 1 is added
when the labels are made.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from scipy.io import savemat

from datasets.progress import Report, silent
from datasets.sample.pictures import Clip, Person, draw_still
from datasets.sample.poses import ACTIONS

_MAT_HEADER = b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 2015"
_ARCHIVE_TIME = 1420070400  # a constant time in every tar header, so that equal content gives equal bytes
_ACTS = (
    ("standing, talking", "miscellaneous"),
    ("walking, for exercise", "walking"),
    ("calisthenics", "conditioning exercise"),
)
_EMPTY = np.zeros((0, 0))

# A function that yields function(*job) for each job, in the order of the jobs, like itertools.starmap; it may use several
# processes.
Compute = Callable[[Callable[..., Any], list[tuple]], Iterator[Any]]


# MPII Human Pose ------------------------------------------------------------------------------------------------------


def write_mpii(
    folder: Path,
    people: int,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
    report: Report = silent,
    compute: Compute = starmap,
) -> None:
    """Write `mpii_human_pose_v1.tar.gz` and `mpii_human_pose_v1_u12_2.zip` into `folder`.

    people: number of drawn people; about one image in seven shows two people. size: (height, width) in px; in half of the
    images, height and width are exchanged. One of every eight images is for testing (img_train 0). The oddities of the official
    file are reproduced: images without people, people without scale and objpos, is_visible missing, empty or a string. Calls
    report(people so far, people). compute: draws the images; see `Compute`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple] = []
    drawn = 0
    while drawn < people:
        count = min(people - drawn, _mpii_image_start(seed, len(jobs))[0])
        jobs.append((seed, size, len(jobs), count))
        drawn += count
    records: list[dict[str, Any]] = []
    drawn = 0
    with _tar_gz(folder / "mpii_human_pose_v1.tar.gz") as add:
        add("images", None)
        for name, image, record in compute(_mpii_image, jobs):
            add(f"images/{name}", image)
            records.append(record)
            drawn += jobs[len(records) - 1][-1]
            report(drawn, people)
    _write_release(folder / "mpii_human_pose_v1_u12_2.zip", records)


def _mpii_image_start(seed: int, number: int) -> tuple[int, Generator]:
    """Return how many people an image should show (0, 1 or 2), and the generator that draws the image."""
    rng = np.random.default_rng([seed, 1, number])
    return (0 if number % 50 == 17 else 1 + int(rng.random() < 0.15)), rng


def _mpii_image(seed: int, size: tuple[int, int], number: int, count: int) -> tuple[str, bytes, dict[str, Any]]:
    """Return the name, the JPEG bytes and the annotations (see `_mpii_record`) of an image of `count` people."""
    _, rng = _mpii_image_start(seed, number)
    name = f"{15601864 + 7919 * number:09d}.jpg"
    image, crowd = draw_still(rng, size if rng.random() < 0.5 else size[::-1], count)
    return name, _jpeg(image), _mpii_record(rng, name, number, crowd, image.shape[:2])


def _mpii_record(rng: Generator, name: str, number: int, crowd: list[Person], size: tuple[int, int]) -> dict[str, Any]:
    """Return one image's entries of MPII's annotation file (annolist, img_train and act), with 1-based coordinates.

    number: the image's number; crowd: the people on the image; size: (height, width) px.
    """
    train = number % 8 != 5
    rects = [_annorect(rng, person, 2 * number + k, train, size) for k, person in enumerate(crowd)]
    if number % 30 == 9:  # as in the official file, some people have no scale and position
        rects[-1].update(scale=_EMPTY, objpos=_EMPTY)
        if len(rects) == 1 and train and number % 60 == 9:
            del rects[-1]["scale"], rects[-1]["objpos"]
    return {
        "entry": {"image": _struct([{"name": name}]), "annorect": _struct(rects) if rects else _EMPTY,
                  "frame_sec": number * 7 % 200, "vididx": number % 20 + 1},
        "train": int(train), "people": len(rects), "act": _ACTS[number % 3] if train else ("", ""),
    }  # fmt: skip


def _annorect(rng: Generator, person: Person, serial: int, train: bool, size: tuple[int, int]) -> dict[str, Any]:
    """Return one person's entry annorect: head box, points, scale and objpos, with 1-based coordinates.

    As in the official file, test people have only scale and objpos. serial: the person's number, which determines the form of
    `is_visible` (see `_points`).
    """
    figure, h = person.figure, person.figure.height
    inside = _inside(figure.points[:16, :2], size)
    seen = figure.points[:16, :2][inside]
    scale = h / 200 * rng.normal(1, 0.02)
    middle = (seen.min(0) + seen.max(0)) / 2 + rng.normal(0, 0.015, 2) * h - (0, 15 * scale) + 1
    rect: dict[str, Any] = {}
    if train:
        neck, top = figure.points[8, :2], figure.points[9, :2]
        way = np.abs(top - neck)
        reach = way / 2 + 0.055 * h * way[::-1] / max(float(np.hypot(*way)), 1e-6)
        corners = np.rint(np.concatenate([(neck + top) / 2 - reach, (neck + top) / 2 + reach]) + 1)
        rect.update(zip(("x1", "y1", "x2", "y2"), (_compact(c) for c in corners), strict=True))
        rect["annopoints"] = _struct([{"point": _struct(_points(person, inside, serial))}])
    return {
        **rect,
        "scale": round(float(scale), 6),
        "objpos": _struct([{"x": _compact(round(middle[0])), "y": _compact(round(middle[1]))}]),
    }


def _points(person: Person, inside: np.ndarray, serial: int) -> list[dict[str, Any]]:
    """Return one person's points in the usual order of the official file.

    Depending on `serial`, `is_visible` is a number, a string, or missing, as in the official file.
    """
    assert person.visible is not None
    points = []
    for joint in (6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15):
        if not inside[joint]:
            continue
        x, y = (person.figure.points[joint, :2] + 1).tolist()
        if joint not in (8, 9):  # as in the official file, only the two ends of the head have fractional coordinates
            x, y = round(x), round(y)
        visible: Any = _EMPTY if joint in (8, 9) else int(person.visible[joint])
        point: dict[str, Any] = {"x": _compact(round(x, 3)), "y": _compact(round(y, 3)), "id": _compact(joint)}
        if serial % 14 == 2:
            point = {
                "id": point["id"],
                "x": point["x"],
                "y": point["y"],
                "is_visible": _EMPTY if joint in (8, 9) else str(visible),
            }
        elif serial % 14 != 8:
            point["is_visible"] = visible if visible is _EMPTY else _compact(visible)
        points.append(point)
    return points


def _write_release(path: Path, records: list[dict[str, Any]]) -> None:
    count = len(records)
    single = np.empty((count, 1), object)
    for i, record in enumerate(records):
        single[i, 0] = np.arange(1, record["people"] + 1, dtype=np.uint8)[:, None] if record["people"] else _EMPTY
    videos = np.empty((1, 20), object)
    videos[0] = [f"sample{k:05d}" for k in range(1, 21)]
    acts = _struct([{"act_name": name, "cat_name": kind, "act_id": _compact(i % 3 + 1) if name else _compact(-1)}
                    for i, (name, kind) in enumerate(record["act"] for record in records)])  # fmt: skip
    release = {
        "annolist": _struct([record["entry"] for record in records]),
        "img_train": np.array([[record["train"] for record in records]], np.uint8),
        "version": "12", "single_person": single, "act": acts.T, "video_list": videos,
    }  # fmt: skip
    member = zipfile.ZipInfo("mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat")  # a zip entry with a constant date (1980)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, _mat({"RELEASE": _struct([release])}))


# Penn Action ----------------------------------------------------------------------------------------------------------


def write_penn(
    folder: Path, sequences: int = 10, frames: tuple[int, int] = (20, 24), size: tuple[int, int] = (200, 280),
    actions: tuple[str, ...] = tuple(ACTIONS), seed: int = 0, report: Report = silent, compute: Compute = starmap,
) -> None:  # fmt: skip
    """Write `Penn_Action.tar.gz` into `folder`: `sequences` clips of each action.

    The clips are numbered from 0001, first all clips of one action, then all of the next action. frames: fewest and most frames
    of a sequence; size: (height, width) in px. Two of every three sequences of an action are for training. Hidden joints have
    visibility 0 and coordinates at (1, 1) or on the image's lower edge. Every 17th sequence, from the fourth on, stores
    integers in small unsigned types. Calls report(number of frames so far, number of all frames). compute: draws the sequences;
    see `Compute`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels: dict[str, bytes] = {}
    jobs = [(seed, size, *planned) for planned in _penn_plan(sequences, frames, actions, seed)]
    done, total = 0, sum(length for *_, length in jobs)
    with _tar_gz(folder / "Penn_Action.tar.gz") as add:
        for part in ("", "/frames", "/labels", "/tools"):
            add(f"Penn_Action{part}", None)
        add("Penn_Action/README", b"Drawn sample data in the layout of Penn Action. It shows no real person.\n")
        add("Penn_Action/tools/README", b"The tools of the original distribution are not part of the sample.\n")
        for (_, _, number, *_), (images, label) in zip(jobs, compute(_penn_sequence, jobs), strict=True):
            add(f"Penn_Action/frames/{number:04d}", None)
            for t, image in enumerate(images, 1):
                add(f"Penn_Action/frames/{number:04d}/{t:06d}.jpg", image)
            labels[f"Penn_Action/labels/{number:04d}.mat"] = label
            done += len(images)
            report(done, total)
        for name, content in labels.items():
            add(name, content)


def penn_clips(
    sequences: int, frames: tuple[int, int], size: tuple[int, int] = (200, 280),
    actions: tuple[str, ...] = tuple(ACTIONS), seed: int = 0,
) -> Iterator[tuple[int, str, bool, Clip]]:  # fmt: skip
    """Yield the sequences of `write_penn`: number (from 1), action, whether the sequence is for training, and parameters."""
    for number, action, train, length in _penn_plan(sequences, frames, actions, seed):
        yield number, action, train, _penn_clip(seed, size, number, action, length)


def _penn_plan(
    sequences: int, frames: tuple[int, int], actions: tuple[str, ...], seed: int
) -> list[tuple[int, str, bool, int]]:
    """Return number (from 1), action, whether it is for training, and number of frames of each sequence."""
    kinds = [(action, k % 3 != 2) for action in actions for k in range(sequences)]
    lengths = np.random.default_rng([seed, 2]).integers(frames[0], frames[1] + 1, len(kinds)).tolist()
    return [(number, *kind, length) for number, (kind, length) in enumerate(zip(kinds, lengths, strict=True), 1)]


def _penn_clip(seed: int, size: tuple[int, int], number: int, action: str, length: int) -> Clip:
    return Clip.prepare(np.random.default_rng([seed, 3, number - 1]), action, length, size)


def _penn_sequence(
    seed: int, size: tuple[int, int], number: int, action: str, train: bool, length: int
) -> tuple[list[bytes], bytes]:
    """Return the JPEG bytes of all frames of a sequence, and the bytes of its label file."""
    clip = _penn_clip(seed, size, number, action, length)
    images, joints, visible = zip(*(clip.frame(t) for t in range(length)), strict=True)
    return [_jpeg(image) for image in images], _penn_label(number - 1, action, train, clip, np.stack(joints), np.stack(visible))


def _penn_label(number: int, action: str, train: bool, clip: Clip, joints: np.ndarray, visible: np.ndarray) -> bytes:
    """Return the bytes of one sequence's label file (.mat), with 1-based coordinates.

    joints: (T, 13, 2) in 0-based px; visible: (T, 13) bool.
    """
    height, width = clip.size
    room = np.array([width, height])
    h = clip.figures[0].height
    boxes = np.concatenate([joints.min(1) - 0.07 * h, joints.max(1) + 0.07 * h], 1) + 1
    boxes = np.clip(boxes, 1, np.tile(room, 2))
    parked = np.ones_like(joints)  # coordinates of hidden joints
    if number % 2:
        parked[..., 0], parked[..., 1] = np.clip(joints[..., 0] + 1, 1, width), height
    labelled = np.where(visible[..., None], joints + 1, parked)
    if number % 17 == 3:
        labelled, boxes = _compact(np.rint(labelled)), _compact(np.rint(boxes))
    turned = (clip.yaw + 180) % 360 - 180
    pose = "front" if abs(turned) < 45 else "back" if abs(turned) > 135 else "right" if turned > 0 else "left"
    return _mat({
        "action": action, "pose": pose, "x": labelled[..., 0], "y": labelled[..., 1], "visibility": visible,
        "train": np.int32(1 if train else -1), "bbox": boxes,
        "dimensions": _compact([[height, width, len(joints)]]), "nframes": _compact(len(joints)),
    })  # fmt: skip


# Both -----------------------------------------------------------------------------------------------------------------


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.all((points >= 0) & (points <= np.array([size[1], size[0]]) - 1), axis=1)


def _compact(values: Any) -> np.ndarray:
    """Return whole numbers in the smallest integer dtype that fits, as MATLAB stores them; other numbers as float64."""
    array = np.asarray(values)
    if (array == np.rint(array)).all():
        for kind in (np.uint8, np.uint16, np.int16, np.int32):
            if np.iinfo(kind).min <= array.min() and array.max() <= np.iinfo(kind).max:
                return array.astype(kind)
    return array.astype(np.float64)


def _struct(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return records that have the same field names as a 1 x n MATLAB struct array."""
    out = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        out[0, i] = tuple(row.values())
    return out


def _mat(content: dict[str, Any]) -> bytes:
    """Return the bytes of a MATLAB 5 file with a constant header, because scipy would write the current date."""
    buffer = io.BytesIO()
    savemat(buffer, content, long_field_names=True)
    return _MAT_HEADER.ljust(116) + buffer.getvalue()[116:]


def _jpeg(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return data.tobytes()


@contextmanager
def _tar_gz(path: Path) -> Iterator[Callable[[str, bytes | None], None]]:
    """Open a .tar.gz for writing; provides a function add(name, content), where content None adds a folder."""
    with (
        open(path, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):

        def add(name: str, content: bytes | None) -> None:
            member = tarfile.TarInfo(name)
            member.mtime = _ARCHIVE_TIME
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))

        yield add
