"""Train recurrent layers to forecast poses from one frame: python -m examples.forecast exp/demo

As in "Forecasting Human Dynamics from Static Images", the exported hourglass gets a residual recurrent layer on each skip edge
and at its bottleneck; this example uses a small convolutional GRU. The weights of the hourglass are frozen.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datasets.errors import DataError
from datasets.links import follow
from stages.forecasting.sequences import PennSequences, SplitHourglass


class ResidualGru(nn.Module):
    """Features (N, C, h, w) of the first frame -> features (N, T, C, h, w) of every time step."""

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + hidden, 2 * hidden, 3, padding=1)
        self.candidate = nn.Conv2d(channels + hidden, hidden, 3, padding=1)
        self.change = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.change.weight)  # so that untrained layers repeat the first frame
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, steps: int) -> Tensor:
        state = x.new_zeros(len(x), self.candidate.out_channels, *x.shape[2:])
        seen, features = x, []
        for _ in range(steps):
            reset, update = self.gates(torch.cat([seen, state], 1)).sigmoid().chunk(2, 1)
            candidate = self.candidate(torch.cat([seen, reset * state], 1)).tanh()
            state = (1 - update) * state + update * candidate
            features.append(x + self.change(state))
            seen = torch.zeros_like(x)  # no input after the first frame
        return torch.stack(features, 1)


class Forecaster(nn.Module):
    """The first frame (N, 3, R, R) -> heatmaps (N, T, joints, R/4, R/4)."""

    def __init__(self, split: SplitHourglass) -> None:
        super().__init__()
        self.split = split.requires_grad_(False)
        edges = len(split.levels) if split.network.options.upper else 0
        self.layers = nn.ModuleList(ResidualGru(split.network.options.outputs) for _ in range(edges + 1))

    def forward(self, first: Tensor, steps: int) -> Tensor:
        skips, bottleneck = self.split.encode(first)
        *skips, bottleneck = [layer(x, steps) for layer, x in zip(self.layers, [*skips, bottleneck], strict=True)]
        return self.split.decode(skips, bottleneck)


def loss_of(forecaster: Forecaster, sequences: dict[str, Tensor]) -> Tensor:
    """Return the mean squared error of the heatmaps of all time steps."""
    images, target = sequences["images"], sequences["heatmaps"]
    return (forecaster(images[:, 0], images.shape[1]) - target).square().mean()


def validate(forecaster: Forecaster, data: PennSequences) -> float:
    """Return the mean loss of about 16 sequences, evenly spaced in the split."""
    every = max(1, len(data) // 16)
    with torch.inference_mode():
        losses = [loss_of(forecaster, item) for item in DataLoader(torch.utils.data.Subset(data, range(0, len(data), every)))]
    return float(torch.stack(losses).mean())


def main() -> int:
    """Train, and print the loss before and after; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.forecast", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exp", type=Path, help="folder of a finished chain")
    parser.add_argument("--steps", type=int, default=16, help="frames per sequence; default: 16")
    parser.add_argument("--stride", type=int, default=1, help="video frames between two frames; default: 1")
    parser.add_argument("--iterations", type=int, default=100, help="iterations with two sequences each; default: 100")
    options = parser.parse_args()
    if options.iterations < 1:
        parser.error("--iterations must be at least 1")
    torch.manual_seed(0)
    try:
        split, about = SplitHourglass.load(follow(options.exp / "export/model.safetensors"))
        penn, frames = (follow(options.exp / "penn_action_cropped" / name) for name in ("annot", "data/frames"))
        train, valid = (
            PennSequences(penn, frames, name, about.resolution, options.steps, options.stride) for name in ("train", "val")
        )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    forecaster = Forecaster(split)
    optimizer = torch.optim.Adam(forecaster.layers.parameters(), 1e-3)
    print(f"{len(train)} sequences; loss of repeating the first frame: {validate(forecaster, valid):.6f}")
    drawn = torch.utils.data.RandomSampler(train, replacement=True, num_samples=2 * options.iterations)
    for number, sequences in enumerate(DataLoader(train, 2, sampler=drawn), 1):
        loss = loss_of(forecaster, sequences)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number % 10 == 0:
            print(f"iteration {number}: loss {loss.item():.6f}")
    print(f"loss of the forecasts: {validate(forecaster, valid):.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
