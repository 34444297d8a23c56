"""Checkpoints of the two PyTorch ports give the same heatmaps in this workspace, or are refused with a clear message."""

import io
import json
import os
import pickle
import re
import zipfile
from argparse import Namespace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.importing.import_pytorch import BEARPAW_MEAN, is_checkpoint, normalise, read_hourglass
from stages.importing.known_models import Normalisation
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from tests.ports import Bearpaw, Princeton, port
from tests.shared import SHARED

PEERS = SHARED / "peers"


def save_as(path, network, prefix="", legacy=False, **more):
    """Save a checkpoint as the ports' training programs do, with the entries `more`; without them, save only the tensors."""
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, **more} if more else state, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("kind", "prefix", "expected"),
    [
        (Princeton, "model.module.", {"stem": (4, 6, 6), "depth": 2, "stacks": 2, "head_residuals": 1}),
        (Bearpaw, "module.", {"stem": (4, 4, 6), "depth": 3, "stacks": 2, "residuals": 2, "head_residuals": 2}),
        (Princeton, "_orig_mod.", {"stem": (4, 6, 6), "depth": 2, "stacks": 2, "head_residuals": 1}),
        (Bearpaw, "module._orig_mod.net.", {"stem": (4, 4, 6), "depth": 3, "stacks": 2, "residuals": 2, "head_residuals": 2}),
        (Bearpaw, "", {"stem": (4, 4, 6), "depth": 3, "stacks": 2, "residuals": 2, "head_residuals": 2}),
    ],
)
def test_heatmaps_and_options_are_those_of_the_port(tmp_path, kind, prefix, expected, legacy):
    theirs = port(kind)
    path = save_as(tmp_path / "checkpoint.pth.tar", theirs, prefix, legacy, epoch=3)
    assert is_checkpoint(path)
    ours = read_hourglass(path)
    assert ours.options == Network(features=8, join="remap", **expected) and ours.joints == 16
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mean = torch.tensor(BEARPAW_MEAN if kind is Bearpaw else (0.0, 0.0, 0.0)).view(3, 1, 1)
    with torch.inference_mode():
        for found, wanted in zip(ours(images), theirs(images - mean), strict=True):
            assert wanted.std() > 0.1 and torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("places", [["model_state_dict"], ["model"], ["net", "state_dict"]])
@pytest.mark.parametrize("legacy", [False, True])
def test_other_contents_of_checkpoints_are_read_as_data(tmp_path, places, legacy):
    theirs = port(Princeton)
    content = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    for place in reversed(places):
        content = {
            place: content, "epoch": 3, "best": np.float64(0.5), "accuracy": np.float32(1), "count": np.int64(2),
            "losses": np.arange(3.0), "args": Namespace(lr=0.1, data=Path("data"), better=np.bool_(True)),
            "optimizer": {"state": {0: torch.zeros(2)}, "param_groups": [{"lr": np.float64(1e-3)}]},
        }  # fmt: skip
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    ours, images = read_hourglass(tmp_path / "c.pth"), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(ours(images)[-1], theirs(images)[-1], atol=1e-5)


def test_numpy_numbers_of_old_versions(tmp_path):
    save_as(tmp_path / "c.pth", port(Princeton), legacy=True, accuracy=np.float64(0.5))
    data = (tmp_path / "c.pth").read_bytes()
    assert b"cnumpy._core.multiarray\n" in data
    (tmp_path / "c.pth").write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert read_hourglass(tmp_path / "c.pth").options.stacks == 2


def test_options_that_would_run_code_are_not_built(tmp_path):
    """An argparse.Namespace is read as a placeholder, whatever it contains; a class that is not permitted is refused."""
    torch.save({"state_dict": port(Princeton).state_dict(), "args": Namespace(__setstate__=2, lr=0.1)}, tmp_path / "c.pth")
    assert read_hourglass(tmp_path / "c.pth").options.stacks == 2
    for value in (Decimal(1), Fraction(1, 2)):
        torch.save({"state_dict": port(Princeton).state_dict(), "args": value}, tmp_path / "c.pth")
        with pytest.raises(DataError, match=r"c\.pth holds more than tensors \((decimal|fractions)\."):
            read_hourglass(tmp_path / "c.pth")
    torch.save({"state_dict": {"conv1.weight": np.zeros(3)}}, tmp_path / "c.pth")
    with pytest.raises(DataError, match="'conv1.weight' = not a tensor"):
        read_hourglass(tmp_path / "c.pth")


