"""Tests of reading boxes of people from tables and COCO files."""

import json

import pytest

from datasets.errors import DataError
from datasets.formats.boxes import read_boxes


def table(folder, text):
    (folder / "boxes.csv").write_text(text)
    return folder / "boxes.csv"


def coco(folder, content):
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def images(*names):
    return [{"id": number, "file_name": name} for number, name in enumerate(names, 7)]


def found(boxes):
    return [(box.image, box.frame, box.corners) for box in boxes]


def test_a_table_gives_corners_and_frames(tmp_path):
    path = table(
        tmp_path, "frame,image,left,top,right,bottom,note\n,a.png,1,2,30.5,4,x\n3.0,v.mp4,-1,0,5,6,\n12,v.mp4,0,0,1,1,\n"
    )
    boxes = read_boxes(path)
    assert found(boxes) == [("a.png", None, (1, 2, 30.5, 4)), ("v.mp4", 3, (-1, 0, 5, 6)), ("v.mp4", 12, (0, 0, 1, 1))]
    assert [box.where for box in boxes] == [f"{path}, line {line}" for line in (2, 3, 4)]


def test_coco_annotations_give_corners_and_leave_out_crowds_and_other_categories(tmp_path):
    people = [
        {"id": 1, "image_id": 8, "category_id": 2, "bbox": [10, 20, 30, 40]},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [1, 1, 1, 1]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [1, 1, 1, 1], "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [0.5, 1, 2, 3], "iscrowd": 0},
    ]
    content = {"images": images("x/a.png", "b.png"), "annotations": people}
    kinds = [{"id": 5, "name": "dog"}, {"id": 2, "name": "person"}]
    expected = [("b.png", None, (10, 20, 40, 60)), ("x/a.png", None, (0.5, 1, 2.5, 4))]
    boxes = read_boxes(coco(tmp_path, content | {"categories": kinds}))
    assert found(boxes) == expected and boxes[1].where == f"{tmp_path / 'boxes.json'}, annotation 4"
    assert found(read_boxes(coco(tmp_path, content), label=5)) == [("x/a.png", None, (1, 1, 2, 2))]
    with pytest.raises(DataError, match=r"several categories \(category_id 2, 5\).*--detector-label NUMBER"):
        read_boxes(coco(tmp_path, content))
    del people[1]  # a file's only category counts as people, whatever its name
    assert found(read_boxes(coco(tmp_path, content))) == expected


def test_coco_results_give_the_boxes_from_a_score_on(tmp_path):
    people = [
        {"image_id": 42, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9},
        {"image_id": "b", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 42, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.49},
    ]
    boxes = read_boxes(coco(tmp_path, people), score=0.5)
    assert found(boxes) == [("42", None, (10, 20, 40, 60)), ("b", None, (1, 2, 4, 6))]
    assert boxes[1].where == f"{tmp_path / 'boxes.json'}, result 2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"boxes.csv has no column image, left, top, right, bottom; its first line should be image,left,top,right,bottom"),
        ("image,left,top,right\na.png,1,2,3\n", "boxes.csv has no column bottom"),
        ("image,left,top,right,bottom\n", "boxes.csv has no boxes of people; give one box for each person"),
        ("image,left,top,right,bottom\na.png,1,2,x,4\n", "line 2: the numbers .* cannot be read: a.png, 1, 2, x, 4; correct"),
        ("image,left,top,right,bottom\na.png,1,2,3\n", "line 2: the numbers of the box cannot be read"),
        ("image,left,top,right,bottom\na.png,1,2,3,4\na.png,1,2,nan,4\n", r"line 3: the box \(1, 2, nan, 4\) has NaN"),
        ("image,left,top,right,bottom\na.png,1,2,inf,4\n", r"line 2: the box \(1, 2, inf, 4\) has NaN or infinite numbers"),
        ("image,left,top,right,bottom\na.png,5,2,3,4\n", r"line 2: the box \(5, 2, 3, 4\) is empty; give left < right"),
        ("image,left,top,right,bottom\na.png,1,4,3,4\n", "line 2: .* is empty; give left < right and top < bottom"),
        ("image,left,top,right,bottom\n,1,2,3,4\n", "line 2 names no image; fill in the column image"),
        ("image,frame,left,top,right,bottom\nv.mp4,-1,1,2,3,4\n", "line 2: the numbers of the box cannot be read"),
        ("image,frame,left,top,right,bottom\nv.mp4,1.5,1,2,3,4\n", "line 2: the numbers of the box cannot be read"),
        (f"image,left,top,right,bottom\n{'a' * 200000},1,2,3,4\n", "cannot be read as a table after line .*field"),
    ],
)
def test_wrong_tables_name_the_line_and_the_remedy(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_boxes(table(tmp_path, text))


NAN = float("nan")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (3, "boxes.json is not a COCO file"),
        ({"images": []}, "boxes.json is not a COCO file: neither an object with `images` and `annotations` nor a list"),
        ({"images": [3], "annotations": []}, "boxes.json is not a COCO file"),
        ([], "boxes.json has no boxes of people .*scores below 0.5"),
        ([1], "result 1 is not an object"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "result 1 should have `image_id`, `score` and a `bbox` of four numbers"),
        ([{"image_id": 1, "bbox": [1, 2, -3, 4], "score": 1}], r"result 1: the box \(1, 2, -2, 6\) is empty"),
        ([{"image_id": 1, "bbox": [1, NAN, 3, 4], "score": 1}], r"result 1: the box \(1, nan, 4, nan\) has NaN"),
        (
            {"images": [], "annotations": [{"id": 3, "image_id": 1, "bbox": [1, 2, 3, 4]}]},
            "annotation 3 should have an `image_id`",
        ),
        ({"images": images("a"), "annotations": [{"id": 3, "image_id": 7, "bbox": [1, 2]}]}, "annotation 3 .*four numbers"),
        ({"images": images("a"), "annotations": [{"id": 3, "image_id": 7, "bbox": None}]}, "annotation 3 .*four numbers"),
        ({"images": images("a"), "annotations": ["x"]}, "annotation 1 is not an object"),
    ],
)
def test_wrong_coco_files_name_the_record_and_the_remedy(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read_boxes(coco(tmp_path, content), score=0.5)


def test_missing_and_non_json_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv cannot be read \(No such file"):
        read_boxes(tmp_path / "nowhere.csv")
    (tmp_path / "boxes.json").write_text("{")
    with pytest.raises(DataError, match="is not a COCO file"):
        read_boxes(tmp_path / "boxes.json")
