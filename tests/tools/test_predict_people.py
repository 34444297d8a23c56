"""tools.predict for several people: boxes from a file or a detector, and the numbers that identify people in videos."""

import gc
import json
from fractions import Fraction

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.inference.pictures import Picture
from stages.inference.predictor import PosePredictor
from stages.inference.video import VideoReader, VideoWriter
from tests.stages.inference.test_predictor import LARGE, Dots, dots
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


def test_two_people_in_one_image_have_their_own_joints(tmp_path, monkeypatch):
    """A simulated network finds dots of 13 colours; each of two people must get the dots that are in the person's box."""
    image, left = dots(600, 300, right=300, bottom=300)
    other, right = dots(600, 300, left=320, top=20, right=580, bottom=280)
    cv2.imwrite(str(tmp_path / "a.png"), np.maximum(image, other)[..., ::-1])
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\na.png,320,20,580,280\na.png,0,0,300,300\n")
    stand_in = PosePredictor(Dots(), LARGE, precision="float32")
    monkeypatch.setattr(PosePredictor, "load", lambda *_, **__: stand_in)
    (tmp_path / "m.safetensors").touch()
    options = ("--model", tmp_path / "m.safetensors", "--boxes", tmp_path / "boxes.csv", "--no-flip", "--out", tmp_path / "out")
    assert run(monkeypatch, tmp_path / "a.png", *options) == 0
    found = values(poses(tmp_path / "out"))[..., :2]
    cell = 1.25 * 300 / 64  # size of a heatmap pixel in image px
    assert np.abs(found[0] - right).max() < cell and np.abs(found[1] - left).max() < cell


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
    # boxes.csv swaps the order of the two people in every second frame, so their numbers must swap too.
    assert found["person"].tolist() == [0, 1, 1, 0] * 3
    assert len(poses(tmp_path / "out/two")) == 0 and (tmp_path / "out/two/two.mp4").exists()
    # Smoothing must change the joints of all frames but the first, and must change no confidence.
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
    assert "late.csv, line 2: " in (said := capsys.readouterr().err) and "one.mp4 has no frame 77 that can be read" in said


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
    for _ in range(2):  # the second run must overwrite the files of the first run
        assert run(monkeypatch, tmp_path / "v.mp4", *options) == 0, capsys.readouterr().err
    found = poses(tmp_path / "out")
    expected = values(found).reshape(2, 2, 13, 3)  # frames 0 and 2, with people 0 and 1 in each frame
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


def test_sources_of_one_name_have_different_folders_and_nothing_else_is_touched(model, tmp_path, monkeypatch, capsys):
    for folder in ("x", "y"):
        (tmp_path / folder / "same").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "same/a.png"), noise(2)["xy".index(folder)])
        moving_square(tmp_path / folder / "same.mp4", 2)
    options = ("--model", model, "--out", tmp_path / "out", "--threshold", "99")
    videos = tmp_path / "x/same.mp4", tmp_path / "y/same.mp4"
    assert run(monkeypatch, tmp_path / "x/same", tmp_path / "y/same", *videos, *options) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"x_same", "y_same", "x_same.mp4", "y_same.mp4"}
    for folder in "xy":
        before, after = (cv2.imread(str(tmp_path / name / "a.png")) for name in (f"{folder}/same", f"out/{folder}_same"))
        assert (before == after).all() and (tmp_path / f"out/{folder}_same.mp4/same.mp4").is_file()
    images = tmp_path / "x/same/a.png", tmp_path / "y/same/a.png"
    assert run(monkeypatch, *images, "--model", model, "--out", tmp_path / "out2") == 0
    assert {path.name for path in (tmp_path / "out2").iterdir()} == {"x_same_a.png", "y_same_a.png"}
    (tmp_path / "out2/y_same_a.png/mine.txt").write_text("mine")
    earlier = (tmp_path / "out2/x_same_a.png/a.png").stat().st_mtime_ns
    assert run(monkeypatch, *images, "--model", model, "--out", tmp_path / "out2") == 1
    assert "holds files that are not from an earlier run on this source: mine.txt" in capsys.readouterr().err
    assert (tmp_path / "out2/x_same_a.png/a.png").stat().st_mtime_ns == earlier
    assert run(monkeypatch, images[0], images[0], "--model", model, "--out", tmp_path / "twice") == 1
    assert "a.png is given twice" in capsys.readouterr().err and not (tmp_path / "twice").exists()


