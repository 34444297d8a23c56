"""The network: the published size, its shapes, and the exchange of its output layer."""

import pytest
import torch

from stages.hourglass import HourglassNet, Residual, replace_head


@pytest.mark.parametrize(
    ("stacks", "joints", "parameters"),
    [(1, 16, 3_211_920), (1, 13, 3_211_149), (2, 16, 6_071_200)],  # counted in Torch7 on the published networks
)
def test_parameters_as_published(stacks, joints, parameters):
    with torch.device("meta"):
        network = HourglassNet(stacks, 256, 4, joints)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_heatmaps_have_a_quarter_of_the_input():
    heatmaps = HourglassNet(3, 8, 2, 5)(torch.rand(2, 3, 32, 64))
    assert [tuple(h.shape) for h in heatmaps] == [(2, 5, 8, 16)] * 3


def test_residual_adds_its_branch_to_its_input():
    block = Residual(4, 4).eval()
    with torch.no_grad():
        block.conv3.weight.zero_()
        block.conv3.bias.fill_(0.25)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x + 0.25)
    assert not hasattr(block, "skip") and hasattr(Residual(4, 8), "skip")


def test_replaced_head_keeps_the_named_channels():
    torch.manual_seed(0)
    network = HourglassNet(2, 8, 2, 4).eval()
    other = replace_head(network, [3, None, 1]).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for old, new in zip(network(images), other(images), strict=True):
            assert torch.allclose(new[:, 0], old[:, 3], atol=1e-6) and torch.allclose(new[:, 2], old[:, 1], atol=1e-6)
            assert not any(torch.allclose(new[:, 1], old[:, k], atol=1e-3) for k in range(4))
    assert other.options == {"stacks": 2, "features": 8, "depth": 2, "joints": 3}
