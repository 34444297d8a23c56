"""Tests that joints, pairs and limbs equal those of the datasets' authors and of the published training program."""

import pytest

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.flic import FLIC
from datasets.lsp import LSP
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from datasets.skeletons import matching_joints, mirrored

PAIRS = {  # the published pairs of a left and a right joint, as joint numbers from 0
    "mpii": [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)],
    "penn_action": [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)],
    "flic": [(0, 3), (1, 4), (2, 5), (6, 7), (8, 9)],
    "lsp": [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)],
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    skeleton = DATASETS[name].skeleton
    expected = list(range(len(skeleton.joints)))
    for a, b in PAIRS[name]:
        expected[a], expected[b] = b, a
    assert skeleton.mirrored() == expected


@pytest.mark.parametrize("name", DATASETS)
def test_limbs_are_the_same_mirrored(name):
    skeleton = DATASETS[name].skeleton
    partner = skeleton.mirrored()
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert len(limbs) == len(skeleton.limbs)
    assert {frozenset(partner[joint] for joint in limb) for limb in limbs} == limbs
    assert {joint for limb in limbs for joint in limb} == set(range(len(skeleton.joints)))


def test_scoring_joints_as_published():
    assert FLIC.skeleton.scoring == (1, 2, 4, 5, 6, 7)
    assert {MPII.skeleton.joints[j] for j in MPII.skeleton.scoring} == {LSP.skeleton.joints[j] for j in LSP.skeleton.scoring}


def test_joints_that_datasets_share():
    assert matching_joints(MPII.skeleton.joints, LSP.skeleton.joints) == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9]
    assert matching_joints(MPII.skeleton.joints, FLIC.skeleton.joints) == [13, 14, 15, 12, 11, 10, 3, 2, None, None, None]
    assert matching_joints(LSP.skeleton.joints, PENN_ACTION.skeleton.joints)[0] == LSP.skeleton.joints.index("head_top")
    assert matching_joints(LSP.skeleton.joints, MPII.skeleton.joints)[6:10] == [None, None, 12, 13]


def test_a_joint_without_a_partner_is_refused():
    with pytest.raises(DataError, match="left_knee but not right_knee"):
        mirrored(("nose", "left_knee"))
