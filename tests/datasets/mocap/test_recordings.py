"""Tests of reading movements from .bvh files, and from .amc files with their .asf files."""

import re
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.mocap.bones import find_joints
from datasets.mocap.sources import files_of, read_clips
from datasets.penn_action import PENN_ACTION

JOINTS = PENN_ACTION.skeleton.joints
RIGHT, OTHER = re.compile("Left|^l(?!ower)| L |_l$"), {"Left": "Right", "l": "r", " L ": " R ", "_l": "_r"}
# The rest pose of a person, in cm, with y up: bone -> (parent, offset of the bone's beginning from the parent's beginning).
BODY = {
    "Hips": ("", (0, 0, 0)), "Spine": ("Hips", (0, 20, 0)), "Neck": ("Spine", (0, 30, 0)), "Head": ("Neck", (0, 10, 0)),
    **{f"{side}{bone}": (parent if parent in ("Hips", "Spine") else f"{side}{parent}", (sign * x, y, z))
       for side, sign in (("Left", 1), ("Right", -1))
       for bone, parent, (x, y, z) in (
           ("UpLeg", "Hips", (9, 0, 0)), ("Leg", "UpLeg", (0, -42, 0)), ("Foot", "Leg", (0, -41, 2)),
           ("Shoulder", "Spine", (3, 25, 0)), ("Arm", "Shoulder", (15, 0, 0)), ("ForeArm", "Arm", (28, 0, 0)),
           ("Hand", "ForeArm", (25, 0, 0)))},
}  # fmt: skip
# Joint of Penn Action -> the bone that begins at the joint.
BONES = {"head": "Head"} | {
    f"{side.lower()}_{joint}": f"{side}{bone}"
    for side in ("Left", "Right")
    for joint, bone in (("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand"), ("hip", "UpLeg"), ("knee", "Leg"),
                        ("ankle", "Foot"))
}  # fmt: skip


def about(axis: str, degrees: float) -> np.ndarray:
    """Return the matrix that turns points counterclockwise about an axis that points at the viewer."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    x, y, z = ([1, 0, 0], [0, c, -s], [0, s, c]), ([c, 0, s], [0, 1, 0], [-s, 0, c]), ([c, -s, 0], [s, c, 0], [0, 0, 1])
    return np.array({"X": x, "Y": y, "Z": z}[axis])


def frames(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return bone -> random angles (count, 3) in degrees; for the root, (count, 6): the position, then the angles."""
    rng = np.random.default_rng(seed)
    found = {bone: rng.uniform(-30, 30, (count, 3)) for bone in BODY}
    return found | {"Hips": np.c_[rng.uniform(-50, 50, (count, 3)) + [0, 90, 0], found["Hips"]]}


def expected(moves: dict[str, np.ndarray], order: str = "ZXY", scale: float = 10.0) -> np.ndarray:
    """Return the joints (F, 13, 3) in mm with z up, computed bone by bone from the format's definition."""
    poses = np.empty((len(moves["Hips"]), 13, 3))
    for frame in range(len(poses)):
        place: dict[str, np.ndarray] = {}
        turn: dict[str, np.ndarray] = {}
        for bone, (parent, offset) in BODY.items():
            angles = moves[bone][frame][-3:]
            own = about(order[0], angles[0]) @ about(order[1], angles[1]) @ about(order[2], angles[2])
            place[bone] = place[parent] + turn[parent] @ offset if parent else moves[bone][frame][:3]
            turn[bone] = turn[parent] @ own if parent else own
        for number, joint in enumerate(JOINTS):
            x, y, z = place[BONES[joint]] * scale
            poses[frame, number] = x, -z, y
    return poses


