"""Tests of datasets that sections [dataset:NAME] define: COCO keypoints, joint names, splits, measures and wrong labels."""

import json

import numpy as np
import pytest
from PIL import Image

from datasets.errors import DataError
from datasets.formats.coco import read_coco, write_coco
from datasets.measures import people_by_image
from datasets.own import OwnDataset, own_dataset, read
from datasets.progress import silent
from datasets.skeletons import Skeleton, standard_names
from stages.settings.sections import Settings
from tests import fish


def conversion(folder, content=None, **settings):
    (folder / "labels.json").write_text(json.dumps(content or fish.coco(20)))
    return read(folder, OwnDataset(**settings), {}, silent)


def rows(split):
    (part,) = split.parts
    return part


def test_people_joints_boxes_and_flags_are_those_of_the_file(tmp_path):
    content = fish.coco(6)
    content["annotations"][0]["keypoints"][2] = 1  # occluded
    content["annotations"][0]["keypoints"][5] = 0  # not labelled
    content["annotations"].insert(1, {**content["annotations"][0], "id": 99, "iscrowd": 1})
    (tmp_path / "labels.json").write_text("\ufeff" + json.dumps(content))
    people = read_coco(tmp_path / "labels.json")
    assert people.rows.images == ["000.png", "000.png", "001.png", "002.png", "003.png", "004.png", "005.png", "005.png"]
    assert people.rows.person.tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert people.skeleton.limbs == ((0, 3), (1, 3), (2, 3), (3, 4))
    first = fish.fish(0)[0]
    np.testing.assert_allclose(people.rows.part[0, [0, 2, 3, 4]], first[[0, 2, 3, 4]])
    assert np.isnan(people.rows.part[0, 1]).all() and people.rows.visible[0].tolist() == [False, False, True, True, True]
    # The square must be that of `PosePredictor.predict`: the box, moved down by 0.075 of its side, then enlarged 1.25 times.
    side = np.ptp(first, axis=0).max()
    middle = (first.min(axis=0) + first.max(axis=0)) / 2
    np.testing.assert_allclose(people.rows.center[0], middle + (0, 0.075 * side))
    assert people.rows.scale[0] * 200 == pytest.approx(1.25 * side)


def test_a_person_without_a_box_gets_that_of_the_joints(tmp_path):
    content = fish.coco(2)
    with_boxes = conversion(tmp_path, content, valid="0.5")
    for person in content["annotations"]:
        del person["bbox"]
    without = conversion(tmp_path, content, valid="0.5")
    np.testing.assert_allclose(rows(without.splits["train"]).center, rows(with_boxes.splits["train"]).center)
    np.testing.assert_allclose(rows(without.splits["train"]).scale, rows(with_boxes.splits["train"]).scale)


def test_written_labels_are_read_back_equal(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(fish.coco(7)))
    first = read_coco(tmp_path / "labels.json")
    sizes = dict.fromkeys(first.rows.images, (fish.WIDTH, fish.HEIGHT))
    write_coco(tmp_path / "again.json", first.rows, first.skeleton.joints, first.skeleton.limbs, sizes, "")
    again = read_coco(tmp_path / "again.json")
    assert again.skeleton == first.skeleton and again.rows.images == first.rows.images
    for name in ("index", "person", "center", "scale", "part", "visible"):
        np.testing.assert_allclose(getattr(again.rows, name), getattr(first.rows, name), err_msg=name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["LeftKnee", "RightKnee", "Nose Tip"], ("left_knee", "right_knee", "nose_tip")),
        (["knee_L", "knee_R", "lip"], ("left_knee", "right_knee", "lip")),
        (["Lear", "Rear", "tail1"], ("left_ear", "right_ear", "tail_1")),
        (["f_l_leg", "f_r_leg", "f_c_leg"], ("left_f_leg", "right_f_leg", "f_c_leg")),
        (["hindleftpaw", "hindrightpaw", "tail"], ("left_hindpaw", "right_hindpaw", "tail")),
        (["frontLpaw", "frontRpaw"], ("left_front_paw", "right_front_paw")),
        (["hindleftpaw", "front l paw"], ("hindleftpaw", "front_l_paw")),
        (["leftear", "rightear", "l"], ("left_ear", "right_ear", "l")),
        (["right_ankle", "left_ankle", "head_top"], ("right_ankle", "left_ankle", "head_top")),
    ],
)
def test_sides_are_recognised_where_the_partner_is_there(names, expected):
    assert standard_names(names) == expected


