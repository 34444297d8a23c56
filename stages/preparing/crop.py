"""Cut every Penn Action sequence to the window of its person, frames and label alike."""

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

# JPEG quality, and bytes a pixel of photographs of sport that are cut to the person and encoded with it.
QUALITIES, BYTES_A_PIXEL = (0, 50, 80, 95, 100), (0.0, 0.10, 0.15, 0.30, 0.56)
HALF_A_BLOCK = 2048  # bytes of the disk that a file leaves empty on average
LABELS_READ = 100  # for the estimate of what all sequences need


def crop_penn(source: Path, out: Path, quality: int, workers: int = 0, report: Report = silent) -> dict[str, int]:
    """Crop the sequences of `source` (`frames/NNNN/FFFFFF.jpg`, `labels/NNNN.mat`) into `out`, in the same layout.

    `quality` is that of the JPEG files written, 1 to 100; `workers` the number of processes, 0 for one a core. A
    sequence is finished when its label stands in `out`: it is written last and at once, and finished sequences are
    skipped, so that a call after an interruption goes on. Returns the counts of sequences, of their frames, and of frame
    files beyond a label's last frame, which are left out. Raises DataError, naming sequence and frame, for a damaged or
    missing frame or label, and where the disk is too small; OSError and KeyboardInterrupt pass once all processes have
    ended.
    """
    labels = penn_labels.label_paths(source)
    # The longest sequences first, which have the largest labels, so that no process is left alone with one at the end.
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
    """Crop one sequence, label last."""
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
                f"image {frames / name} is {image.shape[1]} x {image.shape[0]} px, but its label tells "
                f"{label.width} x {label.height}; unpack the archive again."
            )
        cut = cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2BGR)  # the order that OpenCV encodes
        written, jpeg = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not written:
            raise DataError(f"sequence {sequence}, frame {name}: its {window} cannot be encoded as JPEG.")
        (cropped / name).write_bytes(jpeg.tobytes())
    penn_labels.write_label(out / "labels" / f"{sequence}.mat", penn_action.crop_label(label, window))


def _space(source: Path, sequences: list[str], quality: int) -> int:
    """Bytes that the cropped frames will take, about; from the windows of sequences of all lengths, given by length."""
    chosen = sequences[:: len(sequences) // LABELS_READ + 1]
    labels = [penn_labels.read_label(source / "labels" / f"{sequence}.mat") for sequence in chosen]
    windows = [(label.frames, penn_action.crop_window(label)) for label in labels]
    per_pixel = float(np.interp(quality, QUALITIES, BYTES_A_PIXEL))
    needed = sum(frames * (per_pixel * window.width * window.height + HALF_A_BLOCK) for frames, window in windows)
    return round(needed * len(sequences) / max(len(chosen), 1))


def _check_folders(source: Path, sequences: list[str]) -> None:
    """DataError unless every label has a folder of frames and every folder of frames a label."""
    folders = {path.name for path in (source / "frames").glob("*") if path.name.isdigit()}
    for missing, what in ((set(sequences) - folders, "frames"), (folders - set(sequences), "label")):
        if missing:
            raise DataError(
                f"{source}: {len(missing)} sequences have no {what}, such as {min(missing)}; expected frames/NNNN and"
                " labels/NNNN.mat for each; unpack the archive again."
            )
