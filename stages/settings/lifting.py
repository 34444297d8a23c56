"""Define the settings of the converter and the lifter, two networks for 3D poses, and of their samples and trainings."""

from typing import Any, Literal

from pydantic import model_validator

from datasets.section import Section, insignificant, setting, unknown
from stages.settings.trainings import Training

# Preset -> the settings in which it differs from the published converter, res-64.
CONVERTERS: dict[str, dict[str, Any]] = {
    "res-64": {},
    "res-64-modern": {
        "initial": "pytorch", "heatmaps": "normalised", "outputs": "normalised", "proportions": 0.15, "blur_std": 2.0,
        "lowest_peak": 0.3, "jitter_std": 1.0, "missing_probability": 0.1,
    },
}  # fmt: skip


class Converter(Section):
    """The settings of the converter's network, and of the synthetic samples for converter, lifter and baselines.

    Empty settings get their values from the preset, so giving only the name of a preset has the same result as giving all
    settings of this preset.
    """

    intro = (
        "The converter: a network that computes 3D joints, the person's position and the focal length from the heatmaps of a "
        "pose. The converter learns from synthetic samples: motion capture, seen by random cameras. A setting that is empty "
        "has the value of the preset."
    )

    preset: str = insignificant("res-64", "res-64 (published), or res-64-modern (normalised heatmaps and loss, noisy samples).")
    features: int = setting(64, "Channels of the network.", ge=8, le=1024, multiple_of=2)
    initial: Literal["torch7", "pytorch"] = setting(
        "torch7", "Initial scale of batch normalisation: torch7 (uniform in 0..1) or pytorch (1)."
    )
    heatmaps: Literal["raw", "normalised"] = setting(
        "raw", "Heatmaps that the network sees: raw (as published) or normalised (each divided by its peak)."
    )
    outputs: Literal["raw", "normalised"] = setting(
        "raw",
        "Unit of the loss: raw (mm and px, as published) or normalised (standard deviations of the training samples).",
    )
    cameras: Literal["corrected", "published"] = setting(
        "corrected",
        "Random cameras: corrected, or published (some focal lengths are negative, and the image's centre lies half a heatmap "
        "pixel off).",
    )
    proportions: float = setting(
        0.0, "Largest random change of limb lengths in training poses, as a fraction of the length.", ge=0, le=0.5
    )
    blur_std: float = setting(
        0.0,
        "Largest standard deviation of the blur of training heatmaps, in heatmap pixels; 0: sharp, as published.",
        ge=0,
        le=64,
    )
    lowest_peak: float = setting(
        1.0, "Lower limit of the random peak height of training heatmaps; 1: as published.", ge=0.01, le=1
    )
    jitter_std: float = setting(
        0.0, "Standard deviation of random shifts of joints in training heatmaps, in heatmap pixels.", ge=0, le=64
    )
    missing_probability: float = setting(0.0, "Probability that a training heatmap of a joint is empty.", ge=0, le=0.9)

    heatmaps_from: str = insignificant(
        "",
        "A forecasting network, such as exp/penn_action_cropped/hg-256-res-clstm/best.safetensors, whose heatmaps of Penn "
        "Action's frames replace the drawn ones in half of the training samples. Empty: drawn heatmaps only.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rest_as_in_the_preset(cls, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("preset") or "res-64"
        if name not in CONVERTERS:
            raise ValueError(unknown(f"preset {name}", str(name), list(CONVERTERS)))
        return CONVERTERS[name] | {key: value for key, value in given.items() if value != ""}

    def of_samples(self) -> dict[str, Any]:
        """Return name -> value of the settings that change the synthetic samples; settings of the network are left out."""
        of_network = ("features", "initial", "heatmaps", "outputs")
        return {name: value for name, value in self.significant().items() if name not in of_network}


class ConverterTraining(Training):
    """The settings of the converter's training.

    With the recipe `converter`, the defaults are those of the published training (skeleton2d3d, res-64), except for `targets`.
    """

    intro = "Training of the converter on motion capture. Settings without a comment are as in [pretrain]."

    experiment: str = insignificant(
        "res-64",
        "Name of the experiment: the result is exp/mocap/NAME.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
    )
    recipe: str = insignificant("converter", "Name of the recipe: converter (published), converter-modern, or another one.")
    epochs: int = setting(75, "Number of epochs.", ge=1)
    iterations: int = setting(572, "Iterations per epoch.", ge=1)
    batch: int = setting(64, "Poses per iteration.", ge=2)

    @model_validator(mode="after")
    def _no_images(self) -> "ConverterTraining":
        if self.loss != "squared_error":
            raise ValueError(
                f"loss = {self.loss}: the converter has a loss of its own; set loss = squared_error in this section."
            )
        if self.also:
            raise ValueError(f"also = {self.also}: the converter is trained on [mocap] alone; leave it empty.")
        if self.cache:
            raise ValueError("cache = true: the converter is trained without images; leave it false.")
        return self


class Lifter(Section):
    """The settings of the lifter and its training; the evaluation compares the lifter with the converter."""

    intro = (
        "The lifter of Martinez et al. (ICCV 2017), which EvaluateConverter compares with the converter: a residual network "
        "whose input is 2D joints instead of heatmaps. It learns from the samples of [converter]."
    )

    width: int = setting(1024, "Number of features in each hidden layer of the lifter.", ge=16, le=8192)
    iterations: int = setting(5000, "Iterations of the training.", ge=1)
    batch: int = setting(128, "Poses per iteration.", ge=2)
    seed: int = setting(1, "Seed of the weights and of the samples.", ge=0, lt=2**32)

    def training(self) -> Training:
        """Return the settings with which the training loop trains the lifter."""
        return Training(
            optimizer="adamw", learning_rate=1e-3, warmup=min(200, self.iterations // 10), schedule="cosine", weight_decay=0.01,
            ema=0.998, flip_probability=0.5, target_sigma=2, targets="subpixel", epochs=1, iterations=self.iterations,
            batch=self.batch, seed=self.seed, snapshot_epochs=0,
        )  # fmt: skip
