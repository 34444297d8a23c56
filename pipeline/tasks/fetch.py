"""Define the tasks that fetch datasets and networks trained by others, and that draw the built-in sample."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import luigi

from datasets.catalog import DATASETS
from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.files import sha256
from datasets.progress import Report
from datasets.sources import Wanted
from pipeline import config
from pipeline.engine.digests import Digests
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.tasks.base import ChainStage, DatasetName
from stages.fetching import folders, kinds
from stages.fetching.archives import unpack
from stages.fetching.sources import download_of, obtain, read_source, record_of
from stages.importing.known_models import KnownModel, read_choice
from stages.machine.pool import each

CHAIN = ("mpii", "penn_action")  # the datasets of the chain
SAMPLE = "sample"  # value of a source setting that means the built-in sample data


def further() -> list[str]:
    """Return the names of the datasets outside the chain."""
    return [name for name in config.datasets() if name not in CHAIN]


def fetched() -> list[str]:
    """Return the names of the predefined datasets outside the chain, whose archives can be fetched."""
    return [name for name in DATASETS if name not in CHAIN]


def downloads() -> Path:
    """Return the folder of downloaded files."""
    return config.exp() / "downloads"


class MakeSample(ChainStage):
    """Draw the built-in sample data, and write archives like the official ones of MPII and Penn Action."""

    result_path = "sample"
    version = 2

    def settings(self) -> dict[str, Any]:
        return config.settings().sample.significant()

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> None:
        from datasets.sample import archives as synthetic  # imported here, because the import is slow

        sample = config.settings().sample
        compute = partial(each, workers=config.settings().workspace.workers, in_job_order=True)
        synthetic.write_mpii(folder, sample.people, seed=sample.seed, report=report, compute=compute)
        synthetic.write_penn(folder, sample.sequences, sample.lengths, seed=sample.seed, report=report, compute=compute)


class FromSources(ChainStage):
    """A stage that reads sources: paths, addresses, or files of the built-in sample.

    Archives are unpacked. If a source is a folder, its images are read in place: the result contains a symlink to the images.
    """

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        """Return name of a source -> the files that are needed from this source."""
        return {}

    def sources(self) -> dict[str, tuple[str, str]]:
        """Return name of a source -> (value of its setting, file of the built-in sample to read if the value is `sample`)."""
        raise AttributeError(f"{type(self).__name__} has no sources")

    def requires(self) -> dict[str, Stage]:
        return {"sample": MakeSample()} if any(source == SAMPLE for source, _ in self.sources().values()) else {}

    def external_inputs(self) -> dict[str, str]:
        return {name: source for name, (source, _) in self.sources().items() if source != SAMPLE}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        files = self.unpack(folder, inputs, report)
        places = {name: str(found.place) for name, found in self.in_folders()}
        return {"files": files, "downloads": self.records(), "folders": places}

    def unpack(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, int]:
        """Write the files of all sources into `folder`; return name of a source -> number of files from this source."""
        given = dict(self.in_folders())
        return {name: self._take(name, given.get(name), folder, inputs, report) for name in self.wanted}

    def _take(self, name: str, found: folders.Found | None, folder: Path, inputs: dict[str, Path], report: Report) -> int:
        wanted = self.wanted[name]
        into = folder / wanted.into
        into.mkdir(exist_ok=True)
        if found:
            found.give(into)
            return folders.count(found, wanted)
        path = self.file(name, inputs, report)
        single = dict(wanted.single).get(kinds.kind_of(path)) if wanted.single else None
        if single:
            shutil.copyfile(path, into / single)
            return 1
        return unpack(path, wanted.members, into, report, wanted.expected)

    def in_folders(self) -> Iterator[tuple[str, folders.Found]]:
        """Yield (name of the source, found files) for each source that is a folder.

        Raises DataError if needed files are missing.
        """
        for name, source in self.external_inputs().items():
            path = read_source(source).path
            if name in self.wanted and path and path.is_dir():
                yield name, folders.find(path, self.wanted[name])

    def digest_of(self, name: str, source: str, digests: Digests) -> str:
        path = read_source(source).path
        if name in self.wanted and path and path.is_dir():
            by_content = config.settings().workspace.folder_identity == "content"
            return digest_of_folder(path, self.wanted[name], by_content, digests)
        return super().digest_of(name, source, digests)

    def complete(self):
        done = super().complete()
        if done:
            self._point_at_folders()
        return done

    def before_use(self):
        given = dict(self.in_folders())
        mine = self.manifest()
        for name, path in (mine.summary.get("folders", {}) if mine else {}).items():
            if name not in given:
                raise DataError(f"{path}, whose files {self.name} reads in place, is not there; {self.remedy}.")
        if given and self.digest_external_inputs() != self.external_digests:
            raise DataError(f"A folder that {self.name} reads in place was changed while the program was at work; run again.")
        self._point_at_folders()

    def _point_at_folders(self) -> None:
        """Point the symlinks in the finished result at the current paths of the folders that are read in place."""
        for name, found in self.in_folders():
            folders.point(self.folder / self.wanted[name].into, found.parts)

    def file(self, name: str, inputs: dict[str, Path], report: Report, unpacked: bool = True) -> Path:
        """Return the path of a source's file, after downloading the file if necessary; unpacked: see `obtain`."""
        source, in_sample = self.sources()[name]
        return inputs["sample"] / in_sample if source == SAMPLE else obtain(source, downloads(), report, unpacked)

    def downloaded(self) -> dict[str, Path]:
        """Return name -> path of each downloaded file, whether it exists or not."""
        return {
            n: download_of(source, downloads()) for n, source in self.external_inputs().items() if not read_source(source).path
        }

    def records(self) -> dict[str, dict[str, Any]]:
        """Return name -> address, size and digest of each download, for the manifest."""
        return {name: record_of(path) for name, path in self.downloaded().items()}

    def published(self) -> None:
        self.drop_downloads()

    def drop_downloads(self) -> None:
        """Delete this finished result's downloads, unless keep_downloads is set.

        The manifest keeps the records of downloads.
        """
        for path in self.spare_downloads():
            path.unlink(missing_ok=True)

    def spare_downloads(self) -> list[Path]:
        """Return the downloads of this finished result that may be deleted; none if keep_downloads is set."""
        if config.settings().workspace.keep_downloads:
            return []
        return [path for path in self.downloaded().values() if path.exists()]


