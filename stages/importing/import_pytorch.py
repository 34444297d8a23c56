"""Read checkpoints of two PyTorch ports of the stacked hourglass: files of torch.save, or .safetensors.

One port is princeton-vl's pytorch_stacked_hourglass; Rockwell's fork of this port adds regularisation. The other port is
bearpaw's pytorch-pose; anibali's pytorch-stacked-hourglass has the same networks. First the tensors are renamed to the names
of HourglassNet. Then the network's options are derived from the names and shapes of the tensors. Last, a network is built with
these options, and every tensor must have the shape of this network's tensor.
"""

import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from datasets.errors import DataError
from stages.importing.known_models import Normalisation
from stages.network.checkpoints import is_safetensors
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7.match import with_tensors

# The mean colour of MPII, RGB in [0, 1]. Every program that uses bearpaw's networks subtracts this mean.
BEARPAW_MEAN = (0.4404, 0.4440, 0.4327)

# Pairs (pattern in a tensor's name in the port, its replacement in HourglassNet), applied one after the other.
_PRINCETON = (
    (r"^pre\.0\.conv\.", "stem.conv."), (r"^pre\.0\.bn\.", "stem.norm."), (r"^pre\.1\.", "stem.residuals.0."),
    (r"^pre\.3\.", "stem.residuals.1."), (r"^pre\.4\.", "stem.residuals.2."),
    (r"^hgs\.(\d+)\.0\.", r"hourglasses.\1."), (r"\blow2\.(?=low|up)", "inner."), (r"\blow2\.", "inner.0."),
    (r"\bup1\.", "upper.0."), (r"\blow1\.", "lower1.0."), (r"\blow3\.", "lower2.0."),
    (r"^features\.(\d+)\.0\.", r"heads.\1.residuals.0."), (r"^features\.(\d+)\.1\.conv\.", r"heads.\1.layers.0.0."),
    (r"^features\.(\d+)\.1\.bn\.", r"heads.\1.layers.0.1."), (r"^outs\.(\d+)\.conv\.", r"heads.\1.output."),
    (r"^merge_features\.(\d+)\.conv\.conv\.", r"joins.\1.features."),
    (r"^merge_preds\.(\d+)\.conv\.conv\.", r"joins.\1.heatmaps."),
    (r"\bconv(\d)\.conv\.", r"conv\1."), (r"\bskip_layer\.conv\.", "skip."), (r"\bbn(\d)\.", r"norm\1."),
)  # fmt: skip
_BEARPAW = (
    (r"^conv1\.", "stem.conv."), (r"^bn1\.", "stem.norm."), (r"^layer1\.0\.", "stem.residuals.0."),
    (r"^layer2\.0\.", "stem.residuals.1."), (r"^layer3\.0\.", "stem.residuals.2."),
    (r"^res\.(\d+)\.", r"heads.\1.residuals."), (r"^fc\.(\d+)\.([01])\.", r"heads.\1.layers.0.\2."),
    (r"^score\.(\d+)\.", r"heads.\1.output."), (r"^fc_\.(\d+)\.", r"joins.\1.features."),
    (r"^score_\.(\d+)\.", r"joins.\1.heatmaps."), (r"\bdownsample\.0\.", "skip."), (r"\bbn(\d)\.", r"norm\1."),
)  # fmt: skip
# Names of the tensors in bearpaw's hourglasses; level 0 is the innermost.
_LEVEL = re.compile(r"hg\.(?P<stack>\d+)\.hg\.(?P<level>\d)\.(?P<part>[0-3])\.(?P<rest>.+)")

# Keys under which training programs store the network's tensors in a checkpoint.
_PLACES = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights")

_ZIP = b"PK\3\4"
_LONGEST_NAME = 200  # largest number of characters of a tensor's name; names of the ports have up to 70


class Placeholder:
    """A replacement for an object in a pickle that is not a tensor (options, a metric, a path).

    The object's code never runs.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __repr__(self) -> str:
        return "not a tensor"


# If an object in a pickle has one of these classes, `Placeholder` replaces the object. Any other class that is not part of a
# tensor is refused.
_REPLACED = [
    "argparse.Namespace", "numpy.dtype", "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Str", *(f"{kind}{bits}" for kind, sizes in (
        ("Int", (8, 16, 32, 64)), ("UInt", (8, 16, 32, 64)), ("Float", (16, 32, 64))) for bits in sizes))),
    *(f"pathlib{module}.{kind}Path" for module in ("", "._local") for kind in ("Posix", "PurePosix", "Windows", "PureWindows")),
]  # fmt: skip


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins like a file of torch.save: as a zip, or as the pickle that older versions wrote."""
    with open(path, "rb") as file:
        return file.read(len(_ZIP)).startswith((_ZIP, b"\x80"))


