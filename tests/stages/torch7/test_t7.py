"""Torch7 files: bytes assembled by hand, files that Torch7 wrote, and files with wrong sizes and indices."""

import json
import math
import random
import re
import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from datasets.errors import DataError
from stages.torch7 import t7 as torch7
from stages.torch7.t7 import Function, Storage, Table, Tensor, TorchObject
from tests.shared import SHARED

SAMPLES = SHARED / "torch7"


def i32(*values):
    return struct.pack(f"<{len(values)}i", *values)


def number(value):
    return i32(1) + struct.pack("<d", value)


def chars(text):
    return i32(len(text)) + text


def string(text):
    return i32(2) + chars(text)


def longs(*values, size=8):
    return struct.pack(f"<{len(values)}{'q' if size == 8 else 'i'}", *values)


def float_storage(index, *values, claim=None, size=8):
    head = i32(4, index) + chars(b"V 1") + chars(b"torch.FloatStorage")
    return head + longs(len(values) if claim is None else claim, size=size) + struct.pack(f"<{len(values)}f", *values)


def float_tensor(index, sizes, strides, offset, storage, size=8):
    head = i32(4, index) + chars(b"V 1") + chars(b"torch.FloatTensor") + i32(len(sizes))
    return head + longs(*sizes, *strides, offset, size=size) + storage


TYPES = ["Byte", "Char", "Short", "Int", "Long", "Half", "Float", "Double", "Cuda", "CudaByte", "CudaHalf", "CudaLong"]


@pytest.fixture
def file(tmp_path):
    """A function that writes bytes to a file and returns its path."""

    def make(data):
        path = tmp_path / "x.t7"
        path.write_bytes(data)
        return path

    return make


@pytest.fixture
def samples():
    if not SAMPLES.is_dir():
        pytest.skip("the files that Torch7 wrote (shared/data/torch7) are missing")
    return SAMPLES


def again(tmp_path, value, **options):
    """Write a value to a file, and return the value that is read back."""
    torch7.write(tmp_path / "again.t7", value, **options)
    return torch7.read(tmp_path / "again.t7")


# ---- bytes assembled by hand


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (i32(0), None),
        (number(-2.5), -2.5),
        (i32(5, 1), True),
        (i32(5, 0), False),
        (string(b"line\n"), "line\n"),
        (string(b""), ""),
        (b"0\n", None),
        (b"1\n0.10000000000000001\n", 0.1),
        (b"1\n-inf\n", -math.inf),
        (b"5\n1\n", True),
        (b"2\n5\nline\n\n", "line\n"),
        (b"2\n0\n", ""),
    ],
)
def test_plain_values_read_and_written_back(file, data, expected):
    path = file(data)
    value = torch7.read(path)
    assert value == expected and type(value) is type(expected)
    torch7.write(path, value, ascii=data[:1] >= b"0")
    assert path.read_bytes() == data


def test_signs_of_zero_and_nan_are_kept(tmp_path):
    for options in [{}, {"ascii": True}]:
        for value in [-0.0, 0.0, math.nan, -math.nan]:
            found = again(tmp_path, value, **options)
            assert math.copysign(1, found) == math.copysign(1, value)
            assert math.isnan(found) == math.isnan(value)


@pytest.mark.parametrize("options", [{}, {"ascii": True}])
def test_strings_of_any_bytes(tmp_path, options):
    everything = bytes(range(256)) + "日本é".encode()
    text = again(tmp_path, everything, **options)
    assert isinstance(text, str) and torch7.string_bytes(text) == everything
    assert again(tmp_path, text, **options) == text
    assert again(tmp_path, "日本é", **options) == "日本é"


