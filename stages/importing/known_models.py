"""List the published networks that others trained, each with its dataset, accuracy, address and licence."""

import re
from dataclasses import dataclass
from pathlib import Path

from datasets.catalog import DATASETS
from datasets.errors import DataError
from stages.fetching.sources import PIN

# Where the folders of datasets may lie, below the folder that a user gives.
_LAYOUTS = ("", "precomputed_hg_models/", "exp/precomputed_hg_models/", "exp/")

# Setting of [models] -> path of the network's file in a published archive, or in the archive's unpacked folder; * is any name.
FILES = {
    **{name: f"{DATASETS[name].result_path}/*/best_model.t7" for name in ("mpii", "penn_action")},
    "converter": "h36m/*/model_best.t7",
    "forecaster": "penn-crop/*/model_*.t7",
}

_DRIVE = "https://drive.google.com/uc?id="
_IMAGE_PLAY = f"{_DRIVE}1uGXXQx6bAkX9ykqdBNLvlsD_WuUxhk2N"  # 50 MB: hg-256 and hg-256-ft
_SKELETON2D3D = f"{_DRIVE}1oIGl91PafQBIjAyzSfeGWunl-mGo7Ynk"  # 108 MB: converters, and their outputs for Human3.6M
_FORECASTS = f"{_DRIVE}1_kvscL7HKua9r_XU67iCSGqG8WbqT7-k"  # 2.4 GB: forecasting networks, and their forecasts of Penn Action
_ANIBALI = "https://github.com/anibali/pytorch-stacked-hourglass/releases/download/v0.0.0/"
_MICHIGAN = "http://www-personal.umich.edu/~cnris/"
_NONE = "none known"
_HUMAN36M = "none known (Human3.6M, the training data, is for academic use)"
_BSD = "none known (code: BSD 3-Clause)"


@dataclass(frozen=True)
class Normalisation:
    """The normalisation that a network expects: (image - mean) / deviation, of RGB images in [0, 1]."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class KnownModel:
    """A published network."""

    name: str
    dataset: str  # the dataset whose joints the network predicts; also its training data, if `trained_on` is empty
    accuracy: str  # the accuracy that the publisher states
    address: str
    licence: str  # licence of the weights, as far as known
    sha256: str = ""  # first digits of the file's digest, if the publisher states them
    normalisation: Normalisation | None = None  # normalisation of the images, if the network's file does not determine it
    file: str = ""  # the network's file in its archive, if the archive has several networks of this kind; * is any name
    uses: tuple[str, ...] = ()  # settings of [models] whose value can be its name; empty: the setting named like the dataset
    trained_on: str = ""  # dataset on which the network was trained, if it is not `dataset`

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the settings of [models] whose value can be the name of this network."""
        return self.uses or (self.dataset,)

    @property
    def joints(self) -> int:
        return len(DATASETS[self.dataset].skeleton.joints)

    def source(self, given: str = "") -> str:
        """Return the source of the network's file: `given`, or else the address; the digest is added if it is known."""
        source = given or self.address
        return source if PIN.search(source) or not self.sha256 else f"{source}#sha256={self.sha256}"


# Rockwell's fork of princeton-vl's port states this mean and this deviation in its settings, as `mean` and `stdev` below
# `train`. On the fork's web page, the links to the fork's two networks are swapped. bearpaw's networks need no entry:
# `import_pytorch` recognises them by their tensors and sets their mean.
_REGULARISED = Normalisation((0.3643, 0.3437, 0.3156), (0.1510, 0.1469, 0.1472))


def _of_skeleton2d3d(name: str, *uses: str) -> KnownModel:
    """Return a network of skeleton2d3d. All networks of skeleton2d3d have the joints of Penn Action."""
    file = f"h36m/{name}/model_best.t7"
    return KnownModel(name, "penn_action", "", _SKELETON2D3D, _HUMAN36M, file=file, uses=uses, trained_on="human3.6m")


def _forecaster(name: str) -> KnownModel:
    file = f"penn-crop/{name}/model_*.t7"
    return KnownModel(name, "penn_action", "", _FORECASTS, _BSD, file=file, uses=("forecaster",))


