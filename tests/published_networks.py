"""Small networks in the file format of the published programs skeleton2d3d and image-play, and a computation of their outputs.

The networks are assembled module by module and have the structures of the published networks: res-64 has 29 modules,
hg-256-res-64 has 76, hg-256-res-clstm 94 and hg-256-res-clstm-res-64 141. Widths are small: 8 features, 3 joints, heatmaps of
16 px; the depth is the published one.
"""

import numpy as np
import torch
import torch.nn.functional as F

from stages.torch7 import t7 as torch7
from stages.torch7.t7 import Function, Storage, Table, Tensor, TorchObject
from tests.stages.torch7.test_export_network import Interpreter
from tests.stages.torch7.test_import_network import Published

JOINTS, SIDE, WIDTH, STEPS = 3, 16, 8, 16
MODULES = {"res-64": 29, "hg-256-res-64": 76, "hg-256-res-clstm": 94, "hg-256-res-clstm-res-64": 141}


class Published3D(Published):
    """Builds the nn.gModule of a network in MODULES. `arrays` has the weights under the names that an import must give them."""

    def __init__(self, name, seed=5, frozen=False, joints=JOINTS, side=SIDE):
        self.joints, self.side = joints, side
        self.package, self.pool_first, self.upper_last = "cudnn", False, False
        self.random, self.frozen = np.random.default_rng(seed), frozen
        self.arrays, self.modules, self.nodes = {}, [], []
        self.recurrent, self.lstms = "clstm" in name, 0
        self.start = self.node(None)
        x = self.add(self.plain("nn.Identity"), self.start)
        outputs = []
        if name != "res-64":
            x = self.pose_network(x)
            outputs = [self.split(x, self.joints, self.side, self.side)]
        if "res-64" in name:
            outputs += self.converter(x, "" if name == "res-64" else "converter.", name != "res-64")
        self.end = self.node(None, *outputs)

    def prefixed(self, name):
        return f"halves.network.{name}" if self.recurrent else f"hourglass.{name}"

    def pose_network(self, x):
        x = self.add(self.conv(self.prefixed("stem.conv"), 3, 2, 7), x)
        x = self.relu(self.add(self.norm(self.prefixed("stem.norm"), 2), x))
        x = self.add(self.pool(), self.add(self.residual(self.prefixed("stem.residuals.0"), 2, 4), x))
        x = self.add(self.residual(self.prefixed("stem.residuals.1"), 4, 4), x)
        x = self.add(self.residual(self.prefixed("stem.residuals.2"), 4, WIDTH), x)
        x = self.level(x, self.prefixed("hourglasses.0"), 4)
        x = self.add(self.norm(self.prefixed("heads.0.layers.0.1"), WIDTH),
                     self.add(self.conv(self.prefixed("heads.0.layers.0.0"), WIDTH, WIDTH, 1), x))  # fmt: skip
        return self.add(self.conv(self.prefixed("heads.0.output"), WIDTH, self.joints, 1), self.relu(x))

    def level(self, x, name, n):
        upper = self.recur(self.add(self.residual(f"{name}.upper.0", WIDTH, WIDTH), x), n)
        lower = self.add(self.residual(f"{name}.lower1.0", WIDTH, WIDTH), self.add(self.pool(), x))
        if n > 1:
            lower = self.level(lower, f"{name}.inner", n - 1)
        else:
            lower = self.recur(self.add(self.residual(f"{name}.inner.0", WIDTH, WIDTH), lower), 0)
        lower = self.add(self.residual(f"{name}.lower2.0", WIDTH, WIDTH), lower)
        lower = self.add(self.plain("nn.SpatialUpSamplingNearest", scale_factor=2), lower)
        return self.add(self.plain("nn.CAddTable"), upper, lower)

    def recur(self, x, n):
        """Add the 11 modules of a recurrent layer; return the last module's output.

        With heatmaps of 16 px, the maps of this layer are 2**n px wide and high.
        """
        if not self.recurrent:
            return x
        side, name = (self.side << n) // 16, f"layers.{self.lstms}.lstm"
        self.lstms += 1
        repeated = self.add(self.plain("nn.Replicate", nfeatures=STEPS, dim=2), x)
        y = self.add(self.plain("nn.Transpose", permutations=pairs((2, 3), (3, 4))), x)
        y = self.view(self.view(y, -1, WIDTH), -1, 1, WIDTH)
        y = self.add(self.plain("nn.Padding", dim=1, pad=STEPS - 1, nInputDim=1, value=0, index=1, outputSize=sizes()), y)
        y = self.add(self.plain("nn.Contiguous"), self.add(self.lstm(name), y))
        y = self.view(y, -1, side, side, STEPS, WIDTH)
        y = self.add(self.plain("nn.Transpose", permutations=pairs((3, 4), (2, 3), (4, 5), (3, 4))), y)
        return self.view(self.add(self.plain("nn.CAddTable"), repeated, y), -1, WIDTH, side, side)

    def lstm(self, name):
        """Return an LSTM module with random weights; the four gates are in PyTorch's order."""
        gates = {key: [self.random.uniform(-1, 1, shape).astype(np.float32) for _ in range(4)]
                 for key, shape in (("weight_ih", (WIDTH, WIDTH)), ("weight_hh", (WIDTH, WIDTH)), ("bias_ih", WIDTH),
                                    ("bias_hh", WIDTH))}  # fmt: skip
        for key, parts in gates.items():
            self.arrays[f"{name}.{key}_l0"] = np.concatenate(parts)
        flat = np.concatenate([part.ravel() for parts in gates.values() for part in parts])
        return self.plain(
            "cudnn.LSTM", weight=Tensor.from_array(flat, "torch.CudaTensor"), inputSize=WIDTH, hiddenSize=WIDTH, numLayers=1,
            seqLength=STEPS, miniBatch=4, mode="CUDNN_LSTM", bidirectional="CUDNN_UNIDIRECTIONAL", numDirections=1,
            inputMode="CUDNN_LINEAR_INPUT", batchFirst=True, dropout=0, datatype="CUDNN_DATA_FLOAT", seed=0x01234567,
        )  # fmt: skip

    def converter(self, x, prefix, projected):
        x = self.add(self.conv(f"{prefix}trunk.0", self.joints, WIDTH, 1), x)
        x = self.relu(self.add(self.norm(f"{prefix}trunk.1", WIDTH, "cudnn"), x))
        for i in range(3, 11, 2):
            x = self.add(self.residual(f"{prefix}trunk.{i + 1}", WIDTH, WIDTH), self.add(self.pool(), x))
        x = self.view(self.add(self.residual(f"{prefix}trunk.11", WIDTH, WIDTH), x), -1, numInputDims=3)
        repos = self.view(self.head(x, f"{prefix}repos", 3 * self.joints), -1, self.joints, 3)
        outputs = [self.split(repos, self.joints, 3)]
        trans = self.head(x, f"{prefix}trans", 3)
        xy = self.add(self.plain("nn.Narrow", dimension=2, index=1, length=2), trans)
        z = self.add(self.plain("nn.Narrow", dimension=2, index=3, length=1), trans)
        z = self.add(self.plain("nn.AddConstant", constant_scalar=2500, inplace=False), z)
        trans = self.add(self.plain("nn.JoinTable", dimension=2, size=sizes(), gradInput=Table()), xy, z)
        outputs += [self.split(trans, 3)]
        focal = self.head(x, f"{prefix}focal", 1)
        focal = self.add(self.plain("nn.AddConstant", constant_scalar=73.6, inplace=False), focal)
        outputs += [self.split(focal, 1)]
        offsets = np.zeros(3 * self.joints + 4, np.float32)
        offsets[-2:] = 2500, 73.6
        self.arrays |= {f"{prefix}units.unit": np.ones(3 * self.joints + 4, np.float32), f"{prefix}units.offset": offsets}
        return [*outputs, self.projection(repos, trans, focal)] if projected else outputs

    def head(self, x, name, outputs):
        inputs = WIDTH * (self.side // 16) ** 2
        return self.add(self.linear(f"{name}.2", 256, outputs), self.relu(self.add(self.linear(f"{name}.0", inputs, 256), x)))

    def projection(self, repos, trans, focal):
        trans = self.add(self.plain("nn.Replicate", nfeatures=self.joints, dim=2), trans)
        points = self.add(self.plain("nn.CAddTable"), repos, trans)
        xy = self.add(self.plain("nn.Narrow", dimension=3, index=1, length=2), points)
        z = self.add(self.plain("nn.Select", dimension=3, index=3), points)
        z = self.add(self.plain("nn.Replicate", nfeatures=2, dim=3), z)
        ratio = self.add(self.plain("nn.CDivTable", gradInput=Table()), xy, z)
        focal = self.add(self.plain("nn.Select", dimension=2, index=1), focal)
        focal = self.add(self.plain("nn.Replicate", nfeatures=self.joints, dim=2), focal)
        focal = self.add(self.plain("nn.Replicate", nfeatures=2, dim=3), focal)
        scaled = self.add(self.plain("nn.CMulTable", gradInput=Table()), ratio, focal)
        return self.split(
            self.add(self.plain("nn.AddConstant", constant_scalar=self.side / 2, inplace=False), scaled), self.joints, 2
        )

    def split(self, x, *size):
        if not self.recurrent:
            return x
        return self.add(self.plain("nn.SplitTable", dimension=-len(size) - 1), self.view(x, -1, STEPS, *size))

    def view(self, x, *size, numInputDims=None):
        fields = {} if numInputDims is None else {"numInputDims": numInputDims}
        return self.add(self.plain("nn.View", size=sizes(*size), numElements=int(-np.prod(size)), **fields), x)

    def relu(self, x):
        return self.add(self.plain("cudnn.ReLU", inplace=True, mode="CUDNN_ACTIVATION_RELU"), x)

    def linear(self, name, inputs, outputs):
        return self.weighted("nn.Linear", weight=self.tensor(f"{name}.weight", outputs, inputs),
                             bias=self.tensor(f"{name}.bias", outputs))  # fmt: skip

    def norm(self, name, channels, package="nn"):
        found = super().norm(name, channels)
        found.class_name, found.version = f"{package}.SpatialBatchNormalization", 2
        return self.weighted(found)

    def conv(self, name, inputs, outputs, kernel):
        module = super().conv(name, inputs, outputs, kernel)
        stride = 2 if kernel == 7 else 1
        module.fields.update({"nInputPlane": inputs, "nOutputPlane": outputs, "dW": stride, "dH": stride})
        return self.weighted(module)

    def weighted(self, module, **fields):
        """Return a module with weights. In a frozen module, an empty Lua function replaces accGradParameters."""
        module = module if isinstance(module, TorchObject) else self.plain(module, **fields)
        if self.frozen:
            module.fields["accGradParameters"] = Function(b"\x1bLJ\x02\x02\x10\0\1\0", Table())
        return module

    def tensor(self, name, *shape):
        # Weights have both signs, so that activations neither vanish nor grow. Variances and weights of normalisations
        # are from 0.5 to 1, as in `Published`.
        low = 0.5 if name.endswith(("running_var", "norm.weight")) else -1
        self.arrays[name] = self.random.uniform(low, 1, shape).astype(np.float32)
        return Tensor.from_array(self.arrays[name], "torch.CudaTensor")

    def model(self):
        fields = [("modules", Table.from_list(self.modules)), ("innode", self.start), ("outnode", self.end)]
        return TorchObject("nn.gModule", Table(fields))

    def write(self, path, **options):
        torch7.write(path, self.model(), **options)
        return path


def sizes(*numbers):
    return Storage("torch.LongStorage", np.array(numbers, np.int64))


def pairs(*given):
    return Table.from_list(Table.from_list(pair) for pair in given)


class Computation(Interpreter):
    """Computes the outputs of an nn.gModule: each module is computed by its definition in Torch7."""

    def __init__(self, model):
        super().__init__(model.fields)
        self.values = {}

    def run(self, image):
        """Return the outputs, in the order in which the output node lists them.

        An output that a SplitTable splits is a list with one entry for each step.
        """
        self.values[id(self.model["innode"].fields["data"])] = image
        return [self.value(data) for data in self.model["outnode"].fields["data"]["mapindex"].list()]

    def value(self, data):
        if id(data) not in self.values:
            inputs = [self.value(other) for other in data["mapindex"].list()]
            self.values[id(data)] = self.module(data["module"], inputs if len(inputs) > 1 else inputs[0])
        return self.values[id(data)]

    def module(self, module, x):
        f, kind = module.fields, module.class_name.rpartition(".")[2]
        if not hasattr(self, kind):
            return super().module(module, x)
        return getattr(self, kind)(f, x)

    def Linear(self, f, x):
        return F.linear(x, self.tensor(f["weight"]), self.tensor(f["bias"]))

    def View(self, f, x):
        if "numInputDims" in f:
            return x.reshape(*x.shape[: x.dim() - int(f["numInputDims"])], *f["size"].array.tolist())
        return x.reshape(f["size"].array.tolist())

    def Narrow(self, f, x):
        return x.narrow(int(f["dimension"]) - 1, int(f["index"]) - 1, int(f["length"]))

    def Select(self, f, x):
        return x.select(int(f["dimension"]) - 1, int(f["index"]) - 1)

    def AddConstant(self, f, x):
        return x + f["constant_scalar"]

    def Replicate(self, f, x):
        place = int(f["dim"]) - 1
        return torch.stack([x] * int(f["nfeatures"]), dim=place)

    def Transpose(self, f, x):
        for pair in f["permutations"].list():
            first, second = pair.list()
            x = x.transpose(int(first) - 1, int(second) - 1)
        return x.contiguous()

    def Padding(self, f, x):
        place = int(f["dim"]) - (x.dim() == f["nInputDim"])
        shape = list(x.shape)
        shape[place] = int(f["pad"])
        return torch.cat([x, torch.full(shape, f["value"])], dim=place)

    def LSTM(self, f, x):
        width, flat = int(f["hiddenSize"]), self.tensor(f["weight"])
        layer = torch.nn.LSTM(int(f["inputSize"]), width, batch_first=f["batchFirst"])
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            parameter = getattr(layer, name)
            parameter.data, flat = flat[: parameter.numel()].reshape(parameter.shape), flat[parameter.numel() :]
        assert not len(flat)
        return layer(x)[0]

    def Contiguous(self, f, x):
        return x

    def SplitTable(self, f, x):
        return list(x.unbind(int(f["dimension"])))

    def CDivTable(self, f, x):
        return x[0] / x[1]

    def CMulTable(self, f, x):
        return x[0] * x[1]