@pytest.mark.parametrize("size", [8, 4])
def test_tensor_view_by_hand_with_either_size_of_longs(file, size):
    # The tensor has the elements 1 3 5 / 2 4 6 of a storage 0..6: offset 2 (1-based), strides 1 and 2.
    storage = float_storage(2, *range(7), size=size)
    path = file(float_tensor(1, [2, 3], [1, 2], 2, storage, size=size))
    tensor = torch7.read(path)
    np.testing.assert_array_equal(tensor.array(), np.array([[1, 3, 5], [2, 4, 6]], np.float32))
    assert (tensor.size, tensor.stride, tensor.offset, len(tensor.storage.array)) == ((2, 3), (1, 2), 1, 7)
    assert tensor.array().base is not None  # the tensor is a view: writing to it changes the storage
    tensor.array()[0, 0] = 9
    assert tensor.storage.array[1] == 9
    assert torch7.read(path, long_size=size).size == (2, 3)
    with pytest.raises(DataError):
        torch7.read(path, long_size=12 - size)


def test_ascii_by_hand(file):
    text = (
        b"3\n1\n2\n"  # a table with two entries
        b"1\n1\n4\n2\n3\nV 1\n16\ntorch.ByteTensor\n1\n3\n1\n1\n4\n3\n3\nV 1\n17\ntorch.ByteStorage\n3\n\n\x00\xff\n"
        b"1\n2\n4\n4\n3\nV 1\n16\ntorch.HalfTensor\n0\n1\n0\n"
    )
    path = file(text)
    table = torch7.read(path)
    assert table[1].array().tolist() == [10, 0, 255]
    assert table[2].array().shape == (0,) and table[2].array().dtype == np.float16
    torch7.write(path, table, ascii=True)
    assert path.read_bytes() == text


def test_class_without_version_string(file):
    data = i32(4, 1) + chars(b"nn.Old") + i32(3, 2, 1) + string(b"a") + number(1)
    path = file(data)
    value = torch7.read(path)
    assert (value.class_name, value.version, dict(value.fields)) == ("nn.Old", 0, {"a": 1.0})
    torch7.write(path, value)
    assert path.read_bytes() == data


@pytest.mark.parametrize(("kind", "index"), [(6, b""), (7, i32(2)), (8, i32(2))])
def test_functions_stay_opaque(file, kind, index):
    upvalues = i32(3, 2 if kind == 6 else 3, 1) + number(1) + string(b"up")
    data = i32(3, 1, 1) + string(b"f") + i32(kind) + index + chars(b"\x1bLJ code") + upvalues
    path = file(data)
    table = torch7.read(path)
    function = table["f"]
    assert isinstance(function, Function) and function.bytecode == b"\x1bLJ code" and function.upvalues[1] == "up"
    torch7.write(path, table)
    assert path.read_bytes() == data


# ---- tables


def test_keys_are_told_apart_as_in_lua():
    key = Table()
    table = Table([(1, "one"), (True, "yes"), (False, "no"), ("1", "text"), (0.5, "half"), (key, "table"), (0, "zero")])
    assert len(table) == 7
    assert (table[1.0], table[True], table[0], table[False], table[b"1"]) == ("one", "yes", "zero", "no", "text")
    assert table[key] == "table" and table.get(Table()) is None
    table[1] = None
    assert 1 not in table and True in table
    for illegal in [None, math.nan]:
        with pytest.raises(ValueError, match="cannot be the key"):
            table[illegal] = 1


def test_list_ends_at_the_first_gap():
    table = Table([(2, "b"), (1, "a"), (4, "d"), ("n", 3)])
    assert table.list() == ["a", "b"]
    assert list(Table.from_list("xyz").items()) == [(1.0, "x"), (2.0, "y"), (3.0, "z")]


