"""Published networks are imported: a small network that the test assembles, and a network that Torch7 wrote and ran."""

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.settings.sections import Network
from stages.torch7 import t7 as torch7
from stages.torch7.import_network import read_hourglass
from stages.torch7.t7 import Table, Tensor, TorchObject
from tests.shared import SHARED

SAMPLES = SHARED / "torch7"


class Published:
    """A builder of a small version of hg-256, as the nn.gModule that nngraph makes: 8 features, 3 joints, 2 levels.

    `arrays` maps the name that `read_hourglass` should give each weight to the weight; `modules` is the list of modules.
    """

    def __init__(self, package="nn", pool_first=False, upper_last=False):
        self.package, self.pool_first, self.upper_last = package, pool_first, upper_last
        self.random = np.random.default_rng(5)
        self.arrays: dict[str, np.ndarray] = {}
        self.modules: list[TorchObject] = []
        self.nodes: list[TorchObject] = []
        self.start = self.node(None)
        out = self.body(self.start)
        self.end = self.node(None, out)

    def body(self, x):
        x = self.add(self.plain("nn.Identity"), x)
        x = self.add(self.conv("stem.conv", 3, 2, 7), x)
        x = self.add(self.plain(f"{self.package}.ReLU"), self.add(self.norm("stem.norm", 2), x))
        x = self.add(self.pool(), self.add(self.residual("stem.residuals.0", 2, 4), x))
        x = self.add(self.residual("stem.residuals.1", 4, 4), x)
        x = self.hourglass(self.add(self.residual("stem.residuals.2", 4, 8), x), "hourglasses.0", 2)
        x = self.add(self.norm("heads.0.layers.0.1", 8), self.add(self.conv("heads.0.layers.0.0", 8, 8, 1), x))
        return self.add(self.conv("heads.0.output", 8, 3, 1), self.add(self.plain(f"{self.package}.ReLU"), x))

    def hourglass(self, x, name, depth):
        if not self.upper_last:
            upper = self.add(self.residual(f"{name}.upper.0", 8, 8), x)
        lower = self.add(self.residual(f"{name}.lower1.0", 8, 8), self.add(self.pool(), x))
        if depth > 1:
            lower = self.hourglass(lower, f"{name}.inner", depth - 1)
        else:
            lower = self.add(self.residual(f"{name}.inner.0", 8, 8), lower)
        lower = self.add(self.residual(f"{name}.lower2.0", 8, 8), lower)
        lower = self.add(self.plain("nn.SpatialUpSamplingNearest", scale_factor=2), lower)
        if self.upper_last:
            upper = self.add(self.residual(f"{name}.upper.0", 8, 8), x)
        if self.pool_first:
            children = x.fields["children"]
            children[1], children[2] = children[2], children[1]
        return self.add(self.plain("nn.CAddTable"), upper, lower)

    def node(self, module, *inputs):
        data = Table([("mapindex", Table.from_list(x.fields["data"] for x in inputs))])
        if module is not None:
            data["module"] = module
        node = TorchObject("nngraph.Node", Table([("data", data), ("children", Table())]))
        self.nodes.append(node)
        for x in inputs:
            children = x.fields["children"]
            place = len(children.list()) + 1
            children[place] = node
            children[node] = place
        return node

    def kind(self, node):
        module = node.fields["data"].get("module")
        return module.class_name if module else None

    def add(self, module, *inputs):
        self.modules.append(module)
        return self.node(module, *inputs)

    def plain(self, class_name, **fields):
        return TorchObject(class_name, Table(fields.items()))

    def pool(self):
        return self.plain(f"{self.package}.SpatialMaxPooling", kW=2, kH=2, dW=2, dH=2, padW=0, padH=0)

    def tensor(self, name, *shape):
        self.arrays[name] = self.random.uniform(0.5, 1, shape).astype(np.float32)
        return Tensor.from_array(self.arrays[name])

    def conv(self, name, inputs, outputs, kernel):
        stride = 2 if name == "stem.conv" else 1
        fields = {"weight": self.tensor(f"{name}.weight", outputs, inputs, kernel, kernel)}
        fields["bias"] = self.tensor(f"{name}.bias", outputs)
        sizes = dict(kW=kernel, kH=kernel, dW=stride, dH=stride, padW=kernel // 2, padH=kernel // 2)
        return self.plain(f"{self.package}.SpatialConvolution", **fields, **sizes)

    def norm(self, name, channels):
        keys = ["weight", "bias", "running_mean", "running_var"]
        fields = {key: self.tensor(f"{name}.{key}", channels) for key in keys}
        return self.plain("nn.SpatialBatchNormalization", **fields, eps=1e-5)

    def residual(self, name, inputs, outputs):
        branch, half = [], outputs // 2
        for i, (n, m, kernel) in enumerate([(inputs, half, 1), (half, half, 3), (half, outputs, 1)], 1):
            branch += [self.norm(f"{name}.norm{i}", n), self.plain(f"{self.package}.ReLU")]
            branch.append(self.conv(f"{name}.conv{i}", n, m, kernel))
        skip = self.plain("nn.Identity")
        if inputs != outputs:
            skip = self.holding("nn.Sequential", [self.conv(f"{name}.skip", inputs, outputs, 1)])
        branches = self.holding("nn.ConcatTable", [self.holding("nn.Sequential", branch), skip])
        return self.holding("nn.Sequential", [branches, self.plain("nn.CAddTable", inplace=True)])

    def holding(self, class_name, modules):
        return self.plain(class_name, modules=Table.from_list(modules))

    def write(self, path):
        fields = [("modules", Table.from_list(self.modules)), ("innode", self.start), ("outnode", self.end)]
        torch7.write(path, TorchObject("nn.gModule", Table(fields)))
        return path


@pytest.mark.parametrize("package", ["nn", "cudnn"])
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("upper_last", [False, True])
def test_every_weight_under_its_name(tmp_path, package, pool_first, upper_last):
    network = Published(package, pool_first, upper_last)
    read = read_hourglass(network.write(tmp_path / "model.t7"))
    assert read.options == Network(stem="2 4 4", features=8, depth=2) and read.joints == 3 and not read.training
    tensors = {k: v.numpy() for k, v in read.state_dict().items() if k != "mean" and not k.endswith("num_batches_tracked")}
    assert set(tensors) == set(network.arrays)
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, network.arrays[name], err_msg=name)
    assert tensors["hourglasses.0.inner.lower2.0.conv2.weight"].shape == (4, 4, 3, 3)
    assert "hourglasses.0.inner.inner.0.norm1.running_var" in tensors and "stem.residuals.1.skip.weight" not in tensors


