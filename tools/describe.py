"""Print the layers and the cost of a network: python -m tools.describe PRESET|CHECKPOINT, or --list for all presets."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from datasets.errors import DataError
from stages.settings.presets import PRESETS
from stages.settings.sections import Input, Network, Settings
from tools import program

if TYPE_CHECKING:
    from stages.network.cost import Layer
    from stages.network.hourglass import HourglassNet


@program
def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tools.describe", description=__doc__)
    parser.add_argument("network", nargs="?", help="a preset's name, or a .safetensors file of this workspace")
    parser.add_argument("--list", action="store_true", help="print the costs of all presets, and their differences from hg-256")
    parser.add_argument("--joints", type=int, default=16, help="number of joints of a preset; default: 16")
    parser.add_argument("--resolution", type=int, help="side of the input in px; default: the checkpoint's, or 256")
    options = parser.parse_args()
    if options.list == bool(options.network):
        parser.error("give either a preset or checkpoint, or --list")
    if options.joints < 1 or options.resolution == 0:
        parser.error("--joints and --resolution must be at least 1")
    if options.list:
        list_presets(options.joints, options.resolution or 256)
    else:
        describe(options.network, options.joints, options.resolution)


def list_presets(joints: int, resolution: int) -> None:
    """Print a table with the cost of each preset."""
    rows = []
    for name, changes in PRESETS.items():
        network = _from_preset(name, joints)
        different = ", ".join(_settings(network.options.model_dump(include=set(changes))))
        rows.append([name, *_total(_layers(network, resolution)), different])
    print(f"{joints} joints, {resolution} x {resolution} pixels\n")
    heads = ["preset", "parameters", "multiply-adds", "differences from hg-256"]
    print(tabulate(rows, heads, colalign=["left", "right", "right"], maxcolwidths=[None, None, None, 72]))


def describe(name: str, joints: int, resolution: int | None) -> None:
    """Print a network's options, its layers in the order of computation, and the total cost of each part."""
    if name in PRESETS:
        network, resolution = _from_preset(name, joints), resolution or 256
    else:
        from datasets.links import follow
        from stages.network.checkpoints import load_network

        if not Path(name).exists():
            raise DataError(f"{name} is neither a file nor a preset; give a .safetensors file or one of {', '.join(PRESETS)}.")
        network, description = load_network(follow(Path(name)))
        resolution = resolution or description.resolution
        print(f"joints: {', '.join(description.joints)}\nmean subtracted from images: {network.mean.tolist()}\n")
    found = _layers(network, resolution)
    print("[network]", *_settings(network.options.significant()), sep="\n")
    print(f"\n{network.joints} joints, {resolution} x {resolution} pixels\n")
    rows = [
        [layer.name, layer.kind, " x ".join(map(str, layer.output)), f"{layer.parameters:,}", _giga(layer.multiply_adds)]
        for layer in found
    ]
    print(tabulate(rows, ["layer", "", "output", "parameters", "multiply-adds"], colalign=["left"] * 2 + ["right"] * 3), "\n")
    parts: dict[str, list[Layer]] = {}
    for layer in found:
        parts.setdefault(".".join(layer.name.split(".")[: 1 if layer.name.startswith("stem") else 2]), []).append(layer)
    rows = [[part, *_total(inside)] for part, inside in parts.items()] + [["total", *_total(found)]]
    print(tabulate(rows, ["part", "parameters", "multiply-adds"], colalign=["left", "right", "right"]))


def _from_preset(name: str, joints: int) -> "HourglassNet":
    import torch

    from stages.network.hourglass import HourglassNet

    with torch.device("meta"):  # the device `meta` allocates no memory
        return HourglassNet(Network(preset=name), joints)


def _layers(network: "HourglassNet", resolution: int) -> "list[Layer]":
    from stages.network.cost import layers

    # `Settings` is called only because it checks that 2**depth divides the heatmap size.
    Settings(network=network.options, input=Input(resolution=resolution))
    return layers(network, resolution)


def _total(found: "list[Layer]") -> tuple[str, str]:
    return f"{sum(layer.parameters for layer in found):,}", _giga(sum(layer.multiply_adds for layer in found))


def _giga(count: int) -> str:
    return f"{count / 1e9:.3f} G"


def _settings(options: dict) -> list[str]:
    """Return options as lines in the format of luigi.cfg."""
    return [f"{name} = {str(value).strip('[]').replace(',', '').lower()}" for name, value in options.items()]


if __name__ == "__main__":
    sys.exit(main())
