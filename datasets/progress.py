"""Define the type of progress callbacks. A long computation calls `report(done, total, text)`, with unit="B" for bytes.

The computation may call the callback at any rate.
"""

from collections.abc import Callable

Report = Callable[..., object]


def silent(*_: object, **__: object) -> None:
    """Ignore the progress; this function is the default callback."""
