"""Draw one person of the built-in sample data.

A person consists of tapered, shaded capsules between the joints. The farthest part is drawn first, so that arms pass in front
of and behind the body as in a photograph. Faces, hair and prints distinguish front views from back views. A label image of the
picture's size contains for each pixel the person and the part that cover it; the visibility of joints is derived from this
label image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

# Indices of points after MPII's 16 joints; these points are drawn, but never labelled.
RIGHT_TOE, LEFT_TOE, RIGHT_HAND, LEFT_HAND = 16, 17, 18, 19
TORSO, NECK, HEAD = 12, 13, 14
OBJECT = 255  # the value of objects in front of people in a label image
LABELS_PER_PERSON = 20

# Limbs: first point, last point, radius at each end, and an offset towards the viewer, which `part_depths` adds to the depth
# of the limb's points; lengths are fractions of the person's height. A limb's row in this table is its part number; TORSO,
# NECK and HEAD are the next part numbers.
_LIMBS = np.array([
    (0, RIGHT_TOE, 0.025, 0.019, 0.005), (5, LEFT_TOE, 0.025, 0.019, 0.005),
    (1, 0, 0.037, 0.024, -0.005), (4, 5, 0.037, 0.024, -0.005),
    (2, 1, 0.057, 0.038, -0.010), (3, 4, 0.057, 0.038, -0.010),
    (12, 11, 0.035, 0.027, 0.030), (13, 14, 0.035, 0.027, 0.030), (11, 10, 0.027, 0.019, 0.035),
    (14, 15, 0.027, 0.019, 0.035), (10, RIGHT_HAND, 0.021, 0.015, 0.040), (15, LEFT_HAND, 0.021, 0.015, 0.040),
])  # fmt: skip
_FROM, _TO = _LIMBS[:, 0].astype(int), _LIMBS[:, 1].astype(int)
# Numbers of the parts that meet at each of MPII's joints; these parts never hide the joint.
_MEETING = (
    (0, 2), (2, 4), (4,), (5,), (3, 5), (1, 3), (TORSO,), (TORSO, NECK), (NECK, HEAD), (HEAD,),
    (8, 10), (6, 8), (6,), (7,), (7, 9), (9, 11),
)  # fmt: skip

_SHIFT = 4  # OpenCV's fixed-point drawing: coordinates in 1/16 px
_ARC = np.linspace(-1.0, 1.0, 7)
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 16, endpoint=False)) for f in (np.cos, np.sin)], 1)
# The tones of a body part, drawn over each other: radius / radius of the part, shift towards the light / radius of the part,
# factor of the part's colour, number that is then added to the colour.
_TONES = (
    (1.0, 0.0, 0.50, 0),
    (1.0, 0.0, 1.0, 0),
    (0.62, 0.20, 1.10, 4),
    (0.30, 0.34, 1.18, 8),
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Figure:
    """One person in one image. Coordinates: 0-based pixels, x right, y down; z in pixels towards the viewer."""

    points: np.ndarray  # (20, 3): MPII's 16 joints, then right and left toe tip, right and left finger tip
    head: np.ndarray  # (3, 3): unit vectors in rows: to the person's left, up, and forward from the face
    chest: np.ndarray  # (3,): unit vector forward from the chest
    height: float  # height in px of the person when standing upright


@dataclass(frozen=True)
class Look:
    """A person's clothes and appearance. Colours are BGR."""

    skin: Colour
    hair: Colour
    shirt: Colour
    print: Colour
    trousers: Colour
    shoes: Colour
    sleeve: float  # length of the sleeves in limb segments: 0 none, 1 to the elbow, 2 to the wrist
    leg: float  # length of the trousers in limb segments: 0.4 shorts, 1 to the knee, 2 to the ankle
    pattern: str  # pattern of the shirt: plain, hoops, stripes, dots or panel
    side_stripe: bool
    long_hair: bool
    cap: bool
    number: int
    build: float  # thickness of the body, 1 = average

    @classmethod
    def random(cls, rng: Generator, sporty: bool) -> "Look":
        """Return a random look: everyday clothes, or bright sports wear with bare arms and legs."""
        skins = ((48, 70, 110), (72, 105, 155), (100, 140, 190), (128, 162, 208), (140, 172, 222), (155, 185, 218))
        hairs = ((25, 25, 30), (135, 135, 140), (30, 45, 70), (40, 70, 115), (80, 150, 200), (35, 50, 120))
        tone = int(rng.integers(len(skins)))
        jitter = rng.uniform(0.9, 1.08)
        return cls(
            skin=_scaled(skins[tone], jitter),
            # Hair colours differ from the skin, so that faces differ from backs of heads.
            hair=hairs[rng.integers(len(hairs) if tone > 1 else 2)],
            shirt=_cloth(rng, sporty), print=_cloth(rng, sporty),
            trousers=_cloth(rng, False), shoes=_cloth(rng, sporty),
            sleeve=float(rng.choice([0.0, 0.45] if sporty else [0.45, 0.6, 1.0, 2.0, 2.0])),
            leg=float(rng.choice([0.4, 0.6, 0.8] if sporty else [0.7, 2.0, 2.0, 2.0])),
            pattern=str(rng.choice(["plain", "panel", "stripes"] if sporty else ["plain", "hoops", "stripes", "dots"])),
            side_stripe=bool(rng.random() < (0.6 if sporty else 0.2)),
            long_hair=bool(rng.random() < 0.35), cap=bool(rng.random() < (0.3 if sporty else 0.1)),
            number=int(rng.integers(2, 99)) if sporty else 0,
            build=float(rng.uniform(0.85, 1.0 if sporty else 1.25)),
        )  # fmt: skip


