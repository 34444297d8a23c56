"""Optimizers, learning rates and weight EMA, compared with their formulas."""

import copy

import pytest
import torch
from torch import nn

from stages.network.hourglass import HourglassNet
from stages.settings.recipes import Recipe
from stages.settings.sections import Network
from stages.training.optimizer import Ema, cancelled_biases, learning_rate, load_optimizer, make_optimizer, optimizer_tensors


def rates(iterations, **settings):
    recipe = Recipe(learning_rate=1.0, **settings)
    return [learning_rate(recipe, i, iterations) for i in range(iterations)]


def test_a_constant_rate():
    assert rates(3) == [1, 1, 1]


def test_warm_up_rises_to_the_rate_in_so_many_iterations():
    assert rates(6, warmup=4) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_steps_fall_at_parts_of_the_training():
    found = rates(10, schedule="step", milestones="0.5 0.8", gamma=0.5)
    assert found == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_cosine_falls_to_nothing():
    # The rates are (1 + cos(a)) / 2 for the angles a of 0, 45, 90 and 135 degrees.
    assert rates(4, schedule="cosine") == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


def test_warm_up_and_cosine_multiply():
    assert rates(4, schedule="cosine", warmup=2)[0] == pytest.approx(0.5)
    assert rates(4, schedule="cosine", warmup=2)[2] == pytest.approx(0.5)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def one_step(network, optimizer):
    torch.manual_seed(1)
    loss = network(torch.rand(2, 3, 5, 5)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_rmsprop_is_torch7s():
    """Torch7's optim.rmsprop computes m = 0.99 m + 0.01 g^2 from m = 0; x = x - rate g / (sqrt(m) + 1e-8)."""
    network = small_network()
    before = [p.detach().clone() for p in network.parameters()]
    one_step(network, make_optimizer(Recipe(learning_rate=0.01), network))
    for x, p in zip(before, network.parameters(), strict=True):
        m = 0.01 * p.grad**2
        torch.testing.assert_close(p.detach(), x - 0.01 * p.grad / (m.sqrt() + 1e-8))


def test_adamw_decays_convolutions_only_and_apart_from_the_gradient():
    network = small_network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    one_step(network, make_optimizer(Recipe(optimizer="adamw", learning_rate=0.01, weight_decay=0.5), network))
    for name, p in network.named_parameters():
        # The first step of Adam is rate * g / (|g| + 1e-8), about `rate` for any gradient g.
        decayed = before[name] * (1 - 0.01 * 0.5 if p.dim() > 1 else 1)
        torch.testing.assert_close(p.detach(), decayed - 0.01 * p.grad / (p.grad.abs() + 1e-8))


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "adamw"])
def test_an_optimizer_resumes(optimizer):
    recipe = Recipe(optimizer=optimizer)
    network = small_network().to(memory_format=torch.channels_last)
    first = make_optimizer(recipe, network)
    one_step(network, first)
    other = copy.deepcopy(network)
    second = make_optimizer(recipe, other)
    load_optimizer(second, {k: v.contiguous().clone() for k, v in optimizer_tensors(first).items()})
    one_step(network, first)
    one_step(other, second)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_the_weight_ema_follows_its_formula():
    network = small_network()
    ema = Ema(network, decay=0.2)
    weights = [network[0].weight.detach().clone()]
    statistics = [network[1].running_mean.clone()]
    for i in range(3):
        one_step(network, make_optimizer(Recipe(learning_rate=0.1), network))
        ema.update(torch.tensor(ema.share(i)))
        weights.append(network[0].weight.detach().clone())
        statistics.append(network[1].running_mean.clone())
    # The decay of update i is (1 + i) / (10 + i) = 0.1, 0.1818..., 0.25, but at most 0.2.
    decays = [1 / 10, 2 / 11, 0.2]
    for values, mean in ((weights, ema.network[0].weight), (statistics, ema.network[1].running_mean)):
        expected = values[0]
        for d, now in zip(decays, values[1:], strict=True):
            expected = d * expected + (1 - d) * now
        torch.testing.assert_close(mean.detach(), expected)
    assert ema.network[1].num_batches_tracked == 3


@pytest.mark.parametrize("block", ["bottleneck", "mobile"])
@pytest.mark.parametrize("join", ["sum", "remap", "concatenate"])
def test_biases_that_are_called_cancelled_change_nothing(block, join):
    torch.manual_seed(0)
    options = Network(stacks=2, stem="4 8 8", features=8, depth=2, block=block, join=join)
    network, images = HourglassNet(options, 3).double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = network(images)
    with torch.no_grad():
        for bias in cancelled_biases(network):
            bias.add_(torch.randn_like(bias))
    for maps, before in zip(network(images), expected, strict=True):
        torch.testing.assert_close(maps, before)
    assert {id(head.output.bias) for head in network.heads}.isdisjoint(map(id, cancelled_biases(network)))


@pytest.mark.parametrize("options", [{"norm": "group"}, {"norm": "instance"}, {"block": "four"}])
def test_no_bias_is_cancelled_elsewhere(options):
    assert not cancelled_biases(HourglassNet(Network(stem="4 8 8", features=8, depth=2, **options), 3))
