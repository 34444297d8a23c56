"""The environment of programs that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python_path() -> str:
    """Return PYTHONPATH with this working tree in front.

    The entries that PYTHONPATH had before are kept, because packages may be installed there.
    """
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
