"""The training loop with an objective without poses: fitting a matrix to pairs of vectors."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.settings.sections import Workspace
from stages.settings.trainings import Training
from stages.training.train import Job, Trainer
from tests.stages.training.test_train import Killed, contents, log

TRUE = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


class Fit:
    """An objective that fits y = A x; from epoch 3 on, only the first component of y enters the loss, as in a curriculum."""

    parts = ("first", "second")
    loss_limit = 1e6

    def __init__(self, batch):
        torch.manual_seed(0)
        self.network, self.batch = torch.nn.Linear(3, 2, bias=False), batch

    def begin(self, resources, networks):
        self.share = resources.share

    def phase(self, epoch):
        return 2 if epoch < 3 else 1

    def batches(self, first, end):
        for i in range(first, end):
            x = torch.randn(self.batch, 3, generator=torch.Generator().manual_seed(i))[self.share[0] :: self.share[1]]
            yield {"x": x, "y": x @ TRUE.T}

    def forward(self, model, batch, phase):
        return model(batch["x"])[:, :phase]

    def loss(self, outputs, batch, share):
        squares = (outputs - batch["y"][:, : outputs.shape[1]]).square().mean(dim=0) * share
        loss = squares.sum()
        return loss, torch.cat([loss.detach()[None], squares.detach(), torch.zeros(2 - len(squares))])

    def metrics(self, sums):
        total, first, second = sums.tolist()
        return {"loss": total, "acc": 1 / (1 + total), "first": first, "second": second or float("nan")}

    def validate(self, network, phase, report):
        report(1, 1)
        error = (network.weight.detach() - TRUE).square().sum(dim=1).double()
        return error, np.zeros((4, 4, 3), np.uint8)

    def validation_metrics(self, sums):
        first, second = sums.tolist()
        return {"loss": first + second, "acc": 1 / (1 + first), "first": first, "second": second}

    def save(self, path, network, metrics):
        save_file({"weight": network.weight.detach()}, path)

    def arrays(self, iteration):
        return {name: tensor.numpy() for name, tensor in next(self.batches(iteration, iteration + 1)).items()}


SETTINGS = Training(epochs=4, iterations=25, batch=6, optimizer="adam", learning_rate=0.05, gradient_accumulation=3)


def fit(folder, report=lambda *_: None):
    folder.mkdir(exist_ok=True)
    job = Job(folder, Fit(SETTINGS.batch), SETTINGS, Workspace(device="cpu", workers=1, checkpoint_seconds=1e-9))
    return Trainer(job).run(report)


def test_any_objective_is_trained_logged_and_kept(tmp_path):
    result = fit(tmp_path)
    assert result["best_epoch"] == 4 and result["valid_accuracy"] > 0.95
    weight = load_file(tmp_path / "best.safetensors")["weight"]
    assert (weight[0] - TRUE[0]).abs().max() < 0.15
    rows = log(tmp_path / "train.log")
    assert (tmp_path / "train.log").read_text().startswith("epoch\tloss\tacc\tLR\tfirst\tsecond\n")
    # From the third epoch on, the second component does not enter the loss.
    assert rows[0][5] > rows[1][5] > 0 and np.isnan([row[5] for row in rows[2:]]).all()
    # From the third epoch on, the second component's weights change only by Adam's remaining momentum.
    assert log(tmp_path / "valid.log")[2][5] == pytest.approx(log(tmp_path / "valid.log")[3][5], rel=0.05)


@pytest.mark.parametrize("moment", [30, 50, 51, 77])
def test_it_resumes_bit_for_bit_also_across_a_change_of_phase(tmp_path, moment):
    def kill(done, *_):
        if done == moment:
            raise Killed

    fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", kill)
    fit(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
