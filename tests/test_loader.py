"""The stream of batches: the same for any number of workers, continued at any point, every person once a pass."""

import cv2
import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.loader import Samples, batches
from stages.settings import Input, Recipe

SIZE = Input(resolution=32)
RECIPE = Recipe(blob_sigma=1.0, blob_radius=2)


def stream(data, workers=1, first=0, count=5, batch=4):
    return list(batches(Samples(data, "train", SIZE, RECIPE, seed=7), batch, workers, first, count))


def test_same_stream_for_any_number_of_workers(tiny_penn):
    one, two = stream(tiny_penn, 1), stream(tiny_penn, 2)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(one, two, strict=True) for k in a)


def test_a_stream_goes_on_where_it_is_told(tiny_penn):
    whole, rest = stream(tiny_penn), stream(tiny_penn, first=3)
    assert len(rest) == 2
    assert all(torch.equal(a[k], b[k]) for a, b in zip(whole[3:], rest, strict=True) for k in a)


def test_every_person_once_a_pass_in_a_new_order(tiny_penn):
    rows = torch.cat([b["row"] for b in stream(tiny_penn, count=9)]).tolist()  # 36 samples, 6 passes over 6 people
    passes = [rows[i : i + 6] for i in range(0, 36, 6)]
    assert all(sorted(p) == list(range(6)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_augmentation_differs_between_passes(tiny_penn):
    inputs = {}
    for b in stream(tiny_penn, count=9):
        for row, image in zip(b["row"].tolist(), b["input"], strict=True):
            inputs.setdefault(row, []).append(image)
    assert not torch.equal(inputs[0][0], inputs[0][1])


def test_validation_reads_each_row_once_in_order_without_augmentation(tiny_penn):
    seen = [b["row"].tolist() for b in batches(Samples(tiny_penn, "train", SIZE), 4, 2)]
    assert seen == [[0, 1, 2, 3], [4, 5]]
    a, b = (next(batches(Samples(tiny_penn, "valid", SIZE), 2, 1))["input"] for _ in range(2))
    assert torch.equal(a, b)


def test_a_broken_image_is_named(tiny_penn, tmp_path):
    from dataclasses import replace
    from shutil import copytree

    images = copytree(tiny_penn.images, tmp_path / "frames")
    whole = (images / "train3.jpg").read_bytes()
    (images / "train3.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train3\.jpg") as caught:
        stream(replace(tiny_penn, images=images), workers=2)
    assert "Traceback" not in str(caught.value)


def test_input_shows_the_box(tiny_penn):
    # 0.3 * 200 = 60 px around the image's centre shown at 32 px: the 40 px wide image leaves black margins of 10/60 each.
    batch = next(batches(Samples(tiny_penn, "valid", SIZE), 1, 1))
    image = batch["input"][0].sum(0)
    assert image.shape == (32, 32)
    assert (image[:, :4] == 0).all() and (image[:, -4:] == 0).all() and image[16, 8:24].min() > 0
    frame = cv2.imread(str(tiny_penn.images / "valid0.jpg"))
    assert np.isclose(batch["input"].mean(), frame.mean() / 255 * (40 * 48) / 3600, rtol=0.1)
