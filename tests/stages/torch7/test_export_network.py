"""Networks exported as Torch7 files are run node by node, read back, and compared with files that Torch7 wrote."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7 import t7 as torch7
from stages.torch7.export_network import as_torch7, obstacle
from stages.torch7.import_network import read_hourglass
from stages.torch7.t7 import Storage, Table, Tensor, TorchObject
from tests.shared import SHARED

SAMPLES = SHARED / "torch7"
LEFT_BY_A_RUN = {"iSize", "input_offset", "output_offset", "weight_offset", "nElem", "_debugLabel"}
SMALL = {"stem": "4 8 8", "features": 8, "depth": 2}
WIDE = {"features": 8, "outputs": 16, "depth": 2}
# Preset -> options for a small version of the network.
VARIANTS = {
    "hg-256": SMALL,
    "hg-256-no-skip": SMALL | {"heatmaps": "sigmoid"},
    "hg-generic": SMALL,
    "hg-single": WIDE | {"stem": "4 8 8 8"},
    "hg-single-no-skip": WIDE | {"stem": "4 8 8 8"},
    "hg-stacked": WIDE | {"stem": "4 8 8 8"},
    "princeton-1hg": SMALL,
    "princeton-8hg": SMALL | {"stacks": 4},
    "hg2": {"stem": "4 8 16", "features": 16, "depth": 2},
    "hg6-64-4-residuals": SMALL | {"stacks": 2},
    "hg8-64-growing": SMALL | {"stacks": 3, "depth": "1 2 1", "heatmaps": "sigmoid"},
    "hg-512": SMALL | {"residuals": "2 1 3 2", "head_layers": 2, "head_residuals": 1, "join": "remap", "features": 16},
}


def make(preset="hg-256", joints=3, **options):
    """Return a network whose statistics differ from their initial values."""
    torch.manual_seed(1)
    network = HourglassNet(Network(preset=preset, **options), joints)
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 2)
    return network.eval()


class Interpreter:
    """An interpreter that runs an nn.gModule as nngraph does: node by node, passing each output to the node's children."""

    def __init__(self, model):
        self.model = model

    def run(self, image):
        inputs = {id(self.model["innode"].fields["data"]): [image]}
        for node in self.model["forwardnodes"].list():
            data = node.fields["data"]
            given = [x for x in inputs.get(id(data), [])]
            module = data.get("module")
            result = self.module(module, given if len(given) > 1 else given[0]) if module else given
            result = result if module else (result[0] if data is self.model["innode"].fields["data"] else result)
            for child in node.fields["children"].list():
                theirs = child.fields["data"]
                mapindex = theirs["mapindex"]
                slots = inputs.setdefault(id(theirs), [None] * len(mapindex.list()))
                slots[int(mapindex[data]) - 1] = result
        return result

    def module(self, module, x):
        f, kind = module.fields, module.class_name.rpartition(".")[2]
        if kind == "Sequential":
            for inner in f["modules"].list():
                x = self.module(inner, x)
            return x
        if kind == "ConcatTable":
            return [self.module(inner, x) for inner in f["modules"].list()]
        if kind == "CAddTable":
            return sum(x[1:], x[0])
        if kind == "JoinTable":
            return torch.cat(x, int(f["dimension"]) - 1)
        if kind == "SpatialConvolution":
            strides, pads = (int(f["dH"]), int(f["dW"])), (int(f["padH"]), int(f["padW"]))
            assert (f["nOutputPlane"], f["nInputPlane"], f["kH"], f["kW"]) == f["weight"].size
            return F.conv2d(x, self.tensor(f["weight"]), self.tensor(f["bias"]), strides, pads)
        if kind == "SpatialBatchNormalization":
            arrays = [self.tensor(f[key]) for key in ("running_mean", "running_var", "weight", "bias")]
            return F.batch_norm(x, *arrays, eps=f["eps"])
        if kind == "SpatialMaxPooling":
            return F.max_pool2d(x, (int(f["kH"]), int(f["kW"])), (int(f["dH"]), int(f["dW"])))
        if kind == "SpatialUpSamplingNearest":
            return F.interpolate(x, scale_factor=f["scale_factor"], mode="nearest")
        return {"ReLU": F.relu, "Sigmoid": torch.sigmoid, "Identity": lambda x: x}[kind](x)

    def tensor(self, tensor):
        return torch.from_numpy(tensor.array().copy())


def run(path, images):
    with torch.inference_mode():
        return Interpreter(torch7.read(path).fields).run(images)


