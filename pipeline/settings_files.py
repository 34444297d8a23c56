"""Reading of settings files for Luigi, in the encodings that editors write; and which files were read.

Luigi reads the files while it is imported, in the locale's encoding, and passes over files that it cannot open. So its
parser's `read` is replaced by ours before that.
"""

import configparser
import os
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from datasets.errors import DataError
from datasets.files import decode_text

VARIABLE = "LUIGI_CONFIG_PATH"

found: list[str] = []  # the files that were read, in their order: later ones override earlier ones


def read(parser: configparser.RawConfigParser, paths: Iterable[str], encoding: str | None = None) -> list[str]:
    """Read settings files into a parser, as `ConfigParser.read` does; returns those that are there.

    Raises DataError for a file that cannot be read, or is no settings file.
    """
    found.clear()
    for path in paths:
        try:
            parser.read_string(decode_text(Path(path).read_bytes()), source=path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"The settings in {path} cannot be read ({error.strerror}).") from None
        except configparser.Error as error:
            raise DataError(f"The settings cannot be read: {' '.join(str(error).split())}") from None
        found.append(path)
    return list(found)


def import_luigi() -> None:
    """Import Luigi, with `read` as its reader of settings files.

    Raises DataError for settings that cannot be read, and where the environment names a file that is not there.
    """
    named = os.environ.pop(VARIABLE, "")
    if named:
        path = Path(named).expanduser()  # in quotes the shell leaves ~ as it is
        if not path.is_file():
            raise DataError(f"{VARIABLE} = {named}: there is no such file; correct or unset the variable.")
        if path.suffix == ".toml":
            raise DataError(f"{VARIABLE} = {named}: settings are in the form of luigi.cfg; a .toml file is not read.")
        os.environ[VARIABLE] = str(path)
    with mock.patch.object(configparser.RawConfigParser, "read", read):
        import luigi  # noqa: F401
    from luigi.configuration import LuigiConfigParser

    LuigiConfigParser.read = read  # type: ignore[method-assign, assignment]
    LuigiConfigParser.reload()  # where Luigi was imported before, as by its own command line


def in_words() -> str:
    """Return which settings files were read."""
    files = ", ".join(found)
    if "luigi.cfg" in found:
        return f"Settings: {files}."
    return f"Settings: {files or 'no file'}; there is no luigi.cfg in {Path.cwd()}, so the published defaults hold."
