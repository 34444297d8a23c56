"""Save and load converters and lifters: one .safetensors file, with a description, per network."""

from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from datasets.errors import DataError
from stages.lifting.network import ConverterNet, LifterNet
from stages.network.checkpoints import UNFIT, load_tensors, save_tensors, with_tensors
from stages.settings.lifting import Converter

MOST_SIDE, MOST_WIDTH = 1024, 8192  # largest side of the heatmaps in px, and largest width of a lifter, that `load` accepts


@dataclass(frozen=True)
class LiftingDescription:
    """The joints, input size and options of a converter or a lifter; the values are validated when the object is built."""

    joints: tuple[str, ...]
    side: int  # side of the heatmaps in px
    converter: Converter | None  # options of the converter; None for a lifter
    width: int | None  # width of the lifter's layers; None for a converter
    metrics: dict[str, int | float]  # accuracies when the network was saved


def save(path: Path, network: ConverterNet | LifterNet, joints: tuple[str, ...], metrics: dict[str, float]) -> None:
    """Write a network and its description to a file that `load` reads; metrics: accuracies to store in the file."""
    about: dict[str, Any] = {"joints": joints, "side": network.side, "metrics": metrics, "converter": None, "width": None}
    if isinstance(network, ConverterNet):
        about["converter"] = network.options.significant()
    else:
        about["width"] = network.width
    save_tensors(path, network.state_dict(), {"lifting": about})


def load(path: Path) -> tuple[ConverterNet | LifterNet, LiftingDescription]:
    """Return a network in evaluation mode on the CPU, and its description. Raises DataError for files not written by `save`."""
    tensors, raw = load_tensors(path)
    if not isinstance(raw, dict) or "lifting" not in raw:
        raise DataError(f"{path} is no converter; give the best.safetensors of a TrainConverter.")
    try:
        values = dict(raw["lifting"])
        options = values.pop("converter")
        about = LiftingDescription(**values, converter=None if options is None else Converter(**options))
        if not 0 < about.side <= MOST_SIDE or not 0 < (about.width or 1) <= MOST_WIDTH:
            raise ValueError("its heatmaps or its layers have an illegal size")
        network = with_tensors(lambda: _new(about), tensors)
    except UNFIT as error:
        raise DataError(f"{path} is not a converter of this workspace ({error}); train it again.") from None
    return network, about


def _new(about: LiftingDescription) -> ConverterNet | LifterNet:
    if about.converter:
        return ConverterNet(len(about.joints), about.side, about.converter)
    if about.width:
        return LifterNet(len(about.joints), about.side, about.width)
    raise ValueError("its description has neither the options of a converter nor the width of a lifter")
