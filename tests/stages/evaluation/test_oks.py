"""Object keypoint similarity, compared with pycocotools on the files of `write_coco` and `write_coco_results`."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.formats.annotations import Annotations
from datasets.formats.coco import write_coco, write_coco_results
from stages.evaluation import oks

JOINTS = ("nose", "left_eye", "right_eye", "left_knee", "right_knee", "tail")


def people(seed, images=12, error=6.0):
    """Return annotations (images with up to four people close together), predictions with various errors, and confidences."""
    rng = np.random.default_rng(seed)
    names = [f"{number}.jpg" for number in range(images) for _ in range(1 + number % 4)]
    count = len(names)
    center = rng.uniform(80, 120, (count, 2))
    part = center[:, None] + rng.uniform(-50, 50, (count, len(JOINTS), 2))
    part[rng.random(part.shape[:2]) < 0.2] = np.nan
    part[:, 0] = center  # every person has at least one label
    rows = Annotations(
        images=names, index=np.arange(count), person=np.zeros(count, int), center=center, scale=rng.uniform(0.3, 0.8, count),
        part=part, visible=~np.isnan(part[..., 0]), normalize=np.full(count, -1.0), torsoangle=np.zeros(count),
    )  # fmt: skip
    wrong = rng.normal(size=part.shape) * error * rng.uniform(0, 3, (count, 1, 1))
    return rows, np.where(np.isnan(part), 100.0, part) + wrong, rng.uniform(0.1, 1, part.shape[:2])


@pytest.mark.parametrize("seed", range(6))
def test_metrics_are_those_of_pycocotools(tmp_path, seed):
    rows, preds, confidence = people(seed)
    if seed == 1:
        preds[:, 1] = np.nan  # a joint that the network does not predict
    if seed == 2:
        confidence[:] = 0.5  # all predictions have equal scores
    # Joints that are predicted for nobody do not count, so pycocotools gets labels without them.
    has = np.flatnonzero(~np.isnan(preds).all(axis=(0, 2)))
    names, shared = tuple(JOINTS[joint] for joint in has), replace(rows, part=rows.part[:, has], visible=rows.visible[:, has])
    write_coco(tmp_path / "labels.json", shared, names, [], dict.fromkeys(rows.images, (400, 400)), "")
    write_coco_results(tmp_path / "found.json", shared, preds[:, has], confidence[:, has])
    labels = COCO(tmp_path / "labels.json")
    scored = COCOeval(labels, labels.loadRes(str(tmp_path / "found.json")), "keypoints")
    scored.params.kpt_oks_sigmas = oks.sigmas(names)
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    found = oks.score(rows, preds, confidence, JOINTS)
    expected = scored.stats[[0, 1, 2, 5]]
    assert [found.ap, found.ap50, found.ap75, found.ar] == pytest.approx(expected.tolist(), abs=1e-9)
    assert 0.02 < found.ap < 0.9  # the predictions are neither all right nor all wrong


def test_joints_that_the_network_does_not_have_do_not_count():
    rows, _, confidence = people(0)
    preds = rows.part.copy()
    preds[:, 3:] = np.nan
    found = oks.score(rows, preds, confidence, JOINTS)
    assert found and (found.ap, found.ar) == (1, 1)
    only = replace(rows, part=np.where(np.arange(len(JOINTS))[None, :, None] < 3, np.nan, rows.part))
    assert oks.score(only, preds, confidence, JOINTS) is None  # no label of a joint that the network has


def test_exact_predictions_have_full_precision():
    rows, _, confidence = people(0)
    found = oks.score(rows, rows.part, confidence, JOINTS)
    assert (found.ap, found.ap50, found.ap75, found.ar) == (1, 1, 1, 1)


def test_people_without_labels_do_not_count():
    rows, preds, confidence = people(3)
    rows.part[[3, 7, 11]] = np.nan
    some = np.delete(np.arange(len(rows)), [3, 7, 11])
    assert oks.score(rows, preds, confidence, JOINTS) == oks.score(rows.select(some), preds[some], confidence[some], JOINTS)


def test_more_people_than_count_lower_the_recall():
    rows, _, confidence = people(0, images=1)
    many = rows.select(np.zeros(40, int))
    many = replace(many, part=many.part + 1000.0 * np.arange(40)[:, None, None])
    found = oks.score(many, many.part, np.repeat(confidence[:1], 40, axis=0), JOINTS)
    assert found.ar == 0.5  # only 20 of the 40 people of the image count
