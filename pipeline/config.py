"""Read the settings from luigi.cfg in the current folder; profiles override luigi.cfg, and --set overrides all files.

A profile is another settings file. Profiles are given by --config or the environment variable LUIGI_CONFIG_PATH.
"""

import argparse
import configparser
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from luigi.configuration import LuigiConfigParser, get_config

from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.section import unknown
from pipeline import settings_files
from stages.settings.sections import Settings

# Sections of luigi.cfg that configure Luigi itself (see the chapter Configuration of Luigi's manual).
LUIGI_SECTIONS = {
    "core", "cors", "worker", "retcode", "scheduler", "execution_summary", "logging", "resources", "task_history",
    "email", "smtp", "sendgrid", "batch_notifier", "metrics", "task_context",
}  # fmt: skip


class UsageError(DataError):
    """The error for invalid command-line usage; the exit code is 2."""


# Options on the command line of this process. `command` repeats them in the commands that messages recommend.
profiles: list[Path] = []  # values of --config
workspaces: list[Path] = []  # value of --workspace, if given
single: list[str] = []  # values of --set
models: list[str] = []  # value of --models, if given


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options --config and --set, which are common to all programs that read settings; `use` applies them."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=[], action="append",
        help="a profile whose settings override those of luigi.cfg in this folder; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--set", metavar="SECTION.NAME=VALUE", default=[], action="append", dest="single",
        help="one setting, which overrides all files, such as finetune.learning_rate=0.0001; may be given several times",
    )  # fmt: skip


def use(options: argparse.Namespace) -> None:
    """Apply the options of `add_options`. Raises DataError for a missing file, or a --set that is not SECTION.NAME=VALUE."""
    for profile in options.config:
        use_profile(profile)
    for text in options.single:  # must come after the profiles, because Luigi reads all files again for each profile
        use_setting(text)


def use_workspace(folder: Path) -> None:
    """Change the current folder to a workspace and read its luigi.cfg. Raises DataError for a folder without luigi.cfg."""
    if not (folder / "luigi.cfg").is_file():
        raise DataError(
            f"--workspace {folder}: there is no luigi.cfg in this folder; give the folder of a workspace, or make one: "
            "python -m pipeline settings > luigi.cfg"
        )
    os.chdir(folder)
    workspaces.append(folder)
    LuigiConfigParser.reload()
    settings.cache_clear()


def use_setting(text: str) -> None:
    """Override one setting of luigi.cfg and the profiles. Raises DataError if `text` is not SECTION.NAME=VALUE."""
    name, equals, value = text.partition("=")
    section, dot, setting = name.strip().rpartition(".")
    if not (equals and dot and section and setting):
        raise DataError(f"--set {text}: give a setting as SECTION.NAME=VALUE, such as finetune.learning_rate=0.0001.")
    get_config().set(section, setting, value.strip().replace("%", "%%"))
    single.append(text)
    settings.cache_clear()


@contextmanager
def more_settings(texts: Iterable[str]) -> Iterator[None]:
    """Apply settings, in the form of --set, within the with block. Raises DataError as `use_setting` does."""
    parser, before = get_config(), list(single)
    kept = {section: dict(parser.items(section, raw=True)) for section in parser.sections()}
    try:
        for text in texts:
            use_setting(text)
        yield
    finally:
        for section in list(parser.sections()):
            parser.remove_section(section)
        for section, values in kept.items():
            parser.add_section(section)
            for name, value in values.items():
                parser.set(section, name, value)
        single[:] = before
        settings.cache_clear()


def use_profile(path: Path) -> None:
    """Override luigi.cfg by another settings file. Raises DataError if the file does not exist."""
    if not path.is_file():
        raise DataError(f"--config {path}: there is no such file.")
    LuigiConfigParser.add_config_path(str(path))
    profiles.append(path)
    settings.cache_clear()


def use_models(source: str) -> None:
    """Override the setting [models] source."""
    get_config().set("models", "source", source)
    models.append(source)
    settings.cache_clear()


def command(words: str) -> str:
    """Return the full command line for `words`: `run FinetunePenn` becomes `python -m pipeline run FinetunePenn`.

    The command line includes the options --workspace, --config, --set and --models of this process.
    """
    options = [f"--workspace {shlex.quote(str(path))}" for path in workspaces]
    options += [f"--config {shlex.quote(str(path))}" for path in profiles]
    options += [f"--set {shlex.quote(text)}" for text in single] + [f"--models {source}" for source in models]
    return " ".join(["python -m pipeline", words, *options])


@cache
def settings() -> Settings:
    """Return the settings of this process. Raises DataError, with section, setting and legal values, for a wrong setting."""
    try:
        config = get_config()
        ours = [section for section in config.sections() if section not in LUIGI_SECTIONS]
        return Settings.from_text({section: dict(config.items(section)) for section in ours})
    except configparser.InterpolationError as error:
        raise DataError(f"The settings cannot be read: {error} (Write %% for a % sign.)") from None
    except configparser.Error as error:
        raise DataError(f"The settings cannot be read: {error}") from None
    except DataError as error:
        raise DataError(f"{error} ({_in_words()})") from None


def datasets() -> dict[str, Dataset]:
    """Return all datasets by name: the predefined ones, then those of the sections [dataset:NAME]."""
    return settings().known_datasets


def dataset(name: str) -> Dataset:
    """Return the dataset called `name`. Raises DataError if no dataset has this name."""
    if name not in datasets():
        raise DataError(unknown(f"dataset {name}", name, list(datasets())))
    return datasets()[name]


def exp() -> Path:
    """Return the folder of all results."""
    return Path(settings().workspace.exp).expanduser()


@cache
def say_files() -> None:
    """Print once which settings files were read, so that a user notices if the intended file is missing.

    If no settings file is found, the defaults are used, which are the published recipe.
    """
    print(_in_words(), file=sys.stderr)


def _in_words() -> str:
    return " ".join([settings_files.in_words(), *(f"--set {text}." for text in single)])


def check_or_exit(check: Callable[[], object] = settings) -> None:
    """Call `check`, and print which settings files were read; exit with message and code 2 if `check` raises DataError.

    Without this function, the command `luigi` would print a traceback of the error.
    """
    try:
        check()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    say_files()