def test_names_that_become_equal_are_refused():
    with pytest.raises(DataError, match=r"Tail1 and tail_1 would both be called tail_1.*rename"):
        standard_names(["Tail1", "tail_1"])


def test_joints_are_renamed_and_pairs_follow(tmp_path):
    found = conversion(tmp_path, rename="Nose: head_top, Back: left_gill, Tail: right_gill").skeleton
    assert found.joints == ("head_top", "left_fin", "right_fin", "left_gill", "right_gill")
    assert found.mirrored() == [0, 2, 1, 4, 3]
    with pytest.raises(DataError, match=r"`rename` contains Snout, .* their joints are Nose, FinL"):
        conversion(tmp_path, rename="Snout: nose")
    with pytest.raises(DataError, match="`rename`, the joints Nose and FinL would both be called Nose"):
        conversion(tmp_path, rename="FinL: Nose")
    with pytest.raises(DataError, match=r"rename = Nose=nose: it should be pairs like"):
        OwnDataset(rename="Nose=nose")


def test_a_joint_on_one_side_only_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"left_nose but not right_nose.*`rename`"):
        conversion(tmp_path, rename="Nose: left_nose")


def test_pairs_whose_names_show_no_side_are_refused(tmp_path):
    content = fish.coco(5)
    content["categories"][0]["flip_pairs"] = [[4, 5]]
    with pytest.raises(DataError, match=r"Back and Tail are a left and right pair in the labels"):
        conversion(tmp_path, content)


def test_a_skeleton_without_pairs_gives_a_note(tmp_path):
    content = fish.coco(5)
    content["categories"][0]["keypoints"] = list("abcde")
    assert "mirrored images keep their labels" in conversion(tmp_path, content).notes[0]
    assert conversion(tmp_path).notes == ("Left-right pairs: fin. Joints without a partner: nose, back, tail.",)


def test_splits_share_no_image_and_depend_only_on_the_seed(tmp_path):
    first, again, other = (conversion(tmp_path, valid="0.25", test="0.2", split_seed=seed) for seed in (1, 1, 2))
    images = {name: set(rows(split).images) for name, split in first.splits.items()}
    assert {name: len(found) for name, found in images.items()} == {"train": 12, "valid": 4, "test": 4}
    assert len(set.union(*images.values())) == 20
    assert images == {name: set(rows(split).images) for name, split in again.splits.items()}
    assert images != {name: set(rows(split).images) for name, split in other.splits.items()}


def test_whole_folders_are_drawn(tmp_path):
    content = fish.coco(20)
    for image in content["images"]:
        image["file_name"] = f"video{image['id'] % 5}/{image['file_name']}"
    found = conversion(tmp_path, content, valid="0.4", split_by="folder")
    videos = {name: {image.partition("/")[0] for image in rows(split).images} for name, split in found.splits.items()}
    assert len(videos["valid"]) == 2 and len(videos["train"]) == 3 and not videos["valid"] & videos["train"]


def test_lists_name_images_and_folders(tmp_path):
    content = fish.coco(6)
    for image in content["images"][:2]:
        image["file_name"] = f"deep/er/{image['file_name']}"
    (tmp_path / "valid.txt").write_text("deep\n\n003.png\r\n")
    found = conversion(tmp_path, content, valid="list.txt")
    assert set(rows(found.splits["valid"]).images) == {"deep/er/000.png", "deep/er/001.png", "003.png"}
    (tmp_path / "valid.txt").write_text("003.png\n03.png\n")
    with pytest.raises(DataError, match=r"the list in `valid`, line 2: no labelled image is, or lies in, 03\.png"):
        conversion(tmp_path, content, valid="list.txt")


