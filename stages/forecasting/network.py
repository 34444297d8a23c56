"""Define image-play's forecasting network: an hourglass with a recurrent layer at each skip edge and at its bottleneck.

Chao et al., "Forecasting Human Dynamics from Static Images" (CVPR 2017), hg-256-res-clstm. The encoder sees one image. Each
recurrent layer gets the encoder's feature as its first input and zeros afterwards; at every step, the layer's output is added
to the encoder's feature. The decoder makes the heatmaps of each step. With a converter, the network is the whole 3D-PFNet,
hg-256-res-clstm-res-64: the converter turns the heatmaps of each step into a 3D pose.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.errors import DataError
from stages.lifting.checkpoints import load as load_converter
from stages.lifting.network import ConverterNet, Pose3D
from stages.network.checkpoints import Description, load_network
from stages.network.hourglass import Hourglass, HourglassNet
from stages.settings.forecasting import Forecaster


class SplitHourglass(nn.Module):
    """A network cut at the skip edges and the bottleneck of its last hourglass; `encode` also runs the stacks before the last.

    `decode(*encode(images))` equals the last stack's heatmaps, bit for bit. Tensors may have any leading dimensions: one image
    (3, R, R), a batch (N, 3, R, R), sequences (N, T, 3, R, R). Gradients flow through both halves. A loaded network is in
    evaluation mode, so BatchNorm keeps its statistics.
    """

    def __init__(self, network: HourglassNet) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def load(cls, path: Path) -> tuple["SplitHourglass", Description]:
        """Return the split network and its description, from an export's model.safetensors or a checkpoint of this workspace.

        Raises DataError for any other file.
        """
        network, description = load_network(path)
        return cls(network).eval(), description

    @property
    def levels(self) -> list[Hourglass]:
        """Return the levels of the last hourglass, outermost first."""
        found: list[Hourglass] = []
        level = self.network.hourglasses[-1]
        while isinstance(level, Hourglass):
            found.append(level)
            level = level.inner
        return found

    def encode(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features at the skip edges, and at the bottleneck, of images (..., 3, R, R), RGB in [0, 1].

        Skips, outermost first: (..., outputs, R/4, R/4), (..., outputs, R/8, R/8) and so on; an empty list for a network
        without upper branches. Bottleneck: (..., outputs, r, r) with r = R / 4 / 2**depth, after the innermost residuals.
        """
        before = images.shape[:-3]
        x, _ = self.network.before_last(images.reshape(-1, *images.shape[-3:]))
        skips = []
        for level in self.levels:
            skip, x = level.descend(x)
            if skip is not None:
                skips.append(skip.reshape(*before, *skip.shape[1:]))
        x = self.levels[-1].inner(x)
        return skips, x.reshape(*before, *x.shape[1:])

    def decode(self, skips: list[Tensor], bottleneck: Tensor) -> Tensor:
        """Return the heatmaps (..., joints, R/4, R/4) for the two results of `encode`."""
        before, levels = bottleneck.shape[:-3], self.levels
        x = bottleneck.reshape(-1, *bottleneck.shape[-3:])
        flat: list[Tensor | None] = [skip.reshape(-1, *skip.shape[-3:]) for skip in skips]
        flat = flat or [None] * len(levels)
        for level, skip in zip(reversed(levels), reversed(flat), strict=True):
            x = level.ascend(skip, x)
        maps = self.network.heads[-1](x)[1]
        return maps.reshape(*before, *maps.shape[1:])


