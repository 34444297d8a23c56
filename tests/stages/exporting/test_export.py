"""The export for other programs: the file of every format computes the network's heatmaps, or the export fails."""

import json
import subprocess
import sys

import cv2
import h5py
import numpy as np
import pytest
import torch

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.evaluation.accuracy import Accuracy, MeasureMetrics, SplitMetrics
from stages.exporting import export as module
from stages.exporting.export import FORMATS, export
from stages.exporting.model_card import History, Step
from stages.inference.predictor import PosePredictor
from stages.network.checkpoints import load_network, save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network
from stages.torch7 import t7 as torch7

MEASURE = MeasureMetrics(
    threshold=0.05, overall="total", value=None, visible=None, mean=None, total=None, auc=None, curve=[], in_mean=[],
    by_joint={"head": 0.125},
)  # fmt: skip
VALID = SplitMetrics(people=81, acc=0.25, acc_joints=10, pixels=3.5, measures={"PCK@0.05": MEASURE})
ACCURACY = Accuracy(dataset="penn_action", title="Penn Action", joints=["head"], splits={"valid": VALID})
STEPS = (
    Step("FetchPennAction", "f" * 64, {}, {"archive": "0" * 64}, PENN_ACTION.origin),
    Step("FinetunePenn", "e" * 64, {"learning_rate": 0.002, "head": "matching"}, {}),
)
HISTORY = History("penn_action_cropped/hg-256-ft", ACCURACY, STEPS)


def save(folder, **options):
    """Write a small network to folder/best.safetensors, and make an empty folder/export."""
    torch.manual_seed(0)
    network = HourglassNet(Network(stem="4 8 8", features=8, depth=2, **options), 13).eval()
    save_network(folder / "best.safetensors", network, PENN_ACTION.skeleton.joints, 32, {"epoch": 3, "valid_accuracy": 0.5})
    (folder / "export").mkdir()
    return folder / "best.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_penn):
    folder = tmp_path_factory.mktemp("exported")
    export(folder / "export", save(folder), tiny_penn, HISTORY)
    return folder / "export"


def test_every_format_is_written_and_compared(exported):
    facts = json.loads((exported / "model.json").read_text())
    names = set(FORMATS)
    assert names >= {"model.safetensors", "model.onnx", "best_model.t7", "best_model_cpu.t7", "weights.h5"}
    assert {path.name for path in exported.iterdir()} == names | {"model.json", "MODEL_CARD.md", "use_onnx.py"}
    assert facts["largest_difference_of_heatmaps"].keys() == names
    network, about = load_network(exported / "model.safetensors")
    state = network.state_dict()
    with h5py.File(exported / "weights.h5") as file:
        assert file.keys() == state.keys()
        assert all(np.array_equal(file[name][()], state[name].numpy()) for name in state)
        assert json.loads(file.attrs["description"])["joints"] == list(about.joints)
    kinds = {}
    for name in ("best_model.t7", "best_model_cpu.t7"):
        conv = torch7.read(exported / name).fields["modules"][2]
        kinds[name] = conv.class_name, conv.fields["weight"].class_name
        assert np.array_equal(conv.fields["weight"].array(), state["stem.conv.weight"].numpy())
    assert kinds == {
        "best_model.t7": ("cudnn.SpatialConvolution", "torch.CudaTensor"),
        "best_model_cpu.t7": ("nn.SpatialConvolution", "torch.FloatTensor"),
    }


def test_the_copied_program_finds_the_predictor_s_joints_without_this_workspace(exported, tmp_path):
    """The box is so small that the predictor does not average over blocks of pixels; `use_onnx.py` cannot average."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (70, 60, 3), np.uint8), (0, 0), 3)
    np.save(tmp_path / "image.npy", image)
    code = (
        f"import sys; sys.path.insert(0, {str(exported)!r}); import json, numpy as np; from use_onnx import find_joints\n"
        f"print(json.dumps(find_joints({str(exported / 'model.onnx')!r}, np.load('image.npy'), (12, 4, 42, 35))))\n"
        "assert not {name.partition('.')[0] for name in sys.modules} & {'stages', 'datasets', 'pipeline', 'torch', 'cv2'}"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    predictor = PosePredictor.load(exported / "model.safetensors", device="cpu", precision="float32")
    expected = predictor.predict(image, (12, 4, 42, 35), flip=False)
    assert list(found) == list(predictor.joints)
    points = np.array(list(found.values()))
    np.testing.assert_allclose(points[:, 2], expected.confidence[0], atol=2e-3)
    # A heatmap pixel is 4 crop pixels wide, or 4 * 1.25 * 31 / 32 image pixels. The predictor decodes more finely than
    # use_onnx.py.
    away = np.abs(points[:, :2] - expected.joints[0]).max(axis=1) / (4 * 1.25 * 31 / 32)
    assert np.median(away) < 0.5 and (away < 1).mean() > 0.8
    facts = json.loads((exported / "model.json").read_text())
    assert [facts["joints"][i].replace("right", "left") == facts["joints"][j] for i, j in facts["flip_pairs"]] == [True] * 6


def test_the_card_has_data_settings_accuracies_fingerprints_and_differences(exported):
    card = (exported / "MODEL_CARD.md").read_text()
    facts = json.loads((exported / "model.json").read_text())
    expected = [
        "| valid | 81 | training metric | 25.00% |",
        "| valid | 81 | PCK@0.05 | - |",
        "| head | 12.50% |",
        "Weiyu Zhang",
        "f" * 64,
        "e" * 64,
        f"archive = {'0' * 64}",
        "- FinetunePenn: learning_rate = 0.002, head = matching",
        "features = 8",
        f"{facts['parameters']:,} parameters",
        "on 2 images",
    ]
    for words in expected:
        assert words in card, words
    for name, difference in facts["largest_difference_of_heatmaps"].items():
        assert f"`{name}`" in card and f"{difference:.1e} |" in card
    assert "no Torch7 file" not in card


def test_a_network_that_torch7_cannot_express_has_no_torch7_file(tiny_penn, tmp_path, monkeypatch):
    monkeypatch.delitem(module.FORMATS, "model.onnx")  # skipped, because it takes long
    export(tmp_path / "export", save(tmp_path, norm="group"), tiny_penn, HISTORY)
    assert not list((tmp_path / "export").glob("*.t7"))
    assert "There is no Torch7 file: Torch7's published modules have no" in (tmp_path / "export/MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", module.FORMATS)
def test_a_file_that_computes_something_else_fails_the_export(tiny_penn, tmp_path, monkeypatch, name):
    form, path = module.FORMATS[name], save(tmp_path)

    def write_wrong(place, network, description):
        wrong = HourglassNet(network.options, 13).eval()
        wrong.load_state_dict(network.state_dict())
        wrong.heads[0].output.bias.data[3] += 0.01
        form.write(place, wrong, description)

    monkeypatch.setattr(module, "FORMATS", {name: module.Format("", write_wrong, form.heatmaps)})
    with pytest.raises(DataError, match=f"{name}: its heatmaps differ .* by up to 1.0e-02"):
        export(tmp_path / "export", path, tiny_penn, HISTORY)
    assert not (tmp_path / "export/model.json").exists()
