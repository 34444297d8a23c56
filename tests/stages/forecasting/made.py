"""Few, short sequences for tests: random poses, and files of cropped Penn Action as this workspace writes them."""

from pathlib import Path

import cv2
import numpy as np

from datasets.formats.image_play import write_image_play
from datasets.formats.penn_labels import Label, write_label
from stages.forecasting.movements import Movements


def movements(lengths: dict[int, int], action: str = "squat", seed: int = 0, hidden: float = 0.0) -> Movements:
    """Return random poses in frames of 60 x 40 px; a share `hidden` of joints is NaN. lengths: sequence number -> frames."""
    rng = np.random.default_rng(seed)
    first = np.r_[0, np.cumsum(list(lengths.values()))]
    joints = rng.uniform(0, 40, (int(first[-1]), 13, 2))
    joints[rng.random(joints.shape[:2]) < hidden] = np.nan
    count = len(lengths)
    return Movements(np.array(list(lengths)), first, joints, np.tile([60, 40], (count, 1)), (action,) * count)


def write(root: Path, split: str, lengths: dict[int, int]) -> None:
    """Write frames of 40 x 20 px, labels and an image-play file. Joint j of frame f is at (10 + j, f); joint 5 is hidden."""
    sequences = []
    for number, length in lengths.items():
        (root / f"frames/{number:04d}").mkdir(parents=True)
        (root / "labels").mkdir(exist_ok=True)
        (root / "penn-crop").mkdir(exist_ok=True)
        joints = np.array([[(10.0 + j, frame) for j in range(13)] for frame in range(length)])
        visible = np.ones((length, 13), bool)
        visible[:, 5] = False
        for frame in range(length):
            grey = np.full((20, 40, 3), 10 * number + frame, np.uint8)
            (root / f"frames/{number:04d}/{frame + 1:06d}.jpg").write_bytes(cv2.imencode(".jpg", grey)[1].tobytes())
        label = Label(f"{number:04d}", "squat", "front", True, joints, visible, np.ones((length, 4)), 40, 20)
        write_label(root / f"labels/{number:04d}.mat", label)
        sequences.append((number, joints, visible))
    write_image_play(root / f"penn-crop/{split}.h5", sequences, sum(lengths.values()))