@pytest.mark.parametrize("options", [{}, {"ascii": True}, {"long_size": 4}])
def test_sharing_cycles_and_order_survive(tmp_path, options):
    array = np.arange(6, dtype=np.float64)
    storage = Storage("torch.DoubleStorage", array)
    left, right = (Tensor("torch.DoubleTensor", (3,), (1,), offset, storage) for offset in (0, 3))
    module = TorchObject("nn.Thing", Table([("weight", left)]), version=2)
    table = Table([("z", left), ("a", right), (True, module), ("again", module)])
    table[table] = table
    table[module] = Function(b"code", table)
    found = again(tmp_path, table, **options)
    keys = list(found)
    assert keys[:4] == ["z", "a", True, "again"] and keys[4] is found and keys[5] is found[True]
    assert found[found] is found and found["again"] is found[True] and found[keys[5]].upvalues is found
    assert found[True].fields["weight"] is found["z"] and found[True].version == 2
    assert found["z"].storage is found["a"].storage and found["z"] is not found["a"]
    np.testing.assert_array_equal(found["a"].array(), [3, 4, 5])


@pytest.mark.parametrize("options", [{}, {"ascii": True}, {"long_size": 4}])
@pytest.mark.parametrize("name", TYPES)
def test_every_element_type(tmp_path, name, options):
    empty = Tensor(f"torch.{name}Tensor")
    dtype = empty.array().dtype
    array = np.array([[0 if dtype.kind == "u" else -1, 1, 100], [10, 127, 7]], dtype)
    if dtype.kind == "f":
        array /= 3
    table = Table.from_list([Tensor.from_array(array, f"torch.{name}Tensor"), empty])
    filled, nothing = again(tmp_path, table, **options).list()
    assert filled.class_name == f"torch.{name}Tensor" and filled.storage.class_name == f"torch.{name}Storage"
    assert filled.array().dtype == dtype
    np.testing.assert_array_equal(filled.array(), array)
    assert nothing.size == () and nothing.storage is None and nothing.array().shape == (0,)


def test_from_array_chooses_the_class():
    assert Tensor.from_array(np.zeros((2, 3), np.float32)).class_name == "torch.FloatTensor"
    assert Tensor.from_array(np.zeros((2, 3), np.int64)[:, ::2]).stride == (2, 1)
    assert Tensor.from_array(np.zeros((0, 3))).size == ()
    with pytest.raises(ValueError, match="complex"):
        Tensor.from_array(np.zeros(2, complex))


def test_values_that_cannot_be_written_are_refused(tmp_path):
    path = tmp_path / "x.t7"
    with pytest.raises(DataError, match="cannot represent .* exactly"):
        torch7.write(path, 2**53 + 1)
    with pytest.raises(DataError, match="longs of 4 bytes"):
        torch7.write(path, Storage("torch.LongStorage", np.array([2**31])), long_size=4)
    with pytest.raises(TypeError, match="set"):
        torch7.write(path, Table([("a", {1})]))
    with pytest.raises(TypeError, match="expected 1-d float32"):
        torch7.write(path, Storage("torch.FloatStorage", np.zeros(3)))


@pytest.mark.parametrize("ascii", [False, True])
def test_depth_beyond_pythons_stack(tmp_path, ascii):
    makers = [
        lambda value: Table([(value, 1)]),
        lambda value: TorchObject("a.B", Table([("c", value)])),
        lambda value: Function(b"f", value),
    ]
    for make in makers:
        value: object = "bottom"
        for _ in range(5000):
            value = make(value)
        found, depth = again(tmp_path, value, ascii=ascii), 0
        while found != "bottom":
            depth += 1
            if isinstance(found, Table):
                found = next(iter(found))
            else:
                found = found.upvalues if isinstance(found, Function) else found.fields["c"]
        assert depth == 5000


# ---- files with wrong sizes and indices


