"""Files written in image-play's format, read back by h5py."""

from pathlib import Path

import h5py
import numpy as np

from datasets.formats import image_play


def test_every_frame_is_written(tmp_path: Path) -> None:
    visible = np.ones((2, 13), bool)
    visible[1] = False
    joints = np.full((3, 13, 2), 5.0)
    sequences = [(3, joints[:2], visible), (20, joints[:1], visible[:1])]
    image_play.write_image_play(tmp_path / "val.h5", sequences, 3)
    image_play.write_valid_ind(tmp_path / "valid_ind.txt", [20, 3])
    with h5py.File(tmp_path / "val.h5") as file:
        assert file["ind2sub"][:].tolist() == [[3, 1], [3, 2], [20, 1]]
        assert file["part"].shape == (3, 13, 2) and (file["part"][0] == 6).all() and (file["part"][1] == 0).all()
    assert (tmp_path / "valid_ind.txt").read_bytes() == b"20\n3\n"
    numbers, read = image_play.read_image_play(tmp_path / "val.h5")
    assert numbers.tolist() == [[3, 1], [3, 2], [20, 1]] and (read[0] == 5).all() and np.isnan(read[1]).all()
