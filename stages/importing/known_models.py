"""Trained hourglasses that others have published: what they are, where to get them, on what terms. One entry a network."""

from dataclasses import dataclass
from pathlib import Path

from datasets.catalog import DATASETS
from datasets.errors import DataError
from stages.fetching.sources import PIN

_LAYOUTS = ("", "precomputed_hg_models/", "exp/precomputed_hg_models/", "exp/")  # from where a user may point to it

_IMAGE_PLAY = "https://drive.google.com/uc?id=1uGXXQx6bAkX9ykqdBNLvlsD_WuUxhk2N"  # both networks in one archive of 50 MB
_ANIBALI = "https://github.com/anibali/pytorch-stacked-hourglass/releases/download/v0.0.0/"
_MICHIGAN = "http://www-personal.umich.edu/~cnris/"
_NONE = "none known"
_BSD = "none known (code: BSD 3-Clause)"


@dataclass(frozen=True)
class Normalisation:
    """What a network expects: (image - mean) / deviation, of images in [0, 1]; RGB."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class KnownModel:
    """A published network, and how it was given its images where the file does not tell."""

    name: str
    dataset: str  # that it was trained on; its joints are those of the network
    accuracy: str  # as its publisher states it
    address: str
    licence: str  # of the weights, as far as we know
    sha256: str = ""  # what the file's digest begins with, where that is published
    normalisation: Normalisation | None = None

    @property
    def joints(self) -> int:
        return len(DATASETS[self.dataset].skeleton.joints)

    def source(self, given: str = "") -> str:
        """Where its file is, by default at its address, and what digest it must have."""
        place = given or self.address
        return place if PIN.search(place) or not self.sha256 else f"{place}#sha256={self.sha256}"


# The fork's numbers stand in its settings (train: mean, stdev); its page exchanges the links of its two networks. bearpaw's
# mean is known by the layout of the file.
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
    """What a setting says: the name of a known network, a source, or both, as in `hg2 /models/hg2.pth`; and the source.

    A folder stands for the network for `dataset` in it. Raises DataError where it has none, or several, and for the name of a
    network for another dataset.
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
    """The network for a dataset in an unpacked folder of the published layout, or in one of its parts."""
    patterns = ["best_model.t7", *(f"{layout}{DATASETS[dataset].result_path}/*/best_model.t7" for layout in _LAYOUTS)]
    found = {path.resolve(): path for pattern in patterns for path in sorted(folder.glob(pattern))}  # links lead to the same
    if len(found) != 1:
        what = "several networks" if found else "no network"
        raise DataError(
            f"{folder} holds {what} for {dataset} ({DATASETS[dataset].result_path}/<experiment>/best_model.t7); give the path "
            "of one file."
        )
    return next(iter(found.values()))