def test_a_checkpoint_that_an_old_torch_saved_on_a_gpu(tmp_path):
    """As in the published checkpoints, the types of storages are those of CUDA, and each storage is on cuda:0."""
    data = save_as(tmp_path / "c.pth", port(Princeton), legacy=True).read_bytes()
    for on_cpu, on_gpu in ((b"ctorch\nFloat", b"ctorch.cuda\nFloat"), (b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0")):
        assert data.count(on_cpu) == 1
        data = data.replace(on_cpu, on_gpu)
    (tmp_path / "c.pth").write_bytes(data)
    assert read_hourglass(tmp_path / "c.pth").options.stacks == 2


def test_normalisation_of_the_ports(tmp_path):
    """Our heatmaps equal those of the port, even at the edges, where the first convolution reads padding."""
    theirs = port(Princeton)
    ours = read_hourglass(save_as(tmp_path / "c.pth", theirs))
    mean, deviation = (0.3643, 0.3437, 0.3156), (0.1510, 0.1469, 0.1472)
    normalise(ours, Normalisation(mean, deviation))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(ours(images)[-1], theirs(normalised)[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("hgs.1.0.low2.up1.conv2.conv.bias"), "has no hourglasses.1.inner.upper.0.conv2.bias"),
        (lambda s: s.update({"outs.0.conv.weight": torch.zeros(16, 9, 1, 1)}), r"outs\.0\.conv\.weight .*\(16, 9, 1, 1\)"),
        (lambda s: s.update({"hgs.0.0.up9.weight": torch.zeros(1)}), r"hgs\.0\.0\.up9\.weight is not used"),
        (lambda s: s["pre.0.conv.bias"].fill_(torch.nan), r"pre\.0\.conv\.bias .*finite"),
        (lambda s: s.update({"epoch": 3}), "'epoch'"),
        # A tensor whose elements are not in the file.
        (lambda s: s.update({"outs.0.conv.bias": torch.zeros(16, device="meta")}), "outs.0.conv.bias"),
        (lambda s: s.update({"\x1b[2Jlow2.": torch.zeros(1)}), r"'\\x1b\[2Jlow2\.'"),
        (lambda s: s.update({"low2." * 9999: torch.zeros(1)}), r"'(low2\.){5}.{1,80} in its state_dict"),
        (lambda s: s.update({"outs.0.conv.weight": torch.zeros(1).expand(16, 8, 100, 9999)}), "repeats"),
        (lambda s: s.pop("pre.0.conv.weight"), "no convolution stem.conv"),
    ],
)
def test_another_network_is_refused_by_layer(tmp_path, change, message):
    state = port(Princeton).state_dict()
    change(state)
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(DataError, match=f"c.pth.*{message}"):
        read_hourglass(tmp_path / "c.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_not_run(tmp_path, legacy):
    class Touch:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "touched"),)

    torch.save({"state_dict": Touch()}, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=r"c\.pth holds more than tensors \((posix|nt)\.mkdir\)"):
        read_hourglass(tmp_path / "c.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(DataError, match=r"plain\.pth holds more than tensors"):
        read_hourglass(tmp_path / "plain.pth")
    assert not (tmp_path / "touched").exists()
    pickle.loads((tmp_path / "plain.pth").read_bytes())
    assert (tmp_path / "touched").exists()


def test_damaged_files_are_refused(tmp_path):
    data = save_as(tmp_path / "whole.pth", port(Princeton)).read_bytes()
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole:
        member = max(whole.infolist(), key=lambda info: info.file_size)
    at = data.index(b"PK\3\4", member.header_offset) + 400
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    disks = data.replace(b"PK\6\7\0", b"PK\6\7\1")  # changes the disk number in the record that locates the list of members
    files = {"cut": data[:-500], "flipped": flipped, "disks": disks, "text": b"no network", "empty": b""}
    assert disks != data
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_hourglass(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_small_file_that_claims_much_is_refused_at_once(tmp_path, legacy):
    """The pickle claims 10**10 numbers instead of 25, for the storage or for the tensor."""
    torch.save({"a": torch.zeros(25)}, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    data, large = (tmp_path / "c.pth").read_bytes(), b"\x8a\x05" + (10**10).to_bytes(5, "little")
    small = [match.start() for match in re.finditer(rb"K\x19", data)]
    assert len(small) == 2
    for at in small:
        if legacy:
            (tmp_path / "c.pth").write_bytes(data[:at] + large + data[at + 2 :])
        else:
            with zipfile.ZipFile(tmp_path / "whole.pth", "w") as new, zipfile.ZipFile(io.BytesIO(data)) as old:
                for info in old.infolist():
                    content = old.read(info)
                    if info.filename.endswith("data.pkl"):
                        place = at - data.index(content)
                        content = content[:place] + large + content[place + 2 :]
                    new.writestr(info.filename, content)
            (tmp_path / "whole.pth").replace(tmp_path / "c.pth")
        with pytest.raises(DataError, match=r"c\.pth"):
            read_hourglass(tmp_path / "c.pth")


def test_compressed_members_are_refused(tmp_path):
    save_as(tmp_path / "c.pth", port(Princeton))
    with zipfile.ZipFile(tmp_path / "c.pth") as old, zipfile.ZipFile(tmp_path / "d.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(DataError, match=r"d\.pth .*compressed"):
        read_hourglass(tmp_path / "d.pth")


@pytest.mark.parametrize("name", ["bearpaw_hg1.pth", "princeton_2hg_64_checkpoint.pth.tar"])
def test_checkpoints_that_the_ports_wrote(name):
    if not PEERS.exists():
        pytest.skip("the ports' checkpoints (shared/data/peers) are missing")
    network = read_hourglass(PEERS / name)
    network.mean.zero_()  # the recorded heatmaps were computed from images without normalisation
    stem = re.split(r"_checkpoint|\.pth", name)[0]
    with np.load(PEERS / f"{stem}_io.npz") as recorded, torch.inference_mode():
        heatmaps = network(torch.from_numpy(recorded["input"]))
        assert len(heatmaps) == len(recorded.files) - 1
        for i, maps in enumerate(heatmaps, 1):
            assert np.abs(maps.numpy() - recorded[f"output{i}"]).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "preset"),
    [(f"princeton_{n}hg", f"princeton-{n}hg") for n in (2, 8)] + [(f"bearpaw_hg{n}", f"hg{n}") for n in (2, 8)],
)
def test_the_published_sizes_by_names_and_shapes(tmp_path, name, preset):
    if not PEERS.exists():
        pytest.skip("the ports' lists of tensors (shared/data/peers) are missing")
    shapes = json.loads((PEERS / f"{name}_keys.json").read_text())
    state = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    network = read_hourglass(tmp_path / "c.pth")
    assert network.options.significant() == Network(preset=preset).significant() and network.joints == 16
    assert network.state_dict().keys() == HourglassNet(Network(preset=preset), 16).state_dict().keys()
