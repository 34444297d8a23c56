"""MATLAB files: reading what SciPy writes, and the error messages for damaged and hostile files."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datasets.errors import DataError
from datasets.formats import matlab
from datasets.formats.matlab import read_mat, write_mat

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(name: bytes, kind: int, dimensions: list[int], *content: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dimensions)}I", *dimensions))
    return element(14, head + element(1, name) + b"".join(content))


def compressed(content: bytes) -> bytes:
    return struct.pack("<II", 15, len(content)) + content


def write(folder: Path, *variables: bytes) -> Path:
    (folder / "x.mat").write_bytes(HEADER + b"".join(variables))
    return folder / "x.mat"


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_scipy_are_read(tmp_path: Path, compress: bool) -> None:
    cube = np.arange(24.0).reshape(2, 3, 4)
    records = np.array([[("a", 1.5, np.arange(3)), ("", 2, np.zeros((0, 0)))]], [(name, object) for name in ("s", "n", "v")])
    content: dict[str, Any] = {"cube": cube, "small": np.array([[250, 7]], np.uint8), "text": "run", "one": np.int16(-3)}
    content |= {"none": np.zeros((0, 4)), "records": records, "yes": np.array([[True, False]])}
    savemat(tmp_path / "x.mat", content | {"cell": np.array([[1, "a"]], object)}, do_compression=compress)
    read = read_mat(tmp_path / "x.mat", *content)
    assert set(read) == set(content) and read["text"] == "run" and read["one"] == -3.0
    np.testing.assert_array_equal(read["cube"], cube)
    assert read["small"].dtype == np.uint8 and read["small"].tolist() == [[250, 7]]
    assert read["none"].shape == (0, 4) and read["yes"].tolist() == [[1, 0]]
    first, second = read["records"]
    assert (first.get("s"), first.get("n"), first.get("v").tolist()) == ("a", 1.5, [[0, 1, 2]])
    assert (second.get("s"), second.get("n"), second.get("v").size, second.get("gone")) == ("", 2.0, 0, None)
    with pytest.raises(DataError, match="field 'cell' .*a cell does not hold structs"):
        read_mat(tmp_path / "x.mat", "cell")


@pytest.mark.parametrize("kind", ["int8", "int16", "uint32", "int64", "uint64", "float32"])
def test_single_numbers_and_arrays_of_every_type(tmp_path: Path, kind: str) -> None:
    savemat(tmp_path / "x.mat", {"s": {"one": np.array(7, kind), "two": np.array([[7, 100]], kind)}})
    (record,) = read_mat(tmp_path / "x.mat", "s")["s"]
    assert record.get("one") == 7.0 and record.get("two").tolist() == [[7, 100]] and record.get("two").dtype == kind


def test_a_compressed_variable_without_the_streams_end_is_read(tmp_path: Path) -> None:
    pack = zlib.compressobj()  # two of Penn Action's label files lack the end of the stream, too
    content = pack.compress(variable(b"x", 6, [1, 2], element(9, struct.pack("<2d", 3, 4)))) + pack.flush(zlib.Z_SYNC_FLUSH)
    assert read_mat(write(tmp_path, compressed(content)), "x")["x"].tolist() == [[3, 4]]


NUMBERS = element(9, bytes(8 * 6))
FIELDS = element(5, struct.pack("<I", 8)) + element(1, b"a".ljust(8, b"\0"))


@pytest.mark.parametrize(
    ("variable", "match"),
    [
        (variable(b"x", 6, [2, 2], NUMBERS), "48 bytes are stored for 4 numbers"),
        (variable(b"x", 6, [2**32 - 1, 2**32 - 1], NUMBERS), "48 bytes are stored for"),
        (variable(b"x", 6, [2**31] * 31, NUMBERS), "48 bytes are stored for"),
        (variable(b"x", 6, [6], NUMBERS), "flags and dimensions"),
        (variable(b"x", 6, [1] * 33, NUMBERS), "flags and dimensions"),
        (variable(b"x", 6, [2, 3], element(99, bytes(48))), "stored as type 99"),
        (variable(b"x", 6, [2, 3], struct.pack("<II", 9, 2**32 - 8)), "4294967288 bytes are announced"),
        (variable(b"x", 6, [2, 3], struct.pack("<I", 9 | 0xFFFF << 16) + bytes(60000)), "65535 bytes are announced"),
        (variable(b"x", 6 | 0x800, [2, 3], NUMBERS, NUMBERS), "complex"),
        (variable(b"x", 5, [2, 3], NUMBERS), "class 5"),
        (variable(b"x", 4, [2, 1], element(16, b"ab")), "class 4"),
        (variable(b"x", 4, [1, 2], element(16, b"\xff\xff")), "utf-8"),
        (variable(b"x", 2, [2**20, 2**20], FIELDS), "1099511627776 records are announced"),
        (variable(b"x", 2, [1, 1], element(5, bytes(4)), element(1, b"a" * 8)), "names of fields have 0 bytes"),
        (variable(b"x", 2, [1, 1], element(5, b"\xf8\xff\xff\xff"), element(1, b"a" * 8)), "names of fields"),
        (variable(b"x", 2, [1, 1], element(5, b"\xff" * 4000), element(1, b"a" * 8)), "names of fields have 4294967295 bytes"),
        (variable(b"x", 2, [1, 1], FIELDS, element(9, bytes(8))), "field 'a' of a record is truncated"),
        (element(9, bytes(8)), "expected a variable"),
        (compressed(zlib.compress(bytes(4))), "truncated"),
        (compressed(b"no stream"), "header"),
    ],
)  # fmt: skip
def test_impossible_sizes_and_types_are_refused(tmp_path: Path, variable: bytes, match: str) -> None:
    with pytest.raises(DataError, match=rf"x\.mat.*{match}"):
        read_mat(write(tmp_path, variable), "x")


def test_records_without_fields_take_no_memory(tmp_path: Path) -> None:
    endless = variable(b"x", 2, [2**31, 2**31], element(5, struct.pack("<I", 8)), element(1, b""))
    assert read_mat(write(tmp_path, endless), "x")["x"] == []


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MOST", 10_000)
    half = compressed(zlib.compress(variable(b"y", 6, [1, 700], element(9, bytes(5600)))))
    assert read_mat(write(tmp_path, half), "y")["y"].shape == (1, 700)
    for bomb in (half + half, compressed(zlib.compress(bytes(1_000_000)))):
        with pytest.raises(DataError, match="unpacks to more than 10000 bytes"):
            read_mat(write(tmp_path, bomb), "y")
    with pytest.raises(DataError, match="more than 10000 bytes"):
        read_mat(write(tmp_path, bytes(20_000)), "y")


def test_nested_values_are_read_only_on_request(tmp_path: Path) -> None:
    inner = element(14, b"")
    for _ in range(2000):
        inner = variable(b"", 2, [1, 1], FIELDS, inner)
    (record,) = read_mat(write(tmp_path, variable(b"x", 2, [1, 1], FIELDS, inner)), "x")["x"]
    assert len(record.get("a")) == 1


def test_equal_variables_are_equal_files(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(3, 2, 2)
    for name in "ab":
        write_mat(tmp_path / f"{name}.mat", {"preds": values}, "a test")
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()
    assert (tmp_path / "a.mat").read_bytes().startswith(b"MATLAB 5.0 MAT-file, a test ")
    np.testing.assert_array_equal(loadmat(tmp_path / "a.mat")["preds"], values)
