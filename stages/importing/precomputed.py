"""Convert a network that was trained elsewhere to best.safetensors, the file that a training of this workspace writes."""

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets.catalog import DATASETS
from datasets.dataset import Dataset
from datasets.errors import DataError
from stages.fetching.archives import OPENERS, SEVEN_ZIP, unpack
from stages.fetching.kinds import is_web_page
from stages.importing import import_pytorch
from stages.importing.known_models import KnownModel, file_of, newest
from stages.network import checkpoints
from stages.network.hourglass import HourglassNet
from stages.torch7.graph import PUBLISHED_RESOLUTION
from stages.torch7.import_network import read_with_resolution


def convert(source: Path, dataset: Dataset, folder: Path, known: KnownModel | None = None) -> dict[str, Any]:
    """Convert a network for the joints of `dataset` to `folder`/best.safetensors; return the network's options.

    source: a .safetensors file of this workspace, a .t7 file of an hourglass, a checkpoint (torch.save or
    .safetensors) of a PyTorch port of the stacked hourglass, or the archive of image-play, which contains the files
    .../{mpii,penn_action_cropped}/<experiment>/best_model.t7.
    known: the published network that `source` contains, or None; its normalisation of images becomes part of
    the converted network.
    Raises DataError for a file of another kind, and for a network with other joints than those of `dataset`.
    """
    with network_file(source, dataset.name, folder, known) as file:
        network, description = read_network(file, dataset)
    if known and known.normalisation:
        import_pytorch.normalise(network, known.normalisation)
    joints = dataset.skeleton.joints
    if description.joints != joints:
        raise DataError(
            f"{source} predicts {len(description.joints)} joints ({', '.join(description.joints[:3])} ...), but "
            f"{dataset.title} has {len(joints)} ({', '.join(joints[:3])} ...); give a network that was trained on "
            f"{dataset.title}."
        )
    target = folder / "best.safetensors"
    checkpoints.save_network(target, network, joints, description.resolution, description.metrics, dataset.skeleton.limbs)
    return {"options": network.options.significant()}


@contextmanager
def network_file(source: Path, setting: str, folder: Path, known: KnownModel | None) -> Iterator[Path]:
    """Yield the path of the network's file: `source`, or the file unpacked from the archive `source` to `folder`.

    The unpacked file is deleted when the `with` block ends. setting: the setting of [models] that the network is for; known:
    the published network in `source`, if it is one. Raises DataError if the archive has no file of this network, or several.
    """
    if not _is_archive(source):
        refuse_web_page(source)
        yield source
        return
    file = file_of(setting, known)
    place, experiment, name = (re.escape(part).replace(r"\*", "[^/]+") for part in file.split("/"))
    member = rf"(?:.*/)?{place}/(?P<to>{experiment}/{name})"
    unpacked = folder / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    unpack(source, member, unpacked, expected=file)
    yield newest(source, [path for path in unpacked.glob("*/*") if path.is_file()], setting, file)
    shutil.rmtree(unpacked)


def _is_archive(path: Path) -> bool:
    """Return whether a file is an archive: compressed, a tar, or a zip that is not a checkpoint of torch.save."""
    with open(path, "rb") as opened:
        if opened.read(8).startswith((*OPENERS, SEVEN_ZIP)):
            return True
    try:
        if not zipfile.is_zipfile(path):
            return tarfile.is_tarfile(path)
        with zipfile.ZipFile(path) as file:
            return not any(name.endswith("/data.pkl") for name in file.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return True  # when the file is unpacked, an error says what is wrong


def read_network(path: Path, dataset: Dataset | None = None) -> tuple[HourglassNet, checkpoints.Description]:
    """Return the network of a .safetensors file of this workspace, a .t7 file, or a checkpoint that `import_pytorch` reads.

    Only files of this workspace name their joints; for other files, `dataset` is the dataset that the network was trained on.
    Raises DataError for a file of another kind, and if the dataset is missing or has another number of joints than the network.
    """
    refuse_web_page(path)
    if path.suffix == ".safetensors" or checkpoints.is_safetensors(path):
        if checkpoints.is_ours(path):
            return checkpoints.load_network(path)
        network, resolution = import_pytorch.read_hourglass(path), PUBLISHED_RESOLUTION
    elif import_pytorch.is_checkpoint(path):
        network, resolution = import_pytorch.read_hourglass(path), PUBLISHED_RESOLUTION
    else:
        network, resolution = read_with_resolution(path)
    if not dataset:
        raise DataError(
            f"{path} does not name its {network.joints} joints; say on which dataset the network was trained "
            f"(--dataset, or dataset=): {', '.join(DATASETS)}."
        )
    joints = dataset.skeleton.joints
    if len(joints) != network.joints:
        raise DataError(
            f"{path} predicts {network.joints} joints, but {dataset.title} has {len(joints)}; give a network that was "
            f"trained on {dataset.title}."
        )
    return network, checkpoints.Description(network.options, joints, resolution, {}, dataset.skeleton.limbs)


def refuse_web_page(path: Path) -> None:
    """Raise DataError if a file is a web page: some sites send a web page instead of a large file."""
    if path.is_file():
        with open(path, "rb") as file:
            if is_web_page(file.read(1000)):
                raise DataError(
                    f"{path} is a web page, not a network: the site asks a person to press a button before the download. Open "
                    "the address in a browser, download the file by hand and give its path."
                )
