"""Compute 3D poses and movements of the people in the built-in sample data.

Coordinates are relative to the person: x to the person's left, y down, z forward; the unit is the person's height. The
direction of a body segment is given by two angles in degrees: `outward` (away from the middle of the body) and `forward`. At
(0, 0), limbs hang down, and torso and head are upright. All arrays cover T moments; a still pose has T = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from datasets.sample.people import Figure

SEGMENTS = (
    "torso", "head", "right_upper_arm", "left_upper_arm", "right_forearm", "left_forearm",
    "right_thigh", "left_thigh", "right_shank", "left_shank",
)  # fmt: skip
TORSO, HEAD, UPPER_ARMS, FOREARMS, THIGHS, SHANKS = 0, 1, slice(2, 4), slice(4, 6), slice(6, 8), slice(8, 10)
RIGHT_LEFT = np.array([-1.0, 1.0])
# Lengths of body segments as fractions of the person's height, from common anthropometric tables.
LENGTHS = {
    "torso": 0.29, "neck": 0.05, "head": 0.145, "upper_arm": 0.17, "forearm": 0.15, "hand": 0.075, "thigh": 0.245,
    "shank": 0.235, "foot": 0.095, "hips": 0.052, "shoulders": 0.105, "heel": 0.035,
}  # fmt: skip


@dataclass
class Movement:
    """Angles of the body over T moments."""

    angles: np.ndarray  # (T, 10, 2) degrees (outward, forward), in the order of SEGMENTS
    twist: np.ndarray | float = 0.0  # (T,) degrees by which the shoulders are turned to the person's left, relative to the hips
    lift: np.ndarray | float = 0.0  # (T,) height of a jump above the ground
    hands: np.ndarray | None = None  # (T, 2, 3): right and left wrist relative to the thorax; None: the angles determine them
    anchor: str = "feet"  # the body part that stays at one place: feet or pelvis
    tool: str = ""  # what the person holds: club (in both hands) or ball (in the right hand)
    lengths: dict[str, float] = field(default_factory=lambda: dict(LENGTHS))


def build_figures(movement: Movement, yaw: float, pitch: float, roll: float, height: float) -> list[Figure]:
    """Return the T figures of a movement in px, seen by one camera; the point on the ground below the anchor is at (0, 0).

    yaw: degrees by which the person is turned to the viewer's right (0 faces the viewer, 180 shows the back); pitch: degrees by
    which the camera looks down; roll: degrees by which the picture is turned clockwise; height: the person's height in px.
    """
    points, head, chest = _pose_in_space(movement)
    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    look_down = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tip = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    view = tip @ look_down @ turn
    points, head, chest = points @ view.T * height, head @ view.T, chest @ view.T
    return [Figure(points[t], head[t], chest[t], height) for t in range(len(points))]


def _pose_in_space(movement: Movement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (T, 20, 3), head axes (T, 3, 3) and chest direction (T, 3) relative to the person; ground at y = 0."""
    a, size = np.radians(movement.angles), movement.lengths
    moments = len(a)
    up, head_up = _upward(a[:, TORSO]), _upward(a[:, HEAD])
    p = np.zeros((moments, 20, 3))
    p[:, 7] = size["torso"] * up
    p[:, 8] = p[:, 7] + size["neck"] * _unit(up + head_up)
    p[:, 9] = p[:, 8] + size["head"] * head_up
    twist = np.radians(np.broadcast_to(movement.twist, moments))
    lean = a[:, TORSO, 0]
    across = np.stack([np.cos(lean) * np.cos(twist), np.sin(lean), -np.sin(twist)], 1)
    hips_across = np.stack([np.cos(lean / 3), np.sin(lean / 3), np.zeros(moments)], 1)
    sides = [((12, 11, 10, 18), (2, 1, 0, 16)), ((13, 14, 15, 19), (3, 4, 5, 17))]
    for k, ((shoulder, elbow, wrist, tip), (hip, knee, ankle, toe)) in enumerate(sides):
        side = RIGHT_LEFT[k]
        upper_arm, forearm, thigh, shank = (_outward(a[:, part][:, k], side) for part in (UPPER_ARMS, FOREARMS, THIGHS, SHANKS))
        p[:, shoulder] = p[:, 7] + side * size["shoulders"] * across + 0.005 * head_up
        p[:, elbow] = p[:, shoulder] + size["upper_arm"] * upper_arm
        p[:, wrist] = p[:, elbow] + size["forearm"] * forearm
        if movement.hands is not None:
            target = p[:, 7] + movement.hands[:, k]
            p[:, elbow], p[:, wrist] = _reach(p[:, shoulder], target, size, np.array([side * 0.8, 0.6, -0.3]))
        p[:, tip] = p[:, wrist] + size["hand"] * _unit(p[:, wrist] - p[:, elbow])
        p[:, hip] = side * size["hips"] * hips_across
        p[:, knee] = p[:, hip] + size["thigh"] * thigh
        p[:, ankle] = p[:, knee] + size["shank"] * shank
        flat = np.array([side * 0.35, 0.25, 0.9])  # the foot is flat on the ground unless the shank lies on the ground
        along = _outward(a[:, SHANKS][:, k] + np.array([0, np.pi / 2]), side)
        p[:, toe] = p[:, ankle] + size["foot"] * _unit(np.where(shank[:, 1:2] > 0.5, flat, along + 0.5 * flat))
    ground = np.maximum(p[:, [0, 5, 10, 15], 1].max(1), p[:, [1, 4, 6], 1].max(1)) + size["heel"]
    p[:, :, 1] -= (ground + np.broadcast_to(movement.lift, moments))[:, None]
    middle = p[:, [0, 5]].mean(1) if movement.anchor == "feet" else p[:, 6]
    p[:, :, [0, 2]] -= middle[:, None, [0, 2]]
    head_forward = _forward(a[:, HEAD])
    head_left = np.cross(head_up, head_forward) * -1.0
    return p, np.stack([head_left, head_up, head_forward], 1), _unit(np.cross(up, across))