def damaged(path, *parts):
    with pytest.raises(DataError) as caught:
        torch7.read(path)
    assert path.name in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_sizes_beyond_the_file_are_refused(file):
    damaged(file(string(b"")[:4] + i32(2**31 - 1)), "byte 8", "2147483647")
    damaged(file(i32(2, -1)), "byte 8", "-1")
    damaged(file(i32(3, 1, 2**30) + bytes(100)), "byte 8", "1073741824")
    damaged(file(i32(3, 1, -5)), "-5")
    ten_gigabytes = float_storage(1, 1.0, claim=2_500_000_000)
    damaged(file(ten_gigabytes + bytes(1000)), "10000000000 bytes", "1004")
    damaged(file(float_storage(1, claim=2**62)), str(2**64))
    damaged(file(float_storage(1, claim=-1)))
    damaged(file(b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n2500000000\n1 2\n"), "expected 2500000000", "byte 43")
    damaged(file(b"4\n1\n3\nV 1\n17\ntorch.ByteStorage\n2500000000\nab\n"), "2500000000")


def test_tensors_outside_their_storage_are_refused(file):
    storage = float_storage(2, 1, 2, 3, 4)
    torch7.read(file(float_tensor(1, [2, 2], [2, 1], 1, storage)))
    # An expanded tensor, whose elements the file contains only once.
    torch7.read(file(float_tensor(1, [1000, 2], [0, 3], 1, storage)))
    for sizes, strides, offset in [
        ([2, 2], [2, 1], 2),
        ([5], [1], 1),
        ([2], [4], 1),
        ([4], [1], 0),
        ([2], [-1], 2),
        ([-1], [1], 1),
        ([2**62, 4], [0, 0], 1),  # all elements lie inside the storage, but numpy allows no array of this size
        ([2**62, 2**62], [2**62, 2**62], 1),
        ([0, 2**62], [2**62, 1], 1),
        ([1], [2**62], 1),
    ]:
        damaged(file(float_tensor(1, sizes, strides, offset, storage)), "byte ", "exceeds its storage of 4 elements")
    damaged(file(float_tensor(1, [2**40], [1], 1, i32(0))), "exceeds its storage of 0 elements")
    damaged(file(float_tensor(1, [1000], [1], 1, float_storage(2))), "exceeds its storage of 0 elements")
    damaged(file(float_tensor(1, [1] * 65, [1] * 65, 1, storage)), "65 dimensions")
    double = storage.replace(chars(b"torch.FloatStorage"), chars(b"torch.DoubleStorage"))
    damaged(file(float_tensor(1, [1], [1], 1, double)), "torch.DoubleStorage", "torch.FloatStorage")


def test_indices_out_of_order_or_of_another_type_are_refused(file):
    damaged(file(i32(3, 2, 0)), "byte 4", "object index 2", "expected 1")
    damaged(file(i32(3, 0, 0)), "object index 0")
    damaged(file(i32(3, -7, 0)), "object index -7")
    damaged(file(i32(3, 1, 1) + string(b"a") + i32(4, 1)), "byte 25", "object index 1", "another type")
    damaged(file(float_tensor(1, [1], [1], 1, i32(4, 1))), "object index 1", "another type")


def test_other_garbage_is_refused(file, tmp_path):
    damaged(file(b""), "empty")
    damaged(file(b"\x89PNG\r\n"), "is not a Torch7 file: it begins with", "PNG")
    damaged(file(i32(9)), "is not a Torch7 file")
    damaged(file(i32(3, 1, 1, 77)), "byte 12", "found 77")
    damaged(file(i32(5, 2)), "byte 4", "boolean")
    damaged(file(i32(3, 1, 1) + i32(0) + number(1)), "nil", "byte 12")
    damaged(file(i32(3, 1, 1) + number(math.nan) + number(1)), "NaN")
    damaged(file(number(1) + b"!"), "byte 12", "1 bytes after the end")
    damaged(file(i32(4, 1) + chars(b"V 1") + chars(b"nn.X") + number(1)), "byte 23", "nn.X")
    damaged(file(b"1\n1_000\n"), "byte 2")
    damaged(file(b"1\nseven\n"), "byte 2", "seven")
    damaged(file(b"3\n99999999999\n"), "too large")
    damaged(tmp_path / "absent.t7", "cannot be read")
    damaged(tmp_path, "cannot be read")


def ascii_storage(claimed, line):
    return b"4\n1\n3\nV 1\n19\ntorch.DoubleStorage\n%d\n%b\n" % (claimed, line)


def test_lines_of_numbers_hold_as_many_as_they_claim(file):
    assert torch7.read(file(ascii_storage(3, b"1 -inf\t2.5 "))).array.tolist() == [1, -math.inf, 2.5]
    for claimed in (2, 4, 10**15):
        damaged(file(ascii_storage(claimed, b"1 2 3")), "'1 2 3' in a line", f"expected {claimed} number(s)")


def test_an_ascii_file_takes_no_more_memory_than_its_numbers(file):
    path = file(ascii_storage(200_000, b"0 " * 200_000))
    tracemalloc.start()
    torch7.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 200_000 + 2 * path.stat().st_size


def example():
    """Return a small object that contains values of every type."""
    tensor = Tensor.from_array(np.arange(4, dtype=np.float32).reshape(2, 2))
    longs = Tensor.from_array(np.arange(3))
    table = Table([("t", tensor), (1, TorchObject("nn.X", Table([("w", tensor), ("l", longs)]))), (2, Function(b"x"))])
    table["self"] = table
    table["last"] = "text"
    return table


@pytest.mark.parametrize("options", [{}, {"long_size": 4}, {"ascii": True}])
def test_truncated_anywhere(tmp_path, file, options):
    torch7.write(tmp_path / "whole.t7", example(), **options)
    whole = (tmp_path / "whole.t7").read_bytes()
    for size in range(len(whole)):
        damaged(file(whole[:size]))


@pytest.mark.parametrize("options", [{}, {"ascii": True}])
def test_altered_bytes_give_an_object_or_a_data_error(tmp_path, file, options):
    torch7.write(tmp_path / "whole.t7", example(), **options)
    whole = (tmp_path / "whole.t7").read_bytes()
    random_bytes = random.Random(7)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(random_bytes.randint(1, 3)):
            data[random_bytes.randrange(len(data))] = random_bytes.choice([0, 1, 4, 10, 48, 57, 127, 255])
        try:
            torch7.read(file(data))
        except DataError:
            refused += 1
    assert refused > 100


# ---- files that Torch7 wrote


def same(expected, value, objects):
    """Compare a value with Torch7's description of it; values with equal ids or storage numbers must be one object."""
    kind = expected["type"]
    if kind == "string":
        assert torch7.string_bytes(value).hex() == expected["hex"]
    elif kind == "number":
        assert repr(value) == repr(float(expected["value"])) and isinstance(value, float)
    elif kind == "boolean":
        assert value is expected["value"]
    elif kind == "nil":
        assert value is None
    elif "ref" in expected:
        assert objects["id", expected["ref"]] is value
    else:
        assert ("id", expected["id"]) not in objects and not any(value is other for other in objects.values())
        objects["id", expected["id"]] = value
        same_object(expected, value, objects)


def same_object(expected, value, objects):
    kind = expected["type"]
    if kind == "function":
        assert len(value.bytecode) == expected["bytecodeLen"]
        upvalues = value.upvalues.list()
        assert [u["name"] for u in upvalues] == [u["name"] for u in expected["upvalues"]]
        for found, wanted in zip(upvalues, expected["upvalues"], strict=True):
            same(wanted["value"], found["value"], objects)
    elif "values" in expected:
        assert value.class_name == kind
        storage = value.storage if "stride" in expected else value
        if expected["storage"] is not None:
            assert objects.setdefault(("storage", expected["storage"]), storage) is storage
        if "stride" in expected:
            assert [list(value.size), list(value.stride)] == [expected["size"], expected["stride"]]
            assert expected["storageOffset"] in (None, value.offset + 1)
            assert expected["storageSize"] == (0 if storage is None else len(storage.array))
        elements = value.array() if "stride" in expected else value.array
        wanted = np.array(expected["values"], float).reshape(elements.shape)
        np.testing.assert_array_equal(elements.astype(float), wanted)
    else:
        assert kind == ("table" if isinstance(value, Table) else value.class_name)
        same_entries(expected["items"], value if isinstance(value, Table) else value.fields, objects)


def same_entries(expected, table, objects):
    assert len(expected) == len(table)
    for key, wanted in expected:
        if key["type"] == "table":
            found = next(k for k in table if isinstance(k, Table))
            same(key, found, objects)
        else:
            found = {"string": lambda k: bytes.fromhex(k["hex"]), "number": lambda k: float(k["value"])}.get(
                key["type"], lambda k: k["value"]
            )(key)
        same(wanted, table[found], objects)


@pytest.mark.parametrize("name", ["edge_binary.t7", "edge_ascii.t7"])
def test_edge_cases_of_torch7(samples, name):
    expected = json.loads((samples / "edge_expected.json").read_text())
    objects: dict = {}
    same(expected, torch7.read(samples / name), objects)
    assert len(objects) > 60


def test_files_of_torch7_are_written_back_byte_for_byte(samples, tmp_path):
    for path in sorted(samples.glob("*.t7")):
        data = path.read_bytes()
        torch7.write(tmp_path / "copy.t7", torch7.read(path), ascii=data[:1] >= b"0")
        assert (tmp_path / "copy.t7").read_bytes() == data, path.name


def test_binary_and_ascii_of_torch7_hold_the_same(samples, tmp_path):
    torch7.write(tmp_path / "x.t7", torch7.read(samples / "edge_binary.t7"), ascii=True)
    expected = json.loads((samples / "edge_expected.json").read_text())
    same(expected, torch7.read(tmp_path / "x.t7"), {})


def test_single_edge_cases_of_torch7(samples):
    def read(name):
        return torch7.read(samples / f"edge_{name}.t7")

    assert list(read("boolint").items()) == [(True, "true"), (1.0, "int one")]
    assert read("half")["h"].array().tolist() == [1.0, 0.5, -3.0]
    cycle = read("cyclelist")
    assert cycle[1] == "x" and cycle[2] is cycle
    ((key, value),) = read("listkey").items()
    assert key.list() == [1, 2] and value == "a list used as key"
    shared = read("sharedlist")
    assert shared["a"] is shared["b"]
    apart = read("unreferenced")
    assert apart["a"] is not apart["b"] and apart["a"].array().tolist() == apart["b"].array().tolist()
    assert [t.array().tolist() for t in read("tensorlist").list()] == [[1, 2, 3], [4, 5, 6]]


def plain(value):
    """Return a table of plain values as JSON would represent it."""
    if not isinstance(value, Table):
        return value
    return [plain(v) for v in value.list()] if 1 in value else {k: plain(v) for k, v in value.items()}


def test_options_and_optimizer_state(samples):
    assert plain(torch7.read(samples / "options.t7")) == json.loads((samples / "options.json").read_text())
    state = torch7.read(samples / "optimState_small.t7")
    assert state["m"].array().tolist() == [1, 2, 3.5] and state["learningRate"] == 2.5e-4


def test_network_file_has_the_published_structure(samples):
    network = torch7.read(samples / "hg256_cudnn_cuda.t7")
    found: Counter = Counter()
    storages, queue, seen = {}, [network], set()
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, TorchObject):
            found[value.class_name] += 1
            queue.append(value.fields)
        elif isinstance(value, Table):
            queue.extend(part for entry in value.items() for part in entry)
        elif isinstance(value, Tensor) and value.storage:
            storages[id(value.storage)] = value.storage
    text = (samples / "hg256_cudnn_structure.txt").read_text()
    expected: Counter = Counter()
    for class_name, count in re.findall(r"^(\S+)  V \d  x(\d+)$", text, re.M):
        expected[class_name] += int(count)
    assert found == expected
    assert len(network.fields["modules"].list()) == 37
    # All weights are in one storage and all gradients in another. Each of the 50 normalisations has 2 storages of running
    # statistics.
    assert len(storages) == 2 + 2 * 50
    assert sorted(len(storage.array) for storage in storages.values())[-3:] == [256, 3_211_920, 3_211_920]
