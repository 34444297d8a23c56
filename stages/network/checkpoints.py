"""Save and load networks, one self-describing .safetensors file per network.

The tensors are the network's state. The file's metadata contains one JSON text with the network's options, joint names,
input resolution and, for a training in progress, the training's state. Reading a file never executes code from the file.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from datasets.errors import DataError
from datasets.files import write_atomically
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Input, Network

Net = TypeVar("Net", bound=nn.Module)
# Exceptions that mean that the description in a file is invalid, or that the file's tensors do not fit the description.
UNFIT = (DataError, ValidationError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Description:
    """The options, joints and input of a network; the values are validated when the object is built."""

    options: Network
    joints: tuple[str, ...]  # output channel -> joint name
    resolution: int  # side of the input in px
    metrics: dict[str, int | float]  # accuracies when the network was saved
    limbs: tuple[tuple[int, int], ...] = ()  # pairs of joints, counted from 0, to connect when a person is drawn


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], description: dict[str, Any], before: Path | None = None) -> None:
    """Write tensors and a JSON description into one .safetensors file, atomically; before: see `write_atomically`."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, to_bytes(plain, {"description": json.dumps(description)}), before)


class Writer:
    """Saves tensors while the training continues: `save` copies the tensors at once, and a thread writes the copies.

    Use as a context manager: when the block ends, all files are written. A write error is raised by the next call of `save`,
    or at the end of the block.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown()
        self.wait()

    def wait(self) -> None:
        """Wait until the file of the last `save` is on the disk. Raises the error of a failed write."""
        if self.writing:
            self.writing.result()

    def save(
        self, path: Path, tensors: dict[str, torch.Tensor], description: dict[str, Any], before: Path | None = None
    ) -> None:
        """Copy tensors and description now; write the copies in the background as `save_tensors` does."""
        copies = {name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()}
        text = json.dumps(description)
        self.wait()
        self.writing = self.thread.submit(save_tensors, path, copies, json.loads(text), before)


def below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with `prefix`, with the prefix removed from the names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def with_tensors(make: Callable[[], Net], tensors: dict[str, torch.Tensor]) -> Net:
    """Return the network that `make` builds, filled with `tensors`, in evaluation mode on the CPU.

    The network is built on the device `meta`, which allocates no memory: a file may demand a network of any size.
    Raises ValueError if the names, shapes or dtypes of the tensors are not those of the network.
    """
    with torch.device("meta"):
        network = make()
    expected, found = ({name: (t.shape, t.dtype) for name, t in of.items()} for of in (network.state_dict(), tensors))
    if expected != found:
        raise ValueError("its tensors do not fit its options")
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def is_safetensors(path: Path) -> bool:
    """Return whether a file with any name begins like a .safetensors file: with an 8-byte size, then JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def is_ours(path: Path) -> bool:
    """Return whether a .safetensors file has the description that `save_tensors` writes; other programs write only tensors.

    Also true for an unreadable file, because the function that reads the file next raises a clearer error.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return "description" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors, by name, and the description from a file that `save_tensors` wrote.

    Raises DataError for a missing or truncated file, or a file of another program.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}; give the path of a .safetensors file of this workspace.")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["description"])
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a checkpoint of this workspace ({error or type(error).__name__}); give the path of a .safetensors "
            "file that this workspace wrote."
        ) from None


def as_json(description: Description) -> dict[str, Any]:
    """Return a description as the JSON values that are stored next to a network's tensors, and that `build` reads."""
    values = {name: getattr(description, name) for name in ("joints", "resolution", "metrics", "limbs")}
    return {"options": description.options.significant()} | values


def save_network(path: Path, network: HourglassNet, joints: tuple[str, ...], resolution: int, metrics: dict[str, float],
                 limbs: tuple[tuple[int, int], ...] = ()) -> None:  # fmt: skip
    """Write a network and its description for `load_network`. The tensors include the mean that is subtracted from images."""
    save_tensors(path, network.state_dict(), as_json(Description(network.options, joints, resolution, metrics, limbs)))


def load_network(path: Path) -> tuple[HourglassNet, Description]:
    """Return the network, in evaluation mode on the CPU, and its description.

    Raises DataError as `load_tensors` and `build` do.
    """
    return build(*load_tensors(path), path)


def build(tensors: dict[str, torch.Tensor], raw: dict[str, Any], path: Path) -> tuple[HourglassNet, Description]:
    """Return the network and the description that the file `path` contains.

    tensors: the network's tensors by name; raw: the description as JSON values (see `as_json`). Raises DataError if the
    file contains the state of a training, and if the tensors do not fit the description.
    """
    if isinstance(raw, dict) and "state" in raw:
        raise DataError(f"{path} is the state of a training; give its best.safetensors.")
    try:
        description = Description(**raw | {"options": Network(**raw["options"])})
        with torch.device("meta"):  # this device allocates no memory: the file may demand a network of any size
            network = HourglassNet(description.options, len(description.joints))
        network.load_state_dict(tensors, assign=True)
        if Input(resolution=description.resolution).heatmap % 2 ** max(description.options.depth):
            raise DataError(f"resolution = {description.resolution} gives heatmaps that are not divisible by 2**depth")
        if not all(0 <= joint < len(description.joints) for limb in description.limbs for joint in limb):
            raise DataError(f"its limbs contain joints that are not among its {len(description.joints)}")
        for name, tensor in tensors.items():
            if not (tensor.is_floating_point() or name.endswith("num_batches_tracked")):
                raise DataError(f"{name} has dtype {tensor.dtype}")
    except (DataError, ValidationError, KeyError, TypeError, RuntimeError) as error:
        found = " ".join(str(error).split())[:500]
        raise DataError(
            f"{path}: the file describes an invalid network, or its tensors do not fit the network ({found})."
        ) from None
    return network.float().eval(), description
