"""luigi.cfg -> `Settings`: the current folder's file, overridden by profiles that --config or LUIGI_CONFIG_PATH name."""

import configparser
import shlex
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from luigi.configuration import LuigiConfigParser, get_config

from datasets.errors import DataError
from pipeline import settings_files
from stages.settings.sections import Settings

# Sections that belong to Luigi itself (its manual, chapter Configuration).
LUIGI_SECTIONS = {
    "core", "cors", "worker", "retcode", "scheduler", "execution_summary", "logging", "resources", "task_history",
    "email", "smtp", "sendgrid", "batch_notifier", "metrics", "task_context",
}  # fmt: skip


class UsageError(DataError):
    """Invalid command-line usage; exit code 2."""


profiles: list[Path] = []
models: list[str] = []  # what --models says


def use_profile(path: Path) -> None:
    """Let a profile override luigi.cfg. Raises DataError where there is no such file."""
    if not path.is_file():
        raise DataError(f"--config {path}: there is no such file.")
    LuigiConfigParser.add_config_path(str(path))
    profiles.append(path)
    settings.cache_clear()


def use_models(source: str) -> None:
    """Let `source` stand for [models] source, whatever luigi.cfg and the profiles say."""
    get_config().set("models", "source", source)
    models.append(source)
    settings.cache_clear()


def command(words: str) -> str:
    """What to type for a command under the present profiles: `run FinetunePenn` -> python -m pipeline run ..."""
    options = [f"--config {shlex.quote(str(path))}" for path in profiles] + [f"--models {source}" for source in models]
    return " ".join(["python -m pipeline", words, *options])


@cache
def settings() -> Settings:
    """The settings of this process. Raises DataError naming section, setting and the legal values."""
    try:
        config = get_config()
        ours = [section for section in config.sections() if section not in LUIGI_SECTIONS]
        return Settings.from_text({section: dict(config.items(section)) for section in ours})
    except configparser.InterpolationError as error:
        raise DataError(f"The settings cannot be read: {error} (Write %% for a % sign.)") from None
    except configparser.Error as error:
        raise DataError(f"The settings cannot be read: {error}") from None
    except DataError as error:
        raise DataError(f"{error} ({settings_files.in_words()})") from None


def exp() -> Path:
    """The folder of all results."""
    return Path(settings().workspace.exp).expanduser()


@cache
def say_files() -> None:
    """Say once which settings files were read: without the one that was meant, the published recipe would run unnoticed."""
    print(settings_files.in_words(), file=sys.stderr)


def check_or_exit(check: Callable[[], object] = settings) -> None:
    """Stop with a sentence and code 2 where the settings are wrong: for plain `luigi`, which would show a traceback."""
    try:
        check()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    say_files()
