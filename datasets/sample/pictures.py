"""Draw complete pictures with people, backgrounds and objects: still pictures of daily life, and clips of people doing sports.

Pictures and clips have exact labels: the position of every joint in 0-based px, and whether the joint is visible.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from datasets.sample.people import RIGHT_HAND, Figure, Look, draw_ground_shadow, draw_person, hsv, visible_joints
from datasets.sample.poses import ACTIONS, build_figures, everyday_pose, vary_lengths
from datasets.sample.scenes import draw_box, draw_place, draw_post, finish
from datasets.skeletons import matching_joints

_PAN = 8  # largest camera movement of a clip to either side, in px
_PENN_FROM_MPII = [joint for joint in matching_joints(MPII.skeleton.joints, PENN_ACTION.skeleton.joints) if joint is not None]


@dataclass
class Person:
    """One drawn person, with the data from which annotations are made."""

    figure: Figure
    look: Look
    sitting: bool
    visible: np.ndarray | None = None  # (16,) bool: which joints are visible; set after the whole picture is drawn


def draw_still(rng: Generator, size: tuple[int, int], count: int) -> tuple[np.ndarray, list[Person]]:
    """Return a picture (H, W, 3) uint8 BGR of `count` people, and these people from left to right; size: (H, W) px."""
    height, width = size
    image = draw_place(rng, height, width, sporty=False)
    labels = np.zeros((height, width), np.uint8)
    crowd = [_everyday_person(rng, (k * width / count, (k + 1) * width / count), height) for k in range(count)]
    # People lower in the image are nearer, and are drawn last.
    for k in sorted(range(count), key=lambda k: crowd[k].figure.points[:, 1].max()):
        person = crowd[k]
        draw_ground_shadow(image, person.figure)
        if person.sitting:
            _draw_seat(rng, image, person.figure)
        draw_person(image, labels, person.figure, person.look, k)
    if count and rng.random() < 0.2:
        _hide_something(rng, image, labels, crowd[0].figure)
    for k, person in enumerate(crowd):
        person.visible = visible_joints(labels, person.figure, k)
    gain = rng.uniform(0.85, 1.12)
    tint = (gain * rng.uniform(0.94, 1.06), gain, gain * rng.uniform(0.94, 1.06))
    return finish(rng, image, rng.uniform(0.45, 0.8), rng.uniform(2, 6), tint), crowd


def _everyday_person(rng: Generator, lane: tuple[float, float], height: int) -> Person:
    """Return a person in a still pose, placed between the image columns `lane`; some people are too large for the image."""
    movement, kind = everyday_pose(rng)
    # Degrees by which the person is turned: front, back or side view.
    facing = (rng.normal(0, 22), rng.normal(180, 20), rng.choice([-1, 1]) * rng.uniform(40, 75))
    yaw = float(facing[rng.choice(3, p=[0.74, 0.14, 0.12])])
    (figure,) = build_figures(movement, yaw, rng.uniform(2, 14), rng.normal(0, 4), 1.0)
    low, high = figure.points[:, :2].min(0), figure.points[:, :2].max(0)
    room = np.array([lane[1] - lane[0], height])
    scale = float(min(rng.uniform(0.62, 0.92) * height / (high - low)[1], 0.95 * room[0] / (high - low)[0], 1.1 * height))
    spare = np.maximum(0, 0.94 * room - scale * (high - low))
    middle = np.array([np.mean(lane), height / 2]) + rng.uniform(-0.5, 0.5, 2) * spare
    if rng.random() < 0.13:  # a person near the camera; the image's lower edge or side cuts off a part of the body
        scale *= rng.uniform(1.15, 1.5)
        middle[1] = max(middle[1], 0.06 * height + scale * (high - low)[1] / 2)
        middle[0] += rng.uniform(-0.12, 0.12) * scale
    figure = _moved(figure, scale, middle - scale * (low + high) / 2)
    return Person(figure, Look.random(rng, sporty=False), sitting=kind == "sitting")


def _moved(figure: Figure, scale: float, offset: np.ndarray) -> Figure:
    points = figure.points * scale + np.append(offset, 0.0)
    return replace(figure, points=points, height=figure.height * scale)


def _draw_seat(rng: Generator, image: np.ndarray, figure: Figure) -> None:
    pelvis, h = figure.points[6, :2], figure.height
    ground = figure.points[[0, 5], 1].mean()
    width = rng.uniform(0.24, 0.4) * h
    draw_box(
        image,
        pelvis + (-width / 2, 0.02 * h),
        np.array([width, max(4.0, ground - pelvis[1])]),
        hsv(rng.uniform(5, 25), 120, rng.uniform(70, 170)),
    )


def _hide_something(rng: Generator, image: np.ndarray, labels: np.ndarray, figure: Figure) -> None:
    """Draw a crate as high as a table, or a post, in front of a person."""
    h, colour = figure.height, hsv(rng.uniform(0, 180), rng.uniform(30, 170), rng.uniform(60, 210))
    if rng.random() < 0.6:
        knee = figure.points[[1, 4], :2].mean(0)
        corner = knee + rng.uniform((-0.35, -0.05), (0.1, 0.22)) * h
        draw_box(image, corner, rng.uniform((0.18, 0.3), (0.45, 0.6)) * h, colour, labels)
    else:
        draw_post(image, labels, figure.points[6, 0] + rng.uniform(-0.3, 0.3) * h, rng.uniform(0.04, 0.08) * h, colour)


def penn_joints(points: np.ndarray) -> np.ndarray:
    """Return the 13 joints of Penn Action (..., 13, 3), computed from points of figures (..., 20, 3) in any coordinates."""
    head = points[..., 8, :] + 0.85 * (points[..., 9, :] - points[..., 8, :])  # the middle of the upper head
    return np.concatenate([head[..., None, :], points[..., _PENN_FROM_MPII[1:], :]], axis=-2)


@dataclass
class Clip:
    """All parameters of a sequence: the figures in all frames, the background, and the object in front of the person."""

    rng: Generator
    size: tuple[int, int]
    yaw: float  # degrees by which the person is turned to the viewer's right
    # 3 figures per frame: the labelled figure, and the figures just before and just after it, which are drawn as motion blur.
    figures: list[Figure]
    tool: str
    look: Look
    place: np.ndarray  # (H, W + 2 * _PAN, 3) uint8 BGR, the background
    pan: np.ndarray  # (T,) integer px: how far the camera has moved to the right
    thing: str  # object in front of the person: "" (none), box or post
    thing_x: np.ndarray  # (T,) position of the object in px
    tint: tuple[float, float, float]
    sharpness: float

    @classmethod
    def prepare(cls, rng: Generator, action: str, length: int, size: tuple[int, int]) -> "Clip":
        """Return a sequence with random parameters: the person, the speed, the camera and the background."""
        height, width = size
        move, (least, most) = ACTIONS[action]
        yaw = float(rng.choice([-1, 1]) * rng.uniform(least, most))
        if action != "pushup" and rng.random() < 0.15:
            yaw += 180.0
        t = np.arange(length)
        moments = np.stack([t, t - 0.08, t + 0.08], 1).ravel()
        # Like Penn Action's videos, a sequence shows one whole action, from rest to rest.
        movement = move(moments / max(length - 1, 1) + rng.uniform(-0.03, 0.03), rng)
        movement.lengths = vary_lengths(rng)
        tall = (rng.uniform(0.78, 0.98) if action == "pushup" else rng.uniform(0.60, 0.74)) * height
        figures = build_figures(movement, yaw, rng.uniform(6, 16), rng.normal(0, 2), tall)
        spread = np.concatenate([figure.points[:, :2] for figure in figures])
        foot = np.array([width * rng.uniform(0.42, 0.58) - np.ptp(spread[:, 0]) / 2 - spread[:, 0].min(), 0])
        ground = rng.uniform(0.72, 0.92) if action == "pushup" else rng.uniform(0.90, 0.97)
        foot[1] = ground * height - spread[:, 1].max()
        pan = np.rint(rng.uniform(-1, 1) * (_PAN - 1) * np.sin(np.pi * (t / length - rng.uniform()))).astype(int)
        offsets = np.repeat(foot - np.stack([pan, np.zeros(length)], 1), 3, 0)
        figures = [_moved(figure, 1.0, offset) for figure, offset in zip(figures, offsets, strict=True)]
        thing = str(rng.choice(["", "", "box", "post"]))
        start, speed = rng.uniform(-0.2, 0.6) * width, rng.uniform(0.02, 0.06) * width
        still = foot[0] + spread[:, 0].mean() + rng.uniform(-0.5, 0.3) * tall
        return cls(
            rng=rng, size=size, yaw=yaw, figures=figures, tool=movement.tool, look=Look.random(rng, sporty=True),
            place=draw_place(rng, height, width + 2 * _PAN, sporty=True), pan=pan, thing=thing,
            thing_x=(start + speed * t if thing == "post" else still - pan),
            tint=tuple((rng.uniform(0.95, 1.15) * rng.uniform(0.92, 1.06, 3)).tolist()),
            sharpness=float(rng.uniform(0.5, 0.75)),
        )  # fmt: skip

    def frame(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return frame t: image (H, W, 3) uint8 BGR, joints (13, 2) in 0-based px, and whether they are visible (13,) bool."""
        middle, first, last = self.figures[3 * t : 3 * t + 3]
        left = _PAN + int(self.pan[t])
        empty = self.place[:, left : left + self.size[1]]
        labels = np.zeros(self.size, np.uint8)
        exposures = []
        for figure in (first, last):
            image = empty.copy()
            draw_ground_shadow(image, figure)
            self._draw_tool(image, middle)
            draw_person(image, labels, figure, self.look, 0)
            exposures.append(image)
        image = cv2.addWeighted(exposures[0], 0.5, exposures[1], 0.5, 0)
        colour, x, h = self.look.print, self.thing_x[t], middle.height
        if self.thing == "post":
            draw_post(image, labels, x, 0.09 * h, colour)
        elif self.thing == "box":
            corner = np.array([x, middle.points[:, 1].max() - 0.12 * h])
            draw_box(image, corner, np.array([0.3, 0.4]) * h, colour, labels)
        joints = penn_joints(middle.points)[:, :2]
        visible = visible_joints(labels, middle, 0)[_PENN_FROM_MPII]
        return finish(self.rng, image, self.sharpness, 4.0, self.tint), joints, visible

    def _draw_tool(self, image: np.ndarray, figure: Figure) -> None:
        p, h = figure.points[:, :2], figure.height
        if self.tool == "club":
            grip = p[[10, 15]].mean(0)
            way = (grip - p[7]) / max(float(np.hypot(*(grip - p[7]))), 1e-6)
            cv2.line(
                image,
                np.rint(grip).astype(int).tolist(),
                np.rint(grip + way * 0.42 * h).astype(int).tolist(),
                (70, 70, 75),
                2,
                cv2.LINE_AA,
            )
        elif self.tool == "ball":
            cv2.circle(image, np.rint(p[RIGHT_HAND]).astype(int).tolist(), round(0.06 * h), self.look.print, -1, cv2.LINE_AA)
