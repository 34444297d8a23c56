"""Forecast without a network: by repeating the pose, by nearest neighbours among the training frames, or by a linear map.

A query is the pose of a start frame, labelled or predicted. Queries: (N, J, 2) in 0-based px, NaN for unknown joints.
`nearest_neighbour` follows Chao et al. (CVPR 2017): NN-all searches all training frames, NN-oracle only the frames of the
query's true action. `nearest_mean` and `linear_map` subtract each pose's mean, and use the cropped frame's longer side
as the unit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stages.forecasting.movements import STEPS, Movements, Starts, published_starts

CHUNK = 1024  # number of queries that are computed at a time
ENOUGH = 9  # smallest number of visible joints of a frame in the database; chosen by Chao et al. on the validation split
NEAREST = 50  # number of neighbours whose displacements `nearest_mean` averages
RIDGE = 1e-3  # added to the diagonal of the linear map's normal equations; the inputs, centred poses, have values of about 0.3

Forecasts = Iterator[tuple[np.ndarray, np.ndarray]]  # indices of n start frames (n,), and the forecasts (n, T, J, 2)


def zero_velocity(query: np.ndarray) -> Forecasts:
    """Yield forecasts that repeat the query pose at every step."""
    for numbers in _chunks(len(query)):
        yield numbers, np.repeat(query[numbers, None], STEPS, axis=1)


@dataclass(frozen=True)
class Database:
    """The training frames among which neighbours are searched, with the movement that follows each frame."""

    movements: Movements
    starts: Starts  # the frames with enough visible joints, as start frames

    @classmethod
    def of(cls, movements: Movements, visible: int) -> "Database":
        """Return the database of the frames that show at least `visible` joints."""
        starts = published_starts(movements)
        shown = (~np.isnan(movements.joints[starts.rows[:, 0]]).any(axis=-1)).sum(axis=1)
        return cls(movements, starts.select(shown >= visible))

    @property
    def poses(self) -> np.ndarray:
        """Return the poses of the frames, (M, J, 2) px."""
        return self.movements.joints[self.starts.rows[:, 0]]

    @property
    def side(self) -> np.ndarray:
        """Return the longer side of each frame, (M,) px."""
        return self.movements.side[self.starts.sequence]

    @property
    def actions(self) -> np.ndarray:
        """Return the action of each frame, (M,) text."""
        return np.array(self.movements.action)[self.starts.sequence]


def nearest_neighbour(train: Movements, query: np.ndarray, actions: np.ndarray | None = None) -> Forecasts:
    """Yield for each query the movement after the most similar training frame; it is shifted and scaled to fit the query.

    actions: (N,) text, true action of each query; only training frames with this action are searched (NN-oracle). None: all
    training frames are searched (NN-all). Query and training frame are normalised on the joints visible in the training frame:
    minus the mean of these joints, divided by the largest distance of a joint from this mean. The distance between poses is the
    sum of squared differences divided by the number of these joints. A joint that is hidden in the neighbour's movement at a
    step has no forecast (NaN) at this step.
    """
    database = Database.of(train, ENOUGH)
    shown = ~np.isnan(database.poses).any(axis=-1)
    for members, candidates in _by_action(database, len(query), actions):
        groups = _by_pattern(database, shown, candidates)
        for start in range(0, len(members), CHUNK):
            numbers = members[start : start + CHUNK]
            best, neighbour = np.full(len(numbers), np.inf), np.zeros(len(numbers), np.int64)
            for pattern, rows, vectors in groups:
                usable = np.flatnonzero(~np.isnan(query[numbers][:, pattern]).any(axis=(1, 2)))
                if len(usable):
                    nearest, distance = _nearest(_normalised(query[numbers[usable]][:, pattern]), vectors)
                    better = distance / pattern.sum() < best[usable]
                    best[usable[better]] = distance[better] / pattern.sum()
                    neighbour[usable[better]] = rows[nearest[better]]
            yield numbers, _moved(database, neighbour, shown, query[numbers], best)


def _by_action(database: Database, count: int, actions: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each action, the indices of its queries, and the indices of its frames in the database.

    If `actions` is None, yield once the indices of all queries and of all frames.
    """
    if actions is None:
        yield np.arange(count), np.arange(len(database.starts))
        return
    of_database = database.actions
    for action in np.unique(actions):
        yield np.flatnonzero(actions == action), np.flatnonzero(of_database == action)


