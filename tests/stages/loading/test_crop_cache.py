"""Cached training crops give the same samples as the original images."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.imaging import geometry
from datasets.penn_action import PENN_ACTION
from stages.loading.crop_cache import cache_crops
from stages.loading.loader import PoseDataset
from stages.settings.recipes import Recipe
from stages.settings.sections import Input, Settings

SIZE = Input(resolution=64)
PEOPLE = 70  # more people than the 64 whose crops fit into one file of the cache


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """People of 50 to 400 px in smooth images, some of whom extend beyond the image's edge; their crops are cached."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for number in range(7):
        noise = cv2.GaussianBlur(rng.normal(size=(400, 500, 3)), (0, 0), 16)
        cv2.imwrite(
            str(folder / f"{number}.jpg"), np.clip(128 + noise * 1600, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
    center = rng.uniform((60, 60), (440, 340), (PEOPLE, 2))
    rows = Annotations(
        images=[f"{i // 10}.jpg" for i in range(PEOPLE)], index=np.arange(PEOPLE), person=np.zeros(PEOPLE, int), center=center,
        scale=rng.uniform(0.25, 2, PEOPLE), part=center[:, None] + rng.uniform(-50, 50, (PEOPLE, 13, 2)),
        visible=np.ones((PEOPLE, 13), bool), normalize=np.full(PEOPLE, -1.0), torsoangle=np.full(PEOPLE, -1.0),
    )  # fmt: skip
    annotations.write(folder, "train", rows)
    (folder / "crops").mkdir()
    found = DatasetFiles(PENN_ACTION, folder, folder, folder / "crops")
    assert cache_crops(found, SIZE.resolution, found.crops, 2) == {"crops": PEOPLE, "side": 96}
    return found


def pair(data, recipe):
    """Return two datasets with the same samples: the first reads the crop cache, the second the original images."""
    return (PoseDataset(each, "train", SIZE, recipe, 3, 6) for each in (data, replace(data, crops=None)))


@pytest.mark.parametrize("recipe", Settings().recipes.values(), ids=Settings().recipes)
def test_samples_are_those_of_the_original_images(data, recipe):
    recipe = recipe.model_copy(update={"rotate180_probability": 0.3, "cutout_probability": 0.3})
    cached, original = pair(data, recipe)
    corners = [(x, y) for x in (-0.5, 63.5) for y in (-0.5, 63.5)]
    worst = []
    for position in range(2 * PEOPLE):
        a, b = cached[position], original[position]
        for name in ("heatmaps", "weights", "image_to_crop", "row"):
            np.testing.assert_array_equal(a[name], b[name])
        # The cached crop covers 1.5 times the side of the box.
        half = 150 * cached.rows.scale[a["row"]]
        seen = geometry.apply(geometry.invert(a["image_to_crop"]), corners) - cached.rows.center[a["row"]]
        if recipe.crop == "single_warp" and np.abs(seen).max() > half:
            continue
        # Pixels near the picture's edge are blended with black.
        inside = cv2.erode((b["input"].sum(axis=0) > 0).astype(np.uint8), np.ones((9, 9))) > 0
        worst.append(np.mean((a["input"] - b["input"])[:, inside] ** 2))
    assert len(worst) > PEOPLE
    # The peak signal-to-noise ratio is above 50 dB in the median, and above 36 dB in the worst sample. If the crops were
    # shifted by a quarter pixel, the worst value would be 33 dB.
    assert np.median(worst) < 10 ** (-50 / 10) and max(worst) < 10 ** (-36 / 10)


def test_nothing_but_corners_is_lost(data):
    cached, original = pair(data, Recipe(crop="single_warp", scale_std=0.25, rotation_std=90, rotation_probability=1))
    lost = []
    for position in range(PEOPLE):
        a, b = (each[position]["input"].sum(axis=0) > 0 for each in (cached, original))
        lost.append((b & ~a).mean())
    assert 0 < max(lost) < 0.05 + 0.02  # lost: four corners of about 1 % each, and blended pixels at the image's edge


@pytest.mark.parametrize("damage", ["shorter", "longer", "missing"])
def test_a_damaged_cache_is_named(data, tmp_path, damage):
    path = tmp_path / "000064.rgb"
    content = (data.crops / path.name).read_bytes()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "shorter" else content + b"\0")
    samples = PoseDataset(replace(data, crops=tmp_path), "train", SIZE, Recipe(sampling="shuffled"), 3)
    position = next(i for i in range(PEOPLE) if samples.row_at(i) >= 64)
    error = samples[position]
    assert isinstance(error, DataError) and "000064.rgb" in str(error) and "rerun" in str(error)


def test_a_broken_image_is_named_and_what_is_finished_is_kept(data, tmp_path):
    images, out = tmp_path / "images", tmp_path / "crops"
    images.mkdir(), out.mkdir()
    for path in data.images.glob("*.jpg"):
        content = path.read_bytes()
        (images / path.name).write_bytes(content[: len(content) // 2] if path.name == "6.jpg" else content)
    broken = replace(data, images=images)
    with pytest.raises(DataError, match=r"row 6\d \(6\.jpg\).*damaged"):
        cache_crops(broken, SIZE.resolution, out, 1)
    for path in (images / "6.jpg", out / "000000.rgb"):
        path.write_bytes((data.images / path.name if path.suffix == ".jpg" else data.crops / path.name).read_bytes())
    (out / "000000.rgb").write_bytes(b"is not made again")
    (out / "000064.rgb.writing").write_bytes(b"of a killed process")
    cache_crops(replace(data, images=images), SIZE.resolution, out, 1)
    assert (out / "000000.rgb").read_bytes() == b"is not made again"
    assert (out / "000064.rgb").read_bytes() == (data.crops / "000064.rgb").read_bytes()
