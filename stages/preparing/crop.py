"""Crop the frames and the label of every Penn Action sequence to one window around all boxes of its person."""

from pathlib import Path

import cv2
import numpy as np

from datasets import penn_action
from datasets.errors import DataError
from datasets.files import require_space
from datasets.formats import penn_labels
from datasets.imaging.images import read_image
from datasets.progress import Report, silent
from stages.machine.pool import each

# Some JPEG qualities, and the bytes per pixel that cropped sports photographs have at each quality.
QUALITIES, BYTES_A_PIXEL = (0, 50, 80, 95, 100), (0.0, 0.10, 0.15, 0.30, 0.56)
HALF_A_BLOCK = 2048  # average number of unused bytes in the last disk block of a file
LABELS_READ = 100  # largest number of label files that are read to estimate the disk space of all sequences


def crop_penn(source: Path, out: Path, quality: int, workers: int = 0, report: Report = silent) -> dict[str, int]:
    """Crop the sequences of `source` into `out`; both folders have `frames/NNNN/FFFFFF.jpg` and `labels/NNNN.mat`.

    quality: JPEG quality of the new frames, 1 to 100; workers: number of processes, 0 for one per core. A sequence's label is
    written last and atomically, so a sequence with a label in `out` is complete. Complete sequences are skipped, so a call
    after an interruption resumes. Returns the numbers of sequences, of frames, and of frame files without a label, which are
    not cropped. Raises DataError for a damaged or missing frame or label (the message gives the sequence and the frame), and
    for a full disk. OSError and KeyboardInterrupt are raised after all processes have ended.
    """
    labels = penn_labels.label_paths(source)
    # The longest sequences, whose label files are the largest, come first, so that all processes end at about the same time.
    labels.sort(key=lambda path: path.stat().st_size, reverse=True)
    sequences = [path.stem for path in labels]
    _check_folders(source, sequences)
    for folder in ("frames", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    left = [sequence for sequence in sequences if not (out / "labels" / f"{sequence}.mat").is_file()]
    require_space(out, _space(source, left, quality), f"Cropping {len(left)} sequences")
    done = len(sequences) - len(left)
    report(done, len(sequences))
    for _ in each(crop_sequence, [(source, out, sequence, quality) for sequence in left], workers):
        done += 1
        report(done, len(sequences))
    cropped, given = (sum(1 for _ in (root / "frames").glob("[0-9]*/[0-9]*.jpg")) for root in (out, source))
    return {"sequences": done, "frames": cropped, "frames_without_label": given - cropped}


def crop_sequence(source: Path, out: Path, sequence: str, quality: int) -> None:
    """Crop the frames of one sequence, then its label. Raises DataError for a damaged or missing frame or label."""
    label = penn_labels.read_label(source / "labels" / f"{sequence}.mat")
    window = penn_action.crop_window(label)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    frames, cropped = source / "frames" / sequence, out / "frames" / sequence
    cropped.mkdir(exist_ok=True)
    for frame in range(label.frames):
        name = penn_action.frame_name(frame)
        image = read_image(frames / name)
        if image.shape[:2] != (label.height, label.width):
            raise DataError(
                f"image {frames / name} is {image.shape[1]} x {image.shape[0]} px, but its label says "
                f"{label.width} x {label.height}; unpack the archive again."
            )
        cut = cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2BGR)  # OpenCV encodes BGR
        written, jpeg = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not written:
            raise DataError(f"sequence {sequence}, frame {name}: its {window} cannot be encoded as JPEG.")
        (cropped / name).write_bytes(jpeg.tobytes())
    penn_labels.write_label(out / "labels" / f"{sequence}.mat", penn_action.crop_label(label, window))


def _space(source: Path, sequences: list[str], quality: int) -> int:
    """Return an estimate of the total bytes of the cropped frames, from a sample of `sequences`, which are sorted by length."""
    chosen = sequences[:: len(sequences) // LABELS_READ + 1]
    labels = [penn_labels.read_label(source / "labels" / f"{sequence}.mat") for sequence in chosen]
    windows = [(label.frames, penn_action.crop_window(label)) for label in labels]
    per_pixel = float(np.interp(quality, QUALITIES, BYTES_A_PIXEL))
    needed = sum(frames * (per_pixel * window.width * window.height + HALF_A_BLOCK) for frames, window in windows)
    return round(needed * len(sequences) / max(len(chosen), 1))


def _check_folders(source: Path, sequences: list[str]) -> None:
    """Raise DataError unless every label has a folder of frames, and every folder of frames has a label."""
    folders = {path.name for path in (source / "frames").glob("*") if path.name.isdigit()}
    for missing, what in ((set(sequences) - folders, "frames"), (folders - set(sequences), "label")):
        if missing:
            raise DataError(
                f"{source}: {len(missing)} sequences have no {what}, such as {min(missing)}; expected frames/NNNN and"
                " labels/NNNN.mat for each; unpack the archive again."
            )
