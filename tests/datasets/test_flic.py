"""Tests of reading FLIC's annotation files: files that the tests write, and the published files."""

import zipfile

import numpy as np
import pytest

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.flic import FLIC, Flic
from datasets.formats import annotations
from datasets.progress import silent
from stages.preparing.annotate import annotate
from tests.drawn import peak_error, write_flic
from tests.shared import SHARED

PUBLISHED = SHARED / "flic_annot"


@pytest.fixture
def raw(tmp_path):
    """Return a folder like the result of Fetch:flic, with images and labels of 4 training and 2 validation people."""
    write_flic(tmp_path / "FLIC.zip", tmp_path / "FLIC/annot", 4, 2)
    with zipfile.ZipFile(tmp_path / "FLIC.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "FLIC"


def people(folder, sides):
    """Return split -> the people of the annotation files in `folder`/annot."""
    return {name: split.parts[0] for name, split in FLIC.read(folder, Flic(sides=sides), {}, silent).splits.items()}


def test_files_and_samples(raw, tmp_path):
    summary = annotate(FLIC, raw, tmp_path / "annot", Flic(), workers=1)
    assert [summary[split]["rows"] for split in ("train", "valid", "test")] == [4, 2, 0]
    errors = peak_error(DatasetFiles(FLIC, tmp_path / "annot", raw / "images"), "train")
    assert len(errors) > 30 and errors.max() <= 2.01


def test_sides(raw):
    own, seen = (people(raw, sides)["train"] for sides in ("person", "observer"))
    assert np.array_equal(own.part[::2], seen.part[::2])
    assert np.array_equal(own.part[1::2][:, FLIC.skeleton.mirrored()], seen.part[1::2])
    assert not np.array_equal(own.part[1::2], seen.part[1::2])


def test_wrong_files_are_refused(raw):
    (raw / "annot/valid_personcentric.h5").unlink()
    with pytest.raises(DataError, match=r"valid_personcentric\.h5 is missing"):
        people(raw, "person")
    with pytest.raises(DataError, match=r"lacks 1 of the 6 images that are annotated, such as film-00000002\.jpg"):
        (raw / "images/film-00000002.jpg").unlink()
        annotate(FLIC, raw, raw / "new", Flic(sides="observer"), workers=1)
    rows = annotations.read(raw / "annot", "train")
    annotations.write(raw / "annot", "train", rows.select(np.arange(4)))
    other = annotations.Annotations(**{**vars(rows), "part": rows.part[:, :9], "visible": rows.visible[:, :9]})
    annotations.write(raw / "annot", "train", other)
    with pytest.raises(DataError, match=r"train\.h5 has 9 joints, expected 11"):
        people(raw, "observer")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="FLIC's published annotation files are not at hand")
def test_published_files(tmp_path):
    (tmp_path / "annot").symlink_to(PUBLISHED)
    own, seen = people(tmp_path, "person"), people(tmp_path, "observer")
    exchanged = 0
    for split, count in (("train", 3987), ("valid", 1016)):
        a, b = own[split], seen[split]
        assert len(a) == len(b) == count and a.part.shape == (count, 11, 2)
        turned = (a.part != b.part).any(axis=(1, 2))
        assert np.array_equal(a.part[turned][:, FLIC.skeleton.mirrored()], b.part[turned])
        exchanged += turned.sum()
        # An observer names the sides as if everybody faced the camera: the left shoulder is always on the right of the image.
        assert (b.part[:, 0, 0] > b.part[:, 3, 0]).all() and (a.part[turned, 0, 0] < a.part[turned, 3, 0]).all()
        torso = np.linalg.norm(a.part[:, 3] - a.part[:, 6], axis=1)
        assert np.allclose(a.normalize, torso) and (a.scale == 2.2).all()
        eyes, hips = a.part[:, 8:10, 1].mean(), a.part[:, 6:8, 1].mean()
        # On average, the eyes are above the nose, the nose is above the shoulders, and the shoulders are above the hips.
        assert eyes < a.part[:, 10, 1].mean() < a.part[:, [0, 3], 1].mean() < hips
    assert exchanged == 247
    assert len(set(own["train"].images) & set(own["valid"].images)) == 2
