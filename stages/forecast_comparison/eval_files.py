"""Read and write forecasts in image-play's file format: `eval_<split>/00001.mat` and so on, one file for each start frame.

The number of a file is the row, counted from 1, of the start frame in image-play's annotation file. Each file contains `eval`
(16, 13, 2), joints in 1-based px of the cropped frame, and `conf` (16, 13), the heatmaps' maxima.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.formats.hdf5 import h5_field, open_h5
from datasets.formats.matlab import read_mat, write_mat
from datasets.progress import Report, silent
from stages.forecasting.movements import STEPS, Movements, published_starts
from stages.forecasting.scoring import Counts

CHUNK = 512  # number of files that are read at a time


def read_forecasts(folder: Path, movements: Movements) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for n files of a folder at a time, the start frames' indices (n,) and the forecasts (n, 16, J, 2) in 0-based px.

    Raises DataError for a folder without files of image-play, for a file that is damaged or has an array of a wrong shape, and
    for a file whose number is not the number of a frame of the split.
    """
    paths = sorted(path for path in folder.glob("*.mat") if re.fullmatch(r"\d{5,}", path.stem))
    if not paths:
        raise DataError(f"{folder} contains no files 00001.mat and so on; give a folder eval_test or eval_val of image-play.")
    joints = movements.joints.shape[1]
    for begin in range(0, len(paths), CHUNK):
        some = paths[begin : begin + CHUNK]
        numbers = np.array([int(path.stem) - 1 for path in some])
        if not ((numbers >= 0) & (numbers < len(movements.joints))).all():
            raise DataError(
                f"{folder} holds {some[int(numbers.argmax())].name}, but the split has {len(movements.joints)} frames; give "
                "the folder of this split."
            )
        yield numbers, np.stack([_read(path, joints) for path in some]) - 1


def _read(path: Path, joints: int) -> np.ndarray:
    found = read_mat(path, "eval")["eval"]
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.shape != (STEPS, joints, 2):
        shape = found.shape if isinstance(found, np.ndarray) else "something else"
        raise DataError(f"{path}: field 'eval' is {shape}, expected {STEPS} x {joints} x 2 numbers.")
    return found.astype(np.float64)


def count(folder: Path, movements: Movements, report: Report = silent) -> Counts:
    """Return the numbers of correct and of visible joints, counted over all forecasts in a folder of image-play's files."""
    starts, counts, done = published_starts(movements), Counts.empty(movements, STEPS), 0
    for numbers, joints in read_forecasts(folder, movements):
        counts.add(movements, starts.select(numbers), joints)
        done += len(numbers)
        report(done, len(starts), str(folder))
    return counts


def write_forecasts(source: Path, folder: Path, report: Report = silent) -> int:
    """Write the forecasts in a file forecasts_<split>.h5 as image-play's files; return the number of files.

    Raises DataError for a damaged source, and OSError, for example for a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_h5(source) as file:
        joints, confidence = (h5_field(file, source, name) for name in ("joints", "confidence"))
        for number in range(len(joints)):
            content = {"eval": joints[number].astype(np.float64), "conf": confidence[number].astype(np.float64)}
            write_mat(folder / f"{number + 1:05d}.mat", content, "forecast")
            report(number + 1, len(joints), str(folder))
        return len(joints)
