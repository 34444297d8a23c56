"""Draw random cameras that see a whole person, and project points into their images.

World frame: z up, mm. Camera frame: x right, y down, z forward, mm. Image: a square heatmap; points (u, v) are in 0-based px of
the heatmap, with pixel centres at integers. The distribution of the cameras and the formulas are those of skeleton2d3d (Chao et
al., CVPR 2017) for heatmaps of 64 px; for other sizes, the focal length in px is proportional to the size.

With `published` = True, three mistakes of skeleton2d3d are repeated: negative focal lengths are allowed, a joint counts as in
front of the camera if its depth in mm is at least the focal length in px, and the image's centre is off by half a pixel.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from datasets.errors import DataError

FOCAL, FOCAL_STD = 73.6 / 64, 28.8 / 64  # mean and standard deviation of (focal length / side of the image)
DISTANCE = (1000.0, 5000.0)  # mm from the camera to the origin of the world frame, where the person is
ELEVATION = (-5.0, 30.0)  # degrees; angle of the camera above the horizontal plane through the origin
ROLL, PAN, TILT = (-5.0, 5.0), (-45.0, 45.0), (-30.0, 5.0)  # degrees by which the camera is rotated
NEAR = 200.0  # mm; smallest depth at which a joint counts as in front of the camera
LEAST_AREA = 0.1  # smallest fraction of the image that the bounding box of the joints must cover
MOST_DRAWS = 100_000  # largest number of cameras drawn for one person; none of 1,500 real poses needed more than 213
_AT_ONCE = 1 << 20  # number of joints that are projected at a time, to limit memory


@dataclass(frozen=True)
class Cameras:
    """N cameras, each with a rotation, a position and a focal length."""

    rotation: np.ndarray  # (N, 3, 3): from the world frame to the camera frame
    position: np.ndarray  # (N, 3) mm, world frame
    focal: np.ndarray  # (N,) px

    def view(self, points: np.ndarray) -> np.ndarray:
        """Return points (N, ..., J, 3) mm, transformed from the world frame to the frames of the N cameras."""
        single = (len(points), *[1] * (points.ndim - 3))
        turn = self.rotation.transpose(0, 2, 1).reshape(*single, 3, 3)
        return (points - self.position.reshape(*single, 1, 3)) @ turn

    def __getitem__(self, chosen: np.ndarray) -> "Cameras":
        return Cameras(self.rotation[chosen], self.position[chosen], self.focal[chosen])


def principal_point(side: int, published: bool) -> float:
    """Return the coordinate in 0-based px (u and v are equal) of the image's centre; side: side of the image in px.

    published: whether to return the centre of skeleton2d3d, which is off by half a pixel: for a side of 64 px, 31 and not 31.5.
    """
    return side / 2 - 1 if published else (side - 1) / 2


def project(points: np.ndarray, focal: np.ndarray, center: float) -> np.ndarray:
    """Return the image coordinates (N, ..., 2) in px of points in the camera frame.

    points: (N, ..., 3) mm; focal: (N,) px; the principal point is (center, center) px. Points at depth 0 have
    infinite or NaN coordinates.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return points[..., :2] / points[..., 2:] * focal.reshape(-1, *[1] * (points.ndim - 1)) + center


def draw_cameras(poses: np.ndarray, side: int, rng: Generator, published: bool = False) -> Cameras:
    """Return for each of N people a random camera that sees all joints of the person at all T moments.

    poses: (N, T, J, 3) mm, world frame, centred on the origin; side: side of the image in px. Cameras are drawn until each
    joint lies in front of the camera and within [0, side - 1] in the image, and the joints' bounding box covers at least
    LEAST_AREA of the image on average over the moments. Equal states of `rng` give equal cameras. Raises DataError if
    about MOST_DRAWS cameras were drawn for a person, and none of them sees the person as required.
    """
    count = len(poses)
    found = Cameras(np.empty((count, 3, 3)), np.empty((count, 3)), np.empty(count))
    missing, draws = np.arange(count), 0
    while len(missing):
        if draws >= MOST_DRAWS:
            raise DataError(
                f"a pose is not completely visible to any of {draws} random cameras; check that it is of a person, in mm."
            )
        each = int(np.clip(_AT_ONCE // (len(missing) * poses[0, ..., 0].size), 1, 64))
        cameras = _random_cameras(len(missing) * each, side, rng)
        seen = _sees(cameras, np.repeat(poses[missing], each, axis=0), side, published).reshape(len(missing), each)
        done = np.flatnonzero(seen.any(axis=1))
        first = cameras[done * each + seen[done].argmax(axis=1)]
        for values, new in zip(_fields(found), _fields(first), strict=True):
            values[missing[done]] = new
        missing, draws = np.delete(missing, done), draws + each
    return found


def _fields(cameras: Cameras) -> tuple[np.ndarray, ...]:
    return cameras.rotation, cameras.position, cameras.focal


def _random_cameras(count: int, side: int, rng: Generator) -> Cameras:
    focal = side * rng.normal(FOCAL, FOCAL_STD, count)
    distance = rng.uniform(*DISTANCE, count)
    azimuth, elevation = np.radians(rng.uniform(-180, 180, count)), np.radians(rng.uniform(*ELEVATION, count))
    roll, pan, tilt = (np.radians(rng.uniform(*limits, count)) for limits in (ROLL, PAN, TILT))
    flat = np.cos(elevation)
    position = distance[:, None] * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    zero, right = np.zeros(1), np.radians([90.0])
    to_camera = frame_rotation(right, zero, -right) @ frame_rotation(azimuth, -elevation, np.zeros(count))
    return Cameras(frame_rotation(roll, pan, tilt) @ to_camera, position, focal)


def frame_rotation(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the matrices Rx(x) Ry(y) Rz(z), (N, 3, 3), which rotate the frame, not points; z, y, x: (N,) radians.

    MATLAB's angle2dcm(z, y, x, 'ZYX') returns the same matrices.
    """
    return _about(0, x) @ _about(1, y) @ _about(2, z)


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Return the matrices (N, 3, 3) that rotate the frame about one axis (0 to 2: x, y, z); angle: (N,) radians."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.zeros((len(angle), 3, 3))
    turn[:, axis, axis] = 1
    turn[:, first, first] = turn[:, second, second] = np.cos(angle)
    turn[:, first, second], turn[:, second, first] = np.sin(angle), -np.sin(angle)
    return turn


def _sees(cameras: Cameras, poses: np.ndarray, side: int, published: bool) -> np.ndarray:
    """Return whether each camera sees its person as `draw_cameras` requires, (N,) bool; poses: (N, T, J, 3) mm, world frame."""
    points = cameras.view(poses)
    focal = cameras.focal
    nearest = points[..., 2].min(axis=(1, 2))
    in_front = nearest >= focal if published else (nearest >= NEAR) & (focal > 0)
    pixels = project(points, focal, principal_point(side, published))
    pixels = np.nan_to_num(pixels, nan=np.inf)
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    inside = (low >= 0).all(axis=(1, 2)) & (high <= side - 1).all(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        area = (high - low).prod(axis=-1).mean(axis=1)
    return in_front & inside & (area >= LEAST_AREA * side**2)
