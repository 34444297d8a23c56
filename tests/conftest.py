"""Small synthetic datasets that several tests share."""

import os
import shutil
import signal
from dataclasses import replace

# Set before torch is imported; one thread per test process, because several processes run tests at the same time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from datasets.dataset import DatasetFiles
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.formats.penn_labels import Label, write_label
from datasets.penn_action import PENN_ACTION

# If a shell starts the tests in the background, they and all programs that they start ignore Ctrl-C; undo this.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_penn(tmp_path_factory):
    """Return a dataset of ten images (40 x 48 px, noise and 13 dots): 6 for training, 2 for validation, 2 for testing."""
    folder = tmp_path_factory.mktemp("tiny_penn")
    rng = np.random.default_rng(0)
    images = folder / "frames"
    images.mkdir()
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        names, part = [], rng.uniform(8, 32, (count, 13, 2))
        for i in range(count):
            image = rng.integers(0, 60, (48, 40, 3), np.uint8)
            for j, (x, y) in enumerate(part[i]):
                cv2.circle(image, (round(x), round(y)), 2, (20 * j, 255 - 20 * j, 200), -1)
            names.append(f"{split}{i}.jpg")
            cv2.imwrite(str(images / names[-1]), image)
        rows = Annotations(
            images=names, index=np.arange(count), person=np.zeros(count, int), center=np.full((count, 2), (19.5, 23.5)),
            scale=np.full(count, 0.3), part=part, visible=np.ones((count, 13), bool),
            normalize=np.full(count, -1.0), torsoangle=np.full(count, -1.0),
        )  # fmt: skip
        annotations.write(folder, split, rows)
    return DatasetFiles(PENN_ACTION, folder, images)


@pytest.fixture(scope="session")
def penn_sequences(tiny_penn, tmp_path_factory):
    """Return the validation images of `tiny_penn` as two sequences of one frame each, with labels, in Penn Action's layout."""
    root = tmp_path_factory.mktemp("penn_sequences")
    (root / "labels").mkdir()
    rows = tiny_penn.split("valid")
    for i, image in enumerate(rows.images):
        (root / "frames" / f"000{i}").mkdir(parents=True)
        shutil.copy(tiny_penn.images / image, root / "frames" / f"000{i}" / "000001.jpg")
        label = Label(f"000{i}", ("bowl", "squat")[i], "front", True, rows.part[i : i + 1], rows.visible[i : i + 1],
                      np.array([[2.0, 3, 32, 43]]), 40, 48)  # fmt: skip
        write_label(root / "labels" / f"000{i}.mat", label)
    annotations.write(root, "valid", replace(rows, images=["0000/000001.jpg", "0001/000001.jpg"]))
    return DatasetFiles(PENN_ACTION, root, root / "frames")
