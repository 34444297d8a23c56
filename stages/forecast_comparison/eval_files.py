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

    Raises DataError for a folder that does not have exactly one file for each frame of the split, and for a file that is
    damaged or has an array of a wrong shape.
    """
    paths = sorted(path for path in folder.glob("*.mat") if re.fullmatch(r"\d{5}|[1-9]\d{5,}", path.stem))
    if not paths:
        raise DataError(f"{folder} contains no files 00001.mat and so on; give a folder eval_test or eval_val of image-play.")
    joints, frames = movements.joints.shape[1], len(movements.joints)
    numbers = {int(path.stem) for path in paths}
    if wrong := sorted(numbers ^ set(range(1, frames + 1))):
        has = "holds" if wrong[0] in numbers else "lacks"
        raise DataError(
            f"{folder} {has} {wrong[0]:05d}.mat, but the split has the frames 1 to {frames}: it should have one file for each "
            "frame; give the folder of this split, or write it again."
        )
    for begin in range(0, len(paths), CHUNK):
        some = paths[begin : begin + CHUNK]
        yield np.array([int(path.stem) - 1 for path in some]), np.stack([_read(path, joints) for path in some]) - 1


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

    Raises DataError for a damaged source and for a folder that is not empty, and OSError, for example for a full disk.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"--write {folder}: there is such a file, or the folder is not empty; give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    number, count = 0, 1
    while number < count:
        with open_h5(source) as file:  # a part at a time; written outside, because errors inside are those of the HDF5 file
            fields = [h5_field(file, source, name) for name in ("joints", "confidence")]
            count = len(fields[0])
            joints, confidence = (field[number : number + CHUNK].astype(np.float64) for field in fields)
        for one, other in zip(joints, confidence, strict=True):
            number += 1
            write_mat(folder / f"{number:05d}.mat", {"eval": one, "conf": other}, "forecast")
            report(number, count, str(folder))
    return count
