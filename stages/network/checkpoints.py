"""Networks on disk: one .safetensors file that describes itself.

The tensors are the network's state; the file's metadata holds one JSON text with the network's options, joint names,
input and, for a training in progress, its state. Reading never executes anything from the file.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from datasets.errors import DataError
from datasets.files import write_atomically
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Input, Network


@dataclass(frozen=True)
class Description:
    """What a network is and sees; its values are checked when it is built."""

    options: Network
    joints: tuple[str, ...]  # output channel -> joint name
    resolution: int  # side of the input in pixels
    metrics: dict[str, int | float]  # accuracies at the time of saving


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], description: dict[str, Any], before: Path | None = None) -> None:
    """Tensors and a JSON description into one .safetensors file, atomically; before: see `write_atomically`."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, to_bytes(plain, {"description": json.dumps(description)}), before)


class Writer:
    """Saves tensors while the training that changes them goes on: they are copied at once and written by a thread.

    To be used in `with`: at its end all is on the disk. An error in writing shows at the next save, or at the end.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown()
        self._wait()

    def _wait(self) -> None:
        if self.writing:
            self.writing.result()

    def save(
        self, path: Path, tensors: dict[str, torch.Tensor], description: dict[str, Any], before: Path | None = None
    ) -> None:
        """`save_tensors` of the tensors as they are now; the description must not change any more."""
        copies = {name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()}
        text = json.dumps(description)
        self._wait()
        self.writing = self.thread.submit(save_tensors, path, copies, json.loads(text), before)


def below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def is_safetensors(path: Path) -> bool:
    """Whether a file of any name, such as a download's, begins as they do: 8 bytes of a size, then JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def is_ours(path: Path) -> bool:
    """Whether a .safetensors file has a description as `save_tensors` writes it, and not another program's tensors alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return "description" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True  # reading it will say what is wrong


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises DataError for a missing, truncated or foreign file."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise DataError(f"{path} is {what}; give the path of a .safetensors file of this workspace.")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["description"])
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a checkpoint of this workspace ({error or type(error).__name__}); give the path of a .safetensors "
            "file that it wrote."
        ) from None


def as_json(description: Description) -> dict[str, Any]:
    """What stands beside a network's tensors: `build` reads it."""
    told = {"joints": description.joints, "resolution": description.resolution, "metrics": description.metrics}
    return {"options": description.options.significant()} | told


def save_network(path: Path, network: HourglassNet, joints: tuple[str, ...], resolution: int,
                 metrics: dict[str, float]) -> None:  # fmt: skip
    """A network and its description, ready for `load_network`. What it subtracts from images is among the tensors."""
    save_tensors(path, network.state_dict(), as_json(Description(network.options, joints, resolution, metrics)))


def load_network(path: Path) -> tuple[HourglassNet, Description]:
    """The network in evaluation mode on the CPU, and its description. Raises DataError."""
    return build(*load_tensors(path), path)


def build(tensors: dict[str, torch.Tensor], raw: dict[str, Any], path: Path) -> tuple[HourglassNet, Description]:
    """`load_network` of what `path` holds: tensors by name, and what `as_json` gave. Raises DataError."""
    if isinstance(raw, dict) and "state" in raw:
        raise DataError(f"{path} is the state of a training; give its best.safetensors.")
    try:
        description = Description(**raw | {"options": Network(**raw["options"])})
        with torch.device("meta"):  # no memory for what the file only claims to hold
            network = HourglassNet(description.options, len(description.joints))
        network.load_state_dict(tensors, assign=True)
        if Input(resolution=description.resolution).heatmap % 2 ** max(description.options.depth):
            raise DataError(f"resolution = {description.resolution} cannot be halved often enough")
        for name, tensor in tensors.items():
            if not (tensor.is_floating_point() or name.endswith("num_batches_tracked")):
                raise DataError(f"{name} is of {tensor.dtype}")
    except (DataError, ValidationError, KeyError, TypeError, RuntimeError) as error:
        found = " ".join(str(error).split())[:500]
        raise DataError(f"{path}: the tensors do not fit the network that the file describes ({found}).") from None
    return network.float().eval(), description
