"""Links to results: symlinks or, on a disk without symlinks (exFAT, many network shares), text files with the result's name.

A link is in the same folder as its result: `exp/mpii/hg-256` points at `exp/mpii/hg-256@3f9c2a1b`.
"""

import os
import re
import socket
from pathlib import Path

from datasets.files import write_atomically

RESULT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[0-9a-f]{8}")  # regular expression of the name of a result's folder
_LONGEST = 300  # size limit in bytes of a text file that replaces a symlink to a result


def target(link: Path) -> Path | None:
    """Return the result folder that a link points at, whether it exists or not; None if `link` is not a link to a result."""
    try:
        if link.is_symlink():
            name = os.readlink(link)
        elif link.is_file() and link.stat().st_size <= _LONGEST:
            name = link.read_text(encoding="ascii").strip()
        else:
            return None
    except (OSError, ValueError):
        return None
    return link.with_name(name) if RESULT.fullmatch(name) else None


def point(link: Path, name: str) -> None:
    """Create or replace `link` atomically, so that it points at the result `name` in the link's own folder.

    Raises OSError if the link cannot be written.
    """
    temporary = link.with_name(f".{link.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a killed process with the same process id may have left this file
    try:
        os.symlink(name, temporary)
    except OSError:  # the disk probably has no symlinks; if it is full or read-only, writing the text file fails, too
        write_atomically(temporary, name.encode())
    try:
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def follow(path: Path) -> Path:
    """Return `path`; if a part of it is a text file that stands for a symlink, this part is replaced by the result's folder.

    On a disk without symlinks, exp/mpii/hg-256/best.safetensors becomes exp/mpii/hg-256@3f9c2a1b/best.safetensors. Symlinks in
    the path stay, because the operating system follows them.
    """
    for part in (path, *path.parents):
        if part.is_file() and not part.is_symlink():
            found = target(part)
            return found / path.relative_to(part) if found else path
    return path
