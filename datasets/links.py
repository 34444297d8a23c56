"""Links to results: symbolic links, or where a disk has none (exFAT, many network shares) text files that name the result.

A link stands beside its result: `exp/mpii/hg-256` points at `hg-256@3f9c2a1b` in the same folder.
"""

import os
import re
from pathlib import Path

from datasets.files import write_atomically

RESULT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[0-9a-f]{8}")  # the name of a result's folder
_LONGEST = 300  # bytes of a text file that may name a result


def target(link: Path) -> Path | None:
    """Return the folder that a link of ours points at, whether the folder is there or not; None where it is no link of ours."""
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
    """Let a link point at the folder `name` beside it, in one step. Raises OSError where the disk refuses any kind of link."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        os.symlink(name, temporary)
    except OSError:  # a disk without symbolic links; a disk that is full or read-only refuses the file, too
        write_atomically(temporary, name.encode())
    try:
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def follow(path: Path) -> Path:
    """Return a path with text files that name a result replaced by the result: exp/mpii/hg-256/best.safetensors on such a disk.

    Symbolic links stay as they are, the operating system follows them.
    """
    for part in (path, *path.parents):
        if part.is_file() and not part.is_symlink():
            found = target(part)
            return found / path.relative_to(part) if found else path
    return path
