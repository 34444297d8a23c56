"""The stream of batches: equal for any number of workers, resumable at any position, with every person once per pass."""

from dataclasses import replace
from shutil import copytree

import cv2
import numpy as np
import pytest
import torch

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats import annotations
from stages.loading.loader import PoseDataset, batches, channel_mean, killed_reader_as_data_error
from stages.settings.recipes import Recipe
from stages.settings.sections import Input

SIZE = Input(resolution=32)


MODERN = {"sampling": "shuffled", "crop": "single_warp", "targets": "subpixel", "flip_by": "sample"}
PUBLISHED = {"sampling": "consecutive", "crop": "published", "targets": "truncated", "flip_by": "batch"}


def stream(data, workers=1, first=0, count=5, batch=4, **settings):
    recipe = Recipe(target_sigma=1.0, target_radius=2, **(MODERN | settings))
    return list(batches(PoseDataset(data, "train", SIZE, recipe, 7, batch), batch, workers, first, count))


@pytest.mark.parametrize("how", [MODERN, PUBLISHED], ids=["modern", "published"])
def test_same_stream_for_any_number_of_workers(tiny_penn, how):
    one, two, rest = stream(tiny_penn, 1, **how), stream(tiny_penn, 2, **how), stream(tiny_penn, 2, first=2, **how)
    for other, part in ((two, one), (rest, one[2:])):
        assert all(torch.equal(a[k], b[k]) for a, b in zip(other, part, strict=True) for k in a)


def test_the_same_stream_where_shared_memory_is_short(tiny_penn, monkeypatch):
    """In containers, the shared memory in /dev/shm often has only 64 MB, or is missing."""
    roomy = stream(tiny_penn, 2)
    monkeypatch.setattr("stages.loading.loader._shared_memory_left", lambda: 1000)
    short = stream(tiny_penn, 2)
    assert all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for a, b in zip(short, roomy, strict=True) for k in b)
    assert all(values.is_shared() for values in roomy[0].values()) and not any(v.is_shared() for v in short[0].values())


@pytest.mark.parametrize(
    "message",
    [
        "Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: unable to allocate shared memory(shm) for </t>",
        "DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that workers are out of shared memory",
    ],
)
def test_too_little_shared_memory_is_reported_as_an_error_about_the_container(message):
    with pytest.raises(DataError, match=r"/dev/shm.* is full.*--shm-size=1g.*workers"), killed_reader_as_data_error():
        raise RuntimeError(message)
    with pytest.raises(RuntimeError), killed_reader_as_data_error():
        raise RuntimeError("Caught IndexError in DataLoader worker process 0.")  # an error in the code keeps its traceback


def test_a_stream_continues_at_any_batch(tiny_penn):
    whole, rest = stream(tiny_penn), stream(tiny_penn, first=3)
    assert len(rest) == 2
    assert all(torch.equal(a[k], b[k]) for a, b in zip(whole[3:], rest, strict=True) for k in a)


