"""List the published hourglasses that others trained, each with its dataset, accuracy, address and licence."""

from dataclasses import dataclass
from pathlib import Path

from datasets.catalog import DATASETS
from datasets.errors import DataError
from stages.fetching.sources import PIN

# Where the folders of datasets may lie, below the folder that a user gives.
_LAYOUTS = ("", "precomputed_hg_models/", "exp/precomputed_hg_models/", "exp/")

# One archive of 50 MB with two networks, hg-256 and hg-256-ft.
_IMAGE_PLAY = "https://drive.google.com/uc?id=1uGXXQx6bAkX9ykqdBNLvlsD_WuUxhk2N"
_ANIBALI = "https://github.com/anibali/pytorch-stacked-hourglass/releases/download/v0.0.0/"
_MICHIGAN = "http://www-personal.umich.edu/~cnris/"
_NONE = "none known"
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
    dataset: str  # the dataset on which the network was trained, and whose joints it predicts
    accuracy: str  # the accuracy that the publisher states
    address: str
    licence: str  # licence of the weights, as far as known
    sha256: str = ""  # first digits of the file's digest, if the publisher states them
    normalisation: Normalisation | None = None  # normalisation of the images, if the network's file does not determine it

    @property
    def joints(self) -> int:
        return len(DATASETS[self.dataset].skeleton.joints)

    def source(self, given: str = "") -> str:
        """Return the source of the network's file: `given`, or else the address, with the digest that the file must have."""
        source = given or self.address
        return source if PIN.search(source) or not self.sha256 else f"{source}#sha256={self.sha256}"


# C. Rockwell's fork has these numbers in its settings (train: mean, stdev). On its web page, the links to its networks are
# interchanged. bearpaw's networks need no entry: `import_pytorch` recognises them by their tensors and sets their mean.
_REGULARISED = Normalisation((0.3643, 0.3437, 0.3156), (0.1510, 0.1469, 0.1472))

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
    )
}  # fmt: skip


def read_choice(text: str, dataset: str) -> tuple[KnownModel | None, str]:
    """Return the known network, or None, and the source that a setting names.

    text: the name of a known network, a source, or both, as in `hg2 /models/hg2.pth`. A folder means the network for `dataset`
    in this folder. Raises DataError if the folder has no network or several, and for the name of a network for another dataset.
    """
    name, _, rest = text.strip().partition(" ")
    model = KNOWN.get(name)
    if model and model.dataset != dataset:
        others = ", ".join(other.name for other in KNOWN.values() if other.dataset == dataset)
        raise DataError(
            f"[models] {dataset} = {name}, which was trained on {model.dataset}; give {others}, a path or an address."
        )
    source = model.source(rest.strip().strip("\"'")) if model else text.strip()
    folder = Path(PIN.sub("", source)).expanduser()
    return model, str(_in_folder(folder, dataset)) if source and folder.is_dir() else source


def _in_folder(folder: Path, dataset: str) -> Path:
    """Return the path of the network for a dataset in an unpacked folder of the published layout, or in a subfolder of it."""
    patterns = ["best_model.t7", *(f"{layout}{DATASETS[dataset].result_path}/*/best_model.t7" for layout in _LAYOUTS)]
    # resolve(): several symlinks to one file count as one network
    found = {path.resolve(): path for pattern in patterns for path in sorted(folder.glob(pattern))}
    if len(found) != 1:
        what = "several networks" if found else "no network"
        raise DataError(
            f"{folder} holds {what} for {dataset} ({DATASETS[dataset].result_path}/<experiment>/best_model.t7); give the path "
            "of one file."
        )
    return next(iter(found.values()))
