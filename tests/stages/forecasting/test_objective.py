"""The objective of forecasts: its loss and accuracy, and a training that is interrupted, distributed or in bfloat16."""

import numpy as np
import pytest
import torch

from stages.forecasting.checkpoints import load_forecaster
from stages.forecasting.evaluate import ForecastFiles
from stages.forecasting.network import ForecastNet, Outputs
from stages.forecasting.objective import ForecastObjective
from stages.lifting.network import ConverterNet, Pose3D
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import Forecaster, ForecastTraining
from stages.settings.lifting import Converter
from stages.settings.sections import Input, Network, Workspace
from stages.training import distributed
from stages.training.train import Job, Trainer, train
from tests.other_device import OnOtherDevice, OtherDevice, to_other_device
from tests.stages.forecasting import made
from tests.stages.training.test_distributed import train_and_die
from tests.stages.training.test_train import Killed, contents, log

SETTINGS = ForecastTraining(
    epochs=3, iterations=3, batch=4, curriculum=(2, 4, 16), optimizer="adamw", learning_rate=1e-3, ema=0.5, seed=5,
    snapshot_epochs=0, target_sigma=1.0, target_radius=2, sampling="shuffled", crop="single_warp", targets="subpixel",
)  # fmt: skip
PLAIN = {"scale_std": 0.0, "rotation_probability": 0.0, "flip_probability": 0.0}
ALONE = Workspace(device="cpu", workers=1, checkpoint_seconds=1e-9)
SIDE = 8  # px of a heatmap


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> ForecastFiles:
    root = tmp_path_factory.mktemp("sequences")
    for split, lengths in {"train": {1: 6, 2: 5, 3: 9}, "val": {4: 5}}.items():
        made.write(root, split, lengths)
    return ForecastFiles(root, root)


def objective(files, settings=SETTINGS, converter=False):
    """Return an objective with heatmaps of SIDE px; with a converter, of 16 px, because it halves their size four times."""
    torch.manual_seed(1)
    hourglass = HourglassNet(Network(stem="2 4 4", features=8, depth=2), 13)
    network = ForecastNet(hourglass, Forecaster(), ConverterNet(13, 16, Converter(features=8)) if converter else None)
    movements = {split: files.movements(split) for split in ("train", "valid")}
    return ForecastObjective(network, movements, files.frames, Input(resolution=64 if converter else 4 * SIDE), settings)


def job(folder, files, settings=SETTINGS, workspace=ALONE, converter=False):
    folder.mkdir(exist_ok=True)
    return Job(folder, objective(files, settings, converter), settings, workspace)


def a_batch(one):
    (batch,) = one.batches(0, 1)
    return batch


def peaks(points, shift=0.0):
    """Return heatmaps (N, T, J, h, w), each with its peak at a point moved by `shift` px; a NaN point counts as (0, 0)."""
    near = torch.floor(points.nan_to_num(0) + shift + 0.5).long().clamp(0, SIDE - 1)
    maps = torch.zeros(*points.shape[:3], SIDE * SIDE)
    return maps.scatter_(3, (near[..., 1] * SIDE + near[..., 0])[..., None], 1.0).unflatten(3, (SIDE, SIDE))


def test_hidden_joints_and_repeated_steps_weigh_in_the_loss_as_the_settings_say(files):
    """Joint 5 is hidden in every frame. The forecasts start near the ends of short videos, so later steps repeat a frame."""
    for name, weight, count in (("unlabelled_weight", 0.0, False), ("unlabelled_weight", 1.0, True)):
        one = objective(files, SETTINGS.model_copy(update=PLAIN | {name: weight}))
        maps, batch = torch.zeros(4, 16, 13, SIDE, SIDE), a_batch(one)
        other = maps.clone()
        other[:, :, 5] = 1.0
        losses = [one.loss(Outputs(given, None), batch, 1.0)[0].item() for given in (maps, other)]
        # The heatmaps of joint 5 are 1 everywhere, but should be empty. So their squared error is 1, and at each of the 16
        # steps the mean error over the 13 joints rises by 1 / 13.
        assert losses[1] - losses[0] == pytest.approx(16 / 13 if count else 0, abs=1e-5)
    rigid = objective(files, SETTINGS.model_copy(update={"repeated_weight": 0.0, "unlabelled_weight": 0.0}))
    batch = a_batch(rigid)
    repeated = batch["weights"].sum(dim=2) == 0
    assert repeated.any() and not repeated[:, 0].any()
    maps = torch.zeros(4, 16, 13, SIDE, SIDE)
    other = torch.where(repeated[..., None, None, None], 1.0, maps)
    losses = [rigid.loss(Outputs(given, None), batch, 1.0)[0] for given in (maps, other)]
    assert losses[0] == losses[1] > 0


def test_a_joint_is_correct_within_a_twentieth_of_the_frame(files):
    """The limit is 2 px, because the frame is 40 px long. The box of 50 px is 8 px wide in the heatmap, so 2 px are 0.32 px."""
    one = objective(files, SETTINGS.model_copy(update=PLAIN))
    batch = a_batch(one)
    inside = ((batch["points"] > 0) & (batch["points"] < SIDE - 2)).all(dim=-1)
    batch["points"] = torch.where(inside[..., None], batch["points"].floor(), torch.nan)
    assert batch["limit"].tolist() == pytest.approx([0.32] * 4)
    for shift, correct in ((0.0, 1.0), (1.0, 0.0)):
        found = one.metrics(one.loss(Outputs(peaks(batch["points"], shift), None), batch, 1.0)[1])
        assert found["acc"] == correct and found["pck_1"] == found["pck_16"] == correct


