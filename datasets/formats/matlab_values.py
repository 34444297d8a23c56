"""The values that are read from MATLAB files of either version."""

from typing import Any

import numpy as np

MOST = 1 << 29  # bytes of a file, and of its variables when they are unpacked; MPII's has 0.12e9


class Record:
    """One record of a struct array."""

    __slots__ = ("_places", "_source")

    def __init__(self, source: Any, places: dict[str, tuple[Any, ...]]) -> None:
        """`source`: its `value`, called with the places of a field, gives the field's value."""
        self._source, self._places = source, places

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str) -> "Value | None":
        """The value of a field, None where there is no such field. Raises DataError where it is damaged."""
        place = self._places.get(name)
        return None if place is None else self._source.value(*place)


Value = float | np.ndarray | str | list[Record]
