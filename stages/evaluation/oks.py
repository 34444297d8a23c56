"""Score predictions by object keypoint similarity (OKS), as COCO's keypoint evaluation does.

Formulas: https://cocodataset.org/#keypoints-eval. Each prediction was made for one labelled person. The evaluation ignores this
relation: it matches the predictions and labels of an image by similarity, so a prediction may be matched to another person.
"""

from collections import defaultdict

import numpy as np

from datasets.formats.annotations import ENLARGED, Annotations
from stages.evaluation.accuracy import OksMetrics
from stages.evaluation.measures import known_joints

# Joint -> standard deviation of several annotators' labels, divided by the square root of the person's area (as in COCO).
SIGMA = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087,
    "ankle": 0.089,
}  # fmt: skip
OTHER_SIGMA = 0.079  # sigma of joints that COCO does not have; CrowdPose uses this value for head and neck
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # smallest similarity at which a prediction matches a person
RECALLS = np.linspace(0, 1, 101)  # recalls at which the precision is read, for the average precision
MOST = 20  # at most this many predictions of an image are scored: those with the highest scores


def sigmas(joints: tuple[str, ...]) -> np.ndarray:
    """Return the normalised standard deviation of each joint, (J,): see SIGMA and OTHER_SIGMA."""
    return np.array([SIGMA.get(name.removeprefix("left_").removeprefix("right_"), OTHER_SIGMA) for name in joints])


def score(rows: Annotations, preds: np.ndarray, confidence: np.ndarray, joints: tuple[str, ...]) -> OksMetrics | None:
    """Return average precisions and the average recall of predictions, one prediction per labelled person.

    preds: (N, J, 2) in 0-based px, NaN for joints that are not predicted; confidence: (N, J). As in PCK, joints
    that the network does not have (NaN for all people) do not count. People without a label of any other joint do not count; if
    nobody is left, the result is None. A person's area is the area of the person's square box, as in the files that
    `write_coco` writes. The score of a prediction is the mean confidence of the predicted joints.
    """
    has = known_joints(preds)
    part, preds, confidence, sigma = rows.part[:, has], preds[:, has], confidence[:, has], sigmas(joints)[has]
    labelled = np.flatnonzero(~np.isnan(part).any(axis=2).all(axis=1))
    rows, part, preds, confidence = rows.select(labelled), part[labelled], preds[labelled], confidence[labelled]
    if not len(rows):
        return None
    known = ~np.isnan(preds).any(axis=2)
    scores = (confidence * known).sum(axis=1) / known.sum(axis=1).clip(min=1)
    people = defaultdict[str, list[int]](list)
    for row, image in enumerate(rows.images):
        people[image].append(row)
    area = (rows.scale * 200 / ENLARGED) ** 2
    hits, order = [], []
    for those in people.values():
        ranked = np.array(those)[np.argsort(-scores[those], kind="stable")][:MOST]
        found = similarity(preds[ranked], part[those], area[those], sigma)
        hits.append(np.stack([_matched(found, threshold) for threshold in THRESHOLDS], axis=1))
        order.append(scores[ranked])
    ranks = np.argsort(-np.concatenate(order), kind="stable")
    # (N, len(THRESHOLDS)): row k has the number of matches among the k + 1 predictions with the highest scores.
    counts = np.concatenate(hits)[ranks].cumsum(axis=0)
    recall = counts / len(rows)
    precision = counts / np.arange(1, len(counts) + 1)[:, None]
    # Replace each precision by the largest precision at an equal or larger recall.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    read = np.stack([_read_off(recall[:, t], envelope[:, t]) for t in range(len(THRESHOLDS))])
    ap = read.mean(axis=1)
    return OksMetrics(ap=float(ap.mean()), ap50=float(ap[0]), ap75=float(ap[5]), ar=float(recall[-1].mean()))


def similarity(preds: np.ndarray, part: np.ndarray, area: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the similarity (P, G), in [0, 1], of each of P predictions to the labels of each of G people.

    preds: (P, J, 2) px, where NaN counts as a prediction at (0, 0); part: labels (G, J, 2) px, NaN where not labelled; area:
    (G,) px^2; sigma: (J,), see `sigmas`.
    """
    labelled = ~np.isnan(part).any(axis=2)
    square = ((np.nan_to_num(preds)[:, None] - np.nan_to_num(part)[None]) ** 2).sum(axis=3)
    each = np.exp(-square / (2 * (2 * sigma) ** 2 * (area[:, None] + np.spacing(1))))
    return (each * labelled).sum(axis=2) / labelled.sum(axis=1).clip(min=1)


def _matched(found: np.ndarray, threshold: float) -> np.ndarray:
    """Return (P,) bool: whether each prediction matches a person.

    A person is matched at most once; predictions with higher scores come first. found: similarity (P, G) of predictions in
    descending order of their scores. A match needs a similarity of at least `threshold`.
    """
    free, matched = np.ones(found.shape[1], bool), np.zeros(len(found), bool)
    for prediction, row in enumerate(found):
        candidates = np.where(free, row, -1)
        best = len(row) - 1 - int(candidates[::-1].argmax())  # if several people are equally similar, COCO matches the last one
        if candidates[best] >= min(threshold, 1 - 1e-10):
            free[best], matched[prediction] = False, True
    return matched


def _read_off(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the precision at each recall in RECALLS; 0 at a recall that is not reached.

    recall, precision: (N,); entry k belongs to the k + 1 predictions with the highest scores.
    """
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.where(places < len(precision), precision[places.clip(max=len(precision) - 1)], 0.0)