def digest_of_folder(folder: Path, wanted: Wanted, by_content: bool, digests: Digests) -> str:
    """Return the digest of a folder's needed files (see `folders.identity`).

    by_content: whether the digest covers the contents of the files instead of the modification times. For a missing folder, the
    last cached digest is returned. Raises DataError if a needed file is missing.
    """
    if not folder.is_dir():
        return digests.of_missing(folder)
    found = folders.find(folder, wanted)
    listing = folders.identity(found, wanted, digests.of_file, None, digests.report)

    def contents() -> str:
        return folders.identity(found, wanted, digests.of_file, sha256, digests.report)

    return digests.of_listing(folder, listing, contents if by_content else None)


@contextmanager
def origin_told(raw: Stage) -> Iterator[None]:
    """If a DataError's message contains the path of the result of the stage `raw`, add the stage's sources to the message."""
    try:
        yield
    except DataError as error:
        sources = [read_source(source) for source in raw.external_inputs().values()]
        places = [str(source.path) if source.path else source.addresses[0] for source in sources]
        if not places or str(raw.folder) not in str(error):
            raise
        raise DataError(f"{error} ({raw.folder.name} was made from {' and '.join(places)}.)") from None


class Fetch(FromSources):
    """Fetch the original files of a dataset, and unpack the archives."""

    version = 2
    dataset = DatasetName(fetched, "dataset to fetch")

    leaf = "raw"

    @property
    def described(self) -> Dataset:
        """The `Dataset` object of the dataset that is fetched."""
        return DATASETS[self.dataset]

    @property
    def result_path(self) -> str:
        return f"{self.dataset}/{self.leaf}"

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        return self.described.sources

    @property
    def remedy(self) -> str:
        return self.described.remedy

    def sources(self):
        section = config.settings().datasets[self.dataset]
        return {name: (getattr(section, name), wanted.in_sample) for name, wanted in self.wanted.items()}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        facts = super().work(folder, inputs, report)
        if self.external_inputs():  # without external inputs, all files are from the built-in sample
            citation = self.described.origin.text()
            (folder / "CITATION.txt").write_text(citation, encoding="utf-8")
            say(citation)
        return facts


class FetchMpii(Fetch):
    """Fetch MPII Human Pose: images/*.jpg, and as labels MPII's annotation file, or files that other programs made from it."""

    dataset = "mpii"


class FetchPennAction(Fetch):
    """Fetch Penn Action: frames/NNNN/FFFFFF.jpg and labels/NNNN.mat."""

    dataset = "penn_action"


def fetch(dataset: str) -> Fetch:
    """Return the stage that fetches a dataset."""
    of_the_chain: dict[str, type[Fetch]] = {"mpii": FetchMpii, "penn_action": FetchPennAction}
    return of_the_chain[dataset]() if dataset in of_the_chain else Fetch(dataset=dataset)


