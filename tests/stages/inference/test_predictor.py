"""Joints of people in images of any kind and size; all runtimes give the same joints."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from stages.importing.known_models import KnownModel
from stages.inference import predictor as module
from stages.inference.predictor import PosePredictor
from stages.inference.runtimes import fine_enough, folded, in_torch, start, with_flip
from stages.network.checkpoints import Description, save_network
from stages.network.hourglass import HourglassNet
from stages.settings.sections import Network

SMALL = Network(stem="4 8 8", features=8, depth=2)
CPU = torch.device("cpu")
ABOUT = Description(SMALL, PENN_ACTION.skeleton.joints, 64, {})
LARGE = Description(SMALL, PENN_ACTION.skeleton.joints, 256, {})
# Colours that differ strongly from each other.
COLOURS = np.array([(r, g, b) for r in (0.3, 0.65, 1) for g in (0.3, 0.65, 1) for b in (0.3, 1)][:13])


class Dots(nn.Module):
    """A simulated network: joint j is where the image has the colour COLOURS[j], averaged over cells of 4 x 4 px."""

    def forward(self, images):
        colours = torch.tensor(COLOURS, dtype=torch.float32, device=images.device)
        distance = (images[:, None] - colours[None, :, :, None, None]).square().sum(dim=2)
        return [nn.functional.avg_pool2d(torch.exp(-distance * 200), 4)]


@pytest.fixture
def predictor():
    return PosePredictor(Dots(), LARGE, precision="float32")


def dots(width, height, left=0.0, top=0.0, right=None, bottom=None):
    """Return a black image with 13 dots in a region, each in the colour of its joint, and the positions (13, 2) of the dots."""
    right, bottom = right or width, bottom or height
    side = max(right - left, bottom - top)
    grid = np.array([(x, y) for y in (0.3, 0.45, 0.6, 0.7) for x in (0.3, 0.4, 0.55, 0.7)][:13])
    points = np.round((left, top) + grid * (right - left, bottom - top))
    image = np.zeros((height, width, 3), np.uint8)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(image, (int(x), int(y)), max(2, round(side / 40)), (255 * colour).round().tolist(), -1)
    return image, points


@pytest.mark.parametrize(("width", "height"), [(256, 256), (400, 250), (90, 333)])
@pytest.mark.parametrize("sizes", [(1.0,), (1.0, 1.2)])
def test_joints_come_back_in_the_pixels_of_an_image_of_any_size(predictor, width, height, sizes):
    image, points = dots(width, height)
    poses = predictor.predict(image, flip=False, sizes=sizes)
    cell = max(width, height) / 64  # size of a heatmap pixel in image px
    assert poses.joints.shape == (1, 13, 2) and poses.confidence.shape == (1, 13) and poses.image.tolist() == [0]
    assert np.abs(poses.joints[0] - points).max() < 0.6 * cell and (poses.confidence > 0.2).all()


class Pooled(nn.Module):
    """A simulated network: joint j is where channel j of the image is bright."""

    def forward(self, images):
        return [nn.functional.avg_pool2d(images, 4)]


@pytest.mark.parametrize(("flip", "sizes"), [(False, (1,)), (True, (1,)), (True, np.array([1, 1.25])), (True, (0.9, 1, 1.1))])
@pytest.mark.parametrize("box", [None, (300, 200, 480, 390)])
def test_joints_are_exact_to_a_fiftieth_of_a_heatmap_pixel(flip, sizes, box):
    predictor = PosePredictor(Pooled(), Description(SMALL, ("head", "neck", "pelvis"), 256, {}), precision="float32")
    points = np.array([(350.3, 280.8), (401.6, 310.2), (388.1, 341.5)])
    pixel = (640 if box is None else 1.25 * 190) / 64  # size of a heatmap pixel in image px
    y, x = np.mgrid[:480, :640]
    blobs = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (2.5 * pixel) ** 2)) for px, py in points]
    image = (255 * np.stack(blobs, -1)).round().astype(np.uint8)
    found = predictor.predict(image, box, flip=flip, sizes=sizes)
    assert np.abs(found.joints[0] - points).max() < 0.02 * pixel


def test_a_rotated_photograph_is_seen_upright(predictor, tmp_path):
    image, points = dots(90, 160)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # orientation 6: viewers rotate the image by 90 degrees clockwise
    PIL.Image.fromarray(np.rot90(image)).save(tmp_path / "phone.jpg", exif=exif, quality=98, subsampling=0)
    found = predictor.predict(tmp_path / "phone.jpg", flip=False)
    assert np.abs(found.joints[0] - points).max() < 2


def test_every_kind_of_image_gives_the_same(predictor, tmp_path):
    image, _ = dots(120, 80)
    cv2.imwrite(str(tmp_path / "image.png"), image[:, :, ::-1])
    tensor = torch.from_numpy(image).movedim(-1, 0)
    expected = predictor.predict(image).joints
    kinds = [tmp_path / "image.png", str(tmp_path / "image.png"), tensor, tensor / 255, np.asfortranarray(image)]
    for kind in kinds:
        assert np.array_equal(predictor.predict(kind).joints, expected)
    poses = predictor.predict(kinds, batch=2)
    assert np.allclose(poses.joints, expected) and poses.image.tolist() == [0, 1, 2, 3, 4]
    for several in (np.stack([image] * 3), torch.stack([tensor] * 3)):
        assert predictor.predict(several).joints.shape == (3, 13, 2)


def test_boxes_and_centres_determine_the_crop(predictor):
    image = np.zeros((200, 300, 3), np.uint8)
    regions = [(10, 20, 110, 180), (180, 60, 280, 150)]
    truth = []
    for region in regions:
        part, points = dots(300, 200, *region)
        image |= part
        truth.append(points)
    by_box = predictor.predict([image, image], [regions, regions[1]], flip=False)
    assert by_box.image.tolist() == [0, 0, 1]
    assert np.abs(by_box.joints - np.stack([*truth, truth[1]])).max() < 1.5 * 200 / 64
    # The box is changed as in training: its centre is moved down by 15 * size / 200, and its side is multiplied by 1.25.
    center, scale = (230, 105 + 15 * 0.5), 1.25 * 0.5
    one = predictor.predict(image, centers=center, scales=scale, flip=False)
    assert np.allclose(one.joints[0], by_box.joints[1])
    none = predictor.predict([image], [np.empty((0, 4))])
    assert none.joints.shape == (0, 13, 2) and none.confidence.shape == (0, 13) and len(none.image) == 0


def test_without_boxes_the_whole_image_is_the_box_as_in_training(predictor):
    image = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
    # Centre and scale of frames in training: moved down by 0.075 of the longer side, and enlarged 1.25 times.
    framed = predictor.predict(image, centers=(99.5, 59.5 + 15), scales=1.25)
    assert np.array_equal(predictor.predict(image).joints, framed.joints)


IMAGE = np.zeros((40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, "the list of images is empty"),
        (IMAGE[:, :, 0], {}, "image 0 is grey"),
        ([IMAGE, IMAGE[:, :, :1]], {}, "image 1 is grey"),
        (np.zeros((40, 60, 4), np.uint8), {}, r"shape \(40, 60, 4\)"),
        (np.zeros((0, 60, 3), np.uint8), {}, r"shape \(0, 60, 3\)"),
        (IMAGE / 255, {}, "array of float64; give colours as uint8"),
        (torch.full((3, 8, 8), 200.0), {}, r"outside of \[0, 1\]"),
        (torch.full((3, 8, 8), torch.nan), {}, r"outside of \[0, 1\]"),
        (torch.zeros(8, 8, dtype=torch.uint8), {}, "grey"),
        ([3], {}, "image 0 is a int"),
        (None, {}, "image 0 is a NoneType"),  # the value that cv2.imread returns for a missing image
        ("nowhere.jpg", {}, "nowhere.jpg is missing"),
        (IMAGE, {"boxes": (70, 0, 90, 30)}, r"from \(70, 0\) to \(90, 30\) lies outside of the image of 60 x 40 px"),
        (IMAGE, {"boxes": (30, 0, 20, 30)}, "left < right"),
        (IMAGE, {"boxes": (0, 0, 20, np.nan)}, "4 finite numbers per person"),
        (IMAGE, {"boxes": (0, 0, 20)}, "4 finite numbers per person"),
        (IMAGE, {"boxes": "everywhere"}, "4 finite numbers per person"),
        ([IMAGE, IMAGE], {"boxes": [(0, 0, 9, 9)]}, "2 images, but boxes, centers or scales for 1"),
        ([IMAGE, IMAGE], {"centers": [(5, 5), (5, 5)], "scales": 0.1}, "2 images, but boxes, centers or scales for 1"),
        (IMAGE, {"batch": 0}, "batch = 0"),
        (IMAGE, {"sizes": ()}, r"sizes = \[\]"),
        (IMAGE, {"sizes": (1, -1)}, "above 0"),
        (IMAGE, {"centers": (5, 5)}, "belong together"),
        (IMAGE, {"centers": (5, 5), "scales": 0}, "scales above 0"),
        (IMAGE, {"centers": [(5, 5), (6, 6)], "scales": 0.1}, "2 centers and 1 scales"),
        (IMAGE, {"centers": (500, 5), "scales": 0.1}, "outside of the image"),
        (IMAGE, {"boxes": (0, 0, 9, 9), "centers": (5, 5), "scales": 1}, "not both"),
    ],
)
def test_invalid_images_and_boxes_are_refused(predictor, images, options, words):
    with pytest.raises(DataError, match=words):
        predictor.predict(images, **options)


def network(**options):
    """Return a network whose batch statistics and mean colour differ from their initial values."""
    torch.manual_seed(1)
    net = HourglassNet(Network(**{"stem": "4 8 8", "features": 8, "depth": 2} | options), 13)
    for name, tensor in net.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 2)
    net.mean[:] = torch.tensor([0.4, 0.3, 0.2])
    return net.eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "hg2"}, {"preset": "hg2-mobile"}, {"block": "four"}, {"norm": "instance"}, {"norm": "group"},
     {"stacks": 2, "join": "concatenate", "head_layers": 2}],
)  # fmt: skip
def test_folding_changes_nothing_but_rounding(options):
    net, images = network(**options), torch.rand(2, 3, 64, 64)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.inference_mode():
        expected = net(images)[-1]
    before_folding, after = (sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (net, folded(net)))
    assert after < before_folding or "norm" in options
    torch.testing.assert_close(in_torch(net, CPU, torch.float32)(images), expected, atol=1e-5, rtol=1e-4)
    short = in_torch(net, CPU, torch.bfloat16)(images)
    assert short.dtype == torch.float32 and (short - expected).abs().max() < 0.1 * expected.abs().max()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a network and its ONNX file."""
    from stages.network.onnx_graph import write_onnx

    folder = tmp_path_factory.mktemp("model")
    save_network(folder / "model.safetensors", network(), PENN_ACTION.skeleton.joints, 64, {})
    write_onnx(folder / "model.onnx", network(), ABOUT)
    return folder


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_other_runtimes_compute_the_same(model, runtime):
    pytest.importorskip(runtime)
    images = torch.rand(3, 3, 64, 64)
    expected, found = (
        with_flip(start(name, network(), ABOUT, CPU, torch.float32, model / "model.onnx"), PENN_ACTION.skeleton.mirrored())
        for name in ("torch", runtime)
    )
    torch.testing.assert_close(found(images), expected(images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found(images[:1]), expected(images[:1]), atol=1e-5, rtol=1e-4)


def test_missing_and_unknown_runtimes_are_refused(model, monkeypatch):
    with pytest.raises(DataError, match="runtime = tensorrt is unknown; use one of torch, onnxruntime, openvino"):
        PosePredictor.load(model, runtime="tensorrt")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(DataError, match="pip install openvino"):
        PosePredictor.load(model, runtime="openvino")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_damaged_onnx_file_is_named(model, tmp_path, runtime):
    pytest.importorskip(runtime)
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    whole = (model / "model.onnx").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no graph"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(DataError, match=rf"model\.onnx cannot be read by {runtime}"):
            PosePredictor.load(tmp_path, runtime=runtime)


def test_networks_are_found_by_path_and_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("penn_action_cropped/hg-256-ft", "demo/mpii/hg-256", "demo/mpii/hg-256-ft"):
        (tmp_path / "exp" / place).mkdir(parents=True)
        save_network(tmp_path / "exp" / place / "best.safetensors", network(), PENN_ACTION.skeleton.joints, 64, {})
    image, _ = dots(80, 60)
    expected = PosePredictor.load(model).predict(image).joints
    for source in (model / "model.safetensors", str(model), "hg-256", "demo/mpii/hg-256", "penn_action_cropped/hg-256-ft"):
        assert np.array_equal(PosePredictor.load(source).predict(image).joints, expected)
    with pytest.raises(DataError, match="hg-256-ft is ambiguous: exp/demo/mpii/hg-256-ft or exp/penn_action_cropped/hg-256-ft"):
        PosePredictor.load("hg-256-ft")
    for missing in ("hg-1024", tmp_path / "nowhere", "/nowhere/model.t7"):
        with pytest.raises(DataError, match="not a file, a folder or an experiment"):
            PosePredictor.load(missing)
    with pytest.raises(DataError, match="exp/demo is ambiguous: exp/demo/mpii/hg-256 or exp/demo/mpii/hg-256-ft"):
        PosePredictor.load("exp/demo")
    (tmp_path / "exp/demo/mpii/hg-256-ft@01234567").mkdir()
    (tmp_path / "exp/demo/mpii/hg-256-ft/best.safetensors").rename(
        tmp_path / "exp/demo/mpii/hg-256-ft@01234567/best.safetensors"
    )
    assert module.find("exp/demo") == Path("exp/demo/mpii/hg-256/best.safetensors")
    (tmp_path / "exp/demo/export").mkdir()
    save_network(tmp_path / "exp/demo/export/model.safetensors", network(), PENN_ACTION.skeleton.joints, 64, {})
    assert module.find("exp/demo") == Path("exp/demo/export/model.safetensors")
    (tmp_path / "exp/demo/export").rename(tmp_path / "exp/demo/export@01234567")
    # A text file in place of the symlink, as on a disk without symlinks.
    (tmp_path / "exp/demo/export").write_text("export@01234567\n")
    assert module.find("exp/demo") == Path("exp/demo/export@01234567/model.safetensors")
    (tmp_path / "exp/other/mpii").mkdir(parents=True)
    with pytest.raises(DataError, match="exp/other holds none of"):
        PosePredictor.load("exp/other")


def test_a_torch7_file_is_a_network_too(model, tmp_path):
    from stages.torch7 import t7 as torch7
    from stages.torch7.export_network import as_torch7

    net = network()
    net.mean.zero_()  # Torch7 has no module that subtracts a mean
    torch7.write(tmp_path / "best_model.t7", as_torch7(net, cudnn=True))
    assert PosePredictor.load(tmp_path, dataset="penn_action").joints == PENN_ACTION.skeleton.joints
    assert module.find(tmp_path).name == "best_model.t7"
    for dataset, match in (("", "does not name its 13 joints"), ("lsp", "LSP has 14"), ("coco", "mpii, penn_action, flic")):
        with pytest.raises(DataError, match=match):
            PosePredictor.load(tmp_path, dataset=dataset)


def test_an_exported_torch7_file_keeps_the_resolution(tmp_path):
    from stages.torch7 import t7 as torch7
    from stages.torch7.export_network import as_torch7

    net = network()
    net.mean.zero_()
    for side in (64, 256):
        torch7.write(tmp_path / "a.t7", as_torch7(net, False, side))
        assert PosePredictor.load(tmp_path / "a.t7", dataset="penn_action").resolution == side
    assert "resolution" not in as_torch7(net, False, 256).fields  # as in the published files
    made = as_torch7(net, False, 64)
    made.fields["resolution"] = 99
    torch7.write(tmp_path / "a.t7", made)
    with pytest.raises(DataError, match="resolution = 99.*, expected a multiple of 4"):
        PosePredictor.load(tmp_path / "a.t7", dataset="penn_action")


def test_a_known_network_is_fetched_once_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.HOURGLASSES, "tiny", KnownModel("tiny", "penn_action", "", "theirs.safetensors", ""))
    save_network(tmp_path / "theirs.safetensors", network(), PENN_ACTION.skeleton.joints, 64, {})
    assert PosePredictor.load("tiny").joints == PENN_ACTION.skeleton.joints
    (tmp_path / "theirs.safetensors").unlink()
    assert PosePredictor.load("tiny").resolution == 64


