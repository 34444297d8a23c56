"""The network: the published variants' costs and layers, shapes, and the exchange of the output layer."""

import pytest
import torch

from stages.blocks import Residual
from stages.hourglass import HourglassNet, replace_head
from stages.presets import PRESETS
from stages.settings import Network

SMALL = {"stem": "4 8 8", "features": 8, "outputs": 8}  # the stem is shallower than some presets': widths, not depth, matter


def build(preset, joints=16):
    with torch.device("meta"):
        return HourglassNet(Network(preset=preset), joints)


@pytest.mark.parametrize(
    ("preset", "joints", "parameters"),
    [  # counted by others' programs on the published networks
        ("hg-256", 16, 3_211_920),
        ("hg-256", 13, 3_211_149),
        ("hg-generic", 16, 6_071_200),
        ("hg-stacked", 16, 26_353_824),
    ],
)
def test_parameters_as_published(preset, joints, parameters):
    assert sum(p.numel() for p in build(preset, joints).parameters()) == parameters


def test_heatmaps_have_a_quarter_of_the_input():
    heatmaps = HourglassNet(Network(stacks=3, stem="2 4 4", features=8, depth=2), 5)(torch.rand(2, 3, 32, 64))
    assert [tuple(h.shape) for h in heatmaps] == [(2, 5, 8, 16)] * 3


def test_residual_adds_its_branch_to_its_input():
    block = Residual(4, 4).eval()
    with torch.no_grad():
        block.conv3.weight.zero_()
        block.conv3.bias.fill_(0.25)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x + 0.25)


@pytest.mark.parametrize("preset", PRESETS)
def test_replaced_head_keeps_the_named_channels(preset):
    torch.manual_seed(0)
    small = (
        {"stem": "4 8 8", "features": 8, "outputs": 16} if "outputs" in PRESETS[preset] else {"stem": "4 8 8", "features": 8}
    )
    network = HourglassNet(Network(preset=preset, **small), 4).eval()
    other = replace_head(network, [3, None, 1]).eval()
    images = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        for old, new in zip(network(images), other(images), strict=True):
            torch.testing.assert_close(new[:, [0, 2]], old[:, [3, 1]], rtol=1e-4, atol=1e-5)
            assert not any(torch.allclose(new[:, 1], old[:, k], atol=1e-3) for k in range(4))
    assert other.joints == 3 and other.options == network.options
