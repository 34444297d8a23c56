"""Small archives of drawn people in the formats of Leeds Sports Pose, LSPET and FLIC."""

import io
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from datasets.dataset import DatasetFiles
from datasets.lsp import LSP
from datasets.mpii import MPII
from datasets.sample.pictures import draw_still
from stages.loading.loader import PoseDataset
from stages.settings.sections import Input

SIZE = (120, 100)  # height and width of the pictures in px
LSP_IN_MPII = [MPII.skeleton.joints.index({"neck": "upper_neck"}.get(name, name)) for name in LSP.skeleton.joints]


def people(count: int, seed: int = 0) -> list[tuple[bytes, np.ndarray, np.ndarray]]:
    """Return pictures of one person each: JPEG, MPII's joints (16, 2) in 0-based px, and visibility (16,)."""
    drawn = []
    for number in range(count):
        image, (person,) = draw_still(np.random.default_rng([seed, number]), SIZE, 1)
        drawn.append((cv2.imencode(".jpg", image)[1].tobytes(), person.figure.points[:16, :2], person.visible))
    return drawn


def write_lsp(path: Path, count: int, extended: bool = False) -> np.ndarray:
    """Write an archive like lsp_dataset.zip, with joints 3 x 14 x N; return the joints (N, 14, 2) in 0-based px.

    In LSP, a third number of 1 marks an occluded joint. In the extended set LSPET, it marks a labelled joint; all joints that
    this function writes are labelled.
    """
    drawn = people(count)
    part = np.array([points[LSP_IN_MPII] for _, points, _ in drawn])
    occluded = np.array([~seen[LSP_IN_MPII] for _, _, seen in drawn])
    marks = np.ones_like(occluded) if extended else occluded
    joints = np.concatenate([part + 1, marks[..., None]], axis=2).transpose(2, 1, 0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "Leeds Sports Pose Dataset")
        archive.writestr("joints.mat", mat(joints))
        for number, (jpeg, _, _) in enumerate(drawn, 1):
            archive.writestr(f"images/im{number:04d}.jpg", jpeg)
            archive.writestr(f"visualized/im{number:04d}.jpg", b"a picture with lines drawn over it")
    return part


def peak_error(data: DatasetFiles, split: str) -> np.ndarray:
    """Return the larger of the x and y distances (K,) from each joint inside the box to its heatmap's peak, in input px."""
    samples, errors = PoseDataset(data, split, Input(resolution=128)), []
    for row in range(len(samples)):
        sample = samples[row]
        affine = sample["image_to_crop"]
        joints = samples.rows.part[row] @ affine[:, :2].T + affine[:, 2]
        inside = ((joints > 0) & (joints < 127)).all(axis=1)
        peaks = np.array([np.unravel_index(maps.argmax(), maps.shape)[::-1] for maps in sample["heatmaps"]])
        errors += (np.abs(4 * peaks + 1.5 - joints).max(axis=1))[inside].tolist()  # a heatmap pixel is four input pixels wide
    return np.array(errors)


def mat(joints: np.ndarray) -> bytes:
    """Return the bytes of a MATLAB file joints.mat that contains `joints`."""
    content = io.BytesIO()
    savemat(content, {"joints": joints})
    return content.getvalue()


def write_flic(images: Path, annotations: Path, train: int, valid: int) -> None:
    """Write an archive like FLIC.zip to `images`, and a folder of annotation files as published.

    Every second person is seen from behind.
    """
    annotations.mkdir(parents=True)
    drawn = people(train + valid)
    with zipfile.ZipFile(images, "w") as archive:
        archive.writestr("FLIC/examples.mat", b"not read")
        for number, (jpeg, _, _) in enumerate(drawn):
            archive.writestr(f"FLIC/images/film-{number:08d}.jpg", jpeg)
    arms = [13, 14, 15, 12, 11, 10, 3, 2]  # indices of MPII's joints in FLIC's order; the head top stands in for both eyes
    part = np.array([points[[*arms, 9, 9, 8]] for _, points, _ in drawn]) + 1
    part[:, 8:10, 0] += (2, -2)
    for split, rows in (("train", np.arange(train)), ("valid", np.arange(train, train + valid))):
        names = [f"film-{number:08d}.jpg" for number in rows]
        (annotations / f"{split}_images.txt").write_text("".join(f"{name}\n" for name in names))
        own = part[rows]
        seen = own.copy()
        seen[1::2] = own[1::2][:, [3, 4, 5, 0, 1, 2, 7, 6, 9, 8, 10]]
        for name, values in ((split, seen), (f"{split}_personcentric", own)):
            with h5py.File(annotations / f"{name}.h5", "w") as file:
                file["part"], file["visible"] = values, np.ones(values.shape[:2])
                file["center"], file["scale"] = np.full((len(rows), 2), 60, np.float32), np.full(len(rows), 0.5)
                file["index"], file["person"] = rows, np.zeros(len(rows), int)
                file["normalize"] = np.linalg.norm(own[:, 3] - own[:, 6], axis=1)
                file["torsoangle"], file["imgname"] = np.zeros(len(rows)), np.array(names, "S43")
