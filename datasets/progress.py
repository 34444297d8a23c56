"""The type of progress callbacks: long work calls `report(done, total, text)`, with unit="B" for counts of bytes.

The work may call the callback at any rate.
"""

from collections.abc import Callable

Report = Callable[..., object]


def silent(*_: object, **__: object) -> None:
    """Ignore the progress; the default callback."""
