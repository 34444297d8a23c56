"""The networks: costs and layers of the published variants, effects of the options, and replacing the output layer."""

import json
import math
import re
from collections import Counter

import pytest
import torch
from torch import nn

from stages.forecasting.network import SplitHourglass
from stages.network.blocks import FourResidual, MobileResidual, Residual
from stages.network.cost import layers
from stages.network.hourglass import Hourglass, HourglassNet, replace_head
from stages.settings.presets import PRESETS
from stages.settings.sections import Network
from tests.shared import SHARED

PEERS = SHARED / "peers"
SMALL = {"stem": "4 8 8", "features": 8}


def build(preset, joints=16):
    with torch.device("meta"):
        return HourglassNet(Network(preset=preset), joints)


def count(network):
    return sum(p.numel() for p in network.parameters())


# Numbers of parameters that other programs counted in the published networks: Torch7's numbers are exact, the numbers for
# `test_cost_at_256_pixels` are rounded to thousands.
@pytest.mark.parametrize(
    ("preset", "joints", "parameters"),
    [("hg-256", 16, 3_211_920), ("hg-256", 13, 3_211_149), ("hg-generic", 16, 6_071_200), ("hg-stacked", 16, 26_353_824)],
)
def test_parameters_as_in_torch7(preset, joints, parameters):
    assert count(build(preset, joints)) == parameters


@pytest.mark.parametrize(
    ("preset", "millions", "billions"),
    [
        ("hg-256", 3.212, 4.278),
        ("princeton-1hg", 3.426, 5.150),
        ("princeton-2hg", 6.570, 8.335),
        ("princeton-8hg", 25.434, 27.440),
        ("hg1", 3.587, 5.805),
        ("hg2", 6.731, 8.989),
        ("hg8", 25.595, 28.094),
    ],
)
def test_cost_at_256_pixels(preset, millions, billions):
    found = layers(build(preset), 256)
    assert round(sum(layer.parameters for layer in found) / 1e6, 3) == millions
    assert round(sum(layer.multiply_adds for layer in found) / 1e9, 3) == billions


def test_cost_of_single_layers():
    found = {layer.name: layer for layer in layers(build("hg-256"), 256)}
    assert found["stem.conv"].output == (64, 128, 128) and found["stem.conv"].multiply_adds == 128 * 128 * 64 * 3 * 49
    upper = found["hourglasses.0.inner.upper.0"]  # channels of convolutions: 256 -> 128, 3x3 128 -> 128, 128 -> 256
    assert upper.multiply_adds == 32 * 32 * (256 * 128 + 9 * 128 * 128 + 128 * 256)
    assert upper.parameters == 2 * (256 + 128 + 128) + (256 * 128 + 128) + (9 * 128 * 128 + 128) + (128 * 256 + 256)


def test_wide_networks_have_the_layers_of_the_published_graph():
    # The numbers of convolutions, normalisations and residuals, and the channels of the 1x1 convolutions outside of
    # residuals, are those of Torch7's list of modules.
    network = build("hg-stacked")
    kinds = Counter(type(module) for module in network.modules())
    assert (kinds[nn.Conv2d], kinds[nn.BatchNorm2d], kinds[Residual]) == (209, 191, 62)
    outside = [m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and name.startswith(("heads", "joins"))]
    assert sorted((m.in_channels, m.out_channels) for m in outside) == sorted(
        [(512, 512), (512, 256), (256, 16), (384, 384), (16, 384), (512, 512), (512, 512), (512, 16)]
    )
    assert network.hourglasses[1].upper[0].conv1.in_channels == 384


@pytest.mark.parametrize("name", ["bearpaw_hg1", "bearpaw_hg8", "princeton_1hg", "princeton_2hg", "princeton_8hg"])
def test_tensors_of_the_peers_checkpoints(name):
    if not PEERS.is_dir():
        pytest.skip("the peers' lists of tensors (shared/data/peers) are missing")
    theirs = {k: tuple(v) for k, v in json.loads((PEERS / f"{name}_keys.json").read_text()).items()}
    preset = name.removeprefix("bearpaw_").replace("_", "-")
    ours = [tuple(v.shape) for k, v in build(preset).state_dict().items() if k != "mean"]
    skips = {k: v for k, v in theirs.items() if re.search(r"skip_layer\.conv\.(weight|bias)", k)}
    unused = {k for k in skips if skips[re.sub(r"\w+$", "weight", k)][0] == skips[re.sub(r"\w+$", "weight", k)][1]}
    assert Counter(ours) == Counter(v for k, v in theirs.items() if k not in unused)
    built = {"princeton_1hg": 4_364_048, "princeton_2hg": 8_429_088, "princeton_8hg": 32_819_328}
    if name in built:
        assert count(build(preset)) + sum(math.prod(theirs[k]) for k in unused) == built[name]


def test_residual_adds_its_branch_to_its_input():
    block = Residual(4, 4).eval()
    with torch.no_grad():
        block.conv3.weight.zero_()
        block.conv3.bias.fill_(0.25)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x + 0.25)


def test_other_kinds_of_residual_block():
    x = torch.randn(2, 4, 5, 5)
    four = FourResidual(4, 8)
    assert [type(m) for m in four.branch.modules() if not isinstance(m, nn.Sequential)] == 4 * [
        nn.Conv2d,
        nn.ReLU,
        nn.BatchNorm2d,
    ]
    assert four(x).shape == (2, 8, 5, 5)
    # Instead of 9 * 4 * 4 weights, the middle convolution has 9 weights for each of 4 channels, and 4 * 4 for a 1x1 layer.
    mobile = MobileResidual(4, 8)
    assert sum(p.numel() for p in mobile.conv2.parameters()) == (9 * 4 + 4) + (4 * 4 + 4)
    assert mobile(x).shape == (2, 8, 5, 5)