def test_the_loss_of_a_step_does_not_depend_on_how_many_follow(files):
    one = objective(files)
    batch = a_batch(one)
    few, many = (one.loss(one.forward(one.network.eval(), batch, steps), batch, 1.0)[1] for steps in (2, 16))
    assert one.metrics(few)["loss_2"] == pytest.approx(one.metrics(many)["loss_2"], rel=1e-5)
    assert np.isnan(one.metrics(few)["loss_3"]) and one.metrics(many)["loss_3"] > 0
    assert few[0] == pytest.approx((few[2] + few[3]).item())


def test_loss_and_accuracy_stay_on_the_device(files):
    one = objective(files, converter=True)
    batch = {name: to_other_device(values) for name, values in a_batch(one).items()}
    poses = Pose3D.of(to_other_device(torch.rand(4, 4, 43)))
    with OtherDevice():
        loss, sums = one.loss(Outputs(to_other_device(torch.rand(4, 4, 13, 16, 16)), poses), batch, 1.0)
    assert isinstance(loss, OnOtherDevice) and isinstance(sums, OnOtherDevice)
    assert one.metrics(sums.cpu())["loss"] > 0


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "whole"
    return folder, train(job(folder, files))


@pytest.mark.parametrize("moment", [2, 3, 4, 7])
def test_it_resumes_bit_for_bit_also_where_the_curriculum_changes(files, whole, tmp_path, moment):
    def kill(done, *_):
        if done == moment:
            raise Killed

    with pytest.raises(Killed):
        Trainer(job(tmp_path / "killed", files)).run(kill)
    assert Trainer(job(tmp_path / "killed", files)).run() == whole[1]
    assert contents(tmp_path / "killed") == contents(whole[0])


def test_two_processes_give_what_one_gives_though_one_is_killed(files, whole, tmp_path):
    """The results are equal only up to rounding, because two processes add numbers in a different order from one process."""
    two = ALONE.model_copy(update={"processes": 2})
    distributed.launch(train_and_die, job(tmp_path / "two", files, workspace=two), "two", two)
    for name in ("train.log", "valid.log"):
        one, other = (np.array(log(folder / name)) for folder in (whole[0], tmp_path / "two"))
        assert one.shape == other.shape == (3, 4 + 32)
        np.testing.assert_allclose(other[:, 1], one[:, 1], rtol=1e-2, err_msg=name)  # loss


def test_bfloat16_gives_nearly_what_float32_gives(files, whole, tmp_path):
    settings = SETTINGS.model_copy(update={"precision": "bfloat16"})
    train(job(tmp_path / "half", files, settings))
    exact, half = (np.array(log(folder / "valid.log"))[:, 1] for folder in (whole[0], tmp_path / "half"))
    np.testing.assert_allclose(half, exact, rtol=0.02)
    assert (half != exact).any()


def test_the_loss_has_the_squared_distance_of_projected_joints_from_visible_labels(files):
    """The 3D joints project 3 px to the right of the labels and 4 px below, so the mean squared error is (9 + 16) / 2 px^2."""
    one = objective(
        files, SETTINGS.model_copy(update=PLAIN | {"projection_weight": 2.0, "unlabelled_weight": 1.0}), converter=True
    )
    batch, maps = a_batch(one), torch.zeros(4, 2, 13, 16, 16)
    points = batch["points"][:, :2].nan_to_num(0) + torch.tensor([3.0, 4.0]) - 7.5  # centre of a heatmap of 16 px
    flat = torch.cat([points, torch.full_like(points[..., :1], 1000.0)], dim=-1)  # focal length 1000 px, depth 1000 mm
    poses = Pose3D(flat.requires_grad_(), torch.zeros(4, 2, 3), torch.full((4, 2), 1000.0))
    seen = (~batch["points"][:, :2].isnan().any(dim=-1)).float().mean(dim=(0, 2)).sum().item()
    assert 0 < seen < 2
    (without, _), (loss, sums) = (one.loss(Outputs(maps, given), batch, 1.0) for given in (None, poses))
    assert one.metrics(sums)["projection"] == pytest.approx(12.5 * seen, rel=1e-4)
    assert (loss - without).item() == pytest.approx(2 * 12.5 * seen, rel=1e-4)
    loss.backward()
    assert poses.repos.grad.isfinite().all()


@pytest.mark.parametrize("changes", ["nothing", "statistics", "everything"])
def test_a_training_changes_in_the_converter_what_the_settings_say(files, tmp_path, changes):
    settings = SETTINGS.model_copy(update={"converter_changes": changes, "epochs": 1, "projection_weight": 1e-3})
    before = {name: tensor.clone() for name, tensor in objective(files, settings, True).network.converter.state_dict().items()}
    train(job(tmp_path / "one", files, settings, converter=True))
    head, row = (line.split("\t") for line in (tmp_path / "one/valid.log").read_text().splitlines())
    assert head[-1] == "projection" and float(row[-1]) > 0
    network, _ = load_forecaster(tmp_path / "one/best.safetensors")
    after = network.converter.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    weights = {name for name, _ in network.converter.named_parameters()}
    assert bool(changed & weights) == (changes == "everything")
    assert bool(changed - weights) == (changes != "nothing")
    if changes == "everything":
        assert {"repos.2.weight", "trans.2.weight", "focal.2.weight", "trunk.0.weight"} <= changed
