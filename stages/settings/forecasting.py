"""Define the settings of the forecasting network's recurrent layers, of its training, and of the pose-only forecasters."""

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
        "Kind of layer: lstm (as published: an LSTM at each pixel, with weights shared by all pixels and no information "
        "passed between pixels) or conv_gru (3x3 convolutional GRU).",
    )
    hidden: int = setting(0, "Channels of the hidden state; 0: as many as the hourglass's output, as published.", ge=0, le=2048)
    layers: int = setting(1, "Number of recurrent layers on top of each other.", ge=1, le=4)
    residual: bool = setting(True, "Add the encoder's feature to the layer's output at every step: true or false.")
    converter: Literal["none", "trained"] = setting(
        "none",
        "Forecasts of 3D poses: none (2D poses only, as hg-256-res-clstm) or trained (the converter of [train_converter] turns "
        "the heatmaps of every step into a 3D pose, as in hg-256-res-clstm-res-64, the whole 3D-PFNet).",
    )


class ForecastTraining(Training):
    """Settings of the forecasting network's training.

    With the recipe `forecast`, the defaults are those of the published training (image-play, hg-256-res-clstm), except for
    `crop` and `targets`.
    """

    intro = (
        "Training of the forecasting network on Penn Action, from the network of [finetune]. Settings without a comment are "
        "as in [pretrain]."
    )

    experiment: str = insignificant(
        "hg-256-res-clstm",
        "Name of the experiment: the result is exp/penn_action_cropped/NAME.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
    )
    recipe: str = insignificant("forecast", "Name of the recipe: forecast (published), forecast-modern, or another one.")
    epochs: int = setting(4, "Number of epochs.", ge=1)
    iterations: int = setting(26253, "Iterations per epoch.", ge=1)
    batch: int = setting(3, "Images per iteration.", ge=1)
    curriculum: Numbers[int] = setting(
        (2, 4, 8, 16), "Number of steps trained in epoch 1, in epoch 2 and so on; all later epochs use the last number."
    )
    starts: Literal["published", "fixed_rate"] = setting(
        "published",
        "Choice of the 16 steps of a sequence: published (a forecast starts at every frame, the stride is a fifteenth of the "
        "video's length, and steps beyond the video's end repeat the last step inside the video) or fixed_rate (a constant "
        "stride, and forecasts start only at frames whose steps all lie inside the video).",
    )
    stride: int = setting(4, "Frames from one step to the next, with starts = fixed_rate.", ge=1, le=100)
    repeated_weight: float = setting(
        1.0, "Loss weight of steps beyond the video's end, which repeat an earlier pose; 1: as published.", ge=0, le=1
    )
    projection_weight: float = setting(
        1e-6,
        "With a converter: weight in the loss of the squared distance, in heatmap pixels, between labelled joints and the "
        "projections of the 3D joints; as published.",
        ge=0,
    )
    converter_changes: Literal["nothing", "statistics", "everything"] = setting(
        "nothing",
        "What this training changes in the converter: nothing, statistics (the running statistics of batch normalisation, but "
        "no weights, as published) or everything.",
    )
    score_steps: int = setting(16, "Number of steps that are validated; their PCK chooses the best epoch.", ge=1, le=STEPS)

    @model_validator(mode="after")
    def _steps_exist(self) -> "ForecastTraining":
        if not all(1 <= steps <= STEPS for steps in self.curriculum):
            raise ValueError(f"curriculum: each number of steps should be from 1 to {STEPS}.")
        if self.loss != "squared_error":
            raise ValueError(f"loss = {self.loss}: forecasts are trained with squared_error; set it in this section.")
        if self.also:
            raise ValueError(f"also = {self.also}: forecasts are trained on Penn Action alone; leave it empty.")
        if self.cache:
            raise ValueError("cache = true: forecasts are trained from whole frames, not from cached crops; set cache = false.")
        return self


class PoseOnly(Section):
    """Settings of the pose-only forecasters' training.

    `CompareForecasts` compares the pose-only forecasters with the forecasting network.
    """

    intro = (
        "The pose-only forecasters: two small networks that map the joints of one labelled frame, without its image, to the "
        "poses of all steps. One of the two also gets the action as input."
    )

    iterations: int = setting(3000, "Iterations of each training.", ge=1)
    batch: int = setting(256, "Poses per iteration.", ge=1)
    seed: int = setting(1, "Seed of the weights, the order of the poses and the augmentation.", ge=0, lt=2**32)

    def training(self) -> Training:
        """Return the settings with which the training loop trains each of the two pose-only forecasters."""
        return Training(
            optimizer="adamw", learning_rate=1e-3, warmup=min(200, self.iterations // 10), schedule="cosine", weight_decay=0.05,
            ema=0.998, epochs=1, iterations=self.iterations, batch=self.batch, seed=self.seed, snapshot_epochs=0,
        )  # fmt: skip
