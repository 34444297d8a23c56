"""Several people in pictures: boxes from files, a detector, numbers in videos."""

import json
from fractions import Fraction

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from datasets.errors import DataError
from datasets.formats.boxes import read_boxes
from datasets.penn_action import PENN_ACTION
from stages.inference.predictor import PosePredictor
from stages.inference.video import VideoWriter
from tests.tools.test_predict import model, noise, run

__all__ = ["model"]  # a fixture
BOXES = {"a.png": [(2, 3, 30, 40), (20, 5, 60, 44)], "c.png": [(0, 0, 63, 47)]}


@pytest.fixture
def pictures(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for name, image in zip(("a.png", "b.png", "c.png"), noise(3), strict=True):
        cv2.imwrite(str(place / name), image)
    rows = [f"{name},{','.join(map(str, box))}" for name, boxes in BOXES.items() for box in boxes]
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\n" + "\n".join(rows) + "\n")
    return place


def poses(out):
    return pd.read_csv(out / "poses.csv")


def values(rows):
    return rows.drop(columns=["image", "frame", "time", "person"]).to_numpy().reshape(len(rows), 13, 3)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_people_in_the_boxes_are_found_and_drawn(model, pictures, tmp_path, monkeypatch, kind):
    if kind == "json":
        images = [
            {"id": 7 + number, "file_name": f"somewhere/{name}"} for number, name in enumerate(("a.png", "b.png", "c.png"))
        ]
        people = [
            {"id": 1, "image_id": 7 + "abc".index(name[0]), "bbox": [left, top, right - left, bottom - top]}
            for name, boxes in BOXES.items() for left, top, right, bottom in boxes
        ]  # fmt: skip
        (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": people}))
    options = ("--model", model, "--out", tmp_path / "out", "--boxes", tmp_path / f"boxes.{kind}", "--threshold", "-9")
    assert run(monkeypatch, pictures, *options) == 0
    found = poses(tmp_path / "out")
    assert found["image"].tolist() == ["a.png", "a.png", "c.png"] and found["person"].tolist() == [0, 1, 0]
    expected = PosePredictor.load(model).predict([pictures / "a.png", pictures / "c.png"], [BOXES["a.png"], BOXES["c.png"]])
    np.testing.assert_allclose(values(found)[..., :2], expected.joints, atol=0.02)
    before, after = ({n: cv2.imread(str(f / n)) for n in ("a.png", "b.png")} for f in (pictures, tmp_path / "out"))
    assert (before["b.png"] == after["b.png"]).all() and (before["a.png"] != after["a.png"]).any()
    assert [entry["person"] for entry in json.loads((tmp_path / "out/poses.json").read_text())] == [0, 1, 0]


def test_people_keep_their_numbers_in_a_video_and_videos_have_folders_of_their_own(model, tmp_path, monkeypatch, capsys):
    for name in ("one.mp4", "two.mp4"):
        writer = VideoWriter(tmp_path / name, Fraction(10))
        for frame in range(6):
            writer.add(noise(6, 48, 96)[frame], frame / 10)
        writer.close()
    rows = ["image,frame,left,top,right,bottom"]
    for frame in range(6):
        people = [
            f"one.mp4,{frame},{2 * frame},4,{2 * frame + 30},40",
            f"one.mp4,{frame},{60 - 2 * frame},4,{90 - 2 * frame},40",
        ]
        rows += people if frame % 2 else people[::-1]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    options = ("--model", model, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.csv", "--smooth", "--batch", "4")
    assert run(monkeypatch, tmp_path / "one.mp4", tmp_path / "two.mp4", *options) == 0
    found = poses(tmp_path / "out/one")
    assert found["frame"].tolist() == [frame for frame in range(6) for _ in range(2)]
    assert found["person"].tolist() == [0, 1, 1, 0] * 3  # the file lists them in the other order in every second frame
    assert len(poses(tmp_path / "out/two")) == 0 and (tmp_path / "out/two/two.mp4").exists()
    # Smoothing changes later frames, not the first one.
    assert run(monkeypatch, tmp_path / "one.mp4", *options[:2], "--out", tmp_path / "raw", *options[4:6]) == 0
    raw = poses(tmp_path / "raw")
    assert raw["person"].tolist() == found["person"].tolist()
    np.testing.assert_allclose(values(raw)[:2], values(found)[:2], atol=0.01)
    assert np.abs(values(raw)[2:, :, :2] - values(found)[2:, :, :2]).max() > 0.5
    np.testing.assert_allclose(values(raw)[..., 2], values(found)[..., 2], atol=0.01)
    capsys.readouterr()
    (tmp_path / "late.csv").write_text("image,frame,left,top,right,bottom\none.mp4,77,1,1,9,9\n")
    late = ("--model", model, "--out", tmp_path / "late", "--boxes", tmp_path / "late.csv")
    assert run(monkeypatch, tmp_path / "one.mp4", *late) == 1
    assert "has boxes of 1 images or frames that were not read, such as one.mp4, frame 77" in capsys.readouterr().err


def test_other_programs_read_the_poses(model, tmp_path, monkeypatch, capsys):
    sleap_io, pynwb = pytest.importorskip("sleap_io"), pytest.importorskip("pynwb")
    writer = VideoWriter(tmp_path / "v.mp4", Fraction(10))
    for frame in range(3):
        writer.add(noise(3, 48, 96)[frame], frame / 10)
    writer.close()
    boxes = [(frame, 50 * person, 2, 50 * person + 40, 40) for frame in (0, 2) for person in (0, 1)]
    (tmp_path / "boxes.csv").write_text(
        "image,frame,left,top,right,bottom\n" + "".join(f"v.mp4,{','.join(map(str, b))}\n" for b in boxes)
    )
    options = (
        "--model",
        model,
        "--out",
        tmp_path / "out",
        "--boxes",
        tmp_path / "boxes.csv",
        "--also",
        "slp",
        "nwb",
        "deeplabcut",
    )
    for _ in range(2):  # the second time over the files of the first
        assert run(monkeypatch, tmp_path / "v.mp4", *options) == 0, capsys.readouterr().err
    found = poses(tmp_path / "out")
    expected = values(found).reshape(2, 2, 13, 3)  # frames 0 and 2, people 0 and 1
    labels = sleap_io.load_slp(str(tmp_path / "out/poses.slp"))
    frames = {frame.frame_idx: frame for frame in labels.labeled_frames}
    assert sorted(frames) == [0, 2] and labels.skeletons[0].node_names == list(PENN_ACTION.skeleton.joints)
    for place, number in enumerate((0, 2)):
        people = {person.track.name: person for person in frames[number].instances}
        for person in (0, 1):
            np.testing.assert_allclose(people[f"person {person}"].numpy(), expected[place, person, :, :2], atol=1e-3)
            np.testing.assert_allclose(people[f"person {person}"].points["score"], expected[place, person, :, 2], atol=1e-3)
    assert str(labels.videos[0].filename).endswith("v.mp4")
    with pynwb.NWBHDF5IO(str(tmp_path / "out/poses.nwb"), "r", load_namespaces=True) as file:
        behavior = file.read().processing["behavior"]
        for person in (0, 1):
            knee = behavior[f"person{person}"]["left_knee"]
            joint = PENN_ACTION.skeleton.joints.index("left_knee")
            np.testing.assert_allclose(knee.data[:], expected[:, person, joint, :2])
            np.testing.assert_allclose(knee.confidence[:], expected[:, person, joint, 2])
            np.testing.assert_allclose(knee.timestamps[:], [0, 0.2])
        assert behavior["Skeletons"]["skeleton"].nodes[:].tolist() == list(PENN_ACTION.skeleton.joints)
    table = pd.read_csv(tmp_path / "out/poses_deeplabcut.csv", header=[0, 1, 2, 3], index_col=0)
    assert table.index.tolist() == [0, 2] and table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    np.testing.assert_allclose(table.to_numpy().reshape(expected.shape), expected, atol=1e-3)
    cv2.imwrite(str(tmp_path / "a.png"), noise(1)[0])
    options = ("--model", model, "--out", tmp_path / "one")
    assert run(monkeypatch, tmp_path / "a.png", *options, "--also", "nwb") == 1
    assert "NWB files are of videos" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "a.png", *options, "--also", "deeplabcut", "slp") == 0
    table = pd.read_csv(tmp_path / "one/poses_deeplabcut.csv", header=[0, 1, 2], index_col=0)
    np.testing.assert_allclose(table.loc["a.png"].to_numpy().reshape(13, 3), values(poses(tmp_path / "one"))[0])
    assert sleap_io.load_slp(str(tmp_path / "one/poses.slp")).video.filename[0].endswith("a.png")


def test_two_sources_with_one_name_are_refused(model, tmp_path, monkeypatch, capsys):
    for folder in ("x", "y"):
        (tmp_path / folder / "same").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "same/a.png"), noise(1)[0])
    assert run(monkeypatch, tmp_path / "x/same", tmp_path / "y/same", "--model", model, "--out", tmp_path / "out") == 1
    assert "would both be written into" in capsys.readouterr().err and not (tmp_path / "out").exists()
    pictures = tmp_path / "x/same/a.png", tmp_path / "y/same/a.png"
    assert run(monkeypatch, *pictures, "--model", model, "--out", tmp_path / "out") == 1
    assert "would both be drawn as a.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column image, left, top, right, bottom"),
        ("image,left,top,right\na.png,1,2,3\n", "has no column bottom"),
        ("image,left,top,right,bottom\n", "has no boxes"),
        ("image,left,top,right,bottom\na.png,1,2,x,4\n", "line 2 has no legal numbers: a.png, 1, 2, x, 4"),
        ("image,left,top,right,bottom\na.png,1,2,3\n", "line 2 has no legal numbers"),
        ("image,left,top,right,bottom\na.png,1,2,nan,4\n", "line 2: the box .* has no extent"),
        ("image,left,top,right,bottom\na.png,5,2,3,4\n", "line 2: the box .* has no extent"),
    ],
)
def test_wrong_tables_of_boxes_name_the_line(tmp_path, text, said):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "is no COCO file"),
        (
            {"images": [], "annotations": [{"id": 3, "image_id": 1, "bbox": [1, 2, 3, 4]}]},
            "annotation 3 has no image of the list",
        ),
        (
            {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 3, "image_id": 1, "bbox": [1, 2]}]},
            "annotation 3 has",
        ),
    ],
)
def test_wrong_coco_boxes_name_the_record(tmp_path, content, said):
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        read_boxes(tmp_path / "boxes.json")