def read_hourglass(path: Path) -> HourglassNet:
    """Return the network of a checkpoint, in evaluation mode.

    The files of bearpaw's networks do not contain a mean colour, so these networks get BEARPAW_MEAN. Raises DataError for a
    damaged file, a file with code, or a network of another kind. For a tensor of a wrong shape, the message states the
    tensor's name in the checkpoint and in HourglassNet, the shape found and the shape expected.
    """
    theirs = _state(path, _load(path))
    bearpaw = "conv1.weight" in theirs
    ours = _renamed(path, theirs, bearpaw)
    options, joints = _options(path, ours)
    with torch.device("meta"):
        network = HourglassNet(options, joints)
    tensors = _tensors(path, ours, network)
    if bearpaw:
        tensors["mean"] = torch.tensor(BEARPAW_MEAN)
    return with_tensors(network, tensors)


def normalise(network: HourglassNet, normalisation: Normalisation) -> None:
    """Change a network that was trained on normalised images so that it takes images in [0, 1].

    The mean is stored in the buffer `mean`, and the weights of the first convolution are divided by the standard deviation. The
    convolution pads with 0 after the mean is subtracted, as in the original program, so the results agree with that program's
    results at the image border, too.
    """
    with torch.no_grad():
        network.mean.copy_(torch.tensor(normalisation.mean))
        network.stem.conv.weight /= torch.tensor(normalisation.deviation).view(1, 3, 1, 1)


def _load(path: Path) -> Any:
    """Return the contents of a file of torch.save or safetensors, without running any code of the file. Raises DataError."""
    if is_safetensors(path):
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, LookupError) as error:
            raise DataError(f"{path} is damaged or truncated ({error}); fetch it again from its owner.") from None
    with open(path, "rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    if zipped:
        _check_members(path)
    size, claimed = path.stat().st_size, 0

    def bounded(storage: torch.UntypedStorage, _: str) -> torch.UntypedStorage:
        nonlocal claimed
        claimed += storage.nbytes()
        if claimed > size:
            raise DataError(f"{path} claims to hold more numbers than it has bytes; it is damaged. Fetch it again.")
        return storage[:]  # return a copy, because a tensor that claims a larger size could enlarge the original storage

    try:
        replaced = torch.serialization.safe_globals([(Placeholder, name) for name in _REPLACED])
        with replaced, warnings.catch_warnings(action="ignore"):  # torch warns about every pickle that torch did not write
            return torch.load(path, map_location=bounded, weights_only=True, mmap=zipped)  # type: ignore[arg-type]
    except DataError:
        raise
    except Exception as error:  # a damaged or hostile pickle can make torch's reader raise anything
        refused = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if refused:
            raise DataError(
                f"{path} holds more than tensors ({refused[1]:.200}); loading it could run any code, so it is refused. If you "
                "trust its origin, save its state_dict alone with torch.save and give the path of that file."
            ) from None
        why = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())[:200]
        raise DataError(
            f"{path} cannot be read as a PyTorch checkpoint: it is damaged, truncated or of another kind "
            f"({type(error).__name__}: {why}). Fetch it again, or give another file."
        ) from None


