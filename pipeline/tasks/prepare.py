"""Define the tasks that crop frames, collect labels, convert labels to annotation files, and combine datasets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi

from datasets.catalog import DATASETS
from datasets.dataset import Dataset, DatasetFiles
from datasets.errors import DataError
from datasets.files import sha256
from datasets.own import PREFIX, SUFFIXES, OwnDataset
from datasets.progress import Report
from pipeline import config
from pipeline.engine.digests import Digests
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.tasks.base import ChainStage, DatasetName
from pipeline.tasks.fetch import FetchPennAction, downloads, fetch, further, origin_told
from stages.fetching import folders
from stages.fetching.sources import obtain

if TYPE_CHECKING:
    from stages.preparing.collect import Sources


JOINED = "+"  # separator between the names of combined datasets


class CropPenn(ChainStage):
    """Cut Penn Action's frames and labels to one window per sequence."""

    result_path = "penn_action_cropped/data"

    def settings(self) -> dict[str, Any]:
        return config.settings().datasets["penn_action"].significant()

    def requires(self) -> dict[str, Stage]:
        return {"raw": FetchPennAction()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.preparing.crop import crop_penn

        settings = config.settings()
        quality = self.settings()["jpeg_quality"]
        with origin_told(self.requires()["raw"]):
            return crop_penn(inputs["raw"], folder, quality, settings.workspace.workers, report)


def own() -> list[str]:
    """Return the names of the datasets that sections [dataset:NAME] define."""
    return [name for name in config.datasets() if name not in DATASETS]


class Collect(ChainStage):
    """Convert the labels of a dataset of your own to COCO keypoints, and provide its images.

    In the result, the images are a symlink to the folder of images, or frames that are extracted from videos.
    """

    dataset = DatasetName(own, "dataset to collect")

    leaf = "raw"

    @property
    def result_path(self) -> str:
        return f"{config.datasets()[self.dataset].result_path}/{self.leaf}"

    @property
    def sources(self) -> "Sources":
        """The paths of labels and images in the settings. Raises DataError if `labels` is empty or `images` is a file."""
        from stages.preparing.collect import Sources

        section = config.settings().datasets[self.dataset]
        assert isinstance(section, OwnDataset)
        return Sources.of(section, f"[{PREFIX}{self.dataset}]")

    @property
    def remedy(self) -> str:
        return f"put it there, or correct its path in [{PREFIX}{self.dataset}]"

    def external_inputs(self) -> dict[str, str]:
        return {name: str(path) for name, path in self.sources.paths().items()}

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        path = Path(source)
        if not path.is_dir():
            return digests.of_file(path)
        suffixes, by_content = SUFFIXES[name], config.settings().workspace.folder_identity == "content"

        def identity(contents: Callable[[Path], str] | None) -> str:
            return folders.tree_identity(path, suffixes, config.exp(), contents, digests.report)

        return digests.of_listing(path, identity(None), (lambda: identity(sha256)) if by_content else None)

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.preparing.collect import collect

        return collect(self.sources, folder, report)

    def complete(self):
        done = super().complete()
        if done:
            self._point_at_images()
        return done

    def before_use(self):
        if self.digest_external_inputs() != self.external_digests:
            raise DataError(f"Labels or images of {self.name} were changed while the program was at work; run again.")
        self._point_at_images()

    def _point_at_images(self) -> None:
        """Update the finished result's symlink to the folder of images, if the images are read in place."""
        if (self.folder / "images").is_symlink():
            folders.point(self.folder, {"images": self.sources.folder})


class Annotate(ChainStage):
    """Convert a dataset's labels to train.h5, valid.h5, test.h5 and image lists; print the numbers of suspicious labels."""

    version = 3
    dataset = DatasetName(further, "dataset to annotate")

    leaf = "annot"

    @property
    def described(self) -> Dataset:
        """The `Dataset` object of the dataset whose labels are converted."""
        return config.datasets()[self.dataset]

    @property
    def result_path(self) -> str:
        return f"{self.described.result_path}/{self.leaf}"

    def settings(self) -> dict[str, Any]:
        return {} if self.described.cropped else config.settings().datasets[self.dataset].significant()

    def external_inputs(self) -> dict[str, str]:
        section = config.settings().datasets[self.dataset]
        sources = {name: getattr(section, name) for name in self.described.split_sources}
        return {name: source for name, source in sources.items() if source}

    def requires(self) -> dict[str, Stage]:
        return {"images": images(self.described)}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.preparing.annotate import annotate

        settings = config.settings()
        files = {name: obtain(source, downloads(), report) for name, source in self.external_inputs().items()}
        section, workers = settings.datasets[self.dataset], settings.workspace.workers
        with origin_told(self.requires()["images"]):
            summary = annotate(self.described, inputs["images"], folder, section, files, workers, report)
        for split, counts in summary.items():
            kinds = ", ".join(f"{kind} {count}" for kind, count in counts["kinds"].items())
            odd = f"; {counts['suspicious']} suspicious, see suspicious.csv ({kinds})" if kinds else ""
            say(f"{self.name}, {split}: {counts['rows']} rows on {counts['images']} images{odd}")
        return summary


class AnnotateMpii(Annotate):
    """Convert MPII's annotation file to train.h5, valid.h5, test.h5 and image lists."""

    dataset = "mpii"


class AnnotatePenn(Annotate):
    """Convert Penn Action's cropped labels to train.h5, valid.h5, test.h5, image lists and files for the program image-play."""

    dataset = "penn_action"


def named(names: str) -> list[Dataset]:
    """Return the datasets in a combined name: MPII and LSPET for mpii+lspet. Raises DataError for an unknown name."""
    return [config.dataset(name) for name in names.split(JOINED)]


class Combine(ChainStage):
    """Combine the people of several datasets into one dataset, with the joints of the first dataset."""

    names = luigi.Parameter(description="names of datasets, such as mpii+lspet")

    leaf = "with-"

    @property
    def result_path(self) -> str:
        first, *others = named(self.names)
        return f"{first.result_path}/{self.leaf}{'-'.join(dataset.name for dataset in others)}"

    def requires(self) -> dict[str, Stage]:
        return {f"{dataset.name}-{part}": stage for dataset in named(self.names) for part, stage in converted(dataset).items()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any] | None:
        from stages.preparing.combine import combine

        files = {
            dataset.name: files_of(dataset, {part: inputs[f"{dataset.name}-{part}"] for part in ("annot", "images")})
            for dataset in named(self.names)
        }
        (folder / named(self.names)[0].images).mkdir(exist_ok=True)
        folders.point(folder / named(self.names)[0].images, {name: data.images.absolute() for name, data in files.items()})
        first, *others = files
        return combine(files[first], {name: files[name] for name in others}, folder, report)

    def complete(self):
        done = super().complete()
        if done:
            self.before_use()
        return done

    def before_use(self):
        """Point the finished result's symlinks at the current image folders of the datasets that are combined."""
        images = {dataset.name: images_of(dataset) for dataset in named(self.names)}
        folders.point(self.folder / named(self.names)[0].images, images)


def images_of(dataset: Dataset) -> Path:
    """Return the folder of a dataset's images."""
    return (images(dataset).folder / dataset.images).absolute()


def annotations(dataset: Dataset) -> Annotate:
    """Return the stage that writes a dataset's annotation files."""
    of_the_chain: dict[str, type[Annotate]] = {"mpii": AnnotateMpii, "penn_action": AnnotatePenn}
    return of_the_chain[dataset.name]() if dataset.name in of_the_chain else Annotate(dataset=dataset.name)


def images(dataset: Dataset) -> Stage:
    """Return the stage whose result contains a dataset's images."""
    if dataset.cropped:
        return CropPenn()
    return fetch(dataset.name) if dataset.sources else Collect(dataset=dataset.name)


def converted(dataset: Dataset, further: Sequence[str] = ()) -> dict[str, Stage]:
    """Return the inputs of a stage that reads a converted dataset: the stages of its annotation files and its images.

    further: names of datasets to combine with `dataset`.
    """
    if further:
        combined = Combine(names=JOINED.join((dataset.name, *further)))
        return {"annot": combined, "images": combined}
    return {"annot": annotations(dataset), "images": images(dataset)}


def files_of(dataset: Dataset, inputs: dict[str, Path]) -> DatasetFiles:
    """Return a converted dataset's files. inputs: name -> result folder of the stages from `converted`, and of a crop cache."""
    return DatasetFiles.of(dataset, inputs["annot"], inputs["images"] / dataset.images, inputs.get("crops"))
