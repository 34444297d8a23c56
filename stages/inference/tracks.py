"""People in videos: which box is whose from frame to frame, and joints without jitter."""

import numpy as np
from OneEuroFilter import OneEuroFilter
from scipy.optimize import linear_sum_assignment

LEAST_OVERLAP = 0.3  # intersection over union of a person's boxes in two frames
KEPT = 30  # frames for which a person who is not seen keeps the number
REST = 1.0  # Hz, cutoff of the filter for a joint at rest
SPEED = 12.0  # Hz, added to the cutoff for each box side per second


class Tracker:
    """Numbers people by the overlap of their boxes: equal numbers are the same person."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[np.ndarray, int]] = {}  # number -> the person's last box, and its frame
        self._frame = self._next = 0

    def update(self, boxes: np.ndarray) -> list[int]:
        """Return the number of the person in each box (P, 4) of the next frame: left, top, right, bottom in px."""
        self._frame += 1
        self._last = {n: seen for n, seen in self._last.items() if self._frame - seen[1] <= KEPT}
        numbers, known = [-1] * len(boxes), list(self._last)
        if known and len(boxes):
            overlap = overlaps(np.array([self._last[number][0] for number in known]), boxes)
            overlap[overlap < LEAST_OVERLAP] = 0  # such pairs must not take boxes away from others
            for before, now in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[before, now]:
                    numbers[now] = known[before]
        for place, number in enumerate(numbers):
            if number < 0:
                numbers[place], self._next = self._next, self._next + 1
            self._last[numbers[place]] = boxes[place], self._frame
        return numbers

    def known(self) -> set[int]:
        """Return the numbers that a box of the next frame may get again."""
        return set(self._last)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union (A, B) of boxes (A, 4) and (B, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


class Smoother:
    """Smooths the joints of each person with One Euro filters (Casiez et al., CHI 2012).

    A joint at rest is smoothed with a cutoff of 1 Hz. For one that moves by v sides of the person's box a second the cutoff is
    1 + SPEED * v Hz, so that fast movements do not lag. The box, not the pixel, is the unit of length, so that a video of
    another resolution is smoothed alike.
    """

    def __init__(self, rate: float) -> None:
        """rate: frames per second."""
        self._rate, self._filters = rate, dict[int, list[OneEuroFilter]]()

    def smooth(self, person: int, joints: np.ndarray, time: float, side: float) -> np.ndarray:
        """Return the joints (J, 2) float64 px of a person in the next frame.

        time: s since the video's start; side: longer side of the person's box in px, used where the person is new.
        """
        values = joints.ravel().tolist()
        if person not in self._filters:
            self._filters[person] = [OneEuroFilter(self._rate, REST, SPEED / side) for _ in values]
        filters = self._filters[person]
        shifted = time + 1  # OneEuroFilter takes the time 0 as unknown
        return np.array([one(value, shifted) for one, value in zip(filters, values, strict=True)]).reshape(joints.shape)

    def keep(self, people: set[int]) -> None:
        """Forget all other people, so that memory does not grow with the number of people in a video."""
        self._filters = {person: filters for person, filters in self._filters.items() if person in people}
