"""Writing predictions for other programs: MATLAB, HDF5, and the submission for MPII's evaluation. Joints are in 1-based px."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from datasets import mpii
from datasets.formats.annotations import Annotations

# The first 116 bytes of a MATLAB 5 file are free text. SciPy writes the current time into them; a constant text makes files
# of equal predictions equal.
HEADER = b"MATLAB 5.0 MAT-file, predicted joints".ljust(116)


def write_mat(path: Path, content: dict[str, Any]) -> None:
    """Write variables as a compressed MATLAB 5 file; equal variables give equal bytes. Raises OSError, such as disk full."""
    buffer = io.BytesIO()
    savemat(buffer, content, format="5", do_compression=True, oned_as="row")
    buffer.seek(0)
    buffer.write(HEADER)
    path.write_bytes(buffer.getvalue())


def write_submission(path: Path, release: Path, people: Annotations, preds: np.ndarray) -> None:
    """Write the file pred_keypoints_mpii.mat for MPII's evaluation toolkit.

    release: the dataset's own .mat; people: the test people; preds: (N, 16, 2), their joints in 0-based px. In the file,
    RELEASE.annolist has an entry for every image, in the dataset's order. Entries of test images have
    annorect(k).annopoints.point(j).x, y, id, with the k of the dataset's own RELEASE and id from 0; people without a
    position in the dataset have no annopoints. `pred` has the test images only. Raises DataError as `mpii.read` does.
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
    """Return records with equal fields as a 1 x N struct array."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


class HeatmapFile:
    """An HDF5 file with one float32 dataset `heatmaps`, written batch by batch.

    The HDF5 library only creates the layout of the file, because it crashes the process when the disk is full. Python writes
    the values at the dataset's offset, and raises OSError on a full disk.
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
        """Write the next heatmaps (N, J, h, w)."""
        self.file.write(np.ascontiguousarray(heatmaps, dtype="<f4").tobytes())

    def __enter__(self) -> "HeatmapFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