def draw_person(image: np.ndarray, labels: np.ndarray, figure: Figure, look: Look, person: int) -> None:
    """Draw one person into `image` (H, W, 3) uint8.

    In `labels` (H, W) uint8, the pixels that the person covers are set to 1 + 20 * person + number of the covering part.
    """
    base = 1 + LABELS_PER_PERSON * person
    depth = part_depths(figure)
    layers = _limb_layers(figure, look)
    for part in np.argsort(depth, kind="stable"):
        label = base + int(part)
        shade = 1.0 + 0.9 * min(0.0, depth[part] / figure.height + 0.04)  # parts far from the viewer are darker
        if part == TORSO:
            _draw_torso(image, labels, figure, look, label)
        elif part == NECK:
            _draw_neck(image, labels, figure, look, label)
        elif part == HEAD:
            _draw_head(image, labels, figure, look, label)
        else:
            for polygons, colour in layers[part]:
                _fill_toned(image, labels, polygons, _scaled(colour, shade), label)


def part_depths(figure: Figure) -> np.ndarray:
    """Return the depth of each part, (15,) in px: larger means nearer to the viewer. Parts are drawn in ascending depth."""
    z, h = figure.points[:, 2], figure.height
    limbs = (z[_FROM] + z[_TO]) / 2 + _LIMBS[:, 4] * h
    torso = (z[6] + z[7]) / 2
    return np.concatenate([limbs, [torso, z[7] - 0.02 * h, (z[8] + z[9]) / 2 + 0.03 * h]])


def visible_joints(labels: np.ndarray, figure: Figure, person: int) -> np.ndarray:
    """Return (16,) bool: which of MPII's joints are inside the image, and not hidden by objects or bodies.

    A part of the person's own body hides a joint only if this part is nearer to the viewer than the joint by at least 6 % of
    the person's height; a hand on the hip does not hide the hip.
    """
    depth = part_depths(figure)
    seen = np.zeros(16, bool)
    height, width = labels.shape
    for joint in range(16):
        x, y = np.rint(figure.points[joint, :2]).astype(int)
        if not (0 <= x < width and 0 <= y < height):
            continue
        part = int(labels[y, x]) - 1 - LABELS_PER_PERSON * person
        if not 0 <= part < len(depth):
            seen[joint] = labels[y, x] == 0  # rounding may place a visible joint just outside the part that is drawn
        else:
            seen[joint] = part in _MEETING[joint] or depth[part] - figure.points[joint, 2] < 0.06 * figure.height
    return seen


