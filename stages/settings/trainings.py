"""Define the settings of pre-training and fine-tuning: recipe, length, batch size, precision, seed and others."""

from typing import Literal

from pydantic import field_validator

from datasets.section import insignificant, setting
from stages.settings.recipes import PUBLISHED, Recipe

Precision = Literal["float32", "tf32", "bfloat16", "float16", "auto"]


class Training(Recipe):
    """Settings of one training: a recipe, a length and further options; the defaults are the published pre-training on MPII."""

    intro = "Pre-training on MPII, and each other training from random weights."

    experiment: str = insignificant(
        "hg-256",
        "Name of the experiment: the result is exp/mpii/NAME, or exp/<dataset>/NAME for another dataset.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
    )
    recipe: str = insignificant(PUBLISHED, "Name of the recipe: published, modern, or the NAME of a section [recipe:NAME].")
    cache: bool = insignificant(
        False, "Crop the people of the training images once (stage CacheCrops) and train from the cached crops: true or false."
    )
    also: str = insignificant(
        "",
        "Further datasets, such as `lspet flic`, whose training people are added; joints are matched by name, and a joint "
        "without a label has the weight `unlabelled_weight`. Only people of the first dataset are validated.",
    )
    epochs: int = setting(100, "Number of epochs.", ge=1)
    iterations: int = setting(4000, "Iterations per epoch.", ge=1)
    batch: int = setting(6, "Images per iteration.", ge=1)
    gradient_accumulation: int = setting(
        1,
        "Number of micro-batches that a batch is split into if it does not fit in memory. Batch normalisation then "
        "averages over a micro-batch.",
        ge=1,
    )
    precision: Precision = setting(
        "float32",
        "Arithmetic: float32, tf32 (float32 with products in TF32 on CUDA), bfloat16, float16 (CUDA only), or auto: a 16-bit "
        "type if the device computes one natively, else float32.",
    )
    seed: int = setting(3, "Seed of the initial weights, the order of the samples and the augmentation.", ge=0, lt=2**32)
    stop_after: int = setting(0, "Stop after this many iterations, even before the last epoch; 0: never.", ge=0)
    early_stop: float = setting(
        0.0,
        "Stop when the training accuracy of an epoch exceeds that of the epoch before by less than this, such as 0.001; 0: "
        "never.",
        ge=0,
        lt=1,
    )
    snapshot_epochs: int = setting(5, "Epochs between snapshots of the network; 0: no snapshots.", ge=0)
    keep_last: int = setting(0, "Number of latest epochs whose full training states are kept, for branch_from.", ge=0)
    branch_from: str = insignificant(
        "",
        "Training to continue from, with its weights, optimizer and history: the folder of an experiment, or a "
        "checkpoint in it (last.safetensors). Empty: none.",
    )

    @property
    def further(self) -> list[str]:
        """Return the names of the further datasets in `also`."""
        return self.also.replace(",", " ").split()

    @property
    def branch_file(self) -> str:
        """Return the path of the checkpoint in `branch_from`; for a folder, its last.safetensors; for an empty setting, ""."""
        named = self.branch_from
        return named if not named or named.endswith(".safetensors") else f"{named.rstrip('/')}/last.safetensors"

    @field_validator("experiment")
    @classmethod
    def _no_ending_of_ours(cls, name: str) -> str:
        if name.endswith((".partial", ".lock")):
            raise ValueError("it should not end in .partial or .lock, because the names of unfinished results end like this")
        return name


class Finetuning(Training):
    """Settings of fine-tuning on Penn Action; the defaults are the published ones."""

    intro = (
        "Fine-tuning of the MPII network on Penn Action or another dataset. Settings without a comment are as in [pretrain]."
    )

    experiment: str = insignificant(
        "hg-256-ft",
        "Name of the experiment: the result is exp/penn_action_cropped/NAME, or exp/<dataset>/NAME for another dataset.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
    )
    epochs: int = setting(10, "Number of epochs.", ge=1)
    iterations: int = setting(13121, "Iterations per epoch.", ge=1)
    head: Literal["random", "matching"] = setting(
        "random", "New output layer: random, or matching (joints that both datasets have keep their weights)."
    )
