"""The files of a converted dataset, as the stages that read it are given them."""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.skeletons import Skeleton


@dataclass(frozen=True)
class DatasetFiles:
    """A converted dataset: its skeleton, its annotation folder, its image folder and, if they were made, its cached crops."""

    skeleton: Skeleton
    annotations: Path
    images: Path
    crops: Path | None = None

    def split(self, name: str) -> Annotations:
        """Read the annotations of train, valid or test. Raises DataError where the split is empty or cannot be read."""
        split = annotations.read(self.annotations, name)
        if not len(split.images):
            raise DataError(f"{self.annotations / name}.h5 holds no person; nothing can be trained or scored on it.")
        return split
