"""Predictions as files that others read: HDF5, MATLAB, and what MPII's evaluation wants to be sent. All count px from 1."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from datasets import mpii
from datasets.formats.annotations import Annotations

# The first 116 bytes of a MATLAB 5 file are free text. The writer's own holds the time of writing; a fixed one makes
# equal predictions equal files.
HEADER = b"MATLAB 5.0 MAT-file, predicted joints".ljust(116)


def write_mat(path: Path, content: dict[str, Any]) -> None:
    """Variables as a MATLAB 5 file, compressed; equal ones give equal bytes. OSError (disk full) passes."""
    buffer = io.BytesIO()
    savemat(buffer, content, format="5", do_compression=True, oned_as="row")
    buffer.seek(0)
    buffer.write(HEADER)
    path.write_bytes(buffer.getvalue())


def write_submission(path: Path, release: Path, people: Annotations, preds: np.ndarray) -> None:
    """What MPII's evaluation toolkit loads as pred_keypoints_mpii.mat.

    release: the dataset's own .mat; people: the test people; preds (N, 16, 2): their joints in 0-based px. RELEASE.annolist
    has an entry for every image, in the dataset's order, those of the test images with
    annorect(k).annopoints.point(j).x, y, id: k as in the dataset's own RELEASE, id from 0. People whom it gives no position
    have no annopoints. `pred` has the test images alone. Raises DataError as `mpii.read`.
    """
    images = mpii.read(release)
    found: dict[int, dict[int, np.ndarray]] = {}
    for number, person, joints in zip(people.index.tolist(), people.person.tolist(), preds, strict=True):
        found.setdefault(number, {})[person] = joints
    entries = [_entry(name, found.get(number, {})) for number, name in enumerate(images.images)]
    train = images.training_images.astype(np.uint8)
    test = [entries[number] for number in np.flatnonzero(train == 0)]
    write_mat(path, {"pred": _struct(test), "RELEASE": {"annolist": _struct(entries), "img_train": train}})


def _entry(image: str, found: dict[int, np.ndarray]) -> dict[str, Any]:
    empty = np.zeros((0, 0))
    rects = [{"annopoints": _points(found[k]) if k in found else empty} for k in range(max(found, default=-1) + 1)]
    return {"image": _struct([{"name": image}]), "annorect": _struct(rects) if rects else empty}


def _points(joints: np.ndarray) -> np.ndarray:
    points = [{"x": x + 1, "y": y + 1, "id": float(j)} for j, (x, y) in enumerate(joints.tolist()) if not np.isnan(x)]
    return _struct([{"point": _struct(points)}])


def _struct(records: list[dict[str, Any]]) -> np.ndarray:
    """Records of the same fields as a 1 x N struct array."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


class HeatmapFile:
    """An HDF5 file with one dataset `heatmaps` of float32, appended to batch by batch in memory bounded by the batch.

    HDF5 only lays the file out: its library crashes the process when the disk is full, so the values are written into the
    dataset's place by Python, and OSError passes.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with h5py.File(path, "w") as file:
            space = h5py.h5s.create_simple(shape)
            dataset = h5py.h5d.create(file.id, b"heatmaps", h5py.h5t.IEEE_F32LE, space, layout)
            offset = dataset.get_offset()
        self.file = open(path, "r+b")  # noqa: SIM115
        self.file.seek(offset)

    def append(self, heatmaps: np.ndarray) -> None:
        """The next heatmaps (N, J, h, w)."""
        self.file.write(np.ascontiguousarray(heatmaps, dtype="<f4").tobytes())

    def __enter__(self) -> "HeatmapFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
