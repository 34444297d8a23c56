"""Suspicious labels of a synthetic person, whose left and right are exchanged on purpose, and of published people."""

from dataclasses import replace

import numpy as np
import pytest

from datasets.flic import FLIC
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.lsp import LSP
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from datasets.skeletons import Skeleton
from stages.preparing.label_checks import check
from tests.shared import SHARED

# A person of 180 px who faces the viewer, with hands away from the body. The person's right side is on the viewer's left.
STANDING = {
    "head": (100, 20), "head_top": (100, 10), "nose": (100, 25), "right_eye": (97, 20), "left_eye": (103, 20),
    "upper_neck": (100, 40), "neck": (100, 40), "thorax": (100, 50), "pelvis": (100, 100),
    "right_shoulder": (80, 50), "left_shoulder": (120, 50), "right_elbow": (65, 75), "left_elbow": (135, 75),
    "right_wrist": (60, 105), "left_wrist": (140, 105), "right_hip": (88, 100), "left_hip": (112, 100),
    "right_knee": (85, 145), "left_knee": (115, 145), "right_ankle": (80, 190), "left_ankle": (120, 190),
}  # fmt: skip


def people(skeleton: Skeleton, count: int = 1, images: list[str] | None = None) -> Annotations:
    part = np.array([[STANDING[joint] for joint in skeleton.joints]] * count, dtype=np.float64)
    unknown = np.full(count, -1.0)
    return Annotations(
        images=images or ["a.jpg"] * count, index=np.arange(count), person=np.zeros(count, np.int64),
        center=np.full((count, 2), 100.0), scale=np.ones(count), part=part, visible=np.ones(part.shape[:2], bool),
        normalize=unknown, torsoangle=unknown,
    )  # fmt: skip


def exchange(rows: Annotations, skeleton: Skeleton, row: int, *names: str) -> None:
    for name in names:
        pair = [skeleton.joints.index(f"{side}_{name}") for side in ("right", "left")]
        rows.part[row, pair] = rows.part[row, pair[::-1]]


def odd(rows: Annotations, skeleton: Skeleton, size: tuple[int, int] = (200, 200)) -> dict[str, list[int]]:
    """Return a dict: each kind of suspicious label that occurs -> indices of the people with such labels."""
    found = check(rows, np.full((len(rows), 2), size, np.float64), skeleton)
    return {kind: np.flatnonzero(mask).tolist() for kind, mask in found.items() if mask.any()}


@pytest.mark.parametrize(
    "skeleton", [dataset.skeleton for dataset in (MPII, PENN_ACTION, LSP, FLIC)], ids=["mpii", "penn_action", "lsp", "flic"]
)
def test_a_person_seen_from_any_side_is_not_suspicious(skeleton: Skeleton) -> None:
    rows = people(skeleton, 4)
    rows.part[1, :, 0] = 200 - rows.part[1, :, 0]  # the person seen from behind
    rows.part[2, :, 1] = 200 - rows.part[2, :, 1]  # the person upside down
    rows.part[3, :, 0] = 100 + 0.1 * (rows.part[3, :, 0] - 100)  # the person seen from the side
    assert odd(rows, skeleton) == {}
    rows.part[:] = np.nan
    assert odd(rows, skeleton) == {}


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["shoulder"], {"upper arms crossed", "shoulders against hips"}),
        (["elbow"], {"upper arms crossed", "lower arms crossed"}),
        (["wrist"], {"lower arms crossed"}),
        (["elbow", "wrist"], {"upper arms crossed"}),
        (["shoulder", "elbow", "wrist"], {"shoulders against hips"}),
        (["hip"], {"shoulders against hips"}),
        (["hip", "knee", "ankle"], {"shoulders against hips"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_exchanged_pairs_are_found(names: list[str], kinds: set[str]) -> None:
    for skeleton in (MPII.skeleton, PENN_ACTION.skeleton, LSP.skeleton):
        rows = people(skeleton, 2)
        exchange(rows, skeleton, 1, *names)
        assert odd(rows, skeleton) == dict.fromkeys(kinds, [1]), skeleton


def test_exchanged_legs_in_a_stride_are_found() -> None:
    rows = people(PENN_ACTION.skeleton, 2)
    rows.part[:, -4:, 0] += [-40, 40, -60, 60]  # right and left knee, right and left ankle
    exchange(rows, PENN_ACTION.skeleton, 1, "ankle")
    assert odd(rows, PENN_ACTION.skeleton) == {"lower legs crossed": [1]}
    exchange(rows, PENN_ACTION.skeleton, 1, "knee")
    assert odd(rows, PENN_ACTION.skeleton) == {"thighs crossed": [1]}


def test_labels_exchanged_between_frames_are_found() -> None:
    rows = people(PENN_ACTION.skeleton, 6, ["1/1.jpg", "1/2.jpg", "1/3.jpg", "2/1.jpg", "2/2.jpg", "2/4.jpg"])
    rows.index[5] += 1  # the previous frame is missing
    rows.part[:] += np.arange(6)[:, None, None]
    # Left and right are exchanged in rows 2 to 4: frame 3 of sequence 1, and frames 1 and 2 of sequence 2. So left and
    # right change places at 1/3.jpg, and change back at 2/4.jpg. The second change is not reported, because frame 2/3.jpg is
    # missing.
    for row in (2, 3, 4):
        exchange(rows, PENN_ACTION.skeleton, row, "ankle", "knee", "hip", "shoulder", "elbow", "wrist")
    kinds = {f"{name}s exchanged" for name in ("ankle", "knee", "hip", "shoulder", "elbow", "wrist")}
    assert odd(rows, PENN_ACTION.skeleton) == dict.fromkeys(kinds, [2])
    # People in one image are not consecutive frames of one person, so their sides are not compared.
    assert odd(replace(rows, images=["a.jpg"] * 6), PENN_ACTION.skeleton) == {}


def test_people_outside_their_image() -> None:
    rows = people(MPII.skeleton, 4)
    rows.part[0, 0] = (-0.5, 0)  # still inside the pixels of the first column
    rows.part[1, 0] = (-0.6, 0)
    rows.part[1, 1] = (199.5, 3)
    rows.part[2] += 300
    rows.part[2, 5] = np.nan
    rows.center[3] = (100, 199.5)
    assert odd(rows, MPII.skeleton) == {"joints outside": [1, 2], "all joints outside": [2], "center outside": [3]}


def share(rows: Annotations, skeleton: Skeleton) -> np.ndarray:
    """Return a mask (N,) bool: people whose left and right labels seem exchanged."""
    found = check(rows, np.full((len(rows), 2), 1e6), skeleton)
    return np.any([mask for kind, mask in found.items() if "outside" not in kind], axis=0)


def test_rates_on_published_people() -> None:
    if not SHARED.is_dir():
        pytest.skip("the published annotations are missing")
    for folder, skeleton, least in (("mpii_real_annotations", MPII.skeleton, 0.6), ("flic_annot", FLIC.skeleton, 0.9)):
        rows = annotations.read(SHARED / folder, "valid")
        assert 0 < share(rows, skeleton).mean() < 0.02
        for name in ("shoulder", "elbow", "wrist", "hip"):
            pair = [skeleton.joints.index(f"{side}_{name}") for side in ("right", "left")]
            labelled = ~np.isnan(rows.part[:, pair]).any(axis=(1, 2))
            swapped = rows.part.copy()
            swapped[:, pair] = swapped[:, pair[::-1]]
            assert share(replace(rows, part=swapped), skeleton)[labelled].mean() > least, name
