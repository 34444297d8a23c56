"""Define recipes, which set how a network is trained.

A section `[recipe:NAME]` in luigi.cfg or in a profile contains the settings in which the recipe differs from its `base`.
The published recipe is that of pose-hg-train, branch image-play (options of its scripts and src/opts.lua).
"""

from collections.abc import Mapping
from typing import Any, Literal

from datasets.errors import DataError
from datasets.section import Numbers, Part, Section, setting, unknown, unquoted

PREFIX = "recipe:"  # prefix of the section names of recipes
PUBLISHED = "published"  # name of the recipe on which all others are built

# The built-in recipes, which need no section in luigi.cfg.
BUILT_IN: dict[str, dict[str, Any]] = {
    PUBLISHED: {},
    "modern": {
        "learning_rate": 3e-3,
        "warmup": 500,
        "schedule": "cosine",
        "train_redundant_biases": False,
        "ema": 0.999,
        "sampling": "shuffled",
        "crop": "single_warp",
        "targets": "subpixel",
        "unlabelled_weight": 0,
        "target_sigma": 2,
        "flip_by": "sample",
    },
    # The published training of the forecasting network (image-play), but with crop = single_warp and targets = subpixel.
    "forecast": {
        "sampling": "shuffled",
        "crop": "single_warp",
        "targets": "subpixel",
        "scale_std": 0,
        "rotation_probability": 0,
        "flip_by": "sample",
    },
    "forecast-modern": {
        "base": "forecast",
        "optimizer": "adamw",
        "learning_rate": 5e-4,
        "warmup": 500,
        "schedule": "cosine",
        "train_redundant_biases": False,
        "ema": 0.999,
        "unlabelled_weight": 0,
        "target_sigma": 2,
    },
    # The published training of the converter (skeleton2d3d, res-64), but with targets = subpixel.
    "converter": {
        "learning_rate": 1e-3,
        "sampling": "shuffled",
        "targets": "subpixel",
        "flip_probability": 0,
        "flip_by": "sample",
    },
    "converter-modern": {
        "base": "converter",
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "warmup": 500,
        "schedule": "cosine",
        "weight_decay": 0.01,
        "ema": 0.999,
        "flip_probability": 0.5,
        "target_sigma": 2,
    },
}