@pytest.mark.parametrize(
    ("variant", "cudnn"), [*((variant, True) for variant in VARIANTS), ("hg-256", False), ("hg-stacked", False)]
)
def test_the_file_computes_the_same_heatmaps_and_is_read_back(tmp_path, variant, cudnn):
    network = make(variant, **VARIANTS[variant])
    torch7.write(tmp_path / "model.t7", as_torch7(network, cudnn))
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network(images)
    found = run(tmp_path / "model.t7", images)
    assert len(found) == len(expected)
    for theirs, ours in zip(found, expected, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-5) and ours.std() > 1e-3
    back = read_hourglass(tmp_path / "model.t7")
    assert back.options.significant() == network.options.significant() and back.joints == 3
    assert same_weights(back, network)
    torch7.write(tmp_path / "again.t7", as_torch7(back, cudnn))
    assert (tmp_path / "again.t7").read_bytes() == (tmp_path / "model.t7").read_bytes()


def same_weights(a, b):
    a, b = ({k: v for k, v in n.state_dict().items() if not k.endswith("num_batches_tracked")} for n in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_classes_and_types_for_the_gpu_and_for_the_cpu(tmp_path):
    for cudnn, package, kind in ((True, "cudnn", "Cuda"), (False, "nn", "Float")):
        torch7.write(tmp_path / "model.t7", as_torch7(make(**SMALL), cudnn))
        model = torch7.read(tmp_path / "model.t7")
        conv, norm, relu = (model.fields["modules"][i] for i in (2, 3, 4))
        assert conv.class_name == f"{package}.SpatialConvolution" and relu.class_name == f"{package}.ReLU"
        assert norm.class_name == "nn.SpatialBatchNormalization" and norm.version == 2
        assert conv.fields["weight"].class_name == f"torch.{kind}Tensor"
        assert conv.fields["weight"].storage.class_name == f"torch.{kind}Storage"
        assert conv.fields["gradWeight"].size == conv.fields["weight"].size and not conv.fields["gradWeight"].array().any()
        assert conv.fields["weight"].storage is norm.fields["bias"].storage is not conv.fields["gradBias"].storage


def test_networks_that_the_format_cannot_express():
    assert not obstacle(make(**SMALL))
    assert "instance" in obstacle(make("hg8-64-instance-norm", stacks=1, **SMALL))
    assert "mobile" in obstacle(make("hg2-mobile", **SMALL))
    subtracting = make(**SMALL)
    subtracting.mean[:] = torch.tensor([0.4, 0.4, 0.4])
    assert "mean" in obstacle(subtracting)


needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the files that Torch7 wrote (shared/data/torch7) are missing")


@needs_samples
def test_a_file_of_torch7_is_written_back_equal_in_every_field(tmp_path):
    network = read_hourglass(SAMPLES / "hg256_cudnn_cuda.t7")
    torch7.write(tmp_path / "model.t7", as_torch7(network, cudnn=True))
    assert list(differences(torch7.read(SAMPLES / "hg256_cudnn_cuda.t7"), torch7.read(tmp_path / "model.t7"))) == []
    assert same_weights(read_hourglass(tmp_path / "model.t7"), network)


@needs_samples
def test_the_interpreter_computes_what_torch7_did():
    with np.load(SAMPLES / "hg256_cudnn_cuda_io.npz") as io:
        found = run(SAMPLES / "hg256_cudnn_cuda.t7", torch.from_numpy(io["input"]))
        assert np.abs(found[-1].numpy() - io["output1"]).max() < 1e-5


def differences(theirs, ours):
    """Yield the paths at which two objects, or their references to shared parts, differ; gradients and buffers are ignored."""
    partner, pending = {}, [("", theirs, ours)]
    while pending:
        path, a, b = pending.pop()
        if type(a) is not type(b):
            yield path, a, b
        elif isinstance(a, Table | TorchObject | Storage | Tensor):
            if (id(a), 0) in partner or (id(b), 1) in partner:
                if partner.get((id(a), 0)) != id(b) or partner.get((id(b), 1)) != id(a):
                    yield path, "is another object"
                continue
            partner[id(a), 0], partner[id(b), 1] = id(b), id(a)
            found, inside = list(parts_that_differ(path, a, b)), list(parts(path, a, b))
            yield from found
            pending += [] if found else inside
        elif a != b:
            yield path, a, b


def plain(table):
    return {key for key in table if not isinstance(key, Table | TorchObject)} - LEFT_BY_A_RUN


def parts_that_differ(path, a, b):
    if isinstance(a, Table):
        by_object = [sorted(v for k, v in t.items() if isinstance(k, Table | TorchObject)) for t in (a, b)]
        if plain(a) != plain(b) or by_object[0] != by_object[1]:
            yield path, plain(a) ^ plain(b), by_object
    elif isinstance(a, TorchObject):
        if (a.class_name, a.version) != (b.class_name, b.version):
            yield path, a, b
    elif isinstance(a, Storage):
        if a.class_name != b.class_name or len(a.array) != len(b.array):
            yield path, a, b
    else:
        if (a.class_name, a.size, a.stride, a.offset) != (b.class_name, b.size, b.stride, b.offset):
            yield path, a, b
        elif ".grad" not in path and not np.array_equal(a.array(), b.array()):
            yield path, "other values"


def parts(path, a, b):
    if isinstance(a, Table):
        return ((f"{path}.{key}", a[key], b[key]) for key in plain(a) & plain(b))
    if isinstance(a, TorchObject):
        return [(f"{path}<{a.class_name}>", a.fields, b.fields)]
    return [(f"{path}.storage", a.storage, b.storage)] if isinstance(a, Tensor) else []


@pytest.fixture(scope="module", params=[("hg-256", "hg256_cudnn"), ("hg-stacked", "hg_stacked2")], ids=lambda p: p[0])
def printed_and_ours(request):
    """Return the structure of a network as Torch7 printed it, and our Torch7 object for a network of the same preset."""
    preset, name = request.param
    if not SAMPLES.is_dir():
        pytest.skip("the structures that Torch7 printed (shared/data/torch7) are missing")
    with torch.device("meta"):
        network = HourglassNet(Network(preset=preset), 16)
    return (SAMPLES / f"{name}_structure.txt").read_text(), as_torch7(network.to_empty(device="cpu"), name.endswith("cudnn"))


def test_nodes_stand_and_are_numbered_as_in_torch7s_files(printed_and_ours):
    """The position, id, class, channels, inputs and children of each node are compared with those that Torch7 printed."""
    row = r"\s*\d+ id=(\d+)\s+(\S+)\s+(?:(\d+)->(\d+) k(\d+)\s+)?inputs\(node #\)=\[([\d, ]*)\] children=\[([\d, ]*)\]"
    text, model = printed_and_ours
    printed, nodes = re.findall(row, text), model.fields["forwardnodes"].list()
    number = {id(node.fields["data"]): str(i) for i, node in enumerate(nodes, 1)}
    assert len(printed) == len(nodes) in (39, 111)
    for node, (identity, kind, inputs, outputs, kernel, reads, readers) in zip(nodes, printed, strict=True):
        data = node.fields["data"]
        module = data.get("module") or TorchObject("-")
        assert (identity, kind) == (f"{node.fields['id']:.0f}", module.class_name)
        assert ", ".join(number[id(other)] for other in data["mapindex"].list()) == reads
        assert ", ".join(number[id(child.fields["data"])] for child in node.fields["children"].list()) == readers
        if kernel:
            assert [int(module.fields[k]) for k in ("nInputPlane", "nOutputPlane", "kW")] == [
                *map(int, (inputs, outputs, kernel))
            ]


def test_classes_and_fields_as_in_torch7s_files(printed_and_ours):
    """The classes, the number of objects of each class, and the fields are compared with those that Torch7 printed."""
    text, model = printed_and_ours
    printed = []
    for block in filter(str.strip, text.partition("###")[0].split("\n\n")[1:]):
        head, *lines = block.strip().splitlines()
        kind, version, count = re.fullmatch(r"(\S+)  V (\d)  x(\d+)", head).groups()
        printed.append(
            (kind, int(version), int(count), {line.split()[0] for line in lines} - LEFT_BY_A_RUN - {"iheight", "iwidth"})
        )
    objects = list(objects_in(model))
    found = []
    for kind, version, _, fields in printed:
        same = [o for o in objects if (o.class_name, o.version, set(o.fields)) == (kind, version, fields)]
        found.append((kind, version, len(same), fields))
    assert found == printed and len(objects) == sum(count for _, _, count, _ in printed)


def objects_in(value):
    seen, pending = set(), [value]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, TorchObject):
            yield value
            pending.append(value.fields)
        elif isinstance(value, Table):
            pending += [part for entry in value.items() for part in entry]