class FetchNetwork(FromSources):
    """The base class of the stages that fetch a network that others trained, and convert it to a checkpoint of this workspace.

    setting: name of the setting in [models] that selects the network.
    """

    setting = ""

    @property
    def remedy(self) -> str:
        return "correct its path in [models], or give a name that `python -m pipeline models` lists"

    def settings(self) -> dict[str, Any]:
        known, _ = self.choice()
        if not known:
            return {}
        colours = asdict(known.normalisation) if known.normalisation else {}
        return {"network": known.name} | {name: list(colour) for name, colour in colours.items()}

    @property
    def chosen(self) -> str:
        return getattr(config.settings().models, self.setting)

    def choice(self) -> tuple[KnownModel | None, str]:
        """Return (known network, source) for the network in the settings; see `known_models.read_choice`.

        Raises DataError if the settings have no network.
        """
        if self.chosen.strip() in ("", SAMPLE):
            raise DataError(f"[models] {self.setting} = {self.chosen} is no network; give a network's name, path or address.")
        return read_choice(self.chosen, self.setting)

    def trained_by(self) -> str:
        """Return a sentence for the model card, which says that others trained the network, and who they are if known."""
        known, _ = self.choice()
        if not known:
            return f"The network was trained by others (setting [models] {self.setting}); its file is listed below."
        accuracy = f" Published accuracy: {known.accuracy}." if known.accuracy else ""
        return f"Others trained the network, {known.name} ({known.address}). Licence of its weights: {known.licence}.{accuracy}"

    def sources(self):
        return {"model": (self.choice()[1], "")}

    def requires(self):
        return {}

    def external_inputs(self):
        """Return the network's source.

        An invalid setting is returned unchanged, so that `status` can report it and continue.
        """
        try:
            return {"model": self.choice()[1]}
        except DataError:
            return {"model": self.chosen}

    def work(self, folder: Path, inputs: dict[str, Path], report: Report) -> dict[str, Any]:
        known, _ = self.choice()
        return self.convert(self.file("model", inputs, report), folder, known) | {"downloads": self.records()}

    def convert(self, source: Path, folder: Path, known: KnownModel | None) -> dict[str, Any]:
        """Convert the network in the file `source` to `folder`/best.safetensors; return facts about the network."""
        raise AttributeError(f"{type(self).__name__} has no convert")

    def spare_downloads(self):
        others = [stage for stage in precomputed() if stage.name != self.name]
        shared = any(stage.external_inputs() == self.external_inputs() and not stage.manifest() for stage in others)
        return [] if shared else super().spare_downloads()


class FetchPrecomputed(FetchNetwork):
    """Fetch an hourglass that others trained, and convert it to a checkpoint of this workspace."""

    dataset = luigi.ChoiceParameter(choices=CHAIN, default="mpii", description="the dataset that the network was trained on")
    leaf = "precomputed"

    @property
    def setting(self) -> str:  # type: ignore[override]
        return self.dataset

    @property
    def result_path(self) -> str:
        return f"{DATASETS[self.dataset].result_path}/{self.leaf}"

    def convert(self, source: Path, folder: Path, known: KnownModel | None) -> dict[str, Any]:
        from stages.importing.precomputed import convert

        return convert(source, DATASETS[self.dataset], folder, known)


class FetchConverter(FetchNetwork):
    """Fetch a converter that others trained, and convert it to a checkpoint of this workspace."""

    setting = "converter"
    result_path = "mocap/precomputed"

    def convert(self, source: Path, folder: Path, known: KnownModel | None) -> dict[str, Any]:
        from stages.lifting.published import convert

        return convert(source, folder, known)


class FetchForecaster(FetchNetwork):
    """Fetch a forecasting network that others trained, and convert it to a checkpoint of this workspace."""

    setting = "forecaster"
    result_path = f"{DATASETS['penn_action'].result_path}/precomputed-forecaster"

    def convert(self, source: Path, folder: Path, known: KnownModel | None) -> dict[str, Any]:
        from stages.forecasting.published import convert

        return convert(source, folder, known)


def precomputed() -> list[FetchNetwork]:
    """Return the stages that fetch networks: the hourglasses and, if [models] selects them, converter and forecaster."""
    stages: list[FetchNetwork] = [FetchPrecomputed(dataset=dataset) for dataset in CHAIN]
    models = config.settings().models
    return stages + ([FetchConverter()] if models.converter else []) + ([FetchForecaster()] if models.forecaster else [])
