"""The objective of forecasts: what its loss and its accuracy count, and its training, interrupted, shared and in bfloat16."""

import numpy as np
import pytest
import torch

from stages.forecasting.evaluate import ForecastFiles
from stages.forecasting.network import ForecastNet
from stages.forecasting.objective import ForecastObjective
from stages.network.hourglass import HourglassNet
from stages.settings.forecasting import Forecaster, ForecastTraining
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


def objective(files, settings=SETTINGS):
    torch.manual_seed(1)
    network = ForecastNet(HourglassNet(Network(stem="2 4 4", features=8, depth=2), 13), Forecaster())
    movements = {split: files.movements(split) for split in ("train", "valid")}
    return ForecastObjective(network, movements, files.frames, Input(resolution=4 * SIDE), settings)


def job(folder, files, settings=SETTINGS, workspace=ALONE):
    folder.mkdir(exist_ok=True)
    return Job(folder, objective(files, settings), settings, workspace)


def a_batch(one):
    (batch,) = one.batches(0, 1)
    return batch


def peaks(points, shift=0.0):
    """Heatmaps (N, T, J, h, w) whose largest pixel is the one nearest to each point moved by `shift` px; NaN points: none."""
    near = torch.floor(points.nan_to_num(0) + shift + 0.5).long().clamp(0, SIDE - 1)
    maps = torch.zeros(*points.shape[:3], SIDE * SIDE)
    return maps.scatter_(3, (near[..., 1] * SIDE + near[..., 0])[..., None], 1.0).unflatten(3, (SIDE, SIDE))


def test_hidden_joints_and_repeated_steps_weigh_in_the_loss_as_the_settings_say(files):
    """Joint 5 is hidden in every frame; the starts are near the ends of short videos, so that their later steps repeat."""
    for name, weight, count in (("unlabelled_weight", 0.0, False), ("unlabelled_weight", 1.0, True)):
        one = objective(files, SETTINGS.model_copy(update=PLAIN | {name: weight}))
        maps, batch = torch.zeros(4, 16, 13, SIDE, SIDE), a_batch(one)
        other = maps.clone()
        other[:, :, 5] = 1.0
        losses = [one.loss(given, batch, 1.0)[0].item() for given in (maps, other)]
        # A joint without a target adds 1 to the mean over 4 images and 13 joints at each step of each image.
        assert losses[1] - losses[0] == pytest.approx(16 / 13 if count else 0, abs=1e-5)
    rigid = objective(files, SETTINGS.model_copy(update={"repeated_weight": 0.0, "unlabelled_weight": 0.0}))
    batch = a_batch(rigid)
    repeated = batch["weights"].sum(dim=2) == 0
    assert repeated.any() and not repeated[:, 0].any()
    maps = torch.zeros(4, 16, 13, SIDE, SIDE)
    other = torch.where(repeated[..., None, None, None], 1.0, maps)
    assert rigid.loss(maps, batch, 1.0)[0] == rigid.loss(other, batch, 1.0)[0] > 0


def test_a_joint_is_correct_within_a_twentieth_of_the_frame(files):
    """The frame is 40 px long and its box 50 px or 8 px of the heatmap, so that the limit is 2 px or 0.32 px of the heatmap."""
    one = objective(files, SETTINGS.model_copy(update=PLAIN))
    batch = a_batch(one)
    inside = ((batch["points"] > 0) & (batch["points"] < SIDE - 2)).all(dim=-1)
    batch["points"] = torch.where(inside[..., None], batch["points"].floor(), torch.nan)
    assert batch["limit"].tolist() == pytest.approx([0.32] * 4)
    for shift, correct in ((0.0, 1.0), (1.0, 0.0)):
        found = one.figures(one.loss(peaks(batch["points"], shift), batch, 1.0)[1])
        assert found["acc"] == correct and found["pck_1"] == found["pck_16"] == correct


def test_the_loss_of_a_step_does_not_depend_on_how_many_follow(files):
    one = objective(files)
    batch = a_batch(one)
    few, many = (one.loss(one.forward(one.network.eval(), batch, steps), batch, 1.0)[1] for steps in (2, 16))
    assert one.figures(few)["loss_2"] == pytest.approx(one.figures(many)["loss_2"], rel=1e-5)
    assert np.isnan(one.figures(few)["loss_3"]) and one.figures(many)["loss_3"] > 0
    assert few[0] == pytest.approx((few[1] + few[2]).item())


def test_loss_and_accuracy_stay_on_the_device(files):
    one = objective(files)
    batch = {name: to_other_device(values) for name, values in a_batch(one).items()}
    with OtherDevice():
        loss, sums = one.loss(to_other_device(torch.rand(4, 4, 13, SIDE, SIDE)), batch, 1.0)
    assert isinstance(loss, OnOtherDevice) and isinstance(sums, OnOtherDevice)
    assert one.figures(sums.cpu())["loss"] > 0


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
    """Up to rounding: the sums of two processes are added in another order."""
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
