"""All predefined datasets. To add a dataset, write a module for it and add its `Dataset` to this module (docs/extending.md)."""

from datasets.dataset import Dataset
from datasets.flic import FLIC
from datasets.lsp import LSP, LSPET
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (MPII, PENN_ACTION, FLIC, LSP, LSPET)}


def dataset_named(name: str) -> Dataset | None:
    """Return the predefined dataset called `name`, or None if no predefined dataset has this name."""
    return DATASETS.get(name)
