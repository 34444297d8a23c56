"""Crops and annotation files: what the networks are trained and scored on."""

from typing import Any, ClassVar, Literal

from pipeline import config
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.tasks.fetch import FetchFlic, FetchLsp, FetchLspet, FetchMpii, FetchPennAction, downloads, origin_told
from stages.fetching.sources import obtain


class Annotate(Stage):
    """A stage that writes annotation files, and says what is odd about them."""

    version = 3

    def annotate(self, folder, inputs, report) -> dict[str, dict[str, Any]]:
        """Write the files; a split's counts by its name, see `stages.preparing.annotate`."""
        raise AttributeError(f"{type(self).__name__} has no annotate")

    def work(self, folder, inputs, report):
        with origin_told(next(iter(self.requires().values()))):
            summary = self.annotate(folder, inputs, report)
        for split, counts in summary.items():
            kinds = ", ".join(f"{kind} {count}" for kind, count in counts["kinds"].items())
            odd = f"; {counts['suspicious']} suspicious, see suspicious.csv ({kinds})" if kinds else ""
            say(f"{self.name}, {split}: {counts['rows']} rows on {counts['images']} images{odd}")
        return summary


class AnnotateMpii(Annotate):
    """MPII's annotation struct -> train.h5, valid.h5, test.h5 and image lists."""

    result_path = "mpii/annot"

    def settings(self) -> dict[str, Any]:
        mpii = config.settings().mpii
        return {} if mpii.split_file else mpii.significant()

    def external_inputs(self) -> dict[str, str]:
        split_file = config.settings().mpii.split_file
        return {"split_file": split_file} if split_file else {}

    def requires(self) -> dict[str, Stage]:
        return {"raw": FetchMpii()}

    def annotate(self, folder, inputs, report):
        from stages.preparing.annotate import annotate_mpii

        mpii, workers = config.settings().mpii, config.settings().workspace.workers
        split_file = obtain(mpii.split_file, downloads(), report) if mpii.split_file else None
        if not any((inputs["raw"] / name).is_file() for name in ("mpii_human_pose_v1_u12_1.mat", "train.h5")):
            say(
                "mpii_annotations.json has no head boxes, so that PCKh cannot be computed and stays empty; to have it, give "
                "the published .mat or .h5 files as [mpii] annotations."
            )
        return annotate_mpii(inputs["raw"], folder, split_file, mpii.valid_fraction, mpii.split_seed, workers, report)


class CropPenn(Stage):
    """Penn Action's frames and labels, cut to one window per sequence."""

    result_path = "penn_action_cropped/data"

    def settings(self) -> dict[str, Any]:
        return config.settings().penn_action.significant()

    def requires(self) -> dict[str, Stage]:
        return {"raw": FetchPennAction()}

    def work(self, folder, inputs, report):
        from stages.preparing.crop import crop_penn

        settings = config.settings()
        with origin_told(self.requires()["raw"]):
            return crop_penn(inputs["raw"], folder, settings.penn_action.jpeg_quality, settings.workspace.workers, report)


class AnnotatePenn(Annotate):
    """Cropped labels -> train.h5, valid.h5, test.h5, image lists and the published validation split."""

    result_path = "penn_action_cropped/annot"

    def requires(self) -> dict[str, Stage]:
        return {"cropped": CropPenn()}

    def annotate(self, folder, inputs, report):
        from stages.preparing.annotate import annotate_penn

        return annotate_penn(inputs["cropped"], folder, report)


class AnnotateFlic(Annotate):
    """FLIC's published annotation files -> the same for the wanted sides, checked against the images."""

    result_path = "flic/annot"

    def settings(self) -> dict[str, Any]:
        return config.settings().flic.significant()

    def requires(self) -> dict[str, Stage]:
        return {"raw": FetchFlic()}

    def annotate(self, folder, inputs, report):
        from stages.preparing.annotate import annotate_flic

        settings = config.settings()
        return annotate_flic(inputs["raw"], folder, settings.flic.sides, settings.workspace.workers, report)


class AnnotateLsp(Annotate):
    """joints.mat -> train.h5, valid.h5, test.h5 and image lists."""

    dataset: ClassVar[Literal["lsp", "lspet"]] = "lsp"
    fetch: ClassVar[type[Stage]] = FetchLsp

    leaf = "annot"

    @property
    def result_path(self) -> str:
        return f"{self.dataset}/{self.leaf}"

    def settings(self) -> dict[str, Any]:
        return getattr(config.settings(), self.dataset).significant()

    def requires(self) -> dict[str, Stage]:
        return {"raw": self.fetch()}

    def annotate(self, folder, inputs, report):
        from stages.preparing.annotate import annotate_lsp

        split, workers = self.settings(), config.settings().workspace.workers
        raw = inputs["raw"]
        return annotate_lsp(self.dataset, raw, folder, split["valid_fraction"], split["split_seed"], workers, report)


class AnnotateLspet(AnnotateLsp):
    """The same for the extended training set, where a mark of joints.mat means the opposite."""

    dataset = "lspet"
    version = 4
    fetch = FetchLspet