KNOWN = {
    model.name: model
    for model in (
        KnownModel("hg-256", "mpii", "training metric 80.58 % (valid)", _IMAGE_PLAY, _BSD),
        KnownModel(
            "hg-256-ft", "penn_action", "training metric 91.52 % (valid; the last epoch 91.20, test 91.10)", _IMAGE_PLAY, _BSD
        ),
        KnownModel("hg1", "mpii", "", _ANIBALI + "bearpaw_hg1-ce125879.pth", _NONE, "ce125879"),
        KnownModel("hg2", "mpii", "PCKh@0.5 87.33 % (valid)", _ANIBALI + "bearpaw_hg2-15e342d9.pth", _NONE, "15e342d9"),
        KnownModel("hg8", "mpii", "", _ANIBALI + "bearpaw_hg8-90e5d470.pth", _NONE, "90e5d470"),
        KnownModel("original_2hg", "mpii", "PCKh@0.5 88.5 % (valid)", _MICHIGAN + "original_2hg/checkpoint.pth.tar", _BSD),
        KnownModel("original_8hg", "mpii", "PCKh@0.5 90.1 % (valid)", _MICHIGAN + "original_8hg/checkpoint.pth.tar", _BSD),
        KnownModel(
            "regularization_2hg", "mpii", "PCKh@0.5 88.7 % (valid)", _MICHIGAN + "regularization_2hg/checkpoint.pth.tar",
            _NONE, normalisation=_REGULARISED,
        ),
        KnownModel(
            "regularization_8hg", "mpii", "PCKh@0.5 90.6 % (valid)", _MICHIGAN + "regularization_8hg/checkpoint.pth.tar",
            _NONE, normalisation=_REGULARISED,
        ),
        _of_skeleton2d3d("res-64", "converter"),
        _of_skeleton2d3d("hg-256-res-64-hg0-hgfix", "converter", "penn_action"),
        _of_skeleton2d3d("hg-256-res-64-hg1-hgfix", "converter", "penn_action"),
        _forecaster("hg-256-res-clstm"),
        _forecaster("hg-256-res-clstm-res-64"),
    )
}  # fmt: skip
HOURGLASSES = {name: model for name, model in KNOWN.items() if model.dataset in model.settings}


def read_choice(text: str, setting: str) -> tuple[KnownModel | None, str]:
    """Return the known network that a setting of [models] names, or None, and the source of the network's file.

    text: the name of a known network, a source, or both, as in `hg2 /models/hg2.pth`. If the source is a folder, the network
    for this setting is looked for in the folder. Raises DataError if the folder has no network or several, and if the
    named network is for another setting.
    """
    name, _, rest = text.strip().partition(" ")
    model = KNOWN.get(name)
    if model and setting not in model.settings:
        others = ", ".join(other.name for other in KNOWN.values() if setting in other.settings)
        raise DataError(
            f"[models] {setting} = {name}, which is a network for {' or '.join(model.settings)}; give {others}, a path or an "
            "address."
        )
    source = model.source(rest.strip().strip("\"'")) if model else text.strip()
    folder = Path(PIN.sub("", source)).expanduser()
    return model, str(_in_folder(folder, setting, model)) if source and folder.is_dir() else source


def file_of(setting: str, model: KnownModel | None) -> str:
    """Return the path that a network's file has in a published archive; * in the path stands for any name."""
    return (model.file if model else "") or FILES[setting]


def _in_folder(folder: Path, setting: str, model: KnownModel | None) -> Path:
    """Return the path of the network for a setting, in an unpacked archive whose contents lie in `folder` or a subfolder."""
    file = file_of(setting, model)
    patterns = [file.rpartition("/")[2], *(layout + file for layout in _LAYOUTS)]
    # resolve(): several symlinks to one file count as one network
    found = [path.resolve() for pattern in patterns for path in sorted(folder.glob(pattern))]
    return newest(folder, found, setting, file)


def newest(place: Path, found: list[Path], setting: str, file: str) -> Path:
    """Return the latest file of one network: of model_3.t7 and model_4.t7, for example, the file with the higher number.

    place: path of the archive or folder, for error messages; found: paths of the network files in the archive or folder. Raises
    DataError if `found` is empty, or has files of several networks.
    """
    if len({path.parent for path in found}) != 1:
        what = "several networks" if found else "no network"
        raise DataError(f"{place} holds {what} for {setting} ({file}); give the path of one file.")
    numbers = {path: re.search(r"_(\d{1,9})\.t7$", path.name) for path in found}
    return max(found, key=lambda path: int(match[1]) if (match := numbers[path]) else 0)