def draw_ground_shadow(image: np.ndarray, figure: Figure) -> None:
    """Darken the ground under the feet."""
    feet = figure.points[[0, 5, RIGHT_TOE, LEFT_TOE], :2]
    centre, reach = feet.mean(0), np.ptp(feet[:, 0]) / 2 + 0.06 * figure.height
    depth, ground = max(2, int(0.03 * figure.height)), int(feet[:, 1].max() + 0.02 * figure.height)
    top, left = max(0, ground - depth), max(0, int(centre[0] - reach))
    patch = image[top : max(top, ground + depth + 1), left : max(left, int(centre[0] + reach) + 1)]
    if patch.size:
        mask = np.zeros(patch.shape[:2], np.uint8)
        cv2.ellipse(mask, (int(centre[0]) - left, ground - top), (int(reach), depth), 0, 0, 360, 255, -1)
        patch[mask > 0] = (patch[mask > 0] * 0.66).astype(np.uint8)


def _layers_of(look: Look) -> list[tuple[int, float, float, float, Colour]]:
    """Return the layers of all limbs, from skin to clothes: (limb, start, end, factor of the radius, colour).

    start and end are fractions of the limb's length.
    """
    layers = [(limb, 0.0, 1.0, 1.0, look.shoes if limb < 2 else look.skin) for limb in range(len(_LIMBS))]
    clothes = (
        ((4, 5), look.leg, look.trousers, 1.10), ((2, 3), look.leg - 1, look.trousers, 1.18),
        ((6, 7), look.sleeve, look.shirt, 1.16), ((8, 9), look.sleeve - 1, look.shirt, 1.2),
    )  # fmt: skip
    for limbs, cover, colour, swell in clothes:
        if cover > 0:
            layers += [(limb, 0.0, min(cover, 1.0) * 0.97, swell, colour) for limb in limbs]
            if look.pattern == "hoops" and limbs[0] >= 6:
                steps = np.arange(0.15, min(cover, 1.0) - 0.1, 0.3)
                layers += [(limb, t, t + 0.10, swell * 0.97, look.print) for limb in limbs for t in steps]
    if look.side_stripe:
        layers += [(limb, 0.0, min(look.leg, 1.0) * 0.9, 0.3, look.print) for limb in (4, 5)]
        layers += [(limb, 0.75, 0.95, 1.05, look.print) for limb in (2, 3)]  # rim of the socks or trousers
    return layers


def _limb_layers(figure: Figure, look: Look) -> list[list[tuple[np.ndarray, Colour]]]:
    """Return for each limb its layers from skin to clothes: (polygons of the tones (4 or 1, n, 2) in 1/16 px, colour)."""
    xy, h = figure.points[:, :2], figure.height
    rows = _layers_of(look)
    limbs_of_rows = np.array([row[0] for row in rows])
    share = np.array([row[1:3] for row in rows])[..., None]
    swell_of_rows = np.array([row[3] for row in rows])
    a, b = xy[_FROM[limbs_of_rows]], xy[_TO[limbs_of_rows]]
    radius = _LIMBS[limbs_of_rows, 2:4] * h * (1 + (look.build - 1) * 0.7)
    start, end = a + (b - a) * share[:, 0], a + (b - a) * share[:, 1]
    taper = radius[:, 1] - radius[:, 0]
    r_start, r_end = ((radius[:, 0] + taper * share[:, i, 0]) * swell_of_rows for i in (0, 1))
    tones = []
    for (size, offset, _, _), edge in zip(_TONES, (0.7, 0, 0, 0), strict=True):
        ends = start - offset * r_start[:, None], end - offset * r_end[:, None]
        tones.append(_capsules(*ends, r_start * size + edge, r_end * size + edge))
    polygons = np.stack(tones, 1)
    out: list[list[tuple[np.ndarray, Colour]]] = [[] for _ in _LIMBS]
    for k, (limb, first, last, swell, colour) in enumerate(rows):
        whole = last - first > 0.12 and swell > 0.5  # bands and stripes have one tone only
        out[limb].append((polygons[k] if whole else polygons[k, 1:2], colour))
    return out


