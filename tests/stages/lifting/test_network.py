"""The converter and the lifter: sizes, units and files of the networks, and how their inputs are normalised."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.lifting import checkpoints
from stages.lifting.bodies import JOINTS
from stages.lifting.network import ConverterNet, LifterNet, Pose3D, joints_of, normalised_joints
from stages.loading import augment
from stages.network.checkpoints import save_tensors
from stages.settings.lifting import Converter


def test_the_published_converter_has_its_published_size() -> None:
    network = ConverterNet(13, 64, Converter())
    assert sum(parameter.numel() for parameter in network.parameters()) == 867_755
    assert network(torch.rand(2, 13, 64, 64)).shape == (2, 43)


def test_outputs_are_offset_by_the_published_depth_and_focal_length() -> None:
    network = ConverterNet(13, 64, Converter()).eval()
    with torch.no_grad():
        for head in (network.repos, network.trans, network.focal):
            head[2].weight.zero_()
            head[2].bias.zero_()
    found = Pose3D.of(network(torch.rand(1, 13, 64, 64)))
    assert (found.repos == 0).all() and found.trans.tolist() == [[0, 0, 2500]]
    assert found.focal.item() == pytest.approx(73.6)  # 1150 px in an image of 1000 px, scaled to 64 px


def test_smaller_heatmaps_have_shorter_focal_lengths_and_odd_sizes_are_refused() -> None:
    assert ConverterNet(13, 32, Converter()).units.offset[-1].item() == pytest.approx(36.8)
    with pytest.raises(DataError, match="resolution = 160 gives heatmaps of 40 px"):
        ConverterNet(13, 40, Converter())


def test_units_of_a_normalised_output_are_those_of_the_samples() -> None:
    network = LifterNet(2, 32, 16)
    values = torch.randn(500, 10) * torch.tensor([50.0] * 6 + [300, 200, 900, 20]) + 7
    network.units.standardise(values)
    found = network.units(torch.zeros(1, 10))[0]
    torch.testing.assert_close(found, values.mean(dim=0), rtol=1e-4, atol=1e-3)
    assert (network.units.unit[:6] == network.units.unit[0]).all() and 45 < network.units.unit[0] < 55
    torch.testing.assert_close(network.units.unit[6:], values[:, 6:].std(dim=0))


def test_normalised_heatmaps_do_not_depend_on_the_peak() -> None:
    network = ConverterNet(13, 32, Converter(preset="res-64-modern")).eval()
    maps = augment.draw(8 + 16 * torch.rand(3, 13, 2), 32, 2, 6)
    torch.testing.assert_close(network(0.3 * maps), network(maps))
    published = ConverterNet(13, 32, Converter()).eval()
    assert not torch.allclose(published(0.3 * maps), published(maps))


def test_joints_are_decoded_from_low_and_blurred_heatmaps_and_empty_ones_have_none() -> None:
    points = 10 + 40 * torch.rand(4, 13, 2)
    maps = 0.4 * augment.draw(points, 64, 3, 9)
    maps[0, 5] = 0.05  # noise, weaker than the weakest peak that counts as a joint
    found = joints_of(maps)
    assert found[0, 5].isnan().all()
    rest = torch.ones(4, 13, dtype=torch.bool)
    rest[0, 5] = False
    assert (found - points)[rest].abs().max() < 0.05


def test_features_do_not_depend_on_place_and_size_but_for_three() -> None:
    points = torch.rand(1, 13, 2, dtype=torch.float64) * 20 + 10
    points[0, 3] = torch.nan
    one, other = normalised_joints(points, 64), normalised_joints(2 * points - 5, 64)
    torch.testing.assert_close(one[:, :-3], other[:, :-3])
    assert (one[0, 6:8] == 0).all() and one[0, 26:39].tolist() == [1, 1, 1, 0, *[1] * 9]
    known = np.delete(points[0].numpy(), 3, axis=0)
    np.testing.assert_allclose(one[0, -3:-1], known.mean(axis=0) / 64 - 0.5)
    size = np.sqrt(((known - known.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(one[0, -1], size / 64)
    assert not normalised_joints(torch.full((1, 13, 2), torch.nan), 64).isnan().any()


@pytest.mark.parametrize("kind", ["converter", "lifter"])
def test_networks_are_read_as_they_were_written(tmp_path: Path, kind: str) -> None:
    network = (
        ConverterNet(13, 32, Converter(preset="res-64-modern", features=8)) if kind == "converter" else LifterNet(13, 32, 24)
    )
    network.units.standardise(100 * torch.randn(50, 43))
    network.eval()
    checkpoints.save(tmp_path / "best.safetensors", network, JOINTS, {"epoch": 1})
    read, about = checkpoints.load(tmp_path / "best.safetensors")
    seen = torch.rand(2, 13, 32, 32) if kind == "converter" else 32 * torch.rand(2, 13, 2)
    torch.testing.assert_close(read(seen), network(seen))
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert about.joints == JOINTS and about.side == 32


def test_other_files_as_data_error(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"a": torch.zeros(1)}, {"state": {}})
    with pytest.raises(DataError, match="is no converter"):
        checkpoints.load(path)
    about = {"joints": list(JOINTS), "side": 32, "converter": None, "width": 10**9, "metrics": {}}
    for wrong in ({}, {"width": 24}, {"width": None}, {"side": 40, "converter": {}}, {"side": "x"}):
        save_tensors(path, {"a": torch.zeros(1)}, {"lifting": about | wrong})
        with pytest.raises(DataError, match="is not a converter of this workspace"):
            checkpoints.load(path)
