"""Networks on disk: loading returns the saved network and its description, and files of other programs are refused."""

import pickle
import struct

import pytest
import torch

from datasets.errors import DataError
from stages.network.checkpoints import load_network, save_network, save_tensors
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network

SMALL = Network(stem="2 4 4", features=8, depth=2)


@pytest.fixture
def saved(tmp_path):
    network = HourglassNet(SMALL, 3)
    save_network(tmp_path / "n.safetensors", network, ("a", "b", "c"), 64, {"valid_accuracy": 0.5})
    return network, tmp_path / "n.safetensors"


def test_a_network_is_loaded_with_its_description(saved):
    network, path = saved
    loaded, description = load_network(path)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(images)[-1], network.eval()(images)[-1])
    assert description.options == SMALL and description.joints == ("a", "b", "c")
    assert description.resolution == 64 and description.metrics == {"valid_accuracy": 0.5}


def test_same_network_same_bytes(saved, tmp_path):
    network, path = saved
    save_network(tmp_path / "again.safetensors", network, ("a", "b", "c"), 64, {"valid_accuracy": 0.5})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


class Evil:
    def __reduce__(self):
        return (print, ("executed!",))


@pytest.mark.parametrize("content", ["truncated", "empty", "pickle", "huge header"])
def test_other_files_are_refused(saved, content, capsys):
    _, path = saved
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "pickle": pickle.dumps(Evil()),
            "huge header": struct.pack("<Q", 1 << 60) + b"{}",
        }[content]
    )
    with pytest.raises(DataError, match=r"n\.safetensors is not a checkpoint"):
        load_network(path)
    assert "executed" not in capsys.readouterr().out


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_network(tmp_path / "n.safetensors")
    with pytest.raises(DataError, match="is a folder"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    "claimed",
    [
        {"options": {"features": 1024, "stacks": 16, "stem": [4, 8, 8]}},  # a description of a network of gigabytes
        {"options": {"stacks": 10**9}},
        {"options": {"layers": 3}},
        {"options": 1},
        {"joints": 7},
        {"resolution": "wide"},
        {"resolution": 10**9},
        {"resolution": 0},
        {"resolution": 36},  # this resolution gives heatmaps of 9 px, which cannot be halved
        {"metrics": {"valid_accuracy": "good"}},
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path, claimed):
    network = HourglassNet(SMALL, 3)
    true = {"options": SMALL.significant(), "joints": ["a", "b", "c"], "resolution": 64, "metrics": {}}
    save_tensors(tmp_path / "n.safetensors", network.state_dict(), true)
    load_network(tmp_path / "n.safetensors")
    save_tensors(tmp_path / "n.safetensors", network.state_dict(), true | claimed)
    with pytest.raises(DataError, match="do not fit"):
        load_network(tmp_path / "n.safetensors")


def test_statistics_of_whole_numbers_are_refused(saved):
    network, path = saved
    true = {"options": SMALL.significant(), "joints": ["a", "b", "c"], "resolution": 64, "metrics": {}}
    tensors = network.state_dict()
    save_tensors(path, tensors | {"stem.norm.running_var": torch.ones(2, dtype=torch.int64)}, true)
    with pytest.raises(DataError, match=r"do not fit .* \(stem\.norm\.running_var has dtype torch\.int64\)"):
        load_network(path)


def test_tensors_that_do_not_fit_their_description(tmp_path):
    network = HourglassNet(SMALL, 3)
    save_network(tmp_path / "n.safetensors", network, ("a", "b", "c", "d"), 64, {})
    with pytest.raises(DataError, match="do not fit"):
        load_network(tmp_path / "n.safetensors")
