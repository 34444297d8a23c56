"""Prediction: heatmaps of an image and of its mirror image are averaged joint by joint; joints are returned in image px."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets.errors import DataError
from datasets.imaging import geometry, heatmaps
from datasets.imaging.samples import CropSpec, Person, SampledAugmentation, make_sample
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.inference.predict import average_scales, compute_type, joints_in_image, pick_device, predict, set_tf32
from stages.settings.recipes import Recipe
from tests.other_device import OnOtherDevice, OtherDevice, to_other_device


class ColourNet(nn.Module):
    """A simulated network that finds the right wrist where the image is red, and the left wrist where it is green."""

    def forward(self, images):
        maps = torch.zeros(len(images), 13, *images.shape[-2:])
        maps[:, PENN_ACTION.skeleton.joints.index("right_wrist")] = images[:, 0]
        maps[:, PENN_ACTION.skeleton.joints.index("left_wrist")] = images[:, 1]
        return [maps]


def test_flip_averages_each_joint_with_its_mirrored_partner():
    images = torch.zeros(1, 3, 8, 8)
    images[0, 0, 2, 1] = 1  # the right wrist is at x = 1
    batch = [{"input": images}]
    (_, plain), (_, flipped) = (
        next(iter(predict(ColourNet(), batch, PENN_ACTION.skeleton.mirrored(), torch.device("cpu"), flip)))
        for flip in (False, True)
    )
    right, left = (PENN_ACTION.skeleton.joints.index(name) for name in ("right_wrist", "left_wrist"))
    assert plain[0, right, 2, 1] == 1 and plain.sum() == 1
    # The mirrored image has the same colours, so this network finds a right wrist in it, too; mirroring back turns it into a
    # left wrist at the same position. A network that distinguishes the sides would find a left wrist in the mirrored image.
    assert flipped[0, right, 2, 1] == 0.5 and flipped[0, left, 2, 1] == 0.5 and flipped.sum() == 1


def test_flip_averages_at_the_same_place():
    """The simulated network averages over blocks of 4 x 4 px, the size of a heatmap pixel, so flipping changes nothing."""

    class Blocks(nn.Module):
        def forward(self, images):
            return [nn.functional.avg_pool2d(images[:, :1], 4).repeat(1, 13, 1, 1)]

    batch = [{"input": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}]
    (_, plain), (_, flipped) = (
        next(iter(predict(Blocks(), batch, PENN_ACTION.skeleton.mirrored(), torch.device("cpu"), flip)))
        for flip in (False, True)
    )
    torch.testing.assert_close(flipped, plain)


def test_streams_read_by_turns_leave_training_possible():
    batch = [{"input": torch.zeros(1, 3, 8, 8)}] * 2
    one, two = (predict(ColourNet(), batch, PENN_ACTION.skeleton.mirrored(), torch.device("cpu"), False) for _ in range(2))
    assert len(list(zip(one, two, strict=True))) == 2
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("scales", [(1.0, 0.8, 1.5), (1.2, 0.9)])
def test_scales_are_averaged_in_the_frame_of_the_first(scales):
    rng = np.random.default_rng(0)
    points, middle = rng.uniform(20, 43, (2, 3, 2)), 31.5
    drawn = []
    for scale in scales:
        ratio = scales[0] / scale  # in a larger box, everything appears smaller and nearer to the middle
        maps = [heatmaps.draw(middle + (p - middle) * ratio, (64, 64), 3 * ratio, 20) for p in points]
        drawn.append(torch.from_numpy(np.stack(maps)))
    averaged = average_scales(drawn, scales).numpy()
    assert np.abs(averaged - drawn[0].numpy()).max() < 0.04
    assert np.abs(heatmaps.decode_subpixel(averaged)[0] - points).max() < 0.02


def test_joints_return_to_the_original_image():
    rng = np.random.default_rng(1)
    affines = np.stack([geometry.image_to_crop((40.0 + i, 50.0), 0.5, 64, 10.0 * i) for i in range(3)])
    truth = np.stack([geometry.apply(geometry.invert(a), rng.uniform(12, 52, (5, 2))) for a in affines])
    maps = []
    for affine, points in zip(affines, truth, strict=True):
        in_heatmap = geometry.apply(geometry.compose(affine, geometry.crop_to_heatmap(64, 16)), points)
        maps.append(heatmaps.draw(in_heatmap, (16, 16), 1.5, 4))
    points, confidence = joints_in_image(np.stack(maps), affines, 64)
    assert np.abs(points - truth).max() < 1e-3
    assert (confidence > 0.7).all()


def test_devices():
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match="device = cuda"):
            pick_device("cuda")
        assert pick_device("auto").type in ("cpu", "mps")
    cpu = torch.device("cpu")
    assert compute_type("float32", cpu) == compute_type("tf32", cpu) == torch.float32
    assert compute_type("bfloat16", cpu) == torch.bfloat16 and compute_type("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(DataError, match="float16 needs CUDA"):
        compute_type("float16", cpu)
    with pytest.raises(DataError, match="precision = bf16 is unknown; use one of float32, .*bfloat16"):
        compute_type("bf16", cpu)
    with pytest.raises(DataError, match="device = gpu, but torch finds no such device"):
        pick_device("gpu")


@pytest.mark.parametrize(("there", "chosen"), [("cuda mps", "cuda"), ("mps", "mps"), ("", "cpu")])
def test_auto_is_cuda_then_mps_then_the_cpu(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert pick_device("auto").type == chosen
    assert compute_type("auto", torch.device("mps")) == torch.float32


def test_only_tf32_shortens_the_factors_of_float32_products():
    for precision in ("tf32", "float32", "bfloat16"):
        set_tf32(precision)
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (precision == "tf32")


def test_a_joint_comes_back_from_image_crop_and_heatmap():
    """With blobs as in the published recipe, the error is below 0.25 heatmap px at any size, position, rotation and mirroring.

    This limit also holds if the border cuts off the blob. With decoder = quarter, the limit holds for the error along each
    axis, except in the outermost pixels.
    """
    rng, mirrored = np.random.default_rng(0), MPII.skeleton.mirrored()
    target = CropSpec(256, 64, Recipe().target_sigma, Recipe().target_radius)
    image, counted = np.zeros((4, 4, 3), np.uint8), 0
    for _ in range(400):
        center, scale = rng.uniform(-100, 2000, 2), float(np.exp(rng.uniform(-1.5, 2.5)))
        side = 200 * scale * (factor := rng.uniform(0.75, 1.25))
        turn, flip = rng.uniform(-180, 180), bool(rng.random() < 0.5)
        in_box = rng.uniform(-0.5, 0.5, (16, 2))  # fractions of the box's side, in the rotated crop
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        part = center + side * in_box @ np.array([[cos, sin], [-sin, cos]])
        variation = SampledAugmentation(scale=factor, rotation=turn, flip=flip)
        sample = make_sample(image, Person(center, scale, part), mirrored, target, variation)
        expected, place = (each[mirrored] if flip else each for each in (part, in_box))
        margin = 64 * (0.5 - np.abs(place).max(axis=1))
        for decoder, least in (("subpixel", 0), ("quarter", 1)):
            points, _ = joints_in_image(sample.heatmaps[None], sample.image_to_crop[None], 256, decoder)
            # Error in heatmap px along each axis.
            error = (points[0] - expected) @ np.array([[cos, -sin], [sin, cos]]) * 64 / side
            away = np.linalg.norm(error, axis=1) if decoder == "subpixel" else np.abs(error).max(axis=1)
            assert away[margin > least].max() <= 0.25 + 1e-6, (decoder, variation)
        counted += (margin < 4).sum()
    assert counted > 1000


def test_heatmaps_of_several_sizes_are_averaged_where_they_are():
    maps = [torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    with OtherDevice():
        found = average_scales([to_other_device(each) for each in maps], (1.0, 1.25))
    assert isinstance(found, OnOtherDevice)
    torch.testing.assert_close(found.cpu(), average_scales(maps, (1.0, 1.25)))