class PixelLstm(nn.Module):
    """A 1x1 convolutional LSTM: each pixel of a feature map is a separate sequence; all pixels share the weights.

    The outputs equal those of torch.nn.LSTM on the pixel's feature followed by zeros. Products with these zeros, and with the
    initial state, which is zero, are not computed.
    """

    def __init__(self, width: int, options: Forecaster) -> None:
        super().__init__()
        hidden = options.hidden or width
        self.lstm = nn.LSTM(width, hidden, options.layers, batch_first=True)
        self.output = nn.Identity() if hidden == width else nn.Linear(hidden, width)

    def forward(self, feature: Tensor, steps: int) -> Tensor:
        """Return the outputs (N, T, C, h, w) of all steps for a feature (N, C, h, w)."""
        n, c, h, w = feature.shape
        first: Tensor | None = feature.permute(0, 2, 3, 1).reshape(-1, c)
        layers = [self._gates(layer) for layer in range(self.lstm.num_layers)]
        hidden: list[Tensor | None] = [None] * len(layers)
        cells: list[Tensor | None] = [None] * len(layers)
        outputs = []
        for _ in range(steps):
            x = first
            for layer, gates in enumerate(layers):
                hidden[layer], cells[layer] = _cell(gates, x, hidden[layer], cells[layer])
                x = hidden[layer]
            first = None
            assert x is not None
            outputs.append(self.output(x).reshape(n, h, w, c))
        # Channels stay last in memory, as the decoder's convolutions need them.
        return torch.stack(outputs, dim=1).permute(0, 1, 4, 2, 3)

    def _gates(self, layer: int) -> list["Gate"]:
        """Return the gates of a layer in the order of torch.nn.LSTM: input, forget, cell and output gate."""
        of_input, of_hidden, input_bias, hidden_bias = (
            getattr(self.lstm, f"{kind}_l{layer}").chunk(4) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return [Gate(*part) for part in zip(of_input, of_hidden, map(torch.add, input_bias, hidden_bias), strict=True)]


class Gate(NamedTuple):
    """The weights of one gate of an LSTM layer."""

    of_input: Tensor  # (hidden, width)
    of_hidden: Tensor  # (hidden, hidden)
    bias: Tensor  # (hidden,)

    def before_activation(self, x: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Return the gate (P, hidden) float32 of P pixels before its activation; an argument None means zeros.

        Each gate has products of its own: if it were a part of the product of all four gates, it would not be contiguous in
        memory, which slows down the operations that follow.
        """
        total = self.bias.float()
        for value, weight in ((x, self.of_input), (hidden, self.of_hidden)):
            if value is not None:
                total = F.linear(value, weight) + total  # with autocast, the product has a 16-bit dtype, and the sum float32
        return total


def _cell(gates: list[Gate], x: Tensor | None, hidden: Tensor | None, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the next hidden state and cell (P, hidden) of P pixels; an argument None means zeros."""
    taken, forgotten, new, shown = (gate.before_activation(x, hidden) for gate in gates)
    added = torch.sigmoid(taken) * torch.tanh(new)
    cell = added if cell is None else torch.sigmoid(forgotten) * cell + added
    return torch.sigmoid(shown) * torch.tanh(cell), cell


class ConvGru(nn.Module):
    """A 3x3 convolutional GRU. Unlike `PixelLstm`, it passes information between neighbouring pixels: features can move."""

    def __init__(self, width: int, options: Forecaster) -> None:
        super().__init__()
        hidden = options.hidden or width
        self.of_input = nn.ModuleList(
            nn.Conv2d(width if layer == 0 else hidden, 3 * hidden, 3, padding=1) for layer in range(options.layers)
        )
        self.of_hidden = nn.ModuleList(nn.Conv2d(hidden, 3 * hidden, 3, padding=1) for _ in range(options.layers))
        self.output = nn.Identity() if hidden == width else nn.Conv2d(hidden, width, 1)

    def forward(self, feature: Tensor, steps: int) -> Tensor:
        """Return the outputs (N, T, C, h, w) of all steps for a feature (N, C, h, w)."""
        first: Tensor | None = feature
        hidden: list[Tensor | None] = [None] * len(self.of_input)
        outputs = []
        for _ in range(steps):
            x = first
            for layer in range(len(hidden)):
                hidden[layer] = x = self._cell(layer, x, hidden[layer])
            first = None
            assert x is not None
            outputs.append(self.output(x))
        return torch.stack(outputs, dim=1)

    def _cell(self, layer: int, x: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Return the next hidden state (N, hidden, h, w); an argument None means zeros."""
        ours, theirs = (
            layers[layer].get_parameter("bias").view(1, -1, 1, 1) if value is None else layers[layer](value)
            for layers, value in ((self.of_input, x), (self.of_hidden, hidden))
        )
        (reset_x, update_x, new_x), (reset_h, update_h, new_h) = ours.float().chunk(3, 1), theirs.float().chunk(3, 1)
        reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + reset * new_h)
        return (1 - update) * new if hidden is None else (1 - update) * new + update * hidden


KINDS = {"lstm": PixelLstm, "conv_gru": ConvGru}


class Outputs(NamedTuple):
    """The outputs of a forecasting network for N images and T steps."""

    heatmaps: Tensor  # (N, T, J, R/4, R/4)
    poses: Pose3D | None  # 3D poses with leading dimensions (N, T); None without a converter


class ForecastNet(nn.Module):
    """The forecasting network: images (N, 3, R, R) -> heatmaps of T steps, and with a converter also the 3D poses of T steps.

    The first step is the image itself.
    """

    def __init__(self, network: HourglassNet, options: Forecaster, converter: ConverterNet | None = None) -> None:
        super().__init__()
        self.halves, self.options = SplitHourglass(network), options
        edges = sum(hasattr(level, "upper") for level in self.halves.levels) + 1
        self.layers = nn.ModuleList(KINDS[options.kind](network.options.outputs, options) for _ in range(edges))
        self.converter = converter

    @property
    def hourglass(self) -> HourglassNet:
        """Return the hourglass whose halves are the encoder and the decoder."""
        return self.halves.network

    def forward(self, images: Tensor, steps: int) -> Outputs:
        """Return the outputs of `steps` steps; in evaluation mode, the outputs of a step do not depend on later steps."""
        skips, bottleneck = self.halves.encode(images)
        unrolled = [self._unroll(layer, edge, steps) for layer, edge in zip(self.layers, [*skips, bottleneck], strict=True)]
        maps = self.halves.decode(unrolled[:-1], unrolled[-1])
        if self.converter is None:
            return Outputs(maps, None)
        return Outputs(maps, Pose3D.of(self.converter(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])))

    def _unroll(self, layer: nn.Module, feature: Tensor, steps: int) -> Tensor:
        """Return the features (N, T, C, h, w) that a skip edge or the bottleneck passes to the decoder at each step."""
        outputs = layer(feature, steps)
        return feature[:, None] + outputs if self.options.residual else outputs


def new_forecaster(model: Path, options: Forecaster, seed: int, converter: Path | None = None) -> ForecastNet:
    """Return a forecasting network built from the hourglass in the file `model`, random recurrent layers drawn with `seed`, and
    the converter in the file `converter`, if there is one.

    Raises DataError if a file is not a network of this workspace, and if the converter does not fit the hourglass.
    """
    network, about = load_network(model)
    torch.manual_seed(seed)
    if converter is None:
        return ForecastNet(network, options)
    lifting, described = load_converter(converter)
    if not isinstance(lifting, ConverterNet):
        raise DataError(f"{converter} is a lifter; give the best.safetensors of the stage TrainConverter.")
    if (described.joints, described.side) != (about.joints, about.resolution // 4):
        raise DataError(
            f"{converter} takes heatmaps of {len(described.joints)} joints and {described.side} px, but {model} gives "
            f"{len(about.joints)} joints and {about.resolution // 4} px; train the converter with the same [input] resolution."
        )
    return ForecastNet(network, options, lifting)