def _capsules(a: np.ndarray, b: np.ndarray, radius_a: np.ndarray, radius_b: np.ndarray) -> np.ndarray:
    """Return the outlines (K, 14, 2) in 1/16 px of K tapered capsules: two circles and their common outer tangents."""
    along = b - a
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)
    heading = np.arctan2(along[:, 1], along[:, 0])[:, None]
    opening = np.arccos(np.clip((radius_a - radius_b) / length, -1, 1))[:, None]
    front = heading + opening * _ARC  # arc around the end point `b`
    back = heading + np.pi + (np.pi - opening) * _ARC  # arc around the end point `a`
    around_b = b[:, None] + radius_b[:, None, None] * np.stack([np.cos(front), np.sin(front)], 2)
    around_a = a[:, None] + radius_a[:, None, None] * np.stack([np.cos(back), np.sin(back)], 2)
    return _fixed(np.concatenate([around_b, around_a], 1))


def _draw_torso(image: np.ndarray, labels: np.ndarray, figure: Figure, look: Look, label: int) -> None:
    p, h = figure.points[:, :2], figure.height
    right_hip, left_hip, pelvis, thorax, right_shoulder, left_shoulder = p[[2, 3, 6, 7, 12, 13]]
    waist = pelvis + (thorax - pelvis) * 0.30
    sag = (pelvis - thorax) * 0.10  # the shirt begins a little below the shoulder joints
    wide = (left_hip - right_hip) * 0.5 * look.build
    corners = np.stack([right_shoulder + sag, left_shoulder + sag, waist + wide, waist - wide])
    hips = np.stack([right_hip, left_hip, waist + wide, waist - wide])
    radii = np.array([0.052, 0.052, 0.035, 0.035]) * h * look.build
    _fill_toned(image, labels, _hulls(hips, radii), look.trousers, label)
    radii = np.array([0.043, 0.043, 0.042, 0.042]) * h * (1 + (look.build - 1) * 0.6)
    _fill_toned(image, labels, _hulls(corners, radii), look.shirt, label)
    _draw_print(image, figure, look, corners)


