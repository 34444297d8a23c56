"""Read settings files for Luigi in all encodings that editors write, and record which files were read.

By default, Luigi reads the files during its import, in the locale's encoding, and ignores files that it cannot open. Therefore
`import_luigi` replaces the method `read` of Luigi's parser by the function `read` of this module.
"""

import configparser
import os
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from datasets.errors import DataError
from datasets.files import decode_text

VARIABLE = "LUIGI_CONFIG_PATH"

found: list[str] = []  # the files that were read, in order: later files override earlier files


def read(parser: configparser.RawConfigParser, paths: Iterable[str], encoding: str | None = None) -> list[str]:
    """Read settings files into a parser, as `ConfigParser.read` does; return the paths of the files that exist.

    Raises DataError for a file that cannot be read or parsed.
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
    """Import Luigi so that it reads its settings files by `read`.

    Raises DataError for settings that cannot be read, and if LUIGI_CONFIG_PATH is the path of a missing file or a .toml file.
    """
    named = os.environ.pop(VARIABLE, "")
    if named:
        path = Path(named).expanduser()  # expand ~ here, because a shell does not expand it inside quotes
        if not path.is_file():
            raise DataError(f"{VARIABLE} = {named}: there is no such file; correct or unset the variable.")
        if path.suffix == ".toml":
            raise DataError(f"{VARIABLE} = {named}: settings are in the form of luigi.cfg; a .toml file is not read.")
        os.environ[VARIABLE] = str(path.absolute())  # --workspace may change the current folder
    with mock.patch.object(configparser.RawConfigParser, "read", read):
        import luigi  # noqa: F401
    from luigi.configuration import LuigiConfigParser

    LuigiConfigParser.read = read  # type: ignore[method-assign, assignment]
    LuigiConfigParser.reload()  # read the files by `read`, even if Luigi was imported earlier, as by the command `luigi`


def in_words() -> str:
    """Return a sentence that says which settings files were read."""
    files = ", ".join(found)
    if "luigi.cfg" in found:
        return f"Settings: {files}."
    return f"Settings: {files or 'no file'}; there is no luigi.cfg in {Path.cwd()}, so the published defaults apply."
