"""Archives -> their contents, unpacked: what the preparing stages start from."""

import shutil
from pathlib import Path
from typing import Any

import luigi

from datasets.errors import DataError
from pipeline import config
from pipeline.stage import Stage
from stages.fetch import is_address, local_path, obtain, unpack

SAMPLE = "sample"  # the source that stands for the built-in sample data


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
    """A stage whose sources are paths, addresses, or files of the built-in sample."""

    def sources(self) -> dict[str, tuple[str, str]]:
        """Name -> (source, name of the file in the sample)."""
        raise AttributeError(f"{type(self).__name__} has no sources")

    def requires(self) -> dict[str, Stage]:
        return {"sample": MakeSample()} if any(source == SAMPLE for source, _ in self.sources().values()) else {}

    def outside(self) -> dict[str, str]:
        return {name: source for name, (source, _) in self.sources().items() if source != SAMPLE}

    def file(self, name: str, inputs: dict[str, Path], report) -> Path:
        """The file that a source means."""
        source, in_sample = self.sources()[name]
        return inputs["sample"] / in_sample if source == SAMPLE else obtain(source, self.exp / "downloads", report)


class FetchMpii(Fetch):
    """MPII Human Pose: images/*.jpg and the annotation struct."""

    place = "mpii/raw"

    def sources(self):
        mpii = config.settings().mpii
        return {
            "images": (mpii.images, "mpii_human_pose_v1.tar.gz"),
            "annotations": (mpii.annotations, "mpii_human_pose_v1_u12_2.zip"),
        }

    def work(self, folder, inputs, report):
        struct = r"(?:.*/)?(?P<to>mpii_human_pose_v1_u12_1\.mat)"
        unpack(self.file("annotations", inputs, report), struct, folder, report)
        images = r"(?:.*/)?(?P<to>images/[^/]+\.jpg)"
        return {"images": unpack(self.file("images", inputs, report), images, folder, report)}


class FetchPennAction(Fetch):
    """Penn Action: frames/NNNN/FFFFFF.jpg and labels/NNNN.mat."""

    place = "penn_action/raw"

    def sources(self):
        return {"archive": (config.settings().penn_action.archive, "Penn_Action.tar.gz")}

    def work(self, folder, inputs, report):
        wanted = r"(?:.*/)?(?P<to>frames/\d+/\d+\.jpg|labels/\d+\.mat)"
        return {"files": unpack(self.file("archive", inputs, report), wanted, folder, report)}


class FetchFlic(Fetch):
    """FLIC: images/*.jpg, and in annot/ the annotation files that pose-hg-train publishes, from an archive or a folder."""

    place = "flic/raw"
    files = tuple(f"{split}{end}" for split in ("train", "valid") for end in (".h5", "_personcentric.h5", "_images.txt"))

    def sources(self):
        flic = config.settings().flic
        return {"images": (flic.images, ""), "annotations": (flic.annotations, "")}

    def annotation_files(self) -> dict[str, str]:
        """Name -> path of each annotation file, where the source is a folder: a path that does not end as an archive's."""
        source = self.sources()["annotations"][0]
        if is_address(source) or source.endswith((".zip", ".tar", ".gz", ".tgz")):
            return {}
        return {name: str(local_path(source) / name) for name in self.files}

    def outside(self):
        files, outside = self.annotation_files(), super().outside()
        if files:
            del outside["annotations"]
        return outside | files

    def work(self, folder, inputs, report):
        annot = folder / "annot"
        annot.mkdir(exist_ok=True)
        files = self.annotation_files()
        for path in files.values():
            shutil.copy(path, annot)
        if not files:
            names = r"(?!.*mpii)(?:.*/)?(?P<to>(?:train|valid)(?:(?:_personcentric)?\.h5|_images\.txt))"
            unpack(self.file("annotations", inputs, report), names, annot, report)
        images = r"(?:.*/)?(?P<to>images/[^/]+\.jpg)"
        return {"images": unpack(self.file("images", inputs, report), images, folder, report)}


class FetchLsp(Fetch):
    """Leeds Sports Pose: joints.mat and the images, all in one folder."""

    dataset = "lsp"

    @property
    def place(self) -> str:
        return f"{self.dataset}/raw"

    def sources(self):
        return {"archive": (getattr(config.settings(), self.dataset).archive, "")}

    def work(self, folder, inputs, report):
        wanted = r"(?!.*visualized)(?:.*/)?(?P<to>im\d+\.(?:jpg|png)|joints\.mat)"
        return {"files": unpack(self.file("archive", inputs, report), wanted, folder, report)}


class FetchLspet(FetchLsp):
    """Leeds Sports Pose Extended, or its full-size edition HR-LSPET."""

    dataset = "lspet"


class FetchPrecomputed(Fetch):
    """A trained network from elsewhere, instead of training one."""

    dataset = luigi.ChoiceParameter(choices=["mpii", "penn_action"], default="mpii", description="trained on which dataset")

    @property
    def place(self) -> str:
        return {"mpii": "mpii", "penn_action": "penn_action_cropped"}[self.dataset] + "/precomputed"

    def sources(self):
        return {"model": (getattr(config.settings().models, self.dataset), "")}

    def outside(self):
        if not self.sources()["model"][0]:
            raise DataError(f"[models] {self.dataset} is empty; give the path or address of a network.")
        return super().outside()

    def work(self, folder, inputs, report):
        from stages.precomputed import convert

        return convert(self.file("model", inputs, report), self.dataset, folder)
