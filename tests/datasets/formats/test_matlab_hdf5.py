"""Tests of reading MPII's annotation file that was saved again: by MATLAB as version 7.3 (HDF5), or by SciPy."""

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datasets.errors import DataError
from datasets.formats import mpii_release
from tests.datasets import test_mpii

STRUCT, LOADED = b"struct", {"simplify_cells": True}


def write_v73(path, name, value):
    """Write a file as MATLAB does: a header of 512 bytes, transposed arrays, and a reference for every field of a record."""
    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, file.create_group("#refs#"), file, name, value)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


def put(file, refs, parent, name, value):
    """Write a value under a name; return the HDF5 group or dataset that contains it."""
    if isinstance(value, dict):
        made = parent.create_group(name)
        for field, inner in value.items():
            put(file, refs, made, field, inner)
        made.attrs["MATLAB_class"] = np.bytes_(STRUCT)
    elif isinstance(value, list | np.ndarray) and len(value) and isinstance(value[0], dict):
        made = parent.create_group(name)
        for field in value[0]:
            inner = [put(file, refs, refs, f"r{len(refs)}", record[field]).ref for record in value]
            made.create_dataset(field, (len(inner), 1), h5py.ref_dtype)[:, 0] = inner
        made.attrs["MATLAB_class"] = np.bytes_(STRUCT)
    elif isinstance(value, str) and value:
        made = parent.create_dataset(name, data=np.frombuffer(value.encode("utf-16-le"), "<u2")[:, None])
        made.attrs["MATLAB_class"] = np.bytes_(b"char")
    elif np.size(value) == 0 or isinstance(value, str):
        made = parent.create_dataset(name, data=np.zeros(2, np.uint64))
        made.attrs["MATLAB_class"] = np.bytes_(b"char" if isinstance(value, str) else b"double")
        made.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        made = parent.create_dataset(name, data=np.atleast_2d(value).T, chunks=True, compression="gzip")
        made.attrs["MATLAB_class"] = np.bytes_(b"double")
    return made


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Return the path of a small annotation file in the published layout, and its contents."""
    path = tmp_path_factory.mktemp("release") / "release.mat"
    other = test_mpii.PERSON | {"x1": 3.0}
    images = [[test_mpii.PERSON], [test_mpii.PERSON, other], [], [other]]
    test_mpii.write_release(
        path, [test_mpii.struct(*people) if people else np.zeros((0, 0)) for people in images], [1, 1, 1, 0]
    )
    found = mpii_release.read(path)
    assert found.people.index.tolist() == [0, 1, 1, 3]
    return path, found


def assert_same(path, expected):
    found = mpii_release.read(path)
    assert found.images == expected.images and found.people.images == expected.people.images
    np.testing.assert_array_equal(found.training_images, expected.training_images)
    for field in ("index", "person", "center", "scale", "part", "visible", "normalize", "torsoangle"):
        np.testing.assert_array_equal(getattr(found.people, field), getattr(expected.people, field), field)


def test_version_7_3_is_read_as_version_5(release, tmp_path):
    path, expected = release
    write_v73(tmp_path / "v73.mat", "RELEASE", loadmat(path, **LOADED)["RELEASE"])
    assert_same(tmp_path / "v73.mat", expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"squeeze_me": True}, {"struct_as_record": False}, {"struct_as_record": False, "squeeze_me": True}, LOADED],
    ids=str,
)
def test_a_file_loaded_and_saved_by_scipy_is_read(release, tmp_path, options):
    """SciPy saves struct arrays as cell arrays."""
    path, expected = release
    savemat(tmp_path / "again.mat", {"RELEASE": loadmat(path, **options)["RELEASE"]}, do_compression=True)
    assert_same(tmp_path / "again.mat", expected)


def test_the_error_for_another_file_lists_its_fields(tmp_path):
    write_v73(tmp_path / "v73.mat", "other", {"version": "12"})
    with pytest.raises(DataError, match="v73.mat has no field 'RELEASE'; it has other. Check the path"):
        mpii_release.read(tmp_path / "v73.mat")
    write_v73(tmp_path / "v73.mat", "RELEASE", {"version": "12"})
    with pytest.raises(DataError, match="RELEASE.annolist is no struct array, .* this is not MPII's annotation file"):
        mpii_release.read(tmp_path / "v73.mat")


def test_sizes_and_links_are_not_trusted(tmp_path):
    write_v73(tmp_path / "a.mat", "RELEASE", {"version": 1.0})
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        file["RELEASE"].create_dataset("annolist", (1 << 40,), "u1", chunks=(1 << 20,), compression="gzip")
        file["RELEASE"]["img_train"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DataError, match=r"a\.mat is not readable as MATLAB 7\.3 data \(img_train is a link"):
        mpii_release.read(tmp_path / "a.mat")
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        del file["RELEASE"]["img_train"]
    with pytest.raises(DataError, match=r"or has 1099511627776 bytes"):
        mpii_release.read(tmp_path / "a.mat")