def test_boxes_of_other_images_and_outside_of_images_are_refused(model, pictures, tmp_path, monkeypatch, capsys):
    options = ("--model", model, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\nz.png,1,2,3,4\n")
    assert run(monkeypatch, pictures, *options) == 1
    assert "has boxes of z.png, which is none of the images or videos" in capsys.readouterr().err
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\na.png,100,2,130,4\n")
    assert run(monkeypatch, pictures, *options) == 1
    assert "lies outside of the image of 64 x 48 px" in capsys.readouterr().err


def write_detector(path, shape=(1, 3, 32, 32), outputs=("boxes", "scores", "labels")):
    """Write a network that finds three boxes; the score of the first is the image's mean, so that its colours matter."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["scores"], axis=0),
        helper.make_node("Identity", ["all"], ["boxes"]),
        helper.make_node("Identity", ["classes"], ["labels"]),
    ]
    constants = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("rest", TensorProto.FLOAT, [2], [0.9, 0.8]),
        helper.make_tensor("all", TensorProto.FLOAT, [3, 4], [1, 2, 11, 12, 8, 4, 28, 20, 10, 10, 99, 22]),
        helper.make_tensor("classes", TensorProto.INT64, [3], [1, 1, 5]),
    ]
    kinds = {"boxes": (TensorProto.FLOAT, [3, 4]), "scores": (TensorProto.FLOAT, [3]), "labels": (TensorProto.INT64, [3])}
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, *kinds[name]) for name in outputs], constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_a_detector_finds_the_people(model, tmp_path, monkeypatch):
    from stages.inference.detector import Detector

    write_detector(tmp_path / "d.onnx")
    white = np.full((48, 64, 3), 255, np.uint8)  # shown at half size, with 8 black rows below: the mean is 0.75
    found = Detector(tmp_path / "d.onnx", 0.7, None).detect(white)
    np.testing.assert_allclose(found, [[16, 8, 56, 40], [20, 20, 63, 44], [2, 4, 22, 24]])  # best first, cut to the image
    np.testing.assert_allclose(Detector(tmp_path / "d.onnx", 0.7, 1).detect(white), [[16, 8, 56, 40], [2, 4, 22, 24]])
    assert len(Detector(tmp_path / "d.onnx", 0.95, None).detect(white)) == 0
    write_detector(tmp_path / "free.onnx", shape=(3, "H", "W"))
    np.testing.assert_allclose(Detector(tmp_path / "free.onnx", 0.95, None).detect(white), [[1, 2, 11, 12]])  # the mean is 1
    cv2.imwrite(str(tmp_path / "a.png"), white)
    options = ("--model", model, "--out", tmp_path / "out", "--detector", tmp_path / "d.onnx", "--detector-label", "1")
    assert run(monkeypatch, tmp_path / "a.png", *options) == 0
    expected = PosePredictor.load(model).predict(white, [[16, 8, 56, 40], [2, 4, 22, 24]])
    np.testing.assert_allclose(values(poses(tmp_path / "out"))[..., :2], expected.joints, atol=0.02)


def test_networks_that_are_no_detectors_are_refused(tmp_path):
    from stages.inference.detector import Detector

    write_detector(tmp_path / "d.onnx", outputs=("boxes", "scores"))
    with pytest.raises(DataError, match=r"returns boxes, scores; a detector .* with --detector-label also labels"):
        Detector(tmp_path / "d.onnx", 0.5, 1)
    write_detector(tmp_path / "d.onnx", outputs=("scores",))
    with pytest.raises(DataError, match="returns scores; a detector"):
        Detector(tmp_path / "d.onnx", 0.5, None)
    (tmp_path / "d.onnx").write_text("no network")
    with pytest.raises(DataError, match="cannot be read as an ONNX network"):
        Detector(tmp_path / "d.onnx", 0.5, None)