def _outward(angles: np.ndarray, side: float) -> np.ndarray:
    """Return the directions (T, 3) of a limb on side -1 (right) or 1 (left) from its angles (T, 2) in radians."""
    o, f = angles[:, 0], angles[:, 1]
    return np.stack([side * np.sin(o), np.cos(o) * np.cos(f), np.cos(o) * np.sin(f)], 1)


def _upward(angles: np.ndarray) -> np.ndarray:
    o, f = angles[:, 0], angles[:, 1]
    return np.stack([np.sin(o), -np.cos(o) * np.cos(f), np.cos(o) * np.sin(f)], 1)


def _forward(angles: np.ndarray) -> np.ndarray:
    f = angles[:, 1]
    return np.stack([np.zeros_like(f), np.sin(f), np.cos(f)], 1)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _reach(
    shoulder: np.ndarray, target: np.ndarray, size: dict[str, float], elbow_to: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return elbow and wrist (T, 3) of an arm that reaches for a target, bent towards `elbow_to`, by the law of cosines."""
    upper, fore = size["upper_arm"], size["forearm"]
    way = target - shoulder
    distance = np.clip(np.linalg.norm(way, axis=-1, keepdims=True), 0.3 * upper, 0.98 * (upper + fore))
    way = _unit(way)
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    bend = _unit(elbow_to - way * (way @ elbow_to)[:, None])
    return shoulder + along * way + aside * bend, shoulder + distance * way


def everyday_pose(rng: Generator) -> tuple[Movement, str]:
    """Return a still pose of daily life, and its kind: standing, walking, raised (arms), sitting, squatting or leaning."""
    kind = str(
        rng.choice(["standing", "walking", "raised", "sitting", "squatting", "leaning"], p=[0.28, 0.2, 0.2, 0.14, 0.08, 0.1])
    )
    angles = np.zeros((1, 10, 2))
    angles[:, THIGHS] = angles[:, SHANKS] = (rng.uniform(2, 14), 0)
    hands = None
    if kind == "walking":
        step = rng.choice([-1, 1]) * rng.uniform(15, 38)
        angles[:, THIGHS, 1] = step, -step
        angles[:, SHANKS, 1] = step - rng.uniform(0, 45), -step - rng.uniform(0, 45)
        angles[:, UPPER_ARMS, 1] = -step, step
        angles[:, FOREARMS, 1] = -step + 20, step + 20
        angles[:, UPPER_ARMS, 0] = 10
    elif kind == "sitting":
        angles[:, THIGHS] = (rng.uniform(3, 25), rng.uniform(65, 88))
        angles[:, SHANKS] = (rng.uniform(-3, 12), rng.uniform(-15, 15))
    elif kind == "squatting":
        angles[:, THIGHS] = (rng.uniform(15, 40), rng.uniform(55, 95))
        angles[:, SHANKS] = (rng.uniform(0, 12), rng.uniform(-45, -20))
        angles[:, TORSO] = angles[:, HEAD] = (0, rng.uniform(10, 35))
    elif kind == "leaning":
        angles[:, TORSO] = angles[:, HEAD] = (rng.uniform(-30, 30), rng.uniform(-5, 45))
    if kind != "walking":
        for side in (0, 1):
            angles[0, 2 + side], angles[0, 4 + side] = _arm(rng, raised=kind == "raised")
        if rng.random() < 0.12:  # hands on the hips
            hands = np.array([[[-0.10, 0.25, 0.04], [0.10, 0.25, 0.04]]]) + rng.normal(0, 0.01, (1, 2, 3))
    angles += rng.normal(0, 4.5, angles.shape)
    angles[:, HEAD] += rng.normal(0, 7, 2)
    return Movement(angles, twist=rng.normal(0, 10), hands=hands, lengths=vary_lengths(rng)), kind


def _arm(rng: Generator, raised: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the angles of one upper arm and forearm: hanging, bent, held sideways or up."""
    way = int(rng.integers(2, 5)) if raised else int(rng.choice(4, p=[0.45, 0.25, 0.15, 0.15]))
    if way == 0:
        outward = rng.uniform(5, 22)
        return (outward, rng.uniform(-10, 15)), (outward + rng.uniform(-12, 10), rng.uniform(0, 35))
    if way == 1:  # arm bent in front of the body
        return (rng.uniform(8, 35), rng.uniform(-5, 25)), (rng.uniform(-50, 25), rng.uniform(60, 150))
    if way == 2:  # arm sideways, with the forearm level or up
        outward = rng.uniform(60, 105)
        return (outward, rng.uniform(-10, 20)), (outward + rng.uniform(0, 85), rng.uniform(-5, 15))
    if way == 3:  # arm sideways, with the forearm down or straight
        outward = rng.uniform(30, 75)
        return (outward, rng.uniform(0, 30)), (outward + rng.uniform(-60, 30), rng.uniform(0, 30))
    outward = rng.uniform(125, 170)  # arm up
    return (outward, rng.uniform(-10, 10)), (outward + rng.uniform(-15, 35), rng.uniform(-10, 10))


def vary_lengths(rng: Generator) -> dict[str, float]:
    """Return the body lengths of a random person; each length has a standard deviation of 4 % of its mean."""
    return {name: length * float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)) for name, length in LENGTHS.items()}