class Recipe(Section):
    """Settings of how a network is trained; the defaults are the published recipe.

    Lengths are in heatmap pixels. A heatmap pixel is four input pixels wide.
    """

    intro = (
        "Recipes: how a network is trained. The setting `recipe` in the section of a training, such as [pretrain], names the "
        "recipe of that training. Every setting of a recipe can also be given in the section of a training, for that training "
        "alone. To define a recipe, write a section [recipe:NAME] with `base`, the recipe that it is built on (published if "
        "empty), and only the settings that differ from the base. Lengths are in heatmap pixels."
    )

    optimizer: Literal["rmsprop", "adam", "adamw"] = setting("rmsprop", "Optimizer: rmsprop, adam or adamw.")
    learning_rate: float = setting(2.5e-4, "Peak learning rate.", gt=0, le=10)
    warmup: int = setting(0, "Iterations of linear learning rate warm-up; 0: none.", ge=0)
    schedule: Literal["constant", "step", "cosine"] = setting(
        "constant",
        "Learning rate schedule of the whole training, multiplied by the warm-up: constant, step, or cosine (falls to 0 at "
        "the end).",
    )
    milestones: Numbers[Part] = setting(
        (0.6, 0.9), "Fractions of the training after which schedule = step multiplies the learning rate by gamma."
    )
    gamma: float = setting(0.1, "Factor by which schedule = step multiplies the learning rate.", gt=0, le=1)
    weight_decay: float = setting(
        0.0, "Weight decay of convolution weights; with adamw, decoupled from the gradient.", ge=0, le=1
    )
    train_redundant_biases: bool = setting(
        True,
        "Train convolution biases that a following batch normalisation cancels. Their gradient is only rounding "
        "noise, so they drift.",
    )
    ema: float = setting(
        0.0, "Decay of the weight EMA, such as 0.999; the EMA network is validated and kept. 0: no EMA.", ge=0, lt=1
    )
    sampling: Literal["shuffled", "consecutive"] = setting(
        "consecutive",
        "Order of the samples: shuffled (each pass over the data takes each person once) or consecutive (a batch "
        "takes consecutive annotations from a random start).",
    )
    crop: Literal["single_warp", "published"] = setting(
        "published",
        "How a crop is made: single_warp (one affine map from the image to the augmented crop) or published (a "
        "crop along whole pixels, augmented in a second warp).",
    )
    targets: Literal["subpixel", "truncated"] = setting(
        "truncated", "Centre of the target blobs: subpixel (on the joint) or truncated (on a whole pixel)."
    )
    subtract_mean: bool = setting(False, "Subtract the mean colour of the training images; the network stores this mean.")
    loss: Literal["squared_error", "focal"] = setting(
        "squared_error",
        "Loss of pre-training and fine-tuning: squared_error (as published), or focal (pixels that are nearly right hardly "
        "count; needs [network] heatmaps = sigmoid).",
    )
    occluded_weight: float = setting(1.0, "Loss weight of joints that are labelled but occluded.", ge=0, le=1)
    unlabelled_weight: float = setting(
        1.0, "Loss weight of joints without a label: 1 teaches empty heatmaps, 0 ignores the joint.", ge=0, le=1
    )
    target_sigma: float = setting(
        3.25, "Standard deviation of the target blob in heatmap pixels; with several stacks, 1.75 is published.", gt=0, le=64
    )
    target_radius: int = setting(
        6, "Radius of the target blob in heatmap pixels; with several stacks, 3 is published.", ge=1, le=128
    )
    scale_std: float = setting(
        0.25, "Augmentation: standard deviation of the change of scale; the change is limited to this value.", ge=0, lt=1
    )
    rotation_std: float = setting(
        30.0,
        "Augmentation: standard deviation of the rotation in degrees; the rotation is limited to twice this value.",
        ge=0,
        le=90,
    )
    rotation_probability: float = setting(0.4, "Augmentation: probability of a rotation.", ge=0, le=1)
    rotate180_probability: float = setting(0.0, "Augmentation: probability of a further rotation by 180 degrees.", ge=0, le=1)
    colour_jitter: float = setting(
        0.2,
        "Augmentation: each colour channel is multiplied by a random factor between 1 - colour_jitter and 1 + colour_jitter.",
        ge=0,
        le=1,
    )
    flip_probability: float = setting(0.5, "Augmentation: probability of mirroring the image.", ge=0, le=1)
    flip_by: Literal["sample", "batch"] = setting(
        "batch", "Mirror each sample independently (sample), or all samples of a batch together (batch)."
    )
    cutout_probability: float = setting(0.0, "Augmentation: probability of erasing a square of the input.", ge=0, le=1)
    cutout_size: float = setting(0.25, "Side of the erased square as a fraction of the side of the input.", gt=0, le=1)


def read_recipes(sections: Mapping[str, Mapping[str, str]]) -> dict[str, Recipe]:
    """Return all recipes by name: the built-in recipes, and those of the sections `recipe:NAME`.

    Raises DataError, with the name of the section, for a wrong setting, an unknown base, and a recipe built on itself.
    """
    texts: dict[str, dict[str, Any]] = {name: dict(values) for name, values in BUILT_IN.items()}
    for section, written in sections.items():
        if section.startswith(PREFIX):
            own = {key: unquoted(text) for key, text in written.items()}
            texts.setdefault(section.removeprefix(PREFIX), {}).update(own)
    built: dict[str, Recipe] = {}
    for name in texts:
        _build(name, texts, built, ())
    return built


def _build(name: str, texts: dict[str, dict[str, Any]], built: dict[str, Recipe], derived: tuple[str, ...]) -> Recipe:
    """Build the base of a recipe, then the recipe; return the recipe.

    built: name -> finished recipe; the function adds the recipe `name`. derived: names of the unfinished recipes that are
    built, directly or through other recipes, on the recipe `name`.
    """
    if name in built:
        return built[name]
    own = dict(texts[name])
    base = own.pop("base", "") or PUBLISHED
    start: dict[str, Any] = {}
    if name == PUBLISHED and base != PUBLISHED:
        raise DataError(f"[{PREFIX}{name}] base = {base}: this recipe has no base, because all others are built on it.")
    if name != PUBLISHED:
        if base not in texts:
            raise DataError(f"[{PREFIX}{name}] base = {base}: {unknown(f'recipe {base}', base, list(texts))}")
        if base in (name, *derived):
            raise DataError(f"[{PREFIX}{name}] base = {base}: a recipe cannot be built on itself.")
        start = _build(base, texts, built, (name, *derived)).model_dump(exclude_unset=True)
    try:
        built[name] = Recipe(**start | own)
    except DataError as error:
        raise DataError(f"[{PREFIX}{name}] {error}") from None
    return built[name]
