"""A training that branches off from another training."""

import pytest
import torch

from datasets.errors import DataError
from stages.network.checkpoints import load_tensors, save_tensors
from tests.stages.training.test_train import SETTINGS, Killed, contents, finished, log, trainer

__all__ = ["finished"]  # the fixture


def branch(settings, origin, **changes):
    """Return settings of a branch with a constant learning rate, which does not depend on the total number of iterations."""
    return settings.model_copy(update={"schedule": "constant", "branch_from": str(origin)} | changes)


def test_a_branch_continues_the_other_training(tiny_penn, tmp_path):
    """A branch that changes only the number of epochs equals, bit for bit, a training with this number of epochs."""
    trainer(tmp_path / "one", tiny_penn, branch(SETTINGS, "", epochs=1)).run()
    before = contents(tmp_path / "one")
    trainer(tmp_path / "branch", tiny_penn, branch(SETTINGS, tmp_path / "one")).run()
    trainer(tmp_path / "two", tiny_penn, branch(SETTINGS, "")).run()
    assert contents(tmp_path / "one") == before
    for name in ("train.log", "valid.log"):
        assert (tmp_path / "branch" / name).read_text() == (tmp_path / "two" / name).read_text()
    (found, about), (expected, _) = (load_tensors(tmp_path / name / "last.safetensors") for name in ("branch", "two"))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert about["state"]["best"][0] == 2  # the best epoch of the branch itself, not of the first training


def test_a_killed_branch_with_other_settings_resumes(tiny_penn, finished, tmp_path):
    def kill(done, *_):
        if done == 12:
            raise Killed

    changed = branch(
        SETTINGS,
        finished / "last-002.safetensors",
        epochs=3,
        learning_rate=1e-5,
        optimizer="rmsprop",
        ema=0.0,
        flip_probability=0.0,
    )
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", tiny_penn, changed, seconds=1e-9).run(kill)
    for name in ("killed", "whole"):
        trainer(tmp_path / name, tiny_penn, changed).run()
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert [row[3] for row in log(tmp_path / "whole" / "train.log")][2] == pytest.approx(1e-5)


def test_a_branch_from_the_middle_of_an_epoch_that_is_longer_than_its_own(tiny_penn, tmp_path):
    def kill(done, *_):
        if done == 9:
            raise Killed

    with pytest.raises(Killed):
        # The last checkpoint is that of iteration 8, in the second epoch.
        trainer(tmp_path / "origin", tiny_penn, seconds=1e-9).run(kill)
    t = trainer(tmp_path / "branch", tiny_penn, branch(SETTINGS, tmp_path / "origin", epochs=4, iterations=2))
    assert (t.state.iteration, t.iterations) == (8, 12)
    t.run()
    assert t.state.iteration == 12 and [row[0] for row in log(tmp_path / "branch" / "train.log")] == [1, 2, 3, 4]


def test_impossible_branches_are_refused(tiny_penn, finished, tmp_path):
    with pytest.raises(DataError, match="2 finished epochs and 10 iterations; give the branch more epochs"):
        trainer(tmp_path, tiny_penn, branch(SETTINGS, finished))
    with pytest.raises(DataError, match="10 iterations; give the branch"):
        trainer(tmp_path, tiny_penn, branch(SETTINGS, finished, epochs=3, stop_after=10))
    with pytest.raises(DataError, match="another network"):
        trainer(tmp_path, tiny_penn, branch(SETTINGS, finished, epochs=3), stacks=2)
    with pytest.raises(DataError, match=r"best.safetensors is not a checkpoint of a training; give a last.safetensors"):
        trainer(tmp_path, tiny_penn, branch(SETTINGS, finished / "best.safetensors", epochs=3))
    tensors, about = load_tensors(finished / "last.safetensors")
    save_tensors(tmp_path / "odd.safetensors", tensors, about | {"state": about["state"] | {"iteration": "ten"}})
    with pytest.raises(DataError, match=r"odd.safetensors is not a checkpoint of a training"):
        trainer(tmp_path, tiny_penn, branch(SETTINGS, tmp_path / "odd.safetensors", epochs=3))