# Fraction of a cycle by which the arms, or the trunk that moves the arms, are ahead of the other body parts. This lead makes
# the direction of a movement visible in a single image.
LEAD = 0.1


def squat(phase: np.ndarray, rng: Generator) -> Movement:
    """Return a squat over phase (T,), in cycles: knees bend and stretch, arms come forward."""
    angles, low, ahead = np.zeros((len(phase), 10, 2)), _half_wave(phase), _half_wave(phase + LEAD)
    wide, deep = rng.uniform(10, 20), rng.uniform(75, 100)
    angles[:, THIGHS] = _pairs(wide, 5 + deep * low)
    angles[:, SHANKS] = _pairs(5, -5 - 0.38 * deep * low)
    angles[:, TORSO, 1] = 4 + 34 * low
    angles[:, HEAD, 1] = 2 + 12 * low
    angles[:, UPPER_ARMS] = _pairs(12, 10 + rng.uniform(55, 80) * ahead)
    angles[:, FOREARMS] = _pairs(6, 15 + 65 * ahead)
    return Movement(angles)


def jumping_jacks(phase: np.ndarray, rng: Generator) -> Movement:
    """Return jumping jacks over phase (T,), in cycles: arms and legs open with one jump and close with the next."""
    angles, wide = np.zeros((len(phase), 10, 2)), _half_wave(phase)
    arms = 12 + rng.uniform(125, 150) * _half_wave(phase + LEAD)
    angles[:, UPPER_ARMS], angles[:, FOREARMS] = _pairs(arms, 4), _pairs(arms + rng.uniform(0, 15), 8)
    angles[:, THIGHS] = angles[:, SHANKS] = _pairs(3 + rng.uniform(18, 26) * wide, 2)
    return Movement(angles, lift=0.05 * np.sin(2 * np.pi * phase) ** 2)


