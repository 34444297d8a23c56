"""A training whose last checkpoint was damaged by a power cut continues from the previous checkpoint."""

import shutil

import pytest

from datasets.errors import DataError
from stages.training.checkpointing import BEFORE, LAST, find_checkpoint
from tests.stages.training.test_train import contents, finished, trainer

__all__ = ["finished"]  # the fixture

DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "of nothing": lambda data: b"\x02\0\0\0\0\0\0\0{}",
}


@pytest.fixture(scope="module")
def interrupted(tiny_penn, tmp_path_factory):
    """A training that was interrupted after iteration 7 of 10, with its last two checkpoints."""

    class Ended(Exception):
        pass

    def end(done, *_):
        if done == 8:
            raise Ended

    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Ended):
        trainer(folder, tiny_penn, seconds=1e-9).run(end)
    assert {LAST, BEFORE} <= contents(folder).keys()
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_continues_from_the_previous_checkpoint_to_the_same_result(
    tiny_penn, finished, interrupted, tmp_path, capsys, damage
):
    shutil.copytree(interrupted, tmp_path / "t")
    last = tmp_path / "t" / LAST
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    trainer(tmp_path / "t", tiny_penn, seconds=1e-9).run()
    assert f"{last} is damaged; continuing from the previous checkpoint, of iteration 6." in capsys.readouterr().err
    assert contents(tmp_path / "t") == contents(finished)


def test_a_kill_between_the_two_renames_leaves_one(tiny_penn, finished, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "t")
    (tmp_path / "t" / LAST).unlink()
    trainer(tmp_path / "t", tiny_penn).run()
    assert contents(tmp_path / "t") == contents(finished)


def test_with_two_damaged_checkpoints_the_others_are_named_and_kept(tiny_penn, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "t")
    for name in (LAST, BEFORE):
        (tmp_path / "t" / name).write_bytes(b"")
    before = contents(tmp_path / "t")
    with pytest.raises(DataError, match=r"are damaged.*best\.safetensors, last-001\.safetensors.*last-001.* as branch"):
        trainer(tmp_path / "t", tiny_penn)
    assert contents(tmp_path / "t") == before
    for name in ("best.safetensors", "last-001.safetensors"):
        (tmp_path / "t" / name).unlink()
    with pytest.raises(DataError, match="To train from the beginning, move that folder away"):
        find_checkpoint(tmp_path / "t", "")
