"""How long work tells how far it is: `report(done, total, text)`, as often as it likes; with unit="B" it counts bytes."""

from collections.abc import Callable

Report = Callable[..., object]


def silent(*_: object, **__: object) -> None:
    """Where nobody listens."""