def write_bvh(path: Path, moves: dict[str, np.ndarray], names: str = "{}", size: float = 1.0, order: str = "ZXY") -> str:
    """Write a .bvh file, with lengths multiplied by `size`; return the text. names: format string of the bones' names."""
    lines, values = ["HIERARCHY"], []

    def block(bone: str, depth: int) -> None:
        parent, offset = BODY[bone]
        tab = "\t" * depth
        rotations = " ".join(f"{axis}rotation" for axis in order)
        channels = f"3 {rotations}" if parent else f"6 Xposition Yposition Zposition {rotations}"
        lines.extend([f"{tab}{'JOINT' if parent else 'ROOT'} {names.format(bone)}", tab + "{"])
        lines.extend([f"{tab}\tOFFSET {' '.join(str(v * size) for v in offset)}", f"{tab}\tCHANNELS {channels}"])
        values.append(moves[bone] * ([1] * 3 if parent else [size] * 3 + [1] * 3))
        children = [name for name, (above, _) in BODY.items() if above == bone]
        for child in children:
            block(child, depth + 1)
        if not children:
            lines.append(f"{tab}\tEnd Site\n{tab}\t{{\n{tab}\t\tOFFSET 0 0 1\n{tab}\t}}")
        lines.append(tab + "}")

    block("Hips", 0)
    rows = np.concatenate(values, axis=1)
    lines += ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.04", *(" ".join(f"{v:.6f}" for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path.read_text()


@pytest.mark.parametrize(
    ("size", "names", "order"),
    [(1.0, "{}", "ZXY"), (10.0, "mixamorig:{}", "YXZ"), (0.01, "Bip01 {}", "XYZ"), (0.45 / 2.54, "{}", "ZYX")],
)
def test_bvh_files_are_read_in_mm_with_z_up(tmp_path: Path, size: float, names: str, order: str) -> None:
    moves = frames(5)
    write_bvh(tmp_path / "walk_1.bvh", moves, names, size, order)
    found = read_clips(tmp_path / "walk_1.bvh")
    assert found.names == ("walk_1",) and found.actions == ("walk",) and found.fps.tolist() == [25]
    np.testing.assert_allclose(found.with_joints(JOINTS).poses, expected(moves, order), atol=0.02)


def test_joints_with_places_of_their_own_are_there(tmp_path: Path) -> None:
    moves = frames(2)
    text = write_bvh(tmp_path / "a.bvh", moves)
    plain = read_clips(tmp_path / "a.bvh")
    head, motion = text.split("MOTION")
    head = head.replace("OFFSET -9.0 0.0 0.0\n\t\tCHANNELS 3 ", "OFFSET 7 7 7\n\t\tCHANNELS 6 Xposition Yposition Zposition ")
    before = 3 + 3 * list_order(text).index("RightUpLeg")
    lines = motion.strip().split("\n")
    for number in (2, 3):
        words = lines[number].split()
        lines[number] = " ".join([*words[:before], "-9", "0", "0", *words[before:]])
    (tmp_path / "a.bvh").write_text(head + "MOTION\n" + "\n".join(lines))
    np.testing.assert_array_equal(read_clips(tmp_path / "a.bvh").poses, plain.poses)


def list_order(text: str) -> list[str]:
    """Return the names of the joints of a .bvh file in the file's order."""
    return [line.split()[1] for line in text.split("\n") if line.split()[:1] in (["ROOT"], ["JOINT"])]


def test_a_folder_is_searched_and_clips_are_called_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b/deep").mkdir(parents=True)
    write_bvh(tmp_path / "b/deep/run_2.bvh", frames(3))
    write_bvh(tmp_path / "a.BVH", frames(2, 1), size=0.01)
    (tmp_path / "notes.txt").write_text("")
    found = read_clips(tmp_path)
    assert found.names == ("a", "b/deep/run_2") and found.first.tolist() == [0, 2, 5]
    assert files_of(tmp_path) == [tmp_path / "a.BVH", tmp_path / "b/deep/run_2.bvh"]
    np.testing.assert_allclose(found.with_joints(JOINTS).poses[:2], expected(frames(2, 1)), atol=0.02)
    (tmp_path / "a.bvh").write_text("")
    with pytest.raises(DataError, match="two files of the name a;"):
        read_clips(tmp_path)