def test_valid_may_be_another_file_of_labels(tmp_path):
    other = fish.coco(25)
    other["annotations"] = [person for person in other["annotations"] if person["image_id"] > 18]
    (tmp_path / "valid.json").write_text(json.dumps(other))
    found = conversion(tmp_path, valid="other.json")
    valid, train = set(rows(found.splits["valid"]).images), set(rows(found.splits["train"]).images)
    assert len(valid) == 7 and len(train) == 18 and not valid & train
    other["categories"][0]["keypoints"][0] = "Mouth"
    (tmp_path / "valid.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match=r"labels of valid have the joints mouth,.*`labels` has nose,"):
        conversion(tmp_path, valid="other.json")


@pytest.mark.parametrize(
    ("reference", "name", "length"),
    [("box", "PCK@0.2 of the box", None), ("px", "PCK@0.2 px", 1), ("nose tail", "PCK@0.2 of the nose-tail", "nose")],
)
def test_reference_lengths(tmp_path, reference, name, length):
    found = conversion(tmp_path)
    settings = OwnDataset(reference=reference)
    (measure,) = own_dataset("fish", settings, found.skeleton).measures
    people = people_by_image(rows(found.splits["train"]))
    part = people.rows.part
    longer = np.ptp(part, axis=1).max(axis=1)
    expected = (
        longer if length is None else np.ones(len(part)) if length == 1 else np.linalg.norm(part[:, 0] - part[:, 4], axis=1)
    )
    assert measure.name == name
    np.testing.assert_allclose(measure.reference(people), expected)


def test_the_torso_is_that_of_the_other_side_where_one_is_not_labelled(tmp_path):
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    (measure,) = own_dataset("a", OwnDataset(reference="torso"), Skeleton(names, (), ())).measures
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "keypoints": list(names)}]}
    people = [[0, 0, 2, 9, 9, 2, 9, 0, 2, 3, 4, 2], [0, 0, 2, 6, 8, 2, 0, 0, 2, 0, 0, 0]]
    content["annotations"] = [
        {"id": n, "image_id": 1, "category_id": 1, "keypoints": p, "bbox": [0, 0, 5, 5]} for n, p in enumerate(people)
    ]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = people_by_image(read_coco(tmp_path / "labels.json").rows)
    np.testing.assert_allclose(measure.reference(found), [5, 10])


def broken(change):
    content = fish.coco(6)
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["annotations"][2]["keypoints"].pop(),
            r"annotation with id 3 has keypoints of the shape \(14,\), expected one list of 15 numbers",
        ),
        (
            lambda c: c["annotations"][2]["keypoints"].__setitem__(0, float("nan")),
            "annotation with id 3 has .* no legal number",
        ),
        (lambda c: c["annotations"][2]["keypoints"].__setitem__(0, "x"), "annotation with id 3 has keypoints .* no numbers"),
        (
            lambda c: c["annotations"][2]["keypoints"].__setitem__(2, 7),
            "annotation with id 3 has a visibility other than 0, 1 and 2",
        ),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, -3, 4]), r"annotation with id 3 has the bbox \[1, 2, -3, 4\]"),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3]), r"annotation with id 3 has the bbox \[1, 2, 3\]"),
        (lambda c: c["annotations"][2].update(image_id=77), "annotation with id 3 is of image 77, which is not in the list"),
        (lambda c: c["annotations"][2].update(image_id=[1]), "annotation with id 3 is of image"),
        (lambda c: c["images"][1].update(id=1), "two images with id 1, 000.png and 001.png"),
        (lambda c: c["images"][1].update(file_name="../../etc/passwd"), "leads out of the folder of images"),
        (lambda c: c["images"][1].update(file_name="/etc/passwd"), "leads out of the folder of images"),
        (lambda c: c["images"][1].pop("file_name"), "image with id 2 has no file_name"),
        (lambda c: c["categories"][0].update(keypoints=[]), "categories with joints are: none"),
        (
            lambda c: c["categories"].append({"id": 2, "name": "cat", "keypoints": ["a"]}),
            "categories with joints are: fish, cat",
        ),
        (lambda c: c["categories"][0]["keypoints"].__setitem__(1, "Nose"), "names the joint Nose twice"),
        (
            lambda c: c["categories"][0].update(skeleton=[[0, 1]]),
            "`skeleton` of the category fish should contain pairs of joint numbers from 1 to 5",
        ),
        (lambda c: c.pop("categories"), "has no list `categories`"),
        (lambda c: c["annotations"].clear(), "has no person with labelled joints"),
        (
            lambda c: c["annotations"][2]["keypoints"].__setitem__(0, 10**400),
            "annotation with id 3 has keypoints .* no numbers",
        ),
        (lambda c: c["categories"][0].update(flip_pairs=[[2.0, 3.0]]), "`flip_pairs` of the category fish should contain"),
    ],
)
def test_wrong_labels_name_file_record_and_remedy(tmp_path, change, said):
    (tmp_path / "labels.json").write_text(json.dumps(broken(change)))
    with pytest.raises(DataError, match=said) as error:
        read_coco(tmp_path / "labels.json")
    assert str(tmp_path / "labels.json") in str(error.value)


