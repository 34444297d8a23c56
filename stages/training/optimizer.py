"""Update the weights of a network: optimizer, learning rate of each iteration, and weight EMA."""

import copy
import math

import torch
from torch import Tensor, nn

from stages.network.hourglass import HourglassNet
from stages.settings.recipes import Recipe


def make_optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for all weights. Weight decay applies to convolutions, not to biases and normalisation.

    On CUDA the optimizer keeps all values that change between iterations, such as the learning rate, on the device, because a
    captured iteration (`stages.machine.cuda_graphs`) reads only memory of the device.
    """
    parameters = list(network.parameters())
    on_cuda = parameters[0].is_cuda
    rate = torch.tensor(recipe.learning_rate, device=parameters[0].device) if on_cuda else recipe.learning_rate
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "rmsprop":
        # foreach: one call per operation for all weights; by default, torch calls each operation for each weight on a CPU.
        return torch.optim.RMSprop(groups, lr=rate, capturable=on_cuda, foreach=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, fused=True, capturable=on_cuda)


def cancelled_biases(network: HourglassNet) -> list[Tensor]:
    """Return the convolution biases that a later batch normalisation cancels: all but those of the heatmap convolutions.

    The true gradient of these biases is zero, but RMSprop and Adam turn its rounding noise into full steps. Biases that
    have drifted far from zero make the outputs of the residual blocks large, so that these outputs are rounded coarsely, in
    bfloat16 so coarsely that the predicted joints move. Without batch normalisation nothing cancels the biases, and with
    block = four a ReLU comes between convolution and normalisation; for such networks the list is empty.
    """
    if network.options.norm != "batch" or network.options.block == "four":
        return []
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return [module.bias for name, module in convolutions.items() if not name.endswith(".output") and module.bias is not None]


def learning_rate(recipe: Recipe, iteration: int, iterations: int) -> float:
    """Return the learning rate of iteration `iteration` (from 0) of `iterations`: peak x warm-up x schedule."""
    rate = recipe.learning_rate * min(1.0, (iteration + 1) / max(recipe.warmup, 1))
    if recipe.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
    if recipe.schedule == "step":
        return rate * recipe.gamma ** sum(iteration >= part * iterations for part in recipe.milestones)
    return rate


def set_rate(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Set the optimizer's learning rate; rate: a scalar on the device of the weights."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].copy_(rate)
        else:
            group["lr"] = rate.item()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of the optimizer's state: `<number of the parameter>.<name of the tensor, e.g. exp_avg>` -> tensor."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, state in states.items() for name, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of `optimizer_tensors` into the optimizer's state."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved = optimizer.state_dict()
    for name, value in tensors.items():
        i, _, kind = name.partition(".")
        if value.dim():  # copy into the parameter's memory layout, because other layouts give other rounding errors
            value = torch.empty_like(parameters[int(i)]).copy_(value)
        saved["state"].setdefault(int(i), {})[kind] = value
    optimizer.load_state_dict(saved)


class Ema:
    """The weight EMA: a network with the exponential moving average of another network's weights and BatchNorm statistics.

    After iteration i, counted from 0: mean = d * mean + (1 - d) * weights with d = min(decay, (1 + i) / (10 + i)). So the
    random initial weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = copy.deepcopy(network), decay
        # The tensors of state_dict() share memory with the weights, because training and loading change weights in place.
        # load_state_dict(assign=True), or a `to` that copies the weights, would break this.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self.means, self.weights = [mean for mean, _ in weights], [value for _, value in weights]
        # Integers: how many batches each BatchNorm has seen.
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.mean_counts, self.counts = [mean for mean, _ in counts], [value for _, value in counts]

    def share(self, iteration: int) -> float:
        """Return the weight 1 - d of the current network in the EMA update after an iteration."""
        return 1 - min(self.decay, (1 + iteration) / (10 + iteration))

    @torch.no_grad()
    def update(self, share: Tensor) -> None:
        """Update the average with the current weights of the network in training.

        share: the number that the method `share` returned for this iteration, on the device of the weights.
        """
        if share.device.type == "cpu":  # one pass through memory instead of three; on CUDA `item` would wait for the device
            torch._foreach_lerp_(self.means, self.weights, share.item())
        else:
            steps = torch._foreach_sub(self.weights, self.means)
            torch._foreach_mul_(steps, share)
            torch._foreach_add_(self.means, steps)
        if self.counts:
            torch._foreach_copy_(self.mean_counts, self.counts)
