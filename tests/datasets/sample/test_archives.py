"""The sample data has the official formats, equal seeds give equal bytes, and labels lie where the people are drawn."""

import io
import tarfile
import zipfile
from functools import partial
from itertools import starmap
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from datasets.penn_action import PENN_ACTION
from datasets.sample.archives import write_mpii, write_penn
from datasets.sample.motions import penn_poses
from datasets.sample.people import Figure, Look, draw_person, visible_joints
from datasets.sample.poses import LENGTHS, Movement, build_figures, everyday_pose
from stages.machine.pool import each

ACTIONS = ("bowl", "golf_swing", "jumping_jacks", "pushup", "squat")


@pytest.fixture(scope="module")
def mpii(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpii")
    write_mpii(folder, 90, size=(120, 160), seed=3)
    return folder


@pytest.fixture(scope="module")
def penn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("penn")
    write_penn(folder, 3, frames=(24, 26), seed=3)
    return folder


def release(folder: Path) -> np.void:
    with zipfile.ZipFile(folder / "mpii_human_pose_v1_u12_2.zip") as archive:
        assert archive.namelist() == ["mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"]
        return loadmat(io.BytesIO(archive.read(archive.namelist()[0])))["RELEASE"][0, 0]


def rects(folder: Path) -> list[tuple[int, np.void]]:
    """Return (image number, annorect) of every person."""
    entries = release(folder)["annolist"][0]
    return [(i, rect) for i, entry in enumerate(entries) if entry["annorect"].size for rect in entry["annorect"][0]]


def labels(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    with tarfile.open(folder / "Penn_Action.tar.gz") as archive:
        names = [name for name in archive.getnames() if name.endswith(".mat")]
        return {name: loadmat(io.BytesIO(archive.extractfile(name).read())) for name in names}  # type: ignore[union-attr]


def t_pose() -> Figure:
    """Return a person, 300 px tall, who stands at (200, 330), faces the viewer and holds both arms level."""
    angles = np.zeros((1, 10, 2))
    angles[:, 2:6, 0] = 90
    angles[:, 6:, 0] = 12
    (figure,) = build_figures(Movement(angles), yaw=0, pitch=0, roll=0, height=300)
    return Figure(figure.points + (200, 330, 0), figure.head, figure.chest, 300)


def draw(figure: Figure, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw the person on a green image; return a mask of the changed pixels, and the image of part numbers."""
    sheet = np.full((360, 400, 3), (0, 255, 0), np.uint8)
    image, parts = sheet.copy(), np.zeros(sheet.shape[:2], np.uint8)
    draw_person(image, parts, figure, Look.random(np.random.default_rng(seed), sporty=False), 0)
    return (np.abs(image.astype(int) - sheet).max(2) > 20), parts


def test_mpii_archive_holds_the_named_images(mpii: Path) -> None:
    with tarfile.open(mpii / "mpii_human_pose_v1.tar.gz", "r:gz") as archive:
        members = archive.getmembers()
        assert members[0].name == "images" and members[0].isdir()
        listed = [entry["image"][0, 0]["name"][0] for entry in release(mpii)["annolist"][0]]
        assert [member.name for member in members[1:]] == [f"images/{name}" for name in listed]
        sizes = set()
        for member in members[1:]:
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            sizes.add(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape)
    assert sizes == {(120, 160, 3), (160, 120, 3)}


def test_release_has_the_official_fields_and_shapes(mpii: Path) -> None:
    content = release(mpii)
    n = content["annolist"].shape[1]
    assert set(content.dtype.names) == {"annolist", "img_train", "version", "single_person", "act", "video_list"}
    assert content["annolist"].shape == content["img_train"].shape == (1, n)
    assert content["single_person"].shape == content["act"].shape == (n, 1)
    assert content["annolist"].dtype.names == ("image", "annorect", "frame_sec", "vididx")
    assert content["act"].dtype.names == ("act_name", "cat_name", "act_id")
    assert len(rects(mpii)) == 90
    share = content["img_train"].mean()
    assert 0.8 < share < 0.95


def test_release_shows_the_official_oddities(mpii: Path) -> None:
    train = release(mpii)["img_train"][0]
    kinds: set[str] = set()
    for i, rect in rects(mpii):
        fields = rect.dtype.names
        assert ("annopoints" in fields) == bool(train[i])
        if "scale" not in fields or not rect["scale"].size:
            kinds.add("no scale" if "scale" not in fields else "empty scale")
        if not train[i]:
            continue
        points = rect["annopoints"][0, 0]["point"][0]
        if "is_visible" not in points.dtype.names:
            kinds.add("no visibility")
            continue
        for point in points:
            visible, joint = point["is_visible"], int(point["id"][0, 0])
            assert (visible.size == 0) == (joint in (8, 9))
            if visible.dtype.kind == "U":
                kinds.add(f"string {visible[0]}")
            elif visible.size:
                kinds.add(f"number {visible[0, 0]}")
    empty = [entry for entry in release(mpii)["annolist"][0] if not entry["annorect"].size]
    assert empty, "there is an image without people"
    assert {"no scale", "empty scale", "no visibility", "string 1", "number 0", "number 1"} <= kinds


def test_mpii_head_box_holds_the_head_and_box_of_scale_holds_the_person(mpii: Path) -> None:
    for _, rect in rects(mpii):
        if "annopoints" not in rect.dtype.names or "scale" not in rect.dtype.names or not rect["scale"].size:
            continue
        points = {int(p["id"][0, 0]): (float(p["x"][0, 0]), float(p["y"][0, 0])) for p in rect["annopoints"][0, 0]["point"][0]}
        x1, y1, x2, y2 = (float(rect[name][0, 0]) for name in ("x1", "y1", "x2", "y2"))
        for joint in {8, 9} & set(points):
            assert x1 - 1 <= points[joint][0] <= x2 + 1 and y1 - 1 <= points[joint][1] <= y2 + 1
        scale = float(rect["scale"][0, 0])
        centre = np.array([float(rect["objpos"][0, 0][name][0, 0]) for name in ("x", "y")]) + (0, 15 * scale)
        away = np.abs(np.array(list(points.values())) - centre).max(1)
        assert (away < 200 * scale * 1.25 / 2).mean() > 0.85  # nearly all joints lie inside the box that the network sees


def test_same_seed_gives_the_same_bytes_in_one_process_or_two(tmp_path: Path) -> None:
    in_processes = partial(each, workers=2, in_job_order=True)
    for seed, place, compute in ((5, "a", starmap), (5, "b", in_processes), (6, "c", starmap)):
        write_mpii(tmp_path / place, 4, size=(60, 80), seed=seed, compute=compute)
        write_penn(tmp_path / place, 2, frames=(2, 3), size=(60, 90), actions=("squat",), seed=seed, compute=compute)
    for name in ("mpii_human_pose_v1.tar.gz", "mpii_human_pose_v1_u12_2.zip", "Penn_Action.tar.gz"):
        a, b, c = ((tmp_path / place / name).read_bytes() for place in "abc")
        assert a == b
        assert a != c
        assert name.endswith(".zip") or a[4:8] == bytes(4)  # the header of gzip contains no time


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_mpii(tmp_path, 5, size=(60, 80), report=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)
    calls.clear()
    write_penn(tmp_path, 1, frames=(3, 3), size=(60, 90), actions=("bowl", "squat"), report=lambda d, t: calls.append((d, t)))
    assert calls == [(3, 6), (6, 6)]


def test_penn_archive_layout_and_label_types(penn: Path) -> None:
    with tarfile.open(penn / "Penn_Action.tar.gz", "r:gz") as archive:
        names = archive.getnames()
    assert {
        "Penn_Action",
        "Penn_Action/frames",
        "Penn_Action/labels",
        "Penn_Action/tools",
        "Penn_Action/README",
    } <= set(names)
    content = labels(penn)
    assert list(content) == [f"Penn_Action/labels/{k:04d}.mat" for k in range(1, 16)]
    for k, (name, label) in enumerate(content.items()):
        t = int(label["nframes"][0, 0])
        frames = [n for n in names if n.startswith(f"Penn_Action/frames/{name[-8:-4]}/")]
        assert frames == [f"Penn_Action/frames/{name[-8:-4]}/{f:06d}.jpg" for f in range(1, t + 1)]
        assert label["action"][0] == ACTIONS[k // 3]
        assert label["pose"][0] in ("front", "back", "left", "right")
        assert label["x"].shape == label["y"].shape == label["visibility"].shape == (t, 13)
        assert label["bbox"].shape == (t, 4)
        assert label["dimensions"].tolist() == [[200, 280, t]]
        assert label["train"][0, 0] == (1, 1, -1)[k % 3]
        assert label["__header__"].startswith(b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1")


def test_some_labels_are_whole_numbers_in_unsigned_types(penn: Path) -> None:
    kinds = [label["x"].dtype.kind for label in labels(penn).values()]
    assert kinds.count("u") == 1
    assert kinds.count("f") == 14


@pytest.mark.parametrize("sequences", [8, 10])
def test_enough_training_sequences_for_a_validation_part(tmp_path: Path, sequences: int) -> None:
    """Each action has so many training sequences that 9.2 % of them, rounded, are at least one; it also has test sequences."""
    write_penn(tmp_path, sequences, frames=(1, 1), size=(40, 60), actions=("bowl", "squat"))
    train = np.array([label["train"][0, 0] for label in labels(tmp_path).values()]).reshape(2, sequences)
    assert ((train == 1).sum(1) >= 6).all() and (np.round(0.092 * (train == 1).sum(1)) >= 1).all()
    assert ((train == -1).sum(1) >= 2).all()


def test_hidden_joints_have_dummy_coordinates_and_visible_ones_lie_in_the_box(penn: Path) -> None:
    corner = edge = shown = 0
    for label in labels(penn).values():
        x, y, box = (label[name].astype(float) for name in ("x", "y", "bbox"))
        seen = label["visibility"] != 0
        shown += int(seen.sum())
        corner += int(((x == 1) & (y == 1))[~seen].sum())
        edge += int((y == 200)[~seen].sum())
        assert (((x == 1) & (y == 1)) | (y == 200))[~seen].all()
        assert ((x >= 1) & (x <= 280) & (y >= 1) & (y <= 200)).all()
        inside = (x >= box[:, :1]) & (x <= box[:, 2:3]) & (y >= box[:, 1:2]) & (y <= box[:, 3:])
        assert inside[seen].all()
        assert ((box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3]) & (box[:, 0] >= 1) & (box[:, 2] <= 280)).all()
    assert corner > 0 and edge > 0
    total = sum(label["x"].size for label in labels(penn).values())
    assert 0.75 < shown / total < 0.98


def test_a_sequence_shows_one_whole_action(penn: Path) -> None:
    """The heights of all joints are the same at the end as at the beginning, and differ in between."""
    for name, label in labels(penn).items():
        y, seen = label["y"].astype(float), label["visibility"] != 0
        y[~seen] = np.nan
        height = float(np.ptp(label["bbox"].astype(float)[:, [1, 3]]))
        moved = np.nanmean(np.abs(y[1:] - y[:1]), axis=1)
        assert moved[-1] < 0.006 * height, name
        assert moved.max() > 0.03 * height and moved.argmax() < 0.9 * len(moved), name


def test_penn_wrists_lie_on_moving_pixels(penn: Path) -> None:
    """In jumping jacks, each frame differs from the median picture of its sequence at the labelled wrists."""
    content = labels(penn)
    hits, misses = [], []
    with tarfile.open(penn / "Penn_Action.tar.gz") as archive:
        for number in (7, 8, 9):
            label = content[f"Penn_Action/labels/{number:04d}.mat"]
            names = [f"Penn_Action/frames/{number:04d}/{t + 1:06d}.jpg" for t in range(int(label["nframes"][0, 0]))]
            data = [np.frombuffer(archive.extractfile(name).read(), np.uint8) for name in names]  # type: ignore[union-attr]
            frames = np.stack([cv2.GaussianBlur(cv2.imdecode(d, cv2.IMREAD_COLOR), (3, 3), 0) for d in data]).astype(int)
            change = np.abs(frames - np.median(frames, 0)).max(3)
            for t in range(len(frames)):
                for joint in (5, 6):
                    if label["visibility"][t, joint]:
                        x, y = round(float(label["x"][t, joint]) - 1), round(float(label["y"][t, joint]) - 1)
                        hits.append(change[t, y, x])
                        misses.append(change[t, max(0, y - 35), x])
    assert np.median(hits) > 2.5 * np.median(misses)
    assert np.mean(np.array(hits) > 20) > 0.75


def test_t_pose_has_the_lengths_it_should_and_right_is_left_in_the_image() -> None:
    p = t_pose().points[:, :2]
    h = 300
    np.testing.assert_allclose(p[13] - p[12], (2 * LENGTHS["shoulders"] * h, 0), atol=1e-6)
    np.testing.assert_allclose(p[15] - p[13], ((LENGTHS["upper_arm"] + LENGTHS["forearm"]) * h, 0), atol=1e-6)
    np.testing.assert_allclose(np.hypot(*(p[1] - p[2])), LENGTHS["thigh"] * h)
    for right, left in ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)):
        assert p[right, 0] < p[6, 0] < p[left, 0]
        np.testing.assert_allclose(p[right, 1], p[left, 1])
    np.testing.assert_allclose(max(p[0, 1], p[5, 1]) + LENGTHS["heel"] * h, 330)


def test_back_view_puts_right_on_the_right_and_shows_no_face() -> None:
    angles = np.zeros((1, 10, 2))
    (front,), (back,) = (build_figures(Movement(angles), yaw, 0, 0, 300) for yaw in (0, 180))
    assert front.points[12, 0] < front.points[13, 0]
    assert back.points[12, 0] > back.points[13, 0]
    look = Look.random(np.random.default_rng(1), sporty=False)
    skin = []
    for figure in (front, back):
        placed = Figure(figure.points + (200, 330, 0), figure.head, figure.chest, 300)
        image = np.full((360, 400, 3), (0, 255, 0), np.uint8)
        draw_person(image, np.zeros((360, 400), np.uint8), placed, look, 0)
        x, y = np.rint((placed.points[8] + placed.points[9])[:2] / 2).astype(int)
        patch = image[y - 12 : y + 12, x - 9 : x + 9].reshape(-1, 3).astype(float)
        skin.append((np.abs(patch - look.skin).max(1) < 40).mean())
    assert skin[0] > 0.5 > 0.2 > skin[1]


@pytest.mark.parametrize("seed", range(4))
def test_drawn_limbs_are_centred_on_the_joints(seed: int) -> None:
    """The joints are compared with the drawn pixels: middle lines of arms and shins, top of the head, finger tips, soles."""
    figure = t_pose()
    changed, _ = draw(figure, seed)
    p = figure.points[:, :2]
    for wrist, elbow in ((10, 11), (15, 14)):
        for x, y in (p[wrist], p[elbow], (p[wrist] + p[elbow]) / 2):
            rows = np.flatnonzero(changed[:, round(x)])
            assert abs(rows.mean() - y) < 2
            assert 0.03 * 300 < np.ptp(rows) < 0.10 * 300
    for ankle, knee in ((0, 1), (5, 4)):
        x, y = (p[ankle] + p[knee]) / 2
        row = np.flatnonzero(changed[round(y)])
        row = row[(row > 200) == (x > 200)]
        assert abs(row.mean() - x) < 2
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs(rows.min() - p[9, 1]) < 0.02 * 300
    assert abs(rows.max() - 330) < 0.03 * 300
    assert abs(columns.min() - (p[10, 0] - LENGTHS["hand"] * 300)) < 0.03 * 300
    assert abs(columns.max() - (p[15, 0] + LENGTHS["hand"] * 300)) < 0.03 * 300


def test_every_joint_of_any_pose_lies_on_the_person() -> None:
    rng = np.random.default_rng(8)
    for seed in range(30):
        movement, _ = everyday_pose(rng)
        (figure,) = build_figures(movement, rng.uniform(-180, 180), 8, 3, 200)
        figure = Figure(figure.points + (200, 300, 0), figure.head, figure.chest, 200)
        changed, _ = draw(figure, seed)
        # The joint head_top lies on the edge of the head, so a joint may lie up to 2 px outside the changed pixels.
        near = cv2.dilate(changed.astype(np.uint8), np.ones((5, 5), np.uint8))
        x, y = np.rint(figure.points[:16, :2]).astype(int).T
        assert near[y, x].all()


def test_visibility_follows_what_covers_a_joint() -> None:
    figure = t_pose()
    _, parts = draw(figure)
    assert visible_joints(parts, figure, 0).all()
    x, y = np.rint(figure.points[11, :2]).astype(int)  # an object covers the right elbow
    parts[y - 8 : y + 8, x - 8 : x + 8] = 255
    np.testing.assert_array_equal(np.flatnonzero(~visible_joints(parts, figure, 0)), [11])
    moved = Figure(figure.points - (220, 0, 0), figure.head, figure.chest, 300)  # half of the person lies outside the image
    _, parts = draw(moved)
    np.testing.assert_array_equal(visible_joints(parts, moved, 0), moved.points[:16, 0] >= -0.5)


def test_far_arm_is_hidden_behind_the_body_seen_from_the_side() -> None:
    angles = np.zeros((1, 10, 2))
    # The person is turned to the right of the image, so the right side is nearer to the viewer.
    (figure,) = build_figures(Movement(angles), 90, 0, 0, 300)
    figure = Figure(figure.points + (200, 330, 0), figure.head, figure.chest, 300)
    _, parts = draw(figure)
    visible = visible_joints(parts, figure, 0)
    assert visible[[10, 11, 12]].all()
    assert not visible[[13, 14]].any()


def test_the_true_3d_poses_are_what_the_pictures_show(penn: Path) -> None:
    """The pictures are parallel projections: joints are the 3D pose's x and y, times one factor for each sequence."""
    truth = penn_poses(3, (24, 26), seed=3)
    found = labels(penn)
    assert sorted(truth) == [int(Path(name).stem) for name in sorted(found)]
    for name, content in found.items():
        pose = truth[int(Path(name).stem)].astype(np.float64)
        seen = content["visibility"].astype(bool)
        drawn = np.stack([content["x"], content["y"]], axis=-1).astype(np.float64)
        assert pose.shape == (*seen.shape, 3) and np.abs(pose.mean(axis=1)).max() < 0.1
        flat, goal = [], []
        for t in np.flatnonzero(seen.sum(axis=1) > 3):
            flat.append(pose[t, seen[t], :2] - pose[t, seen[t], :2].mean(axis=0))
            goal.append(drawn[t, seen[t]] - drawn[t, seen[t]].mean(axis=0))
        a, b = np.concatenate(flat), np.concatenate(goal)
        factor = (a * b).sum() / (a * a).sum()
        assert factor > 0 and np.abs(factor * a - b).max() < 1.1, name  # 1.1 px, because some labels are rounded to whole px
        left_hip, right_hip, left_knee = (PENN_ACTION.skeleton.joints.index(n) for n in ("left_hip", "right_hip", "left_knee"))
        thighs = np.linalg.norm(pose[:, left_hip] - pose[:, left_knee], axis=-1)
        assert thighs.min() > 300 and np.ptp(thighs) < 1, name  # mm: the thigh keeps its length only if the depth is right
        nearer = (pose[:, right_hip, 2] - pose[:, left_hip, 2]).mean()
        if content["pose"][0] in ("left", "right"):  # a person who faces the image's right shows the right side
            assert (nearer < 0) == (content["pose"][0] == "right"), name