def test_a_file_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(fish.coco(6))[:500])
    with pytest.raises(DataError, match=r"labels\.json is no JSON file, or is cut off .* export the labels again"):
        read_coco(tmp_path / "labels.json")


def test_a_category_is_chosen_by_name(tmp_path):
    content = fish.coco(6)
    content["categories"].append({"id": 2, "name": "cat", "keypoints": ["ear"]})
    found = conversion(tmp_path, content, category="fish")
    assert found.skeleton.joints[0] == "nose"


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("dataset:Fish", {}, r"\[dataset:Fish\]: Fish cannot be the name of a dataset"),
        ("dataset:", {}, "an empty name cannot be the name"),
        ("dataset:mpii", {}, "and none of mpii, penn_action"),
        ("dataset:fish", {"valid": "1.5"}, r"\[dataset:fish\] valid = 1.5: it should be a number between 0 and 1, or a file"),
        ("dataset:fish", {"reference": "nose"}, r"\[dataset:fish\] reference = nose: it should be box, torso, head, px"),
        ("dataset:fish", {"label": "x"}, r"\[dataset:fish\] unknown setting label. Did you mean labels"),
    ],
)
def test_wrong_sections_are_named(section, values, said):
    with pytest.raises(DataError, match=said):
        Settings.from_text({section: values})


def test_images_of_another_size_and_turned_images_are_refused(tmp_path):
    fish.write_pictures(tmp_path / "images", 5)
    conversion(tmp_path, fish.coco(5))
    content = fish.coco(5)
    content["images"][2]["width"] = 640.0  # as pandas writes whole numbers
    with pytest.raises(DataError, match=r"002\.png has 320 x 240 px, but the labels state 640 x 240 px"):
        conversion(tmp_path, content)
    turned = Image.fromarray(fish.picture(3))
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(tmp_path / "images/003.png", exif=exif)
    with pytest.raises(DataError, match=r"003\.png is stored turned \(EXIF orientation 3\).*store all images upright"):
        conversion(tmp_path, fish.coco(5))


def test_valid_and_test_share_no_image(tmp_path):
    few = fish.coco(20)
    few["annotations"] = [person for person in few["annotations"] if person["image_id"] <= 5]
    (tmp_path / "valid.json").write_text(json.dumps(few))
    found = conversion(tmp_path, valid="v.json", test="0.3")
    images = {name: set(rows(split).images) for name, split in found.splits.items()}
    assert len(images["valid"]) == 5 and len(images["test"]) == round(0.3 * 15) and len(images["train"]) == 15 - round(0.3 * 15)
    assert not images["valid"] & images["test"] and not images["valid"] & images["train"]
    (tmp_path / "test.txt").write_text("000.png\n010.png\n")
    with pytest.raises(DataError, match=r"1 images, such as 000\.png, are in valid and in test"):
        conversion(tmp_path, valid="v.json", test="t.txt")


def test_people_without_a_joint_or_a_size_are_left_out_and_counted(tmp_path):
    content = fish.coco(6)
    people = content["annotations"]
    people[0]["keypoints"] = [1, 1, 0] * 5
    for person in people[1:3]:
        person["keypoints"] = [5, 5, 2] + [0, 0, 0] * 4
        del person["bbox"]
    found = conversion(tmp_path, content, valid="0.5")
    assert sum(len(rows(split)) for split in found.splits.values()) == len(people) - 3
    assert any("2 people are left out: they have no `bbox`" in note for note in found.notes)


def test_images_in_one_folder_are_independent_samples(tmp_path):
    content = fish.coco(6)
    for image in content["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    people = people_by_image(rows(conversion(tmp_path, content, valid="0.5").splits["train"]))
    assert len(set(people.groups.tolist())) == 3
