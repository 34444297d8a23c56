"""Archives -> their contents, unpacked: what the preparing stages start from."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import luigi

from datasets.citations import ORIGINS
from datasets.errors import DataError
from pipeline import config
from pipeline.progress import say
from pipeline.stage import Stage
from stages.archives import unpack
from stages.fetch import download_of, obtain, read_source, record_of
from stages.known_models import PUBLISHED_FOLDER, KnownModel, read_choice

SAMPLE = "sample"  # the source that stands for the built-in sample data


def downloads() -> Path:
    """Where what comes from an address is kept."""
    return config.exp() / "downloads"


class MakeSample(Stage):
    """Draw the built-in sample data and pack it as the two datasets' official archives."""

    place = "sample"

    def settings(self) -> dict[str, Any]:
        return config.settings().sample.significant()

    def work(self, folder, inputs, report):
        from datasets import synthetic  # heavy imports stay out of the command line

        sample = config.settings().sample
        synthetic.write_mpii(folder, sample.people, seed=sample.seed, report=report)
        frames = (sample.frames, sample.frames + 4)
        synthetic.write_penn(folder, sample.sequences, frames, seed=sample.seed, report=report)


class Fetch(Stage):
    """A stage whose sources are paths, addresses, or files of the built-in sample; it unpacks what is wanted of them."""

    dataset: ClassVar[str]  # whose citation belongs beside the files
    wanted: ClassVar[dict[str, str]]  # name of a source -> pattern of its members, as `unpack` takes it

    def sources(self) -> dict[str, tuple[str, str]]:
        """Name -> (source, name of the file in the sample)."""
        raise AttributeError(f"{type(self).__name__} has no sources")

    def requires(self) -> dict[str, Stage]:
        return {"sample": MakeSample()} if any(source == SAMPLE for source, _ in self.sources().values()) else {}

    def outside(self) -> dict[str, str]:
        return {name: source for name, (source, _) in self.sources().items() if source != SAMPLE}

    def work(self, folder, inputs, report):
        files = self.unpack(folder, inputs, report)
        if self.outside():  # not all of it is drawn
            citation = ORIGINS[self.dataset].text()
            (folder / "CITATION.txt").write_text(citation, encoding="utf-8")
            say(citation)
        return {"files": files, "downloads": self.records()}

    def unpack(self, folder: Path, inputs: dict[str, Path], report) -> dict[str, int]:
        """Name of each source -> number of its files."""
        return {name: unpack(self.file(name, inputs, report), pattern, folder, report) for name, pattern in self.wanted.items()}

    def file(self, name: str, inputs: dict[str, Path], report, unpacked: bool = True) -> Path:
        """The file that a source means."""
        source, in_sample = self.sources()[name]
        return inputs["sample"] / in_sample if source == SAMPLE else obtain(source, downloads(), report, unpacked)

    def downloaded(self) -> dict[str, Path]:
        """Name -> place of each file that comes from an address, whether it is there or not."""
        return {n: download_of(source, downloads()) for n, source in self.outside().items() if not read_source(source).path}

    def records(self) -> dict[str, dict[str, Any]]:
        """Name -> address, size and digest of what was downloaded, for the manifest."""
        return {name: record_of(path) for name, path in self.downloaded().items()}

    def published(self) -> None:
        self.drop_downloads()

    def drop_downloads(self) -> None:
        """Delete what was downloaded for this finished result, unless downloads are to be kept; their records stay."""
        for path in self.spare_downloads():
            path.unlink(missing_ok=True)

    def spare_downloads(self) -> list[Path]:
        """What was downloaded for this finished result and is not to be kept."""
        if config.settings().workspace.keep_downloads:
            return []
        return [path for path in self.downloaded().values() if path.exists()]


class FetchMpii(Fetch):
    """MPII Human Pose: images/*.jpg and the annotation struct."""

    place = "mpii/raw"
    version = 2
    dataset = "mpii"
    wanted = {
        "annotations": r"(?:.*/)?(?P<to>mpii_human_pose_v1_u12_1\.mat)",
        "images": r"(?:.*/)?(?P<to>images/[^/]+\.jpg)",
    }

    def sources(self):
        mpii = config.settings().mpii
        return {
            "images": (mpii.images, "mpii_human_pose_v1.tar.gz"),
            "annotations": (mpii.annotations, "mpii_human_pose_v1_u12_2.zip"),
        }


class FetchPennAction(Fetch):
    """Penn Action: frames/NNNN/FFFFFF.jpg and labels/NNNN.mat."""

    place = "penn_action/raw"
    version = 2
    dataset = "penn_action"
    wanted = {"archive": r"(?:.*/)?(?P<to>frames/\d+/\d+\.jpg|labels/\d+\.mat)"}
    remedy = (
        "open https://upenn.box.com/PennAction in a browser, download Penn_Action.tar.gz (3 GB) and put it in this place, or "
        "give its path in [penn_action] archive"
    )

    def sources(self):
        return {"archive": (config.settings().penn_action.archive, "Penn_Action.tar.gz")}


