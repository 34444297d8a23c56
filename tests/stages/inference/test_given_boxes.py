"""Boxes that are read from a file are assigned to images and videos."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.errors import DataError
from datasets.formats.boxes import Box
from stages.inference.given_boxes import GivenBoxes
from stages.inference.pictures import Images, Picture, Video
from stages.inference.video import VideoWriter


@pytest.fixture
def place(tmp_path):
    for name in ("x/a.png", "y/a.png", "x/000042.png", "x/frame42.png", "x/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((10, 20, 3), np.uint8))
    writer = VideoWriter(tmp_path / "v.mp4", Fraction(10))
    writer.add(np.zeros((10, 20, 3), np.uint8), 0)
    writer.close()
    return tmp_path


def images(place, *names):
    return Images([place / name for name in names], place / "out")


def box(image, frame=None, corners=(1.0, 2.0, 3.0, 4.0)):
    return Box("boxes.csv, line 2", image, frame, corners)


def picture(path, frame=None):
    return Picture(path, frame, None, np.zeros((10, 20, 3), np.uint8))


def test_images_of_one_name_are_distinguished_by_their_folders(place):
    both = [images(place, "x/a.png"), images(place, "y/a.png")]
    given = GivenBoxes([box("y/a.png"), box("some/x/a.png", corners=(5, 5, 6, 6)), box("y/a.png", corners=(7, 7, 8, 8))], both)
    np.testing.assert_array_equal(given.of(picture(place / "x/a.png")), [[5, 5, 6, 6]])
    np.testing.assert_array_equal(given.of(picture(place / "y/a.png")), [[1, 2, 3, 4], [7, 7, 8, 8]])
    assert given.of(picture(place / "x/b.png")).shape == (0, 4) and given.unused() == given.failed == []
    with pytest.raises(DataError, match=r"line 2: a.png may be .*x/a.png or .*y/a.png; name its folder, too"):
        GivenBoxes([box("a.png")], both)
    with pytest.raises(DataError, match=r"line 2: train/a.png and valid/a.png both match .*x/a.png"):
        GivenBoxes([box("valid/a.png"), box("train/a.png")], both[:1])


@pytest.mark.parametrize(
    ("name", "file"), [("42", "000042.png"), ("b", "b.png"), (r"C:\x\b.png", "b.png"), ("./b.png", "b.png")]
)
def test_an_image_id_is_a_name_or_a_number(place, name, file):
    source = images(place, "x/000042.png", "x/b.png")
    assert len(GivenBoxes([box(name)], [source]).of(picture(place / "x" / file))) == 1
    with pytest.raises(DataError, match="42 may be .*000042.png or .*frame42.png"):
        GivenBoxes([box("42")], [images(place, "x/000042.png", "x/frame42.png")])


def test_other_names_and_frames_are_refused(place):
    video, image = Video(place / "v.mp4", place / "out"), images(place, "x/b.png")
    for name in ("c.png", "b.jpg", "7", ""):
        with pytest.raises(DataError, match=f"line 2: {name} is none of the images and videos"):
            GivenBoxes([box(name)], [image, video])
    with pytest.raises(DataError, match=r"line 2 gives no frame of the video .*v.mp4; give a .csv with the column frame"):
        GivenBoxes([box("v.mp4")], [image, video])
    with pytest.raises(DataError, match=r"line 2 gives frame 0 of the image .*b.png; leave the column frame empty"):
        GivenBoxes([box("b.png", 0)], [image, video])


def test_frames_that_a_video_does_not_have_are_reported(place):
    given = GivenBoxes([box("v.mp4", frame) for frame in (0, 7, 8, 8)], [Video(place / "v.mp4", place / "out")])
    assert len(given.of(picture(place / "v.mp4", 0))) == 1
    assert given.unused() == [
        f"boxes.csv, line 2: {place / 'v.mp4'} has no frame 7 that can be read, so 3 of its boxes were not used; correct or "
        "remove them."
    ]


def test_boxes_outside_of_an_image_are_reported_and_boxes_across_its_edge_are_kept(place):
    """The image has 20 x 10 px, so its last pixel is at (19, 9)."""
    inside = [(-5, -5, 0, 0), (19, 9, 30, 30), (-5, -5, 50, 50)]
    outside = [(-5, 0, -0.5, 9), (0, -5, 9, -1), (19.5, 0, 25, 9), (0, 10, 9, 12)]
    given = GivenBoxes([box("b.png", None, corners) for corners in inside + outside], [images(place, "x/b.png")])
    np.testing.assert_array_equal(given.of(picture(place / "x/b.png")), inside)
    assert len(given.failed) == 4 and given.unused() == []
    assert given.failed[2] == (
        f"boxes.csv, line 2: the box from (19.5, 0) to (25, 9) lies outside of {place / 'x/b.png'} of 20 x 10 px and was "
        "skipped; correct or remove it."
    )


def test_relative_paths_are_found(place, monkeypatch):
    monkeypatch.chdir(place / "x")
    given = GivenBoxes([box("x/b.png")], [Images([Path("b.png")], Path("out"))])
    assert len(given.of(picture(Path("b.png")))) == 1