@pytest.mark.parametrize(
    ("left", "others"),
    [
        (("lhumerus", "lradius", "lwrist", "lfemur", "ltibia", "lfoot"), ("head", "lclavicle", "lhipjoint", "lhand")),
        (("LeftShoulder", "LeftElbow", "LeftWrist", "LeftHip", "LeftKnee", "LeftAnkle"), ("Head", "LeftCollar", "LHipJoint")),
        (("LeftArm", "LeftForeArm", "LeftHand", "LeftUpLeg", "LeftLeg", "LeftFoot"), ("Head", "LeftShoulder", "LeftHandThumb")),
        (("upperarm_l", "lowerarm_l", "hand_l", "thigh_l", "calf_l", "foot_l"), ("head", "clavicle_l", "thumb_01_l")),
        (("lShldr", "lForeArm", "lHand", "lThigh", "lShin", "lFoot"), ("head", "lCollar", "lButtock")),
        (("J L UpperArm", "J L LowerArm", "J L Hand", "J L UpperLeg", "J L LowerLeg", "J L Foot"), ("J Head",)),
        (("a:LeftArm", "a:LeftForeArm", "a:LeftHand", "a:LeftUpLeg", "a:LeftLeg", "a:LeftFoot"), ("b:Head", "Reference")),
    ],
)  # fmt: skip
def test_joints_are_found_by_the_usual_names(left: tuple[str, ...], others: tuple[str, ...]) -> None:
    sides = (("left", left), ("right", [RIGHT.sub(lambda found: OTHER[found[0]], name) for name in left]))
    bones = [*reversed(others), *left, *sides[1][1]]
    found = find_joints(bones)
    assert set(found) == set(JOINTS) and bones[found["head"]].lower().endswith("head")
    for side, names in sides:
        joints = [f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
        assert [bones[found[joint]] for joint in joints] == list(names)


# The person of `BODY`, for an .asf file: bone -> (parent, vector in cm from the bone's beginning to its end, axes of rotation).
ACCLAIM = {
    "lowerback": ("root", (0, 20, 0), "rx ry rz"), "lowerneck": ("lowerback", (0, 40, 0), "rz"),
    "head": ("lowerneck", (0, 15, 0), "rx"),
    **{side + bone: (above if above in ("root", "lowerback") else side + above, (sign * x, y, z), dof)
       for side, sign in (("l", 1), ("r", -1))
       for bone, above, (x, y, z), dof in (
           ("hipjoint", "root", (9, 0, 0), ""), ("femur", "hipjoint", (0, -42, 0), "rx ry rz"),
           ("tibia", "femur", (0, -41, 2), "rx"), ("foot", "tibia", (0, -3, 12), "rx rz"),
           ("clavicle", "lowerback", (18, 25, 0), "ry rz"), ("humerus", "clavicle", (28, 0, 0), "rx ry rz"),
           ("radius", "humerus", (25, 0, 0), "rx"), ("wrist", "radius", (8, 0, 0), "ry"))},
}  # fmt: skip
ENDS = {"shoulder": "clavicle", "elbow": "humerus", "wrist": "radius", "hip": "hipjoint", "knee": "femur", "ankle": "tibia"}


def write_acclaim(folder: Path, count: int, unit: float = 25.4 / 0.45) -> np.ndarray:
    """Write 07.asf and 07_02.amc, whose unit of length is `unit` mm; return the joints (F, 13, 3) in mm with z up."""
    rng = np.random.default_rng(1)
    axes = {bone: rng.uniform(-90, 90, 3) for bone in ACCLAIM}
    lines = [
        "# made for a test", ":version 1.10", ":name VICON", ":units", "  mass 1.0", f"  length {25.4 / unit:.9f}",
        "  angle deg", ":documentation", "  begin", "  of nothing", ":root", "  order TX TY TZ RX RY RZ",
        "  axis XYZ", "  position 0 0 0",
        "  orientation 0 0 0", ":bonedata",
    ]  # fmt: skip
    for number, (bone, (_, reach, dof)) in enumerate(ACCLAIM.items(), 1):
        length = np.linalg.norm(reach)
        x, y, z = (np.array(reach) / length).tolist()
        a, b, c = axes[bone].tolist()
        lines += ["  begin", f"    id {number}", f"    name {bone}", f"    direction {x:.9f} {y:.9f} {z:.9f}"]
        lines += [f"    length {length * 10 / unit:.9f}", f"    axis {a:.9f} {b:.9f} {c:.9f}  XYZ"]
        lines += [f"    dof {dof}", "    limits (-90 90)", "           (-90 90)"] if dof else []
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for above in ("root", *ACCLAIM):
        below = [bone for bone, (parent, _, _) in ACCLAIM.items() if parent == above]
        lines += [f"    {above} {' '.join(below)}"] if below else []
    (folder / "07.asf").write_text("\n".join([*lines, "  end", ""]))

    poses, text = np.empty((count, 13, 3)), ["#!OML:ASF H:", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(count):
        root, angles = rng.uniform(-9, 9, 3) + [0, 16, 0], rng.uniform(-40, 40, 3)
        text += [str(frame + 1), " ".join(["root", *(f"{v:.9f}" for v in [*root, *angles])])]
        end = {"root": root * unit}
        turn = {"root": about("Z", angles[2]) @ about("Y", angles[1]) @ about("X", angles[0])}
        for bone, (above, reach, dof) in ACCLAIM.items():
            own = dict.fromkeys("xyz", 0.0) | {name[1]: rng.uniform(-40, 40) for name in dof.split()}
            text += [" ".join([bone, *(f"{own[name[1]]:.9f}" for name in dof.split())])] if dof else []
            a, b, c = axes[bone]
            to_axes = about("Z", c) @ about("Y", b) @ about("X", a)
            moved = about("Z", own["z"]) @ about("Y", own["y"]) @ about("X", own["x"])
            turn[bone] = turn[above] @ to_axes @ moved @ to_axes.T
            end[bone] = end[above] + turn[bone] @ np.array(reach) * 10
        for number, joint in enumerate(JOINTS):
            side, _, name = joint.partition("_")
            x, y, z = end[side[0] + ENDS[name] if name else "lowerneck"]
            poses[frame, number] = x, -z, y
    (folder / "07_02.amc").write_text("\n".join([*text, ""]))
    return poses


def test_amc_files_are_read_with_the_body_of_their_asf_file(tmp_path: Path) -> None:
    (tmp_path / "07").mkdir()
    poses = write_acclaim(tmp_path / "07", 6)
    (tmp_path / "07/0.asf").write_text("of somebody else")
    changed(tmp_path / "07/07.asf", "  XYZ", "")  # some programs leave XYZ out
    found = read_clips(tmp_path)
    assert found.names == ("07/07_02",) and found.actions == ("07/07",) and found.fps.tolist() == [120]
    np.testing.assert_allclose(found.with_joints(JOINTS).poses, poses, atol=0.02)
    assert files_of(tmp_path / "07/07_02.amc") == [tmp_path / "07/07.asf", tmp_path / "07/07_02.amc"]
    np.testing.assert_array_equal(read_clips(tmp_path / "07/07_02.amc").poses, found.poses)


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("07.asf", ":hierarchy", ":hierarchies", "07.asf: it has no part :hierarchy"),
        ("07.asf", "length 0.45", "length -1", "07.asf: the unit of length should be above 0"),
        ("07.asf", "length 0.450000000", "length nan", "07.asf: the length in :units should be 1 finite numbers, and is .nan"),
        ("07.asf", "root lowerback", "root lfemur", "07.asf: the bone .* is unknown or listed twice"),
        ("07.asf", "name lowerback", "name back", "07.asf: the bone lowerback of root"),
        ("07.asf", "dof rx", "dof tx", "a dof other than rx, ry and rz"),
        ("07.asf", "  XYZ", "  ZYX", "the axes of lowerback should be three angles and XYZ"),
        ("07.asf", "order TX", "order", "order of :root should list"),
        ("07.asf", "name head", "name skull", "is unknown"),
        ("07_02.amc", ":DEGREES", ":RADIANS", "07_02.amc: the angles are in radians"),
        ("07_02.amc", "lfemur", "femur", "07_02.amc: the line .femur .* of frame 1 is unexpected"),
        ("07_02.amc", "root", "# root", "07_02.amc: the line .root .* of frame 2 is unexpected"),
        ("07_02.amc", "lfemur ", "lfemur 1e999 ", "lfemur of frame 1 should be 3 finite numbers, and is .1e999"),
        ("07_02.amc", "\n1\n", "\n", "of frame 0 is unexpected"),
    ],
)
def test_damaged_amc_and_asf_files_as_data_error(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    write_acclaim(tmp_path, 2)
    changed(tmp_path / name, old, new)
    with pytest.raises(DataError, match=said):
        read_clips(tmp_path)


def test_amc_files_that_are_cut_short_as_data_error(tmp_path: Path) -> None:
    write_acclaim(tmp_path, 2)
    text = (tmp_path / "07_02.amc").read_text()
    for end in [text.rindex(word) for word in ("root", "lfemur", "rwrist")]:
        (tmp_path / "07_02.amc").write_text(text[:end])
        with pytest.raises(
            DataError, match="07_02.amc: it has no values of .* in one of its 2 frames; it is damaged, cut short"
        ):
            read_clips(tmp_path)


def test_a_movement_needs_its_body(tmp_path: Path) -> None:
    write_acclaim(tmp_path, 2)
    (tmp_path / "07.asf").unlink()
    with pytest.raises(DataError, match="07_02.amc needs the .asf file of its body in its folder, such as 07.asf"):
        read_clips(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("MOTION", "NOTION", "no line MOTION"),
        ("Frames: 2", "Frames: 999999999", "announces 999999999 frames of 57 numbers, but has 2 frames of 57"),
        ("Frames: 2", "Frames: 99999999999", "Frames: and Frame Time: should follow MOTION"),
        ("Frames: 2", "Frames: 0", "announces 0 frames"),
        ("Frame Time: 0.04", "Frame Time: 0", "frames of 0.0 s"),
        ("Frame Time: 0.04", "Frame Time: nan", "frames of nan s"),
        ("Frame Time: 0.04\n", "Frame Time: 0.04\nnan ", "the number of columns changed"),
        ("Frame Time: 0.04\n", "Frame Time: 0.04\nx", "could not convert"),
        ("JOINT Spine", "JOINT Tail\n{\n", "block without an end"),
        ("JOINT Spine", "ROOT Spine", "line 6: .ROOT Spine. .expected one ROOT"),
        ("JOINT Spine", "}\n}\n}\nJOINT Spine", "no block is open|expected one ROOT"),
        ("CHANNELS 3 Z", "CHANNELS 300000000 Z", "expected 300000000 channels"),
        ("CHANNELS 3 Zrotation", "CHANNELS 3 Xrotation", "rotation about each axis at most once"),
        ("CHANNELS 3 Zrotation", "CHANNELS 3 Zposition", "all three positions or none"),
        ("OFFSET 0.0 20.0 0.0", "OFFSET 0 inf 0", "line .*OFFSET should be 3 finite numbers, and is .0 inf 0"),
        ("OFFSET 0.0 20.0 0.0", "OFFSET 0 1e300 0", "a coordinate that is no number or beyond"),
        ("OFFSET 0.0 20.0 0.0", "OFFSET 0", "OFFSET should be 3 finite numbers, and is .0"),
        ("JOINT LeftLeg", "JOINT LeftPart", "a.bvh: no bone has a known name of left_knee, such as leftleg;"),
        ("OFFSET 0.0 -42.0 0.0", "OFFSET 0 -4200 0", "the legs are .* units long, too long or too short for a person in mm"),
    ],
)
def test_damaged_bvh_files_as_data_error(tmp_path: Path, old: str, new: str, said: str) -> None:
    write_bvh(tmp_path / "a.bvh", frames(2))
    changed(tmp_path / "a.bvh", old, new)
    with pytest.raises(DataError, match=said) as error:
        read_clips(tmp_path / "a.bvh")
    assert str(tmp_path / "a.bvh") in str(error.value)


def test_bvh_files_that_are_cut_short_as_data_error(tmp_path: Path) -> None:
    text = write_bvh(tmp_path / "a.bvh", frames(2))
    for length in range(0, len(text) - 60, 101):  # not up to the end: without its last digits, a number is still valid
        (tmp_path / "a.bvh").write_text(text[:length])
        with pytest.raises(DataError, match="a.bvh"):
            read_clips(tmp_path / "a.bvh")


def test_more_joints_than_any_body_has_as_data_error(tmp_path: Path) -> None:
    chain = "\n".join(f"{'JOINT' if n else 'ROOT'} j{n}\n{{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation" for n in range(5000))
    (tmp_path / "a.bvh").write_text(f"HIERARCHY\n{chain}\n{'}' * 5000}\nMOTION\nFrames: 1\nFrame Time: 1\n{'0 ' * 5000}\n")
    with pytest.raises(DataError, match="at most 1000 joints"):
        read_clips(tmp_path / "a.bvh")
