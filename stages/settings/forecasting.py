"""The settings of forecasting: the network's recurrent layers, and its training."""

from typing import Literal

from pydantic import model_validator

from datasets.section import Numbers, Section, insignificant, setting
from stages.settings.trainings import Training

STEPS = 16


class Forecaster(Section):
    """Settings of the forecasting network's recurrent layers; the defaults are those of hg-256-res-clstm."""

    intro = "The recurrent layers of the forecasting network, one at each skip edge of the hourglass and one at its bottleneck."

    kind: Literal["lstm", "conv_gru"] = setting(
        "lstm",
        "Kind of layer: lstm (the weights are shared by all pixels, and nothing moves between pixels, as published) or "
        "conv_gru (3x3 convolutional GRU).",
    )
    hidden: int = setting(0, "Width of the hidden state; 0: as wide as the hourglass's output, as published.", ge=0, le=2048)
    layers: int = setting(1, "Number of recurrent layers on top of each other.", ge=1, le=4)
    residual: bool = setting(True, "Add the encoder's feature to the layer's output at every step: true or false.")


class ForecastTraining(Training):
    """The training of the forecasting network; the defaults are the published ones (image-play, hg-256-res-clstm)."""

    intro = (
        "Training of the forecasting network on Penn Action, from the network of [finetune]. Settings without a comment are "
        "as in [pretrain]."
    )

    experiment: str = insignificant(
        "hg-256-res-clstm",
        "Name of the experiment: the result is exp/penn_action_cropped/NAME.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    recipe: str = insignificant("forecast", "Name of the recipe: forecast (published), forecast-modern, or another one.")
    epochs: int = setting(4, "Number of epochs.", ge=1)
    iterations: int = setting(26253, "Iterations per epoch.", ge=1)
    batch: int = setting(3, "Images per iteration.", ge=1)
    curriculum: Numbers[int] = setting(
        (2, 4, 8, 16), "Number of steps that are trained in the first epoch, the second and so on; later epochs as the last."
    )
    starts: Literal["published", "fixed_rate"] = setting(
        "published",
        "Sequences of 16 steps: published (every frame a start, a stride of a fifteenth of the whole video, the last step "
        "inside the video repeated) or fixed_rate (a constant stride, only starts whose steps all lie inside the video).",
    )
    stride: int = setting(4, "Frames from one step to the next, with starts = fixed_rate.", ge=1, le=100)
    repeated_weight: float = setting(
        1.0, "Loss weight of steps beyond the video's end, which repeat an earlier pose; 1: as published.", ge=0, le=1
    )
    score_steps: int = setting(16, "Number of steps that validation forecasts and the best epoch is chosen by.", ge=1, le=STEPS)

    @model_validator(mode="after")
    def _steps_exist(self) -> "ForecastTraining":
        if not all(1 <= steps <= STEPS for steps in self.curriculum):
            raise ValueError(f"curriculum: each number of steps should be from 1 to {STEPS}.")
        if self.cache:
            raise ValueError("cache = true: forecasts are trained from the cropped frames themselves; leave it false.")
        return self


class PoseOnly(Section):
    """The training of the pose-only forecasters, which `CompareForecasts` compares with the network."""

    intro = (
        "The pose-only forecasters: small networks from the joints of one labelled frame, without its image, to the poses of "
        "all steps. One is also told the action."
    )

    iterations: int = setting(3000, "Iterations of each training.", ge=1)
    batch: int = setting(256, "Poses per iteration.", ge=1)
    seed: int = setting(1, "Seed of the weights, the order of the poses and the augmentation.", ge=0, lt=2**32)

    def training(self) -> Training:
        """Return the settings of the training loop."""
        return Training(
            optimizer="adamw", learning_rate=1e-3, warmup=min(200, self.iterations // 10), schedule="cosine", weight_decay=0.05,
            ema=0.998, epochs=1, iterations=self.iterations, batch=self.batch, seed=self.seed, snapshot_epochs=0,
        )  # fmt: skip
