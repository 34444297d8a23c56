"""Types of the values that are read from MATLAB files of version 5 and 7.3."""

from typing import Any

import numpy as np

MOST = 1 << 29  # largest size in bytes of a file, and of all its decompressed variables; MPII's file has 0.12e9 bytes


class Record:
    """One record of a struct array."""

    __slots__ = ("_places", "_source")

    def __init__(self, source: Any, places: dict[str, tuple[Any, ...]]) -> None:
        """Create a record. `source.value(*places[field])` returns the value of a field."""
        self._source, self._places = source, places

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str) -> "Value | None":
        """Return the value of a field, None for a missing field. Raises DataError for a damaged field."""
        place = self._places.get(name)
        return None if place is None else self._source.value(*place)


Value = float | np.ndarray | str | list[Record]
