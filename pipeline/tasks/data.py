"""The datasets by name: which stages give them, where their results stand, and what is scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.skeletons import FLIC, LSP, LSPET, MPII, PENN_ACTION, Skeleton
from pipeline.engine.stage import Stage
from pipeline.tasks.fetch import FetchFlic, FetchLsp, FetchLspet, FetchMpii
from pipeline.tasks.prepare import AnnotateFlic, AnnotateLsp, AnnotateLspet, AnnotateMpii, AnnotatePenn, CropPenn

if TYPE_CHECKING:
    from datasets.dataset_files import DatasetFiles


@dataclass(frozen=True)
class Dataset:
    """One dataset in the pipeline."""

    result_path: str  # of its results below exp/
    skeleton: Skeleton
    annot: type[Stage]
    images: type[Stage]
    folder: str  # of the images in the result of `images`
    scored: tuple[str, ...]  # splits

    def stages(self) -> dict[str, Stage]:
        """What a stage that reads the dataset requires."""
        return {"annot": self.annot(), "images": self.images()}

    def open(self, inputs: dict[str, Path]) -> "DatasetFiles":
        """The dataset as the loader wants it, from the results of `stages` and, where there are any, its `crops`."""
        from datasets.dataset_files import DatasetFiles

        return DatasetFiles(self.skeleton, inputs["annot"], inputs["images"] / self.folder, inputs.get("crops"))


DATASETS = {
    "mpii": Dataset("mpii", MPII, AnnotateMpii, FetchMpii, "images", ("valid",)),
    "penn_action": Dataset("penn_action_cropped", PENN_ACTION, AnnotatePenn, CropPenn, "frames", ("valid", "test")),
    "flic": Dataset("flic", FLIC, AnnotateFlic, FetchFlic, "images", ("valid",)),
    "lsp": Dataset("lsp", LSP, AnnotateLsp, FetchLsp, "images", ("valid", "test")),
    "lspet": Dataset("lspet", LSPET, AnnotateLspet, FetchLspet, "images", ("valid",)),
}
FURTHER = ("flic", "lsp", "lspet")  # those beside the chain
