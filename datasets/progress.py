"""How long work tells how far it is: `report(done, total, text)`, as often as it likes."""

from collections.abc import Callable

Report = Callable[..., object]


def silent(*_: object) -> None:
    """Where nobody listens."""
