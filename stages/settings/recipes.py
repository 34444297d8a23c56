"""Recipes: how a network is trained. `[recipe:NAME]` in luigi.cfg, or a profile, holds what differs from its `base`.

The published recipe is that of pose-hg-train, branch image-play (options of its scripts and src/opts.lua).
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from datasets.errors import DataError
from stages.settings.section import Numbers, Part, Section, unknown, unquoted

PREFIX = "recipe:"  # how the sections of recipes begin
PUBLISHED = "published"  # the recipe that all others are built on

# The recipes that are known without any file.
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
}


class Recipe(Section):
    """How a network is taught; the defaults are the published recipe. Lengths in heatmap pixels, a quarter of the input's."""

    optimizer: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = Field(2.5e-4, gt=0, le=10)
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: Numbers[Part] = (0.6, 0.9)
    gamma: float = Field(0.1, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    train_redundant_biases: bool = True
    ema: float = Field(0.0, ge=0, lt=1)
    sampling: Literal["shuffled", "consecutive"] = "consecutive"
    crop: Literal["single_warp", "published"] = "published"
    targets: Literal["subpixel", "truncated"] = "truncated"
    subtract_mean: bool = False
    occluded_weight: float = Field(1.0, ge=0, le=1)
    unlabelled_weight: float = Field(1.0, ge=0, le=1)
    target_sigma: float = Field(3.25, gt=0, le=64)
    target_radius: int = Field(6, ge=1, le=128)
    scale_std: float = Field(0.25, ge=0, lt=1)
    rotation_std: float = Field(30.0, ge=0, le=90)
    rotation_probability: float = Field(0.4, ge=0, le=1)
    rotate180_probability: float = Field(0.0, ge=0, le=1)
    colour_jitter: float = Field(0.2, ge=0, le=1)
    flip_probability: float = Field(0.5, ge=0, le=1)
    flip_by: Literal["sample", "batch"] = "batch"
    cutout_probability: float = Field(0.0, ge=0, le=1)
    cutout_size: float = Field(0.25, gt=0, le=1)


def read_recipes(sections: Mapping[str, Mapping[str, str]]) -> dict[str, Recipe]:
    """Build all recipes, the built-in ones and those of the sections `recipe:NAME`; name -> recipe.

    Raises DataError that names the section for a wrong setting, an unknown base, or a base that leads back to the recipe.
    """
    texts: dict[str, dict[str, Any]] = {name: dict(values) for name, values in BUILT_IN.items()}
    for section, written in sections.items():
        if section.startswith(PREFIX):
            own = {setting: unquoted(text) for setting, text in written.items()}
            texts.setdefault(section.removeprefix(PREFIX), {}).update(own)
    built: dict[str, Recipe] = {}
    for name in texts:
        _build(name, texts, built, ())
    return built


def _build(name: str, texts: dict[str, dict[str, Any]], built: dict[str, Recipe], derived: tuple[str, ...]) -> Recipe:
    """Build a recipe after its base; `derived`: the recipes that are waiting for this one."""
    if name in built:
        return built[name]
    own = dict(texts[name])
    base = own.pop("base", "") or PUBLISHED
    start: dict[str, Any] = {}
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