def _by_pattern(
    database: Database, shown: np.ndarray, candidates: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Group training frames so that all frames of a group show the same V joints; candidates: the frames' rows in the database.

    Return for each group: the mask of these joints (J,), its rows in the database (M,) and its normalised poses (M, 2 V).
    """
    if not len(candidates):
        return []
    patterns, group = np.unique(shown[candidates], axis=0, return_inverse=True)
    rows = [candidates[group.ravel() == i] for i in range(len(patterns))]
    poses = database.poses
    return [(p, r, _normalised(poses[r][:, p])) for p, r in zip(patterns, rows, strict=True)]


def _nearest(queries: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query (N, F) the index of the nearest of the vectors (M, F), and its squared distance, both (N,)."""
    # |q - v|^2 = |q|^2 + |v|^2 - 2 q v: the first term is equal for all vectors, so it does not decide which is nearest.
    scores = queries @ vectors.T
    scores *= -2
    scores += (vectors**2).sum(axis=1)
    nearest = scores.argmin(axis=1)
    return nearest, ((queries - vectors[nearest]) ** 2).sum(axis=1)


def _moved(database: Database, neighbour: np.ndarray, shown: np.ndarray, query: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the neighbours' movements (n, T, J, 2), shifted and scaled to fit the queries (n, J, 2).

    The movement of a query without a neighbour is NaN.
    """
    movement = database.movements.joints[database.starts.rows[neighbour]]
    visible = shown[neighbour][..., None]
    theirs, ours = (np.where(visible, poses, np.nan) for poses in (movement[:, 0], query))
    their_mean, our_mean = _mean(theirs, 1), _mean(ours, 1)
    their_size, our_size = (
        np.where(visible[..., 0], np.linalg.norm(poses - mean[:, None], axis=-1), 0).max(axis=1)
        for poses, mean in ((theirs, their_mean), (ours, our_mean))
    )
    factor = (our_size / np.maximum(their_size, 1e-9))[:, None, None, None]
    moved = (movement - their_mean[:, None, None]) * factor + our_mean[:, None, None]
    moved[~np.isfinite(best)] = np.nan
    return moved


def nearest_mean(train: Movements, query: np.ndarray, side: np.ndarray, actions: np.ndarray | None = None) -> Forecasts:
    """Yield the query plus the mean displacements in the movements that follow the 50 most similar training frames.

    Only training frames that show all joints are used; without such frames, the forecast repeats the query.
    side: (N,) px, longer side of the queries' cropped frames; actions: as for `nearest_neighbour`. Poses are centred and
    compared on the joints that are known in the query.
    """
    database = Database.of(train, train.joints.shape[1])
    theirs, displacements = database.poses / database.side[:, None, None], _displacements(database)
    shown = ~np.isnan(query).any(axis=-1)
    for members, candidates in _by_action(database, len(query), actions):
        patterns, group = np.unique(shown[members], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            alike = members[group.ravel() == number]
            vectors = _centred(theirs[candidates][:, pattern]) if pattern.any() else np.empty((0, 0))
            for start in range(0, len(alike), CHUNK):
                numbers = alike[start : start + CHUNK]
                ours = query[numbers] / side[numbers, None, None]
                moved = np.zeros((len(numbers), *displacements.shape[1:]))
                if len(vectors):
                    distance = _squared_distances(_centred(ours[:, pattern]), vectors)
                    count = min(NEAREST, distance.shape[1])
                    nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
                    moved = np.nan_to_num(_mean(displacements[candidates[nearest]], 1))
                yield numbers, (ours[:, None] + moved) * side[numbers, None, None, None]


def linear_map(train: Movements, query: np.ndarray, side: np.ndarray, actions: np.ndarray | None = None) -> Forecasts:
    """Yield the query plus the displacements that a linear map predicts from the pose.

    There is one map for all queries, or one map for each action if `actions` are given. The maps are fitted by least squares to
    the training frames that show all joints. For a query with an unknown joint, the forecast repeats the query.
    The arguments are those of `nearest_mean`.
    """
    database = Database.of(train, train.joints.shape[1])
    theirs, displacements = _centred(database.poses / database.side[:, None, None]), _displacements(database)
    for members, candidates in _by_action(database, len(query), actions):
        weights = _fit(theirs[candidates], displacements[candidates])
        for start in range(0, len(members), CHUNK):
            numbers = members[start : start + CHUNK]
            ours = query[numbers] / side[numbers, None, None]
            moved = np.einsum("nf,ftjc->ntjc", _with_one(_centred(ours)), weights)
            yield numbers, (ours[:, None] + np.nan_to_num(moved)) * side[numbers, None, None, None]


def _fit(poses: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Return the weights (F + 1, T, J, 2) of a linear map from poses (M, F) to displacements (M, T, J, 2); the bias is last.

    displacements: NaN for hidden joints, which are left out of the fit.
    """
    inputs = _with_one(poses)
    known = ~np.isnan(displacements).any(axis=-1)
    features, (_, steps, joints, _) = inputs.shape[1], displacements.shape
    squares = np.einsum("mf,mg->mfg", inputs, inputs).reshape(len(inputs), features**2)
    left = (known.reshape(len(inputs), steps * joints).T.astype(np.float64) @ squares).reshape(
        steps, joints, features, features
    )
    right = np.einsum("mf,mtjc->tjfc", inputs, np.where(known[..., None], displacements, 0))
    return np.linalg.solve(left + RIDGE * np.eye(features), right).transpose(2, 0, 1, 3)


def _with_one(poses: np.ndarray) -> np.ndarray:
    return np.concatenate([poses, np.ones((len(poses), 1))], axis=1)


def _displacements(database: Database) -> np.ndarray:
    """Return the displacements (M, T, J, 2) of joints from the first step to each step, in units of the frame's longer side."""
    movement = database.movements.joints[database.starts.rows]
    return (movement - movement[:, :1]) / database.side[:, None, None, None]


def _centred(poses: np.ndarray) -> np.ndarray:
    """Return poses (N, V, 2) minus their mean, as (N, 2 V)."""
    return (poses - poses.mean(axis=1, keepdims=True)).reshape(len(poses), 2 * poses.shape[1])


def _normalised(poses: np.ndarray) -> np.ndarray:
    """Return poses (N, V, 2) minus their mean, divided by the largest distance from the mean, as (N, 2 V) float32."""
    centred = poses - poses.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=-1).max(axis=1)
    return (centred / np.maximum(size, 1e-9)[:, None, None]).reshape(len(poses), 2 * poses.shape[1]).astype(np.float32)


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the squared distance (N, M) of each vector in `first` (N, F) from each vector in `second` (M, F)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    return squares - 2 * first @ second.T


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean along an axis over the values that are not NaN; NaN if all values are NaN."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis=axis) / np.where(known.any(axis=axis), known.sum(axis=axis), np.nan)


def _chunks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, CHUNK):
        yield np.arange(start, min(start + CHUNK, count))


def baselines(train: Movements, movements: Movements, starts: Starts, query: np.ndarray) -> dict[str, Callable[[], Forecasts]]:
    """Return name of a baseline -> function that yields its forecasts; query: poses (N, J, 2) of the start frames."""
    side, actions = movements.side[starts.sequence], np.array(movements.action)[starts.sequence]
    return {
        "zero velocity": lambda: zero_velocity(query),
        "NN-all": lambda: nearest_neighbour(train, query),
        "NN-oracle": lambda: nearest_neighbour(train, query, actions),
        f"mean of {NEAREST} nearest": lambda: nearest_mean(train, query, side),
        f"mean of {NEAREST} nearest, action known": lambda: nearest_mean(train, query, side, actions),
        "linear map": lambda: linear_map(train, query, side),
        "linear map, action known": lambda: linear_map(train, query, side, actions),
    }
