"""The forecasting network: encoder and decoder together equal the hourglass, and recurrent layers equal those of torch."""

import pytest
import torch

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.forecasting.checkpoints import load_forecaster, save_forecaster
from stages.forecasting.network import ForecastNet, PixelLstm, SplitHourglass, new_forecaster
from stages.lifting import checkpoints as lifting
from stages.lifting.network import ConverterNet, LifterNet, Pose3D
from stages.network.checkpoints import save_network
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import Forecaster
from stages.settings.lifting import Converter
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


def small(**options) -> ForecastNet:
    torch.manual_seed(0)
    return ForecastNet(HourglassNet(Network(**SMALL), 13), Forecaster(**options)).eval()


def test_the_published_network_has_as_many_parameters_as_published():
    network = ForecastNet(HourglassNet(Network(), 13), Forecaster())
    count = [sum(p.numel() for p in module.parameters()) for module in (network, network.hourglass, network.layers[0])]
    assert count == [5_842_829, 3_211_149, 526_336]
    bounds = [p.abs().max().item() for layer in network.layers for p in layer.parameters()]
    assert max(bounds) <= 1 / 16 and min(bounds) > 0.06  # drawn uniformly between -1/16 and 1/16


@pytest.mark.parametrize(("hidden", "layers"), [(0, 1), (0, 2), (5, 2)])
def test_every_pixel_has_torch_s_lstm_on_its_feature_and_zeros(hidden, layers):
    torch.manual_seed(0)
    layer = PixelLstm(8, Forecaster(hidden=hidden, layers=layers))
    feature = torch.randn(2, 8, 3, 4)
    padded = torch.zeros(2, 3, 4, 6, 8)
    padded[:, :, :, 0] = feature.permute(0, 2, 3, 1)
    with torch.no_grad():
        expected = layer.output(layer.lstm(padded.view(-1, 6, 8))[0]).view(2, 3, 4, 6, 8)
        torch.testing.assert_close(layer(feature, 6), expected.permute(0, 3, 4, 1, 2), atol=1e-6, rtol=1e-5)


def test_without_what_the_layers_add_every_step_is_the_hourglass_bit_for_bit():
    network, images = small(), torch.rand(2, 3, 64, 64)
    for layer in network.layers:
        layer.forward = lambda feature, steps: feature.new_zeros(len(feature), steps, *feature.shape[1:])
    with torch.no_grad():
        expected = network.hourglass(images)[-1]
        assert torch.equal(network(images, 1).heatmaps[:, 0], expected)
        torch.testing.assert_close(network(images, 3).heatmaps, expected[:, None].expand(-1, 3, -1, -1, -1))


@pytest.mark.parametrize("kind", ["lstm", "conv_gru"])
@pytest.mark.parametrize("residual", [True, False])
def test_earlier_steps_do_not_depend_on_how_many_follow(kind, residual):
    network, images = small(kind=kind, residual=residual, layers=2), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        few, many = network(images, 2).heatmaps, network(images, 5).heatmaps
    torch.testing.assert_close(few, many[:, :2], atol=1e-6, rtol=1e-5)
    assert (many[:, 1:] - many[:, :-1]).abs().amax(dim=(0, 2, 3, 4)).min() > 1e-6  # each step differs from the one before


def test_a_forecaster_begins_with_the_weights_of_the_chain_s_network_and_is_kept_whole(tmp_path):
    network = HourglassNet(Network(**SMALL), 13)
    save_network(tmp_path / "best.safetensors", network, PENN_ACTION.skeleton.joints, 64, {})
    made = new_forecaster(tmp_path / "best.safetensors", Forecaster(kind="conv_gru", hidden=6), seed=1)
    state = made.hourglass.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    save_forecaster(tmp_path / "f.safetensors", made, PENN_ACTION.skeleton.joints, 64, {"epoch": 2})
    read, about = load_forecaster(tmp_path / "f.safetensors")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(images, 3).heatmaps, made.eval()(images, 3).heatmaps) and about.metrics == {"epoch": 2}
    with pytest.raises(DataError, match="is no forecasting network"):
        load_forecaster(tmp_path / "best.safetensors")


@pytest.fixture
def models(tmp_path):
    """A folder with an hourglass whose heatmaps have 16 px (pose.safetensors), and a converter (converter.safetensors)."""
    hourglass = HourglassNet(Network(**SMALL), 13)
    save_network(tmp_path / "pose.safetensors", hourglass, PENN_ACTION.skeleton.joints, 64, {})
    converter = ConverterNet(13, 16, Converter(features=8))
    lifting.save(tmp_path / "converter.safetensors", converter, PENN_ACTION.skeleton.joints, {})
    return tmp_path


def test_the_converter_gives_the_pose_of_every_step_from_its_heatmaps_and_is_kept_with_the_network(models):
    made = new_forecaster(models / "pose.safetensors", Forecaster(), 1, models / "converter.safetensors").eval()
    save_forecaster(models / "f.safetensors", made, PENN_ACTION.skeleton.joints, 64, {})
    read, about = load_forecaster(models / "f.safetensors")
    converter, _ = lifting.load(models / "converter.safetensors")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps, poses = read(images, 3)
        assert poses.repos.shape == (2, 3, 13, 3) and poses.trans.shape == (2, 3, 3) and poses.focal.shape == (2, 3)
        for step in range(3):
            expected = converter(maps[:, step])
            torch.testing.assert_close(poses.repos[:, step].flatten(1), expected[:, :39])
            torch.testing.assert_close(poses.trans[:, step], expected[:, 39:42])
            torch.testing.assert_close(poses.focal[:, step], expected[:, 42])
    assert about.converter == Converter(features=8)


def test_a_converter_of_another_size_and_a_lifter_are_refused(models):
    for name, network in (("small", ConverterNet(13, 32, Converter(features=8))), ("lifter", LifterNet(13, 16, 16))):
        lifting.save(models / name, network, PENN_ACTION.skeleton.joints, {})
    for name, said in (
        ("small", "takes heatmaps of 13 joints and 32 px, but .* gives 13 joints and 16 px"),
        ("lifter", "is a lifter"),
    ):
        with pytest.raises(DataError, match=said):
            new_forecaster(models / "pose.safetensors", Forecaster(), 1, models / name)


def test_poses_are_projected_mirrored_and_made_steady():
    """A point 2 m in front of the camera and 200 mm to the right, at focal length 100 px, is 10 px right of the centre."""
    pose = Pose3D(
        torch.tensor([[[200.0, -100.0, 0.0]], [[400.0, 0.0, 0.0]]]),
        torch.tensor([[0.0, 0.0, 2000.0]] * 2),
        torch.tensor([100.0, 50.0]),
    )
    assert pose.projected(31.5).tolist() == [[[41.5, 26.5]], [[41.5, 31.5]]]
    other = pose.mirrored([0])
    torch.testing.assert_close(other.projected(31.5)[..., 0], 63 - pose.projected(31.5)[..., 0])
    steady = pose.steady()
    assert steady.focal.tolist() == [100, 100] and steady.trans[:, 2].tolist() == [2000, 4000]
    # Size and depth of the second pose are doubled (800 mm, 4 m), and these two changes cancel in the pose's image. The focal
    # length is doubled, too, so the image becomes twice as large.
    assert steady.repos[1].tolist() == [[800, 0, 0]] and steady.projected(31.5).tolist() == [[[41.5, 26.5]], [[51.5, 31.5]]]