def test_a_network_that_a_short_dtype_would_round_away_is_computed_in_float32():
    """Activations have mean 1,000 and standard deviation 1.

    Near 1,000, bfloat16 has steps of 4, float16 of 0.5, float32 of 0.00006.
    """
    torch.manual_seed(0)
    net = HourglassNet(SMALL, 13).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        net.stem.residuals[-1].conv3.bias += 1000
        for module in net.modules():  # compute batch statistics from the images, as a training does
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        net.train()(images)
        net.eval()
        expected = net(images)[-1]
    with pytest.warns(UserWarning, match="bfloat16 is too coarse for this network.*float32 instead"):
        found = in_torch(net, CPU, torch.bfloat16)(images)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)
    with pytest.warns(UserWarning, match="float16 is too coarse"):
        assert fine_enough(net, torch.float16) == torch.float32
    assert fine_enough(net, torch.float32) == torch.float32
    assert fine_enough(HourglassNet(SMALL, 13), torch.bfloat16) == torch.bfloat16


def test_a_network_that_computes_nan_is_refused():
    network = HourglassNet(SMALL, 13)
    with torch.no_grad():
        next(network.heads[-1].parameters()).fill_(torch.nan)
    predictor = PosePredictor(network, ABOUT)
    with pytest.raises(DataError, match="heatmaps with NaN or infinite numbers, so its weights are damaged"):
        predictor.predict(np.zeros((48, 64, 3), np.uint8))


def test_limbs_come_from_the_checkpoint_or_else_from_the_dataset_of_its_joints():
    own = Description(SMALL, PENN_ACTION.skeleton.joints, 256, {}, ((0, 1),))
    other = Description(SMALL, ("nose", "tail"), 256, {})
    found = [PosePredictor(Dots(), about).skeleton.limbs for about in (own, LARGE, other)]
    assert found == [((0, 1),), PENN_ACTION.skeleton.limbs, ()]