def refused(tmp_path, network, *parts):
    path = network.write(tmp_path / "model.t7")
    with pytest.raises(DataError) as caught:
        read_hourglass(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def fields(network, place):
    return network.modules[place - 1].fields


def test_other_shapes_are_named_with_place_and_both_shapes(tmp_path):
    network = Published()
    fields(network, 2)["weight"] = Tensor.from_array(np.zeros((2, 3, 5, 5), np.float32))
    refused(tmp_path, network, "module 2 (stem.conv.weight)", "(2, 3, 5, 5)", "(2, 3, 7, 7)")

    network = Published()
    part = fields(network, 9)["modules"][1].fields["modules"][1].fields["modules"][4]
    part.fields["running_mean"] = Tensor.from_array(np.zeros(5, np.float32))
    refused(tmp_path, network, "module 9 (hourglasses.0.upper.0.norm2.running_mean)", "(5,)", "(4,)")

    network = Published()
    fields(network, 3)["bias"] = None
    refused(tmp_path, network, "module 3 (stem.norm.bias)", "None", "(2,)")

    network = Published()
    fields(network, 3)["bias"] = Tensor.from_array(np.full(2, np.nan, np.float32))
    refused(tmp_path, network, "module 3 (stem.norm.bias)", "not finite")

    network = Published()  # a view of stride 0 can claim any number of elements
    fields(network, 3)["bias"] = Tensor("torch.FloatTensor", (2,), (0,), 0, Tensor.from_array(np.ones(1, np.float32)).storage)
    refused(tmp_path, network, "module 3 (stem.norm.bias)", "repeats")


@pytest.mark.parametrize(
    ("place", "setting", "value", "part"),
    [
        (2, "dW", 1, "module 2 (stem.conv) has dW = 1.0, expected 2"),
        (2, "padH", 0, "module 2 (stem.conv) has padH = 0.0, expected 3"),
        (3, "eps", 1e-3, "module 3 (stem.norm) has eps = 0.001, expected 1e-05"),
        (4, "threshold", 0.5, "module 4 (ReLU) has threshold = 0.5, expected 0"),
        (6, "kW", 3, "module 6 (SpatialMaxPooling) has kW = 3.0, expected 2"),
    ],
)
def test_other_settings_are_refused(tmp_path, place, setting, value, part):
    network = Published()
    fields(network, place)[setting] = value
    refused(tmp_path, network, part)


def test_other_topologies_are_refused(tmp_path):
    network = Published()
    network.modules[3].class_name = "nn.Tanh"
    refused(tmp_path, network, "module 4 (nn.Tanh) has a class that is in no published hourglass")

    network = Published()
    network.modules[3].class_name = "\x1b[2J\udcff" + 1000 * "x"
    refused(tmp_path, network, r"module 4 (\x1b[2J\udcffxxx", "xxx) has a class that is in no published hourglass")
    network.modules[3].class_name = "nn.Identity"
    refused(tmp_path, network, "nn.SpatialBatchNormalization, nn.Identity, nn.Sequential", "no published hourglass")

    network = Published()
    network.modules[4].fields["modules"][1].fields["modules"][2] = TorchObject("nn.Identity")
    refused(tmp_path, network, "module 5 (stem.residuals.0) holds nn.Sequential, nn.Identity", "Sequential, Sequential")

    network = Published()
    skip = network.holding("nn.Sequential", [network.conv("extra", 4, 4, 1)])
    network.modules[6].fields["modules"][1].fields["modules"][2] = skip
    refused(tmp_path, network, "module 7 (stem.residuals.1) holds nn.Sequential, nn.Sequential", "Sequential, Identity")

    network = Published()
    network.modules.append(TorchObject("nn.Dropout"))
    refused(tmp_path, network, f"module {len(network.modules)} (nn.Dropout) is not used")

    network = Published()  # the sum of the outer level wrongly reads the upper branch of the inner level
    totals = [node for node in network.nodes if network.kind(node) == "nn.CAddTable"]
    inner, outer = (node.fields["data"]["mapindex"] for node in totals)
    outer[1] = inner[1]
    refused(tmp_path, network, "is read where module 11 was expected")

    network = Published()  # a cycle
    network.nodes[1].fields["data"]["mapindex"][1] = network.nodes[-1].fields["data"]
    refused(tmp_path, network, "cycle")

    network = Published()  # the image enters the network in the middle
    network.nodes[5].fields["data"]["mapindex"] = Table()
    refused(tmp_path, network, "does not lead from its innode to its outnode")


def test_a_cycle_through_long_lists_is_found_at_once(tmp_path):
    """Following all lists would take ten seconds for such a file of 100 kB, and a hundred times as long for 10 MB."""
    data = Table()
    data["mapindex"] = Table.from_list([data] * 5000)
    ends = [TorchObject("nngraph.Node", Table([("data", end)])) for end in (Table(), data)]
    fields = Table([("modules", Table()), ("innode", ends[0]), ("outnode", ends[1])])
    torch7.write(tmp_path / "model.t7", TorchObject("nn.gModule", fields))
    lists = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="cycle"):
        patch.setattr(Table, "list", lambda table, whole=Table.list: lists.append(table) or whole(table))
        read_hourglass(tmp_path / "model.t7")
    assert len(lists) < 10


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "model.t7"
    for value, part in [
        (Table(), "expected an nn.gModule"),
        (TorchObject("nn.gModule"), "modules"),
        (TorchObject("nn.gModule", Table([("modules", Table())])), "innode"),
        (TorchObject("nn.gModule", Table([("modules", Table.from_list([1]))])), "list"),
        (TorchObject("nn.gModule", Table([("modules", Table()), ("innode", TorchObject("n.N"))])), "outnode"),
    ]:
        torch7.write(path, value)
        with pytest.raises(DataError, match=part):
            read_hourglass(path)
    path.write_bytes(b"\x04\0\0")
    with pytest.raises(DataError, match="byte 0"):
        read_hourglass(path)


def test_heatmaps_equal_those_that_torch7_computed():
    if not SAMPLES.is_dir():
        pytest.skip("the network that Torch7 wrote (shared/data/torch7) is missing")
    network = read_hourglass(SAMPLES / "hg256_cudnn_cuda.t7")
    assert network.options == Network() and network.joints == 16
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_211_920
    sample = np.load(SAMPLES / "hg256_cudnn_cuda_io.npz")
    with torch.no_grad():
        heatmaps = network(torch.from_numpy(sample["input"]))[-1]
    np.testing.assert_allclose(heatmaps.numpy(), sample["output1"], rtol=0, atol=1e-4)
    assert np.ptp(sample["output1"]) > 0.1  # heatmaps of a wrong network would differ by more than 1e-4
