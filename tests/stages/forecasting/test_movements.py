"""The frames of a forecast's steps, compared with a plain computation of the published rule, on random and real labels."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from datasets import penn_action
from datasets.errors import DataError
from datasets.formats import penn_labels
from datasets.penn_action import PENN_ACTION
from stages.forecast_comparison.baselines import nearest_mean, nearest_neighbour, zero_velocity
from stages.forecasting.movements import fixed_rate_starts, published_starts, read_movements
from stages.forecasting.scoring import Counts
from stages.preparing.annotate import write_conversion
from tests.shared import SHARED
from tests.stages.forecasting.made import movements, write


def by_the_rule(start: int, frames: int) -> list[int]:
    """Return the frame numbers (from 1) of the 16 steps by the published rule: linspace, cut off at the video's end."""
    numbers = [round(value) for value in np.linspace(start, start + frames - 1, 16).tolist()]
    last = max(number for number in numbers if number <= frames)
    return [number if number <= frames else last for number in numbers]


def test_published_steps_are_those_of_the_rule():
    found = movements({3: 6, 7: 31, 12: 1})
    starts = published_starts(found)
    assert len(starts) == 38
    for start, (rows, sequence) in enumerate(zip(starts.rows, starts.sequence, strict=True)):
        first, length = int(found.first[sequence]), int(found.lengths[sequence])
        assert (rows - first + 1).tolist() == by_the_rule(start - first + 1, length), start
    assert starts.repeated[6].sum() == 0 and starts.repeated[36].tolist() == [False] + [True] * 15
    assert (starts.rows[-1] == 37).all()


def test_fixed_rate_steps_lie_inside_their_sequence():
    found = movements({3: 6, 7: 4, 12: 5})
    starts = fixed_rate_starts(found, stride=2, steps=3)
    assert starts.rows.tolist() == [[0, 2, 4], [1, 3, 5], [10, 12, 14]] and not starts.repeated.any()
    with pytest.raises(DataError, match="no sequence has 7 frames in a row"):
        fixed_rate_starts(found, stride=1, steps=7)
    with pytest.raises(DataError, match="stride = 0: both should be 1 or more"):
        fixed_rate_starts(found, stride=0)


def test_files_are_read_and_damage_is_told(tmp_path):
    with pytest.raises(DataError, match=r"val\.h5 is missing"):
        read_movements(tmp_path, tmp_path / "labels", "valid")
    write(tmp_path, "val", {3: 2, 12: 3})
    found = read_movements(tmp_path, tmp_path / "labels", "valid")
    assert found.sequence.tolist() == [3, 12] and found.first.tolist() == [0, 2, 5] and found.action == ("squat", "squat")
    assert found.joints[3, 4].tolist() == [14, 1] and np.isnan(found.joints[:, 5]).all() and found.side.tolist() == [40, 40]
    (tmp_path / "labels/0012.mat").unlink()
    with pytest.raises(DataError, match=r"0012\.mat"):
        read_movements(tmp_path, tmp_path / "labels", "valid")


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """The folder of the real labels after cropping and conversion."""
    archive = SHARED / "penn_real_labels.tar.gz"
    if not archive.is_file():
        pytest.skip("Penn Action's real labels are missing")
    root = tmp_path_factory.mktemp("real")
    with tarfile.open(archive) as tar:
        tar.extractall(root, filter="data")
    (root / "labels").mkdir()
    cropped = []
    for path in penn_labels.label_paths(root / "Penn_Action"):
        label = penn_labels.read_label(path)
        cropped.append(penn_action.crop_label(label, penn_action.crop_window(label)))
        penn_labels.write_label(root / "labels" / path.name, cropped[-1])
    write_conversion(PENN_ACTION, penn_action.conversion(cropped, lambda head: head), root / "annot")
    return root


def pck(found, starts, forecasts) -> list[float]:
    counts = Counts.empty(found, 16)
    for numbers, joints in forecasts:
        counts.add(found, starts.select(numbers), joints)
    return [round(100 * rate, 1) for rate in counts.by_step().tolist()]


def test_counts_steps_and_rows_of_the_real_labels(real):
    split = {name: read_movements(real / "annot", real / "labels", name) for name in ("train", "valid", "test")}
    assert {name: (len(m.joints), len(m.sequence)) for name, m in split.items()} == {
        "train": (78757, 1142), "valid": (8786, 116), "test": (76298, 1068),
    }  # fmt: skip
    # The training of the hourglass leaves out sequence 1516, so that 1541 is one of its training sequences.
    assert 1541 in split["valid"].sequence
    test, starts = split["test"], published_starts(split["test"])
    for sequence in range(0, 1068):
        first, length = int(test.first[sequence]), int(test.lengths[sequence])
        start = first + length // 3
        assert (starts.rows[start] - first + 1).tolist() == by_the_rule(length // 3 + 1, length)
    assert (100 * starts.repeated.mean(axis=0)).round(1)[[0, 1, 4, 9, 15]].tolist() == [0, 6.5, 26.3, 59.2, 98.6]
    seen = (~np.isnan(test.joints[starts.rows[:, :3]]).any(axis=-1)).sum(axis=(0, 2))
    assert seen.tolist() == [771216, 773255, 774721]
    query = test.joints[starts.rows[:, 0]]
    assert pck(test, starts, zero_velocity(query)) == [
        100, 74.7, 57.8, 50.1, 46.1, 43.7, 41.7, 40.1, 39.1, 38.5, 38.1, 37.7, 37.6, 37.9, 38.4, 38.4,
    ]  # fmt: skip
    whole = starts.select(~np.isnan(query).any(axis=(1, 2)))
    assert len(whole) == 18063
    tenth, twentieth = whole.select(np.arange(0, 18063, 10)), whole.select(np.arange(0, 18063, 20))
    actions = np.array(test.action)
    rows = {
        "all": pck(test, tenth, nearest_neighbour(split["train"], test.joints[tenth.rows[:, 0]])),
        "oracle": pck(
            test, tenth, nearest_neighbour(split["train"], test.joints[tenth.rows[:, 0]], actions[tenth.sequence])
        ),
        "mean": pck(
            test, twentieth,
            nearest_mean(split["train"], test.joints[twentieth.rows[:, 0]], test.side[twentieth.sequence]),
        ),
    }  # fmt: skip
    expected = {
        "all": [87.3, 58.1, 45.7, 39.5, 37.1, 35.7, 34.2, 33.2, 32.8, 33.6, 34.7, 35.0, 35.8, 36.6, 37.6, 38.0],
        "oracle": [87.5, 59.1, 47.4, 42.1, 39.9, 38.6, 36.9, 35.6, 35.2, 36.3, 37.5, 37.7, 38.8, 39.7, 40.7, 41.1],
        "mean": [100, 78.3, 60.7, 51.8, 46.9, 44.7, 43.0, 41.6, 42.4, 44.2, 45.7, 46.1, 46.7, 47.7, 48.7, 49.0],
    }
    for name, row in expected.items():
        np.testing.assert_allclose(rows[name], row, atol=0.101, err_msg=name)
