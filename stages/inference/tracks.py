"""Track people through a video by the overlap of their boxes, and smooth the jitter of their joints."""

import numpy as np
from OneEuroFilter import OneEuroFilter
from scipy.optimize import linear_sum_assignment

LEAST_OVERLAP = 0.3  # smallest intersection over union of two boxes that are taken for the same person
KEPT = 30  # largest number of frames between two boxes of a person; after more frames, the person is forgotten
REST = 1.0  # Hz, cutoff frequency of the filter for a joint at rest
SPEED = 12.0  # Hz, added to the cutoff frequency of a joint for each box side that it moves per second


class Tracker:
    """A tracker that gives each person of a video a number, by the overlap of boxes in successive frames."""

    def __init__(self) -> None:
        # Number of a person -> the person's last box, and the number of the frame of that box.
        self._last: dict[int, tuple[np.ndarray, int]] = {}
        self._frame = self._next = 0

    def update(self, boxes: np.ndarray) -> list[int]:
        """Return the number of the person in each box of the next frame; boxes: (P, 4), left, top, right, bottom in px."""
        self._frame += 1
        self._last = {n: seen for n, seen in self._last.items() if self._frame - seen[1] <= KEPT}
        numbers, known = [-1] * len(boxes), list(self._last)
        if known and len(boxes):
            overlap = overlaps(np.array([self._last[number][0] for number in known]), boxes)
            # Pairs with little overlap must not change the assignment of the other pairs.
            overlap[overlap < LEAST_OVERLAP] = 0
            for before, now in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[before, now]:
                    numbers[now] = known[before]
        for place, number in enumerate(numbers):
            if number < 0:
                numbers[place], self._next = self._next, self._next + 1
            self._last[numbers[place]] = boxes[place], self._frame
        return numbers

    def known(self) -> set[int]:
        """Return the numbers of the people who are not forgotten yet; later boxes may still get these numbers."""
        return set(self._last)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union (A, B) of all pairs of boxes (A, 4) and (B, 4): left, top, right, bottom."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


class Smoother:
    """A smoother of joints in a video, with One Euro filters for each person (Casiez et al., CHI 2012).

    A joint at rest is smoothed with a cutoff frequency of REST Hz. For a joint that moves by v box sides per second, the cutoff
    frequency is REST + SPEED * v Hz, so that fast movements do not lag. The unit of length is the side of the person's box, not
    the pixel, so that smoothing does not depend on the resolution of the video.
    """

    def __init__(self, rate: float) -> None:
        """Create a smoother for one video; rate: frames per second of the video."""
        self._rate, self._filters = rate, dict[int, list[OneEuroFilter]]()

    def smooth(self, person: int, joints: np.ndarray, time: float, side: float) -> np.ndarray:
        """Return the smoothed joints (J, 2) float64 px of a person in the next frame.

        person: number of the person; joints: (J, 2) px; time: s since the video's start; side: longer side of the person's box
        in px, used only in the first frame of a person.
        """
        values = joints.ravel().tolist()
        if person not in self._filters:
            self._filters[person] = [OneEuroFilter(self._rate, REST, SPEED / side) for _ in values]
        filters = self._filters[person]
        shifted = time + 1  # OneEuroFilter treats the time 0 as unknown
        return np.array([one(value, shifted) for one, value in zip(filters, values, strict=True)]).reshape(joints.shape)

    def keep(self, people: set[int]) -> None:
        """Forget all people whose numbers are not in `people`, so that memory does not grow with the length of a video."""
        self._filters = {person: filters for person, filters in self._filters.items() if person in people}