def test_every_person_once_a_pass_in_a_new_order(tiny_penn):
    rows = torch.cat([b["row"] for b in stream(tiny_penn, count=9)]).tolist()  # 36 samples are 6 passes over 6 people
    passes = [rows[i : i + 6] for i in range(0, 36, 6)]
    assert all(sorted(p) == list(range(6)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_consecutive_batches_begin_anywhere_and_wrap_around(tiny_penn):
    rows = [b["row"].tolist() for b in stream(tiny_penn, count=40, sampling="consecutive")]
    assert all(b == [(b[0] + i) % 6 for i in range(4)] for b in rows)
    starts = [b[0] for b in rows]
    assert set(starts) == set(range(6))
    assert len({b - a for a, b in zip(starts, starts[1:], strict=False)}) > 3


def is_mirrored(batch):
    return (torch.linalg.det(batch["image_to_crop"][:, :, :2]) < 0).tolist()


def test_a_batch_is_mirrored_as_a_whole_or_by_sample(tiny_penn):
    whole = [is_mirrored(b) for b in stream(tiny_penn, count=40, flip_by="batch", flip_probability=0.4)]
    assert all(len(set(flips)) == 1 for flips in whole)
    assert 5 < sum(flips[0] for flips in whole) < 27  # the expected number is 16, with a standard deviation of 3.1
    single = [is_mirrored(b) for b in stream(tiny_penn, count=20)]
    assert sum(len(set(flips)) == 2 for flips in single) > 10


def test_weights_follow_the_labels_and_the_mirror(tiny_penn, tmp_path):
    rows = tiny_penn.split("train")
    rows.visible[:, [2, 3]] = False  # the left shoulder is occluded, the right elbow has no label
    rows.part[:, 3] = np.nan
    annotations.write(tmp_path, "train", rows)
    data = replace(tiny_penn, annotations=tmp_path)
    expected = {False: [1, 1, 0.25, 0.5] + [1] * 9, True: [1, 0.25, 1, 1, 0.5] + [1] * 8}
    seen = stream(data, count=5, occluded_weight=0.25, unlabelled_weight=0.5)
    for b in seen:
        assert b["weights"].dtype == torch.float32
        assert b["weights"].tolist() == [expected[flip] for flip in is_mirrored(b)]
    assert len({flip for b in seen for flip in is_mirrored(b)}) == 2
    assert all((b["weights"] == 1).all() for b in stream(data, count=5))


def test_channel_mean_is_red_green_blue_and_each_image_counts_the_same(tiny_penn, tmp_path):
    for i, name in enumerate(tiny_penn.split("train").images):
        image = np.full((10 + 10 * i, 20, 3), (10 * i, 100, 30 * i), np.uint8)  # OpenCV's order of channels: blue, green, red
        cv2.imwrite(str(tmp_path / name), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    mean = channel_mean(DatasetFiles(tiny_penn.skeleton, tiny_penn.annotations, tmp_path), 3)
    np.testing.assert_allclose(mean, np.array([75, 100, 25]) / 255, atol=0.01)


def test_augmentation_differs_between_passes(tiny_penn):
    inputs = {}
    for b in stream(tiny_penn, count=9):
        for row, image in zip(b["row"].tolist(), b["input"], strict=True):
            inputs.setdefault(row, []).append(image)
    assert not torch.equal(inputs[0][0], inputs[0][1])


def test_validation_reads_each_row_once_in_order_without_augmentation(tiny_penn):
    seen = [b["row"].tolist() for b in batches(PoseDataset(tiny_penn, "train", SIZE), 4, 2)]
    assert seen == [[0, 1, 2, 3], [4, 5]]
    a, b = (next(batches(PoseDataset(tiny_penn, "valid", SIZE), 2, 1))["input"] for _ in range(2))
    assert torch.equal(a, b)


def test_a_broken_image_is_named(tiny_penn, tmp_path):
    images = copytree(tiny_penn.images, tmp_path / "frames")
    whole = (images / "train3.jpg").read_bytes()
    (images / "train3.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train3\.jpg") as caught:
        stream(replace(tiny_penn, images=images), workers=2)
    assert "Traceback" not in str(caught.value)


def test_input_shows_the_box(tiny_penn):
    # A box of 0.3 * 200 = 60 px around the image's centre is scaled to 32 px. The image is 40 px wide, so black margins of
    # 10/60 of the box's side remain on the left and on the right.
    batch = next(batches(PoseDataset(tiny_penn, "valid", SIZE), 1, 1))
    image = batch["input"][0].sum(0)
    assert image.shape == (32, 32)
    assert (image[:, :4] == 0).all() and (image[:, -4:] == 0).all() and image[16, 8:24].min() > 0
    frame = cv2.imread(str(tiny_penn.images / "valid0.jpg"))
    assert np.isclose(batch["input"].mean(), frame.mean() / 255 * (40 * 48) / 3600, rtol=0.1)


@pytest.mark.parametrize("how", [MODERN, PUBLISHED], ids=["modern", "published"])
def test_labels_lie_on_bright_dots_of_images_that_are_reduced_when_read(tiny_penn, tmp_path, how):
    # Boxes of 45 to 640 px are averaged over blocks of 1 to 13 px, and then scaled to 32 px. The JPEG decoder already reduces
    # the image by a factor of 1, 2, 4 or 8.
    rows = tiny_penn.split("train").select(np.arange(6))
    y, x = np.mgrid[:500, :700]
    for i, scale in enumerate((0.225, 0.45, 0.9, 1.2, 1.92, 3.2)):
        dot = np.array([340.3, 247.6])
        values = 255 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / (2 * (14 * scale) ** 2))
        cv2.imwrite(str(tmp_path / rows.images[i]), np.rint(values), [cv2.IMWRITE_JPEG_QUALITY, 98])
        rows.part[i], rows.scale[i], rows.center[i] = dot, scale, dot + (3 * scale, -2 * scale)
    annotations.write(tmp_path, "train", rows)
    data = replace(tiny_penn, annotations=tmp_path, images=tmp_path)
    v, u = np.mgrid[:32, :32]
    for b in stream(data, count=6, **how):
        for image, affine, row in zip(b["input"][:, 1].numpy(), b["image_to_crop"].numpy(), b["row"], strict=True):
            seen = np.array([(image * u).sum(), (image * v).sum()]) / image.sum()
            expected = affine @ [*rows.part[row][0], 1]
            assert np.abs(seen - expected).max() < 0.08