def _draw_print(image: np.ndarray, figure: Figure, look: Look, corners: np.ndarray) -> None:
    """Draw the pattern of the shirt; then collar and badge in front views, number and yoke in back views."""

    def at(u: float | np.ndarray, v: float | np.ndarray) -> np.ndarray:
        """Return image positions (..., 2) on the shirt.

        u: from 0 at the person's right to 1 at the left; v: from 0 at the shoulders to 1 at the waist.
        """
        u, v = np.asarray(u)[..., None], np.asarray(v)[..., None]
        return (1 - v) * ((1 - u) * corners[0] + u * corners[1]) + v * ((1 - u) * corners[3] + u * corners[2])

    ink = _scaled(look.print, 0.95)
    thick = max(1, round(0.016 * figure.height))
    if look.pattern == "hoops":
        for v in np.arange(0.08, 1.05, 0.2):
            _stroke(image, at(np.array([-0.12, 0.5, 1.12]), np.array([v, v + 0.04, v])), ink, thick)
    elif look.pattern == "stripes":
        for u in (0.1, 0.37, 0.63, 0.9):
            _stroke(image, at(np.array([u, u]), np.array([-0.1, 1.1])), ink, max(1, thick // 2))
    elif look.pattern == "dots":
        for u in (0.1, 0.5, 0.9):
            for v in (0.1, 0.4, 0.7, 1.0):
                _disc(image, at(u, v), 0.011 * figure.height, ink)
    elif look.pattern == "panel":
        for u in (-0.1, 0.88):
            panel = at(np.array([u, u + 0.22, u + 0.22, u]), np.array([0, 0, 1.1, 1.1]))
            cv2.fillConvexPoly(image, _fixed(panel), ink, cv2.LINE_AA, _SHIFT)
    if figure.chest[2] > 0.15:
        collar = at(np.array([0.32, 0.5, 0.68]), np.array([-0.28, 0.14, -0.28]))
        cv2.fillConvexPoly(image, _fixed(collar), look.skin, cv2.LINE_AA, _SHIFT)
        _stroke(image, collar, _scaled(look.shirt, 0.6), 1)
        # The badge is on the left side of the chest.
        badge = at(np.array([0.66, 0.84, 0.84, 0.66]), np.array([0.22, 0.22, 0.36, 0.36]))
        cv2.fillConvexPoly(image, _fixed(badge), _scaled(look.print, 1.2), cv2.LINE_AA, _SHIFT)
    elif figure.chest[2] < -0.15:
        _stroke(image, at(np.array([-0.05, 0.5, 1.05]), np.array([0.12, 0.2, 0.12])), _scaled(look.shirt, 0.55), 1)
        if look.number:
            x, y = at(0.5, 0.75)
            size = 0.0032 * figure.height
            cv2.putText(
                image,
                str(look.number),
                (int(x - 18 * size), int(y)),
                cv2.FONT_HERSHEY_SIMPLEX,
                size,
                _scaled(look.print, 1.2),
                2,
                cv2.LINE_AA,
            )


def _draw_neck(image: np.ndarray, labels: np.ndarray, figure: Figure, look: Look, label: int) -> None:
    p, h = figure.points[:, :2], figure.height
    if look.long_hair and figure.head[2, 2] >= 0:  # the hair falls behind the neck
        _draw_long_hair(image, labels, figure, look, label)
    radius = np.array([0.030 * h])
    tip = p[8] + (p[9] - p[8]) * 0.15
    tones = [_capsules(p[7:8], tip[None], radius * s + e, radius * s + e)[0] for s, e in ((1, 0.9), (1, 0), (0.6, 0))]
    _fill_toned(image, labels, tones, _scaled(look.skin, 0.88), label)


def _draw_long_hair(image: np.ndarray, labels: np.ndarray, figure: Figure, look: Look, label: int) -> None:
    p, h = figure.points[:, :2], figure.height
    top, end = p[8] + (p[9] - p[8]) * 0.55, p[7] + (p[6] - p[7]) * 0.12
    tones = [_capsules(top[None], end[None], np.array([r * 0.055 * h]), np.array([r * 0.045 * h]))[0] for r in (1.0, 0.9, 0.5)]
    _fill_toned(image, labels, tones, look.hair, label)


def _draw_head(image: np.ndarray, labels: np.ndarray, figure: Figure, look: Look, label: int) -> None:
    """Draw the head: ears, an ellipsoid in hair colour, and on it the visible parts of face, cap and features."""
    h, axes = figure.height, figure.head
    neck, top = figure.points[8], figure.points[9]
    length = float(np.linalg.norm(top - neck))
    centre = (neck + (top - neck) * 0.54)[:2]
    semi = np.array([0.054 * h, 0.46 * length, 0.060 * h])
    project = (axes * semi[:, None])[:, :2]  # map from the unit sphere (axes: left, up, forward) to the image
    outline = np.linalg.cholesky(project.T @ project + 1e-6 * np.eye(2))
    if look.long_hair and axes[2, 2] < 0:  # the hair falls over the back
        _draw_long_hair(image, labels, figure, look, label)
    for side in (-1, 1):  # the ears
        _disc(image, centre + np.array([side * 1.02, -0.1, 0]) @ project, 0.014 * h, _scaled(look.skin, 0.9))
    ring = _CIRCLE @ outline.T
    tones = [_fixed(centre + ring * s - o * semi[0]) for s, o in ((1.07, 0), (1.0, 0), (0.6, 0.2))]
    _fill_toned(image, labels, tones, look.hair, label)
    face = _cap_outline(np.array([0.0, -0.34, 0.94]), 64, axes, project, outline)
    if face is not None:
        tones = [
            _fixed(centre + face),
            _fixed(centre + face * 0.96),
            _fixed(centre + face.mean(0) + (face - face.mean(0)) * 0.55 - 0.06 * semi[0]),
        ]
        _fill_toned(image, labels, tones, look.skin, label)
    if look.cap:
        cap = _cap_outline(np.array([0.0, 0.9, 0.25]), 58, axes, project, outline)
        if cap is not None:
            _fill_toned(image, labels, [_fixed(centre + cap)] * 2, look.print, label)
    _draw_features(image, centre, axes, project, look, h)


def _draw_features(image: np.ndarray, centre: np.ndarray, axes: np.ndarray, project: np.ndarray, look: Look, h: float) -> None:
    """Draw eyes, brows, nose and mouth, each only if its spot on the head faces the viewer."""
    dark = (35.0, 30.0, 35.0)
    for side in (-1, 1):
        spot = np.array([side * 0.38, 0.08, 0.92])
        if spot @ axes[:, 2] > 0.2:
            _disc(image, centre + spot @ project, 0.0115 * h, (240, 240, 240))
            _disc(image, centre + spot @ project, 0.0070 * h, dark)
            brow = np.array([[side * 0.2, 0.32, 0.93], [side * 0.58, 0.30, 0.78]]) @ project
            _stroke(image, centre + brow, look.hair, 1)
    nose = np.array([0.0, -0.18, 1.1])
    if nose @ axes[:, 2] > -0.1:
        _disc(image, centre + nose @ project, 0.011 * h, _scaled(look.skin, 0.82))
        mouth = np.array([[-0.26, -0.56, 0.8], [0.0, -0.62, 0.82], [0.26, -0.56, 0.8]])
        if mouth[1] @ axes[:, 2] > 0.1:
            _stroke(image, centre + mouth @ project, (60, 50, 140), 1)


def _cap_outline(
    middle: np.ndarray, degrees: float, axes: np.ndarray, project: np.ndarray, outline: np.ndarray
) -> np.ndarray | None:
    """Return the outline (n, 2) of the visible part of a round patch of the head's surface; None if the patch is hidden.

    The outline is in px from the head's centre.
    """
    middle = middle / np.linalg.norm(middle)
    beside = np.array([1.0, 0.0, 0.0])
    across = np.cross(middle, beside)
    angle = np.radians(degrees)
    ring = np.cos(angle) * middle + np.sin(angle) * (_CIRCLE[:, :1] * beside + _CIRCLE[:, 1:] * across)
    near = ring @ axes[:, 2] > 0
    points = ring @ project
    if middle @ axes[:, 2] <= 0:
        points = points[near]
    else:  # the far side of the patch ends at the head's outline
        reach = np.linalg.norm(np.linalg.solve(outline, points.T), axis=0)
        points = np.where(near[:, None], points, points / np.maximum(reach, 1e-3)[:, None])
    if len(points) < 3:
        return None
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)


def _hulls(centres: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """Return four polygons in 1/16 px, one for each tone in `_TONES`.

    Each polygon is the convex hull of circles with these centres and radii, shrunk and shifted as the tone says.
    """
    middle = centres.mean(0)
    out = []
    for (size, offset, _, _), edge in zip(_TONES, (0.7, 0, 0, 0), strict=True):
        shrink = 1.0 if size == 1.0 else size + 0.1
        spots = middle + (centres - middle) * shrink - offset * radii[:, None] * 0.8
        circles = spots[:, None] + (radii * size + edge)[:, None, None] * _CIRCLE
        out.append(_fixed(cv2.convexHull(circles.reshape(-1, 2).astype(np.float32))[:, 0]))
    return out


def _fill_toned(
    image: np.ndarray, labels: np.ndarray, polygons: "np.ndarray | list[np.ndarray]", colour: Colour, label: int
) -> None:
    """Fill up to four polygons in tones of a colour: outline, body, light side, highlight.

    If there is only one polygon, it is filled with the plain colour.
    """
    tones = _TONES if len(polygons) > 1 else _TONES[1:2]
    for polygon, (_, _, gain, add) in zip(polygons, tones, strict=False):
        cv2.fillConvexPoly(image, polygon, _scaled(colour, gain, add), cv2.LINE_AA, _SHIFT)
    if len(polygons) > 1:
        cv2.fillConvexPoly(labels, polygons[0], label, cv2.LINE_8, _SHIFT)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def _stroke(image: np.ndarray, points: np.ndarray, colour: Colour, thickness: int) -> None:
    cv2.polylines(image, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)


def _disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    x, y, r = _fixed(np.array([centre[0], centre[1], radius]))
    cv2.circle(image, (int(x), int(y)), max(8, int(r)), colour, -1, cv2.LINE_AA, _SHIFT)


def _scaled(colour: Colour, gain: float, add: float = 0.0) -> Colour:
    b, g, r = (min(255.0, max(0.0, c * gain + add)) for c in colour)
    return b, g, r


def _cloth(rng: Generator, bright: bool) -> Colour:
    return hsv(
        rng.uniform(0, 180),
        rng.uniform(150, 240) if bright else rng.uniform(20, 170),
        rng.uniform(150, 240) if bright else rng.uniform(50, 215),
    )


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the BGR colour of OpenCV's hue (0..180), saturation and value (0..255)."""
    b, g, r = cv2.cvtColor(np.array([[[hue, saturation, value]]]).astype(np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return float(b), float(g), float(r)