def test_smoothing_needs_a_video(model, pictures, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, pictures, "--model", model, "--smooth", "--out", tmp_path / "out") == 1
    assert "--smooth is for videos, and no source is one" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_wrong_boxes_are_reported_with_their_file_and_line(model, pictures, tmp_path, monkeypatch, capsys):
    head = "image,left,top,right,bottom\n"
    options = ("--model", model, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    for text, words in (
        ("", "no column image"),
        (head, "no boxes of people"),
        (head + "z.png,1,2,3,4\n", "line 2: z.png is none"),
    ):
        (tmp_path / "boxes.csv").write_text(text)
        assert run(monkeypatch, pictures, *options) == 1
        said = capsys.readouterr().err
        assert str(tmp_path / "boxes.csv") in said and words in said and not (tmp_path / "out").exists()
    (tmp_path / "boxes.csv").write_text(head + "a.png,1,2,30,40\na.png,100,2,130,4\nb.png,1,1,9,9\n")
    assert run(monkeypatch, pictures, *options) == 1
    assert (
        f"boxes.csv, line 3: the box from (100, 2) to (130, 4) lies outside of {pictures}/a.png of" in capsys.readouterr().err
    )
    assert poses(tmp_path / "out")["image"].tolist() == ["a.png", "b.png"]  # the poses of the other people are written


def test_boxes_belong_to_their_own_folders_and_results_of_detectors_to_their_numbers(model, tmp_path, monkeypatch):
    for name in ("x/0042.png", "y/0042.png", "y/0043.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), noise(1)[0])
    (tmp_path / "b.csv").write_text("image,left,top,right,bottom\nx/0042.png,1,1,20,20\ny/0042.png,9,9,40,40\n")
    options = ("--model", model, "--no-flip", "--boxes")
    assert run(monkeypatch, tmp_path / "x", tmp_path / "y", *options, tmp_path / "b.csv", "--out", tmp_path / "out") == 0
    predictor, found = PosePredictor.load(model), [values(poses(tmp_path / "out" / name)) for name in "xy"]
    expected = predictor.predict(2 * [tmp_path / "x/0042.png"], [(1, 1, 20, 20), (9, 9, 40, 40)], flip=False)
    np.testing.assert_allclose(np.concatenate(found)[..., :2], expected.joints, atol=0.02)
    people = [
        {"image_id": number, "category_id": 1, "bbox": [1, 1, 19, 19], "score": score}
        for number, score in ((43, 0.9), (42, 0.8), (42, 0.7))
    ]
    (tmp_path / "r.json").write_text(json.dumps(people))
    strict = (tmp_path / "r.json", "--detector-score", "0.75", "--out", tmp_path / "results")
    assert run(monkeypatch, tmp_path / "y", *options, *strict) == 0
    assert poses(tmp_path / "results")["image"].tolist() == ["0042.png", "0043.png"]


def moving_square(path, frames=6, size=(48, 96)):
    """Write a video of a white square, 16 px wide, that moves to the right by 8 px per frame."""
    writer = VideoWriter(path, Fraction(10))
    for frame in range(frames):
        image = np.zeros((*size, 3), np.uint8)
        image[16:32, 8 * frame : 8 * frame + 16] = 255
        writer.add(image, frame / 10)
    writer.close()
    return path


def write_square_detector(path):
    """Write a network for images of 48 x 96 px that returns the box around all bright pixels."""
    nodes = [helper.make_node("ReduceMin", ["image"], ["dark"], axes=[0, 1], keepdims=0)]
    edges = []
    for across, (axis, names) in enumerate(((0, "left right"), (1, "top bottom"))):
        nodes.append(helper.make_node("ReduceMax", ["dark"], [f"along{axis}"], axes=[axis], keepdims=0))
        nodes.append(helper.make_node("Greater", [f"along{axis}", "half"], [f"bright{axis}"]))
        nodes.append(helper.make_node("Cast", [f"bright{axis}"], [f"number{axis}"], to=TensorProto.FLOAT))
        for last, name in enumerate(names.split()):
            nodes.append(
                helper.make_node("ArgMax", [f"number{axis}"], [f"at_{name}"], axis=0, keepdims=1, select_last_index=last)
            )
            nodes.append(helper.make_node("Cast", [f"at_{name}"], [name], to=TensorProto.FLOAT))
            edges.append((2 * last + across, name))
    nodes.append(helper.make_node("Concat", [name for _, name in sorted(edges)], ["corners"], axis=0))
    nodes.append(helper.make_node("Reshape", ["corners", "row"], ["boxes"]))
    nodes.append(helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0))
    nodes.append(helper.make_node("Reshape", ["brightest", "one"], ["scores"]))
    constants = [
        helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("row", TensorProto.INT64, [2], [1, 4]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("boxes", [1, 4]), ("scores", [1]))]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 48, 96])
    graph = helper.make_graph(nodes, "squares", [given], outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_detector_follows_a_person_through_a_video(model, tmp_path, monkeypatch):
    video, detector = moving_square(tmp_path / "v.mp4"), write_square_detector(tmp_path / "d.onnx")
    options = ("--model", model, "--detector", detector, "--out", tmp_path / "out", "--no-flip")
    assert run(monkeypatch, video, *options) == 0
    found = poses(tmp_path / "out")
    assert found["frame"].tolist() == list(range(6)) and found["person"].tolist() == [0] * 6
    frames = [frame.pixels for frame in VideoReader(video)]
    boxes = [[[8 * frame, 16, 8 * frame + 15, 31]] for frame in range(6)]
    expected = PosePredictor.load(model).predict(frames, boxes, flip=False)
    np.testing.assert_allclose(values(found)[..., :2], expected.joints, atol=0.02)


def test_the_same_command_gives_the_same_bytes_and_a_long_video_takes_little_memory(model, tmp_path, monkeypatch):
    video, detector = moving_square(tmp_path / "v.mp4", 30, (48, 256)), write_square_detector(tmp_path / "d.onnx")
    predict_images, alive = PosePredictor.predict, []

    def counting(self, images, *arguments, **options):
        alive.append(sum(type(thing) is Picture for thing in gc.get_objects()))
        return predict_images(self, images, *arguments, **options)

    monkeypatch.setattr(PosePredictor, "predict", counting)
    options = ("--model", model, "--detector", detector, "--smooth", "--batch", "2", "--detector-score", "0.3")
    for out in ("one", "two"):
        assert run(monkeypatch, video, *options, "--out", tmp_path / out) == 0
    for name in ("poses.json", "poses.csv", "v.mp4"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    # At most five batches of two pictures exist at once: one is read, one waits, one is predicted, one drawn, one passed on.
    assert len(alive) == 30 and max(alive) <= 10


def write_detector(path, shape=(1, 3, 32, 32), outputs=("boxes", "scores", "labels")):
    """Write a network that returns three boxes.

    The score of the first box is the mean of the image's pixel values (0 to 1), so that it depends on the image.
    """
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
    # The detector gets this image at half size, with 8 black rows below it; so the mean, which is the first score, is 0.75.
    white = np.full((48, 64, 3), 255, np.uint8)
    found = Detector(tmp_path / "d.onnx", 0.7, None).detect(white)
    # The boxes must be in descending order of score, and be clipped to the image.
    np.testing.assert_allclose(found, [[16, 8, 56, 40], [20, 20, 63, 44], [2, 4, 22, 24]])
    np.testing.assert_allclose(Detector(tmp_path / "d.onnx", 0.7, 1).detect(white), [[16, 8, 56, 40], [2, 4, 22, 24]])
    assert len(Detector(tmp_path / "d.onnx", 0.95, None).detect(white)) == 0
    write_detector(tmp_path / "free.onnx", shape=("N", "channels", "H", "W"))
    # This detector gets the white image at full size, without black rows; so the mean is 1.
    np.testing.assert_allclose(Detector(tmp_path / "free.onnx", 0.95, None).detect(white), [[1, 2, 11, 12]])
    cv2.imwrite(str(tmp_path / "a.png"), white)
    options = ("--model", model, "--out", tmp_path / "out", "--detector", tmp_path / "d.onnx", "--detector-label", "1")
    assert run(monkeypatch, tmp_path / "a.png", *options) == 0
    expected = PosePredictor.load(model).predict(white, [[16, 8, 56, 40], [2, 4, 22, 24]])
    np.testing.assert_allclose(values(poses(tmp_path / "out"))[..., :2], expected.joints, atol=0.02)


def test_a_detector_that_returns_nan_is_reported(tmp_path):
    from stages.inference.detector import Detector

    graph = helper.make_graph(
        [helper.make_node("Log", ["image"], ["boxes"]), helper.make_node("Identity", ["one"], ["scores"])],
        "nan",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, 4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("boxes", "scores")],
        [helper.make_tensor("one", TensorProto.FLOAT, [12], [1.0] * 12)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "d.onnx")
    with pytest.raises(DataError, match="d.onnx failed on an image .it returned NaN or infinite numbers.; give another"):
        # The network computes the logarithm of 0.
        Detector(tmp_path / "d.onnx", 0.5, None).detect(np.zeros((4, 4, 3), np.uint8))


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
    with pytest.raises(DataError, match="the detector .*nowhere.onnx is missing; check the path"):
        Detector(tmp_path / "nowhere.onnx", 0.5, None)


def test_a_table_without_people_and_a_name_that_is_a_number(model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sleap_io")
    image = cv2.imencode(".png", noise(1)[0])[1].tobytes()
    (tmp_path / "0001").write_bytes(image)
    also = ("--also", "slp", "deeplabcut")
    assert run(monkeypatch, tmp_path / "0001", "--model", model, "--out", tmp_path / "one", *also) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "one/poses_deeplabcut.csv", header=[0, 1, 2], index_col=0, dtype=str)
    assert table.index.astype(str).str.zfill(4).tolist() == ["0001"]
    write_detector(tmp_path / "d.onnx")
    (tmp_path / "a.png").write_bytes(image)
    detector = ("--detector", tmp_path / "d.onnx", "--detector-score", "0.99")
    assert run(monkeypatch, tmp_path / "a.png", "--model", model, "--out", tmp_path / "none", *detector, *also) == 0
    table = pd.read_csv(tmp_path / "none/poses_deeplabcut.csv", header=[0, 1, 2], index_col=0)
    assert len(table) == 0 and len(table.columns) == 3 * 13
