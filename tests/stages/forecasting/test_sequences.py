"""What forecasting networks build on: a hourglass in two halves that make the whole, and sequences of frames."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from datasets.errors import DataError
from examples.forecast import Forecaster, loss_of
from stages.forecasting.sequences import PennSequences, SplitHourglass
from stages.network.checkpoints import save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network

SMALL = {"stem": "4 8 8", "features": 8}


def split(preset: str) -> SplitHourglass:
    torch.manual_seed(0)
    return SplitHourglass(HourglassNet(Network(preset=preset, **SMALL), 13).eval())


@pytest.mark.parametrize(
    ("preset", "skips", "channels"),
    [
        ("hg-256", 4, 8),
        ("hg-256-no-skip", 0, 8),
        ("hg-generic", 4, 8),
        ("hg-stacked", 4, 512),
        ("princeton-2hg", 4, 8),
        ("hg8-64-growing", 4, 8),
    ],
)
def test_the_halves_make_the_network_bit_for_bit(preset, skips, channels):
    halves, images = split(preset), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found, bottleneck = halves.encode(images)
        assert [tuple(skip.shape) for skip in found] == [(2, channels, 16 >> i, 16 >> i) for i in range(skips)]
        assert bottleneck.shape == (2, channels, 1, 1)
        assert torch.equal(halves.decode(found, bottleneck), halves.network(images)[-1])


def test_sequences_and_single_images_pass_through():
    halves, images = split("hg-256"), torch.rand(2, 3, 3, 64, 64)
    with torch.no_grad():
        skips, bottleneck = halves.encode(images)
        assert skips[1].shape == (2, 3, 8, 8, 8) and bottleneck.shape == (2, 3, 8, 1, 1)
        maps = halves.decode(skips, bottleneck)
        one = halves.decode(*halves.encode(images[1, 2]))
        assert maps.shape == (2, 3, 13, 16, 16) and one.shape == (13, 16, 16)
        torch.testing.assert_close(maps[1, 2], one)


def test_every_edge_carries_its_part_and_gradients():
    halves = split("hg-256")
    skips, bottleneck = halves.encode(torch.rand(1, 3, 64, 64))
    edges = [*skips, bottleneck]
    for edge in edges:
        edge.retain_grad()
    maps = halves.decode(skips, bottleneck)
    maps.square().sum().backward()
    assert all(edge.grad is not None and edge.grad.abs().sum() > 0 for edge in edges)
    assert halves.network.stem.conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        for i, edge in enumerate(edges):
            *others, last = [torch.zeros_like(e) if e is edge else e for e in edges]
            assert not torch.equal(halves.decode(others, last), maps), i


def write_frames(folder: Path, lengths: dict[int, int]) -> None:
    """Cropped Penn Action as this workspace leaves it: frames 40 px wide and 20 high, joint j of frame f at (10 + j, f)."""
    numbers, part = [], []
    for sequence, length in lengths.items():
        (folder / f"frames/{sequence:04d}").mkdir(parents=True)
        for frame in range(1, length + 1):
            grey = np.full((20, 40, 3), 10 * sequence + frame, np.uint8)
            (folder / f"frames/{sequence:04d}/{frame:06d}.jpg").write_bytes(cv2.imencode(".jpg", grey)[1])
            numbers.append((sequence, frame))
            part.append([(10 + j + 1, frame + 1) for j in range(13)])  # the file counts from 1
            part[-1][5] = (0, 0)  # not visible
    (folder / "penn-crop").mkdir()
    with h5py.File(folder / "penn-crop/train.h5", "w") as file:
        file["ind2sub"], file["part"] = np.array(numbers, float), np.array(part, float)


def test_sequences_of_frames(tmp_path):
    write_frames(tmp_path, {3: 6, 7: 4, 12: 5})
    data = PennSequences(tmp_path, tmp_path / "frames", "train", 32, steps=3, stride=2)
    assert [(item["sequence"], item["frame"]) for item in data] == [(3, 1), (3, 2), (12, 1)]
    item = data[1]
    assert item["images"].shape == (3, 3, 32, 32) and item["heatmaps"].shape == (3, 13, 8, 8)
    # Frames 2, 4 and 6 of the third sequence. The middle of the crop is inside the frame, its lower edge below it.
    assert (item["images"][:, :, 14, 16] * 255).round().int().tolist() == [[32] * 3, [34] * 3, [36] * 3]
    assert (item["images"][:, :, -1] == 0).all()
    # The box: side 1.25 * 40 px, its centre moved down by 15 * 40 / 200 px from the frame's at (19.5, 9.5).
    expected = np.array([(10 - 19.5, frame - 12.5) for frame in (2, 4, 6)]) * 8 / 50 + 3.5
    np.testing.assert_allclose(item["joints"][:, 0], expected)
    assert np.isnan(item["joints"][:, 5]).all() and (item["heatmaps"][:, 5] == 0).all()
    peak = np.unravel_index(item["heatmaps"][2, 0].argmax(), (8, 8))
    assert peak == (round(expected[2, 1]), round(expected[2, 0]))


def test_sequences_that_are_missing_or_too_short_are_told(tmp_path):
    with pytest.raises(DataError, match=r"train\.h5 is missing"):
        PennSequences(tmp_path, tmp_path / "frames", "train", 32)
    write_frames(tmp_path, {3: 6, 7: 4})
    with pytest.raises(DataError, match="no sequence has 7 frames in a row"):
        PennSequences(tmp_path, tmp_path / "frames", "train", 32, steps=7)
    for steps, stride in ((0, 1), (-1, 1), (3, 0), (3, -1)):
        with pytest.raises(DataError, match=f"{steps} steps with stride {stride} is none"):
            PennSequences(tmp_path, tmp_path / "frames", "train", 32, steps=steps, stride=stride)
    data = PennSequences(tmp_path, tmp_path / "frames", "train", 32, steps=4)
    (tmp_path / "frames/0007/000003.jpg").unlink()
    with pytest.raises(DataError, match=r"0007/000003\.jpg is missing"):
        data[len(data) - 1]
    with h5py.File(tmp_path / "penn-crop/train.h5", "r+") as file:
        file["ind2sub"][0, 0] = 0.5
    with pytest.raises(DataError, match=r"train\.h5 does not list"):
        PennSequences(tmp_path, tmp_path / "frames", "train", 32, steps=4)


def test_a_recurrent_layer_learns_what_follows(tmp_path):
    torch.manual_seed(0)
    save_network(tmp_path / "model.safetensors", split("hg-256").network, tuple("abcdefghijklm"), 64, {})
    halves, about = SplitHourglass.load(tmp_path / "model.safetensors")
    assert about.resolution == 64 and not halves.training
    forecaster, images = Forecaster(halves), torch.rand(2, 3, 3, 64, 64)
    with torch.no_grad():
        first = halves.network(images[:, 0])[-1]
        torch.testing.assert_close(forecaster(images[:, 0], 3), first[:, None].expand(-1, 3, -1, -1, -1))
    # The joints move to the right by a pixel a step.
    sequences = {"images": images, "heatmaps": torch.stack([first.roll(step, -1) for step in range(3)], 1)}
    optimizer = torch.optim.Adam(forecaster.layers.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        losses.append(loss_of(forecaster, sequences))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.75 * losses[0]
    assert all(p.grad is None for p in halves.parameters())