class FetchFlic(Fetch):
    """FLIC: images/*.jpg, and in annot/ the annotation files that pose-hg-train publishes, from an archive or a folder."""

    place = "flic/raw"
    dataset = "flic"
    wanted = {
        "annotations": r"(?!.*mpii)(?:.*/)?(?P<to>(?:train|valid)(?:(?:_personcentric)?\.h5|_images\.txt))",
        "images": r"(?:.*/)?(?P<to>images/[^/]+\.jpg)",
    }
    files = tuple(f"{split}{end}" for split in ("train", "valid") for end in (".h5", "_personcentric.h5", "_images.txt"))

    def sources(self):
        flic = config.settings().flic
        return {"images": (flic.images, ""), "annotations": (flic.annotations, "")}

    def annotation_files(self) -> dict[str, str]:
        """Name -> path of each annotation file, where the source is a folder: a path that does not end as an archive's."""
        folder = read_source(self.sources()["annotations"][0]).path
        if folder is None or folder.suffix in (".zip", ".tar", ".gz", ".tgz"):
            return {}
        return {name: str(folder / name) for name in self.files}

    def outside(self):
        files, outside = self.annotation_files(), super().outside()
        if files:
            del outside["annotations"]
        return outside | files

    def unpack(self, folder, inputs, report):
        annot, files = folder / "annot", self.annotation_files()
        annot.mkdir(exist_ok=True)
        for path in files.values():
            shutil.copy(path, annot)
        images = unpack(self.file("images", inputs, report), self.wanted["images"], folder, report)
        annotations = len(files) or unpack(self.file("annotations", inputs, report), self.wanted["annotations"], annot, report)
        return {"images": images, "annotations": annotations}


class FetchLsp(Fetch):
    """Leeds Sports Pose: joints.mat and the images, all in one folder."""

    dataset = "lsp"
    wanted = {"archive": r"(?!.*visualized)(?:.*/)?(?P<to>im\d+\.(?:jpg|png)|joints\.mat)"}

    leaf = "raw"

    @property
    def place(self) -> str:
        return f"{self.dataset}/{self.leaf}"

    def sources(self):
        return {"archive": (getattr(config.settings(), self.dataset).archive, "")}


class FetchLspet(FetchLsp):
    """Leeds Sports Pose Extended, or its full-size edition HR-LSPET."""

    dataset = "lspet"


class FetchPrecomputed(Fetch):
    """A trained network from elsewhere, instead of training one."""

    dataset = luigi.ChoiceParameter(choices=["mpii", "penn_action"], default="mpii", description="trained on which dataset")
    remedy = "correct its path in [models], or give a name that `python -m pipeline models` lists"

    leaf = "precomputed"

    @property
    def place(self) -> str:
        return f"{PUBLISHED_FOLDER[self.dataset]}/{self.leaf}"

    def settings(self) -> dict[str, Any]:
        known, _ = self.choice()
        if not known:
            return {}
        colours = asdict(known.normalisation) if known.normalisation else {}
        return {"network": known.name} | {name: list(colour) for name, colour in colours.items()}

    @property
    def chosen(self) -> str:
        return getattr(config.settings().models, self.dataset)

    def choice(self) -> tuple[KnownModel | None, str]:
        """Which known network the settings name, if any, and the source. Raises DataError where they mean none."""
        if self.chosen.strip() in ("", SAMPLE):
            raise DataError(f"[models] {self.dataset} = {self.chosen} is no network; give the name, path or address of one.")
        return read_choice(self.chosen, self.dataset)

    def trained_by(self) -> str:
        """Whose network it is, in a sentence for its model card."""
        known, _ = self.choice()
        if not known:
            return f"The network was trained elsewhere, for {self.dataset}; the file that it comes from is told below."
        accuracy = f" Published accuracy: {known.accuracy}." if known.accuracy else ""
        return f"Others trained the network, {known.name} ({known.address}). Licence of its weights: {known.licence}.{accuracy}"

    def sources(self):
        return {"model": (self.choice()[1], "")}

    def requires(self):
        return {}

    def outside(self):
        """Its source; what is set where that means none, so that `status`, which says so, can tell of the other stages."""
        try:
            return {"model": self.choice()[1]}
        except DataError:
            return {"model": self.chosen}

    def work(self, folder, inputs, report):
        from stages.precomputed import convert

        known, _ = self.choice()
        facts = convert(self.file("model", inputs, report), self.dataset, folder, known)
        return facts | {"downloads": self.records()}

    def spare_downloads(self):
        other = FetchPrecomputed(dataset="penn_action" if self.dataset == "mpii" else "mpii")
        shared = self.outside() == other.outside() and not other.manifest()
        return [] if shared else super().spare_downloads()
