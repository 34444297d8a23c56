"""Predictions in the layout of MPII's evaluation, read back by SciPy with the fields that MPII's toolkit reads."""

import zipfile

import numpy as np
from scipy.io import loadmat

from datasets.formats import mpii_release
from datasets.sample import archives as synthetic


def test_mpii_submission_is_in_the_official_order(tmp_path):
    synthetic.write_mpii(tmp_path, 60, seed=3)
    with zipfile.ZipFile(tmp_path / "mpii_human_pose_v1_u12_2.zip") as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(mpii_release.MAT_NAME)]
        (tmp_path / mpii_release.MAT_NAME).write_bytes(archive.read(member))
    release = mpii_release.read(tmp_path / mpii_release.MAT_NAME)
    people = release.people.select(~release.training)
    assert len(people) > 5
    preds = np.random.default_rng(0).uniform(0, 300, (len(people), 16, 2))
    preds[0, 6] = np.nan  # a joint that the network does not know
    mpii_release.write_predictions(tmp_path / "pred_keypoints_mpii.mat", tmp_path / mpii_release.MAT_NAME, people, preds)

    written = loadmat(tmp_path / "pred_keypoints_mpii.mat")
    pred, ours = written["pred"], written["RELEASE"][0, 0]
    official = loadmat(tmp_path / mpii_release.MAT_NAME)["RELEASE"][0, 0]
    test = official["annolist"][0, official["img_train"].ravel() == 0]
    assert pred.shape == (1, len(test))
    np.testing.assert_array_equal(ours["img_train"], official["img_train"])
    assert [a["image"][0, 0]["name"].item() for a in ours["annolist"][0]] == [
        a["image"][0, 0]["name"].item() for a in official["annolist"][0]
    ]
    assert repr(ours["annolist"][0, ours["img_train"].ravel() == 0]) == repr(pred[0])
    rows = {key: row for row, key in enumerate(zip(people.images, people.person.tolist(), strict=True))}
    found = 0
    for ours, theirs in zip(pred[0], test, strict=True):
        assert ours["image"][0, 0]["name"].item() == theirs["image"][0, 0]["name"].item()
        for k in range(theirs["annorect"].size):
            if not theirs["annorect"].ravel()[k]["scale"].size:
                continue  # the dataset has no position for this person
            points = ours["annorect"].ravel()[k]["annopoints"][0, 0]["point"].ravel()
            row = rows[ours["image"][0, 0]["name"].item(), k]
            assert [int(p["id"].item()) for p in points] == [j for j in range(16) if not np.isnan(preds[row, j, 0])]
            for p in points:
                assert (p["x"].item(), p["y"].item()) == tuple(preds[row, int(p["id"].item())] + 1)
            found += 1
    assert found == len(people)