@pytest.mark.parametrize(("norm", "groups"), [("instance", 32), ("group", 2)])
def test_norms_that_do_not_mix_images(norm, groups):
    block = Residual(32, 32, norm)
    with torch.no_grad():
        block.norm1.weight.uniform_(1, 2)
    x = torch.randn(2, 32, 6, 6)
    parts = x.view(2, groups, -1)
    expected = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = expected.view(x.shape) * block.norm1.weight.view(-1, 1, 1) + block.norm1.bias.view(-1, 1, 1)
    torch.testing.assert_close(block.norm1(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x)[:1], block(x[:1]), rtol=1e-4, atol=1e-5)


def test_levels_of_an_hourglass():
    options = Network(features=8, outputs=16, residuals="3 2 1 4", join="remap")
    hourglass = Hourglass(2, 24, options)
    assert [len(part) for part in (hourglass.upper, hourglass.lower1, hourglass.lower2)] == [3, 2, 4]
    assert isinstance(hourglass.inner, Hourglass) and len(hourglass.inner.inner) == 1
    assert hourglass(torch.randn(2, 24, 8, 8)).shape == (2, 16, 8, 8)


def test_without_upper_branches_nothing_finer_than_half_is_left():
    flat = Hourglass(2, 8, Network(features=8, upper=False)).eval()(torch.randn(1, 8, 8, 8))
    pixels = flat.view(8, 4, 2, 4, 2).transpose(2, 3).flatten(3)
    assert torch.equal(pixels, pixels[..., :1].expand_as(pixels))


def test_a_depth_for_each_stack():
    network = HourglassNet(Network(stacks=3, depth="1 3 2", **SMALL), 2)
    assert [str(hourglass).count("(upper)") for hourglass in network.hourglasses] == [1, 3, 2]


def test_mean_is_subtracted_and_kept():
    torch.manual_seed(0)
    network = HourglassNet(Network(depth=2, **SMALL), 3).eval()
    images, mean = torch.rand(1, 3, 32, 32), torch.tensor([0.5, 0.25, 0.125])
    expected = network(images - mean.view(1, 3, 1, 1))[-1]
    network.mean.copy_(mean)
    torch.testing.assert_close(network(images)[-1], expected)
    torch.testing.assert_close(replace_head(network, [0, 1, 2]).eval()(images)[-1], expected)


def test_initial_scale_of_batch_normalisation():
    def scales(initial):
        network = HourglassNet(Network(initial=initial, **SMALL), 3)
        return torch.cat([m.weight.detach() for m in network.modules() if isinstance(m, nn.BatchNorm2d)])

    assert torch.equal(scales("pytorch"), torch.ones_like(scales("pytorch")))
    drawn = scales("torch7")
    assert 0 <= drawn.min() < 0.05 and 0.95 < drawn.max() <= 1 and abs(drawn.mean() - 0.5) < 0.1


@pytest.mark.parametrize("preset", PRESETS)
def test_heatmaps_of_every_preset_and_of_a_replaced_head(preset):
    torch.manual_seed(0)
    network = HourglassNet(Network(preset=preset, initial="pytorch", **SMALL), 4).eval()
    other = replace_head(network, [3, None, 1]).eval()
    images = torch.rand(1, 3, 128, 192)
    with torch.no_grad():
        heatmaps = network(images)
        assert [tuple(h.shape) for h in heatmaps] == [(1, 4, 32, 48)] * network.options.stacks
        for old, new in zip(heatmaps, other(images), strict=True):
            torch.testing.assert_close(new[:, [0, 2]], old[:, [3, 1]], rtol=1e-4, atol=1e-5)
    assert other.joints == 3 and other.options == network.options


def test_sigmoid_heatmaps_are_those_of_the_linear_network_after_a_sigmoid():
    torch.manual_seed(0)
    linear, curved = (HourglassNet(Network(heatmaps=kind, **SMALL), 4).eval() for kind in ("linear", "sigmoid"))
    curved.load_state_dict(linear.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = 1 / (1 + torch.exp(-linear(images)[-1]))
        torch.testing.assert_close(curved(images)[-1], expected)
        split = SplitHourglass(curved)
        assert torch.equal(split.decode(*split.encode(images)), curved(images)[-1])
        with torch.autocast("cpu", torch.bfloat16):
            maps = curved(images)[-1]
            assert not torch.equal(maps, maps.bfloat16().float())  # finer than bfloat16
    several = HourglassNet(Network(heatmaps="sigmoid", stacks=2, join="remap", **SMALL), 4).eval()
    kept = replace_head(several, [3, None])
    assert torch.equal(kept.joins[0].features.weight, several.joins[0].features.weight)
    assert torch.equal(kept.joins[0].heatmaps.weight[:, 0], several.joins[0].heatmaps.weight[:, 3])


def test_a_fresh_head_is_drawn_from_the_random_state():
    network = HourglassNet(Network(stacks=2, join="remap", **SMALL), 4)

    def fresh(seed):
        torch.manual_seed(seed)
        return replace_head(network, [None] * 4).heads[0].output.weight

    assert torch.equal(fresh(1), fresh(1)) and not torch.equal(fresh(1), fresh(2))
    assert not torch.equal(fresh(1), network.heads[0].output.weight)