def pushup(phase: np.ndarray, rng: Generator) -> Movement:
    """Return a push-up over phase (T,), in cycles: face down on hands and toes, arms bend and stretch."""
    angles, low = np.zeros((len(phase), 10, 2)), _half_wave(phase)
    back = 5 + rng.uniform(55, 70) * low  # the elbows go back as the chest comes down
    angles[:, UPPER_ARMS] = _pairs(14 + 22 * low, -back)
    angles[:, FOREARMS] = _pairs(4 - 12 * low, 4 + 0.15 * back)
    arm = LENGTHS["upper_arm"] * np.cos(np.radians(back)) + LENGTHS["forearm"]
    body = LENGTHS["torso"] + LENGTHS["thigh"] + LENGTHS["shank"]
    tilt = np.degrees(np.arcsin(arm / body))  # tilt of the body that lets both hands and feet touch the ground
    angles[:, TORSO, 1] = 90 - tilt
    angles[:, HEAD, 1] = 62 - tilt - 24 * np.sin(2 * np.pi * phase)  # the person looks ahead on the way up
    angles[:, THIGHS], angles[:, SHANKS] = _pairs(5, tilt - 90), _pairs(4, tilt - 90)
    return Movement(angles)


def golf_swing(phase: np.ndarray, rng: Generator) -> Movement:
    """Return a golf swing over phase (T,), in cycles: both hands swing a club from one side to the other side."""
    angles = np.zeros((len(phase), 10, 2))
    swing = np.radians(rng.uniform(95, 125)) * np.sin(2 * np.pi * phase)
    angles[:, TORSO] = _pair(4 * np.sin(2 * np.pi * phase), 26)
    angles[:, HEAD] = _pair(0 * phase, 22)
    angles[:, THIGHS], angles[:, SHANKS] = _pairs(rng.uniform(10, 16), 16 + 0 * phase), _pairs(5, -10 + 0 * phase)
    way = _unit(np.stack([np.sin(swing), np.cos(swing) * 0.95, 0.35 + 0.15 * np.cos(swing)], 1)) * rng.uniform(0.25, 0.28)
    grip = np.array([[-0.012, 0.012, 0], [0.012, -0.012, 0]])
    return Movement(angles, twist=28 * np.sin(2 * np.pi * (phase + LEAD)), hands=way[:, None] + grip, tool="club")


def bowl(phase: np.ndarray, rng: Generator) -> Movement:
    """Return a bowling movement over phase (T,), in cycles: the person walks, and the right arm swings the ball."""
    angles, step = np.zeros((len(phase), 10, 2)), np.sin(2 * np.pi * phase)
    stride, swing = rng.uniform(24, 34), rng.uniform(50, 75)
    lifted = np.maximum(0, np.cos(2 * np.pi * phase)), np.maximum(0, -np.cos(2 * np.pi * phase))
    angles[:, THIGHS] = np.stack([_pair(5, stride * step + 8 * lifted[0]), _pair(5, -stride * step + 8 * lifted[1])], 1)
    angles[:, SHANKS] = np.stack(
        [_pair(3, stride * step - 8 - 34 * lifted[0]), _pair(3, -stride * step - 8 - 34 * lifted[1])], 1
    )
    angles[:, UPPER_ARMS] = np.stack([_pair(10, -swing * step), _pair(25, 0.5 * swing * step)], 1)
    angles[:, FOREARMS] = np.stack([_pair(6, -swing * step + 8), _pair(20, 0.5 * swing * step + 25)], 1)
    angles[:, TORSO, 1], angles[:, HEAD, 1] = 16, 8
    return Movement(angles, anchor="pelvis", tool="ball")


def _half_wave(phase: np.ndarray) -> np.ndarray:
    """Return a value (T,) that goes from 0 to 1 and back in each cycle."""
    return (1 - np.cos(2 * np.pi * phase)) / 2


def _pair(outward: "np.ndarray | float", forward: "np.ndarray | float") -> np.ndarray:
    """Return the angles (..., 2) of one segment; each argument is one angle or an array (T,) of angles."""
    return np.stack(np.broadcast_arrays(outward, forward), -1)


def _pairs(outward: "np.ndarray | float", forward: "np.ndarray | float") -> np.ndarray:
    """Return the angles (T, 2, 2) of a right and a left segment that have equal angles; arguments as for `_pair`."""
    return np.repeat(np.atleast_2d(_pair(outward, forward))[:, None], 2, 1)


# Penn Action's name of an action -> (function that returns its movement, (smallest, largest) turn of the person to the left or
# right in degrees; some people are turned by a further 180 degrees)
ACTIONS: dict[str, tuple[Callable[[np.ndarray, Generator], Movement], tuple[float, float]]] = {
    "bowl": (bowl, (35, 65)),
    "golf_swing": (golf_swing, (0, 30)),
    "jumping_jacks": (jumping_jacks, (0, 25)),
    "pushup": (pushup, (55, 80)),
    "squat": (squat, (20, 60)),
}