def _check_members(path: Path) -> None:
    """Raise DataError for a damaged zip, and for compressed or overlapping members, which torch.save never writes."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > path.stat().st_size:
                raise DataError(
                    f"{path} is not a checkpoint of torch.save: its members are compressed or overlap. Give another file."
                )
            broken = file.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError, LookupError) as error:
        raise DataError(f"{path} is damaged or truncated ({error}); fetch it again from its owner.") from None
    if broken:
        raise DataError(f"{path} is damaged: the checksum of its member {broken!r} is wrong; fetch it again from its owner.")


def _state(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    """Return name -> tensor of the network; a prefix that all names share, such as module. or net., is removed.

    Raises DataError for contents that are not a dictionary of named tensors.
    """
    state = loaded
    while isinstance(state, dict) and (place := next((p for p in _PLACES if isinstance(state.get(p), dict)), None)):
        state = state[place]
    if not isinstance(state, dict) or not state:
        raise DataError(f"{path} holds no tensors by name; give a checkpoint with a state_dict.")
    for name, tensor in state.items():
        named = isinstance(name, str) and len(name) < _LONGEST_NAME and name.isprintable()
        if not named or type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.is_meta:
            found = " ".join(f"{tensor!r:.80}".split())
            raise DataError(f"{path} holds {name!r:.80} = {found} in its state_dict, expected a name and a tensor.")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > path.stat().st_size:
        raise DataError(f"{path} holds more numbers than bytes: a tensor repeats elements, which no real checkpoint does.")
    common = os.path.commonprefix([name.split(".")[:-1] for name in state])
    return {".".join(name.split(".")[len(common) :]): tensor for name, tensor in state.items()}


def _renamed(path: Path, theirs: dict[str, torch.Tensor], bearpaw: bool) -> dict[str, tuple[str, torch.Tensor]]:
    """Return name in HourglassNet -> (name in the checkpoint, tensor). Unknown names are kept; `_tensors` refuses them."""
    depth = len({match["level"] for name in theirs if (match := _LEVEL.fullmatch(name))})
    ours: dict[str, tuple[str, torch.Tensor]] = {}
    for name, tensor in theirs.items():
        renamed = _level(name, depth)
        for pattern, replacement in _BEARPAW if bearpaw else _PRINCETON:
            renamed = re.sub(pattern, replacement, renamed)
        if renamed in ours:
            raise DataError(f"{path} holds {name} twice, also as {ours[renamed][0]}.")
        ours[renamed] = (name, tensor)
    return ours


def _level(name: str, depth: int) -> str:
    """Return a tensor's name with its residual block's path in bearpaw's hourglasses replaced by the path in HourglassNet.

    Other names are returned unchanged. bearpaw's hourglasses have a list of levels; in HourglassNet each level contains the
    next inner level.
    """
    match = _LEVEL.fullmatch(name)
    if not match or int(match["level"]) >= depth:
        return name
    inside = "inner." * (depth - 1 - int(match["level"]))
    return f"hourglasses.{match['stack']}.{inside}{('upper', 'lower1', 'lower2', 'inner')[int(match['part'])]}.{match['rest']}"


def _options(path: Path, ours: dict[str, tuple[str, torch.Tensor]]) -> tuple[Network, int]:
    """Return the options of the network, derived from the tensors' names and shapes, and the number of joints.

    Raises DataError if the tensors are not those of an hourglass.
    """

    def width(name: str) -> int:
        """Return the output channels of a convolution."""
        _, tensor = ours.get(f"{name}.weight", ("", torch.empty(0)))
        if tensor.ndim != 4:
            raise DataError(f"{path} has no convolution {name}; it is not an hourglass of the known PyTorch ports.")
        return tensor.shape[0]

    def count(pattern: str) -> int:
        return len({match[0] for name in ours if (match := re.match(pattern, name))})

    widths = [width("stem.conv")] + [width(f"stem.residuals.{i}.conv3") for i in range(3)]
    residuals = count(r"hourglasses\.0\.upper\.\d+\.")
    try:
        options = Network(
            stem=tuple(widths[:-1]), features=widths[-1], outputs=widths[-1], stacks=count(r"heads\.\d+\.output\."),
            depth=1 + max(name.count("inner.") for name in ours if not re.search(r"inner\.\d", name)), residuals=residuals,
            head_residuals=count(r"heads\.0\.residuals\.\d+\."), join="remap",
        )  # fmt: skip
    except DataError as error:
        raise DataError(f"{path} holds an hourglass that is not supported: {error}") from None
    return options, width("heads.0.output")


def _tensors(path: Path, ours: dict[str, tuple[str, torch.Tensor]], network: HourglassNet) -> dict[str, torch.Tensor]:
    """Return the network's tensors as float32. Raises DataError for missing, unused, misshapen or non-finite tensors."""
    expected = network.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for name, (theirs, tensor) in ours.items():
        if name not in expected:
            # If a residual block's input and output widths are equal, princeton-vl's block has an unused skip convolution.
            if ".skip." in name and name.replace(".skip.", ".conv3.") in expected:
                continue
            raise DataError(f"{path}: {theirs} is not used: the network that the other tensors form has no such tensor.")
        shape = tuple(expected[name].shape)
        if tuple(tensor.shape) != shape:
            raise DataError(f"{path}: {theirs} ({name}) has shape {tuple(tensor.shape)}, expected {shape}.")
        if name.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise DataError(f"{path}: {theirs} ({name}) holds values that are not finite numbers.")
        tensors[name] = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    missing = [n for n in expected if n not in ours and n != "mean" and not n.endswith("num_batches_tracked")]
    if missing:
        raise DataError(f"{path} has no {missing[0]}; in total it lacks {len(missing)} of the network's tensors.")
    return tensors
