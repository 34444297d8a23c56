"""The settings of the two trainings of the chain: a recipe, and how long and on what it is followed."""

from typing import Literal

from pydantic import field_validator

from datasets.section import insignificant, setting
from stages.settings.recipes import PUBLISHED, Recipe

Precision = Literal["float32", "tf32", "bfloat16", "float16", "auto"]


class Training(Recipe):
    """One training: a recipe and how long it is followed; the defaults are the published pre-training on MPII."""

    intro = "Pre-training on MPII, and each other training from random weights."

    experiment: str = insignificant(
        "hg-256",
        "Name of the experiment: the result is exp/mpii/NAME, or exp/<dataset>/NAME for another dataset.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    recipe: str = insignificant(PUBLISHED, "Name of the recipe: published, modern, or the NAME of a section [recipe:NAME].")
    cache: bool = insignificant(
        False, "Crop the people of the training images once (stage CacheCrops) and train from the cached crops: true or false."
    )
    epochs: int = setting(100, "Number of epochs.", ge=1)
    iterations: int = setting(4000, "Iterations per epoch.", ge=1)
    batch: int = setting(6, "Images per iteration.", ge=1)
    gradient_accumulation: int = setting(
        1,
        "Number of micro-batches that a batch is split into where it does not fit in memory. Batch normalisation "
        "sees the micro-batches.",
        ge=1,
    )
    precision: Precision = setting(
        "float32",
        "float32, tf32 (float32 with shorter products on CUDA), bfloat16, float16 (CUDA), or auto: the fastest "
        "that the device computes natively.",
    )
    seed: int = setting(3, "Seed of the initial weights, the order of the samples and the augmentation.", ge=0, lt=2**32)
    stop_after: int = setting(0, "Stop after this many iterations, even before the last epoch; 0: never.", ge=0)
    early_stop: float = setting(
        0.0, "Stop when the training accuracy of an epoch grows by less than this, such as 0.001; 0: never.", ge=0, lt=1
    )
    snapshot_epochs: int = setting(5, "Epochs between snapshots of the network; 0: no snapshots.", ge=0)
    keep_last: int = setting(0, "Number of epochs whose full training states are kept, for branch_from.", ge=0)
    branch_from: str = insignificant(
        "",
        "Training to continue from, with its weights, optimizer and history: the folder of an experiment, or a "
        "checkpoint in it (last.safetensors). Empty: none.",
    )

    @property
    def branch_file(self) -> str:
        """The checkpoint that `branch_from` means, itself or the last one in the folder that it names; empty: none."""
        named = self.branch_from
        return named if not named or named.endswith(".safetensors") else f"{named.rstrip('/')}/last.safetensors"

    @field_validator("experiment")
    @classmethod
    def _no_ending_of_ours(cls, name: str) -> str:
        if name.endswith((".partial", ".lock")):
            raise ValueError("it should not end in .partial or .lock, as folders and files of unfinished results do")
        return name


class Finetuning(Training):
    """Fine-tuning on Penn Action; the defaults are the published ones."""

    intro = (
        "Fine-tuning of the MPII network on Penn Action or another dataset. Settings without a comment are as in [pretrain]."
    )

    experiment: str = insignificant(
        "hg-256-ft",
        "Name of the experiment: the result is exp/mpii/NAME, or exp/<dataset>/NAME for another dataset.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    epochs: int = setting(10, "Number of epochs.", ge=1)
    iterations: int = setting(13121, "Iterations per epoch.", ge=1)
    head: Literal["random", "matching"] = setting(
        "random", "New output layer: random, or matching (joints that both datasets have keep their weights)."
    )
