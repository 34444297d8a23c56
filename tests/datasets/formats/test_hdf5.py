"""Tables written to HDF5 files, read back by h5py."""

import h5py
import numpy as np
import pytest

from datasets.formats.hdf5 import Layout, RowsH5

LAYOUT: Layout = {"heatmaps": ((2, 4, 3), np.dtype("<f4"))}


def test_rows_are_appended_batch_by_batch(tmp_path):
    maps = np.random.default_rng(0).random((5, 2, 4, 3), np.float32)
    with RowsH5(tmp_path / "h.h5", 5, LAYOUT) as file:
        file.append({"heatmaps": maps[:2]})
        file.append({"heatmaps": maps[2:]})
    with h5py.File(tmp_path / "h.h5") as file:
        assert file["heatmaps"].dtype == np.float32
        np.testing.assert_array_equal(file["heatmaps"][()], maps)


def test_rows_that_are_missing_or_too_many_are_an_error(tmp_path):
    rows = {"heatmaps": np.zeros((2, 2, 4, 3), np.float32)}
    with pytest.raises(ValueError, match="1 more rows"), RowsH5(tmp_path / "h.h5", 3, LAYOUT) as file:
        file.append(rows)
    with pytest.raises(ValueError, match="1 rows are left"), RowsH5(tmp_path / "h.h5", 3, LAYOUT) as file:
        file.append(rows)
        file.append(rows)


def test_a_full_disk_raises_an_error_and_does_not_crash(tmp_path):
    with pytest.raises(OSError, match="No space"), RowsH5(tmp_path / "h.h5", 1000, LAYOUT) as file:
        file._file.close()
        file._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
        file.append({"heatmaps": np.zeros((1000, 2, 4, 3), np.float32)})
