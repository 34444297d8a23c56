"""Networks that were trained elsewhere are converted to checkpoints of this workspace, or are refused."""

import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datasets.errors import DataError
from datasets.mpii import MPII
from datasets.penn_action import PENN_ACTION
from stages.importing.precomputed import convert, read_network
from stages.network.checkpoints import load_network, save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tests.ports import Bearpaw, Princeton, port
from tests.shared import SHARED

SMALL = Network(stem="2 4 4", features=8, depth=2)
TORCH7 = SHARED / "torch7"


@pytest.mark.parametrize("name", ["m.safetensors", "download"])  # a file from an address may have a name without a suffix
def test_our_own_network(tmp_path, name):
    save_network(tmp_path / name, HourglassNet(SMALL, 16), MPII.skeleton.joints, 64, {"valid_accuracy": 0.25})
    convert(tmp_path / name, MPII, tmp_path)
    _, description = load_network(tmp_path / "best.safetensors")
    assert description.joints == MPII.skeleton.joints and description.metrics == {"valid_accuracy": 0.25}


def test_the_wrong_dataset_is_refused(tmp_path):
    save_network(tmp_path / "p.safetensors", HourglassNet(SMALL, 13), PENN_ACTION.skeleton.joints, 64, {})
    with pytest.raises(DataError, match="predicts 13 joints"):
        convert(tmp_path / "p.safetensors", MPII, tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"no network")
    with pytest.raises(DataError, match=r"model\.pth"):
        convert(tmp_path / "model.pth", MPII, tmp_path)


def test_an_archive_of_several_networks_is_refused(tmp_path):
    (tmp_path / "best_model.t7").write_bytes(b"x")
    with tarfile.open(tmp_path / "precomputed.tar.gz", "w:gz") as tar:
        for experiment in ("hg-256", "hg-512"):
            tar.add(tmp_path / "best_model.t7", f"precomputed_hg_models/mpii/{experiment}/best_model.t7")
    with pytest.raises(DataError, match="several networks"):
        convert(tmp_path / "precomputed.tar.gz", MPII, tmp_path / "out")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_of_a_pytorch_port(tmp_path, legacy):
    theirs = port(Bearpaw)
    torch.save(theirs.state_dict(), tmp_path / "hg2.pth", _use_new_zipfile_serialization=not legacy)
    convert(tmp_path / "hg2.pth", MPII, tmp_path)
    network, description = load_network(tmp_path / "best.safetensors")
    assert description.joints == MPII.skeleton.joints and description.resolution == 256
    with torch.inference_mode():
        images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        mean = torch.tensor([0.4404, 0.4440, 0.4327]).view(3, 1, 1)
        assert torch.allclose(network(images)[-1], theirs(images - mean)[-1], atol=1e-5)
    with pytest.raises(DataError, match="predicts 16 joints"):
        convert(tmp_path / "hg2.pth", PENN_ACTION, tmp_path)


def test_a_safetensors_file_of_a_port(tmp_path):
    theirs = port(Princeton)
    tensors = {f"module.{name}": tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "hg2.safetensors")
    convert(tmp_path / "hg2.safetensors", MPII, tmp_path)
    network, _ = load_network(tmp_path / "best.safetensors")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(network(images)[-1], theirs(images)[-1], atol=1e-5)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "hg2.safetensors").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.safetensors"):
        read_network(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("name", ["hg2.pth", "best_model.t7", "m.safetensors"])
def test_a_web_page_is_recognised(tmp_path, name):
    (tmp_path / name).write_bytes(b"\n<!DOCTYPE html><html>Google Drive - Virus scan warning</html>")
    with pytest.raises(DataError, match=f"{name} is a web page, not a network"):
        convert(tmp_path / name, MPII, tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_network_that_torch7_wrote(tmp_path, packed):
    source = TORCH7 / "hg256_cudnn_cuda.t7"
    if not source.exists():
        pytest.skip("the network that Torch7 wrote (shared/data/torch7) is missing")
    if packed:
        with tarfile.open(tmp_path / "precomputed.tar.gz", "w:gz", compresslevel=1) as tar:
            tar.add(source, "precomputed_hg_models/mpii/hg-256/best_model.t7")
        source = tmp_path / "precomputed.tar.gz"
    convert(source, MPII, tmp_path)
    network, description = load_network(tmp_path / "best.safetensors")
    assert description.options == Network()
    with np.load(TORCH7 / "hg256_cudnn_cuda_io.npz") as io, torch.inference_mode():
        assert np.abs(network(torch.from_numpy(io["input"]))[-1].numpy() - io["output1"]).max() < 1e-4
