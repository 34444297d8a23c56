"""Save and load forecasting networks, one self-describing .safetensors file each, as in `stages.network.checkpoints`."""

from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass

from datasets.errors import DataError
from stages.forecasting.network import ForecastNet
from stages.lifting.network import ConverterNet
from stages.network.checkpoints import UNFIT, load_tensors, save_tensors, with_tensors
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import Forecaster
from stages.settings.lifting import Converter
from stages.settings.sections import Input, Network, Settings


@dataclass(frozen=True)
class ForecasterDescription:
    """The options, joints and input of a forecasting network; the values are validated when the object is built."""

    options: Network  # options of the hourglass
    forecaster: Forecaster
    joints: tuple[str, ...]  # output channel -> joint name
    resolution: int  # side of the input in pixels
    metrics: dict[str, int | float]  # accuracies at the time of saving
    converter: Converter | None = None  # options of the converter; None for a network without a converter


def as_json(about: ForecasterDescription) -> dict[str, Any]:
    """Return a description as JSON values; a checkpoint stores these values next to the tensors, and `build` reads them."""
    told = {"joints": about.joints, "resolution": about.resolution, "metrics": about.metrics}
    told |= {"converter": about.converter.significant()} if about.converter else {}
    return {"options": about.options.significant(), "forecaster": about.forecaster.significant()} | told


def save_forecaster(path: Path, network: ForecastNet, joints: tuple[str, ...], resolution: int,
                    metrics: dict[str, float]) -> None:  # fmt: skip
    """Write a forecasting network and its description, ready for `load_forecaster`."""
    converter = network.converter.options if network.converter else None
    about = ForecasterDescription(network.hourglass.options, network.options, joints, resolution, metrics, converter)
    save_tensors(path, network.state_dict(), as_json(about))


def load_forecaster(path: Path) -> tuple[ForecastNet, ForecasterDescription]:
    """Return the network in evaluation mode on the CPU, and its description.

    Raises DataError for a file without a forecasting network in the format of `save_forecaster`.
    """
    tensors, raw = load_tensors(path)
    return build(tensors, raw, path)


def build(tensors: dict[str, torch.Tensor], raw: dict[str, Any], path: Path) -> tuple[ForecastNet, ForecasterDescription]:
    """Return the network and its description from the contents of `path`: tensors by name, and the values of `as_json`.

    Raises DataError for a file with the state of a training, and for any other file without a forecasting network.
    """
    if isinstance(raw, dict) and "state" in raw:
        raise DataError(f"{path} is the state of a training; give its best.safetensors.")
    if not isinstance(raw, dict) or "forecaster" not in raw:
        raise DataError(f"{path} is no forecasting network; give a .safetensors file of the stage Forecast or ExportForecast.")
    try:
        parts: dict[str, Any] = {"options": Network(**raw["options"]), "forecaster": Forecaster(**raw["forecaster"])}
        parts |= {"converter": Converter(**raw["converter"])} if raw.get("converter") else {}
        about = ForecasterDescription(**raw | parts)
        Settings(network=about.options, input=Input(resolution=about.resolution))
        network = with_tensors(lambda: _new(about), tensors)
    except UNFIT as error:
        raise DataError(f"{path} is not a forecasting network of this workspace ({error}); make it again.") from None
    return network, about


def _new(about: ForecasterDescription) -> ForecastNet:
    joints = len(about.joints)
    converter = ConverterNet(joints, about.resolution // 4, about.converter) if about.converter else None
    return ForecastNet(HourglassNet(about.options, joints), about.forecaster, converter)
