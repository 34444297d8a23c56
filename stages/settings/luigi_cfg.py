"""Generate the text of luigi.cfg: every setting with its meaning and default, in the order of `Settings`."""

import textwrap
from decimal import Decimal
from typing import Any

from datasets import own
from datasets.section import Section
from stages.settings.recipes import BUILT_IN, PREFIX, PUBLISHED, Recipe
from stages.settings.sections import Settings
from stages.settings.trainings import Training

WIDTH = 128  # largest number of characters in a line of luigi.cfg

_TOP = (
    "Every setting of the workspace, with the values of the published recipe (pose-hg-train, branch image-play). This file is "
    "written by python -m pipeline settings. Edit it, or override parts of it in a profile: python -m pipeline run --config "
    "configs/demo.cfg. After a change, only the stages whose results the change affects run again. Changes of most settings in "
    "[workspace], of the paths of archives and of the names of experiments affect no result: a stage finds its result by the "
    "other settings."
)
_LUIGI = """\
# Sections of Luigi itself.
[core]
# Log level of Luigi when Luigi is called directly; DEBUG logs each task that Luigi checks.
log_level = WARNING
no_configure_logging = false
autoload_range = false

[retcode]
# Exit codes as Luigi's manual recommends them.
already_running = 10
missing_data = 20
not_run = 25
task_failed = 30
scheduling_error = 35
unhandled_exception = 40
"""


def text() -> str:
    """Return the whole text of luigi.cfg."""
    parts = [_comment(_TOP)]
    for name, section in Settings.defaults().items():
        if name == "pretrain":
            parts += [_section(f"{PREFIX}{PUBLISHED}", Recipe())]
            parts += [_differences(recipe) for recipe in BUILT_IN if recipe != PUBLISHED]
        parts.append(_section(name, section))
    return "\n".join([*parts, _own_dataset(), _LUIGI])


def _own_dataset() -> str:
    """Return the section [dataset:NAME] for a dataset of the user's own, commented out, because the user must choose NAME."""
    lines = _section(f"{own.PREFIX}NAME", own.OwnDataset()).splitlines()
    return "".join(f"{line if line.startswith('#') else f'# {line}'}\n" for line in lines)


def in_words(value: Any) -> str:
    """Return the text of a setting's value in luigi.cfg."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(map(in_words, value))
    return f"{Decimal(repr(value)).normalize():f}" if isinstance(value, float) else str(value)


def _section(name: str, section: Section) -> str:
    """Return the text of one section: its comment and its settings.

    The section of a training leaves out the settings of its recipe. In a section with a preset, all settings except the
    preset are empty.
    """
    fields = type(section).model_fields
    known = Training.model_fields if isinstance(section, Training) and type(section) is not Training else {}
    # Settings in `known` have no comment: the comments of [pretrain] explain them.
    lines = [_comment(section.intro)] if section.intro else []
    lines.append(f"[{name}]\n")
    for setting, field in fields.items():
        if isinstance(section, Training) and setting in Recipe.model_fields:
            continue
        empty = "preset" in fields and setting != "preset"
        if setting not in known:
            lines.append(_comment(field.description or ""))
        lines.append(f"{setting} = {'' if empty else in_words(field.default)}".rstrip() + "\n")
    return "".join(lines)


def _differences(recipe: str) -> str:
    """Return the text of a built-in recipe's section: the base, and the settings that differ from the base."""
    own = {"base": PUBLISHED} | BUILT_IN[recipe]
    return "".join([f"[{PREFIX}{recipe}]\n", *(f"{setting} = {in_words(value)}\n" for setting, value in own.items())])


def _comment(meaning: str) -> str:
    wrapped = textwrap.wrap(meaning, WIDTH - 2, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in wrapped)
