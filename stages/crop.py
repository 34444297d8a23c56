"""Cut every Penn Action sequence to the window of its person, frames and label alike."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from datasets import penn_action
from datasets.errors import DataError

END_OF_IMAGE = b"\xff\xd9"


def _silent(*_: object) -> None:
    pass


def crop_penn(
    source: Path, out: Path, quality: int, workers: int = 0, report: Callable[..., object] = _silent
) -> dict[str, int]:
    """Crop the sequences of `source` (`frames/NNNN/FFFFFF.jpg`, `labels/NNNN.mat`) into `out`, in the same layout.

    `quality` is that of the JPEG files written, 1 to 100; `workers` the number of processes, 0 for one a core. A
    sequence is finished when its label stands in `out`: it is written last and at once, and finished sequences are
    skipped, so that a call after an interruption goes on. Returns the counts of finished sequences and, for those that
    this call cropped, of frames and of frame files beyond the label's last frame, which are left out. Raises DataError,
    naming sequence and frame, for a damaged or missing frame or label; OSError (disk full) and KeyboardInterrupt pass
    once all processes have ended.
    """
    if not 1 <= quality <= 100:
        raise DataError(f"the JPEG quality is {quality}, expected 1 to 100.")
    if workers < 0:
        raise DataError(f"the number of workers is {workers}, expected 0 (one a core) or more.")
    sequences = [path.stem for path in penn_action.label_paths(source)]
    _check_folders(source, sequences)
    for folder in ("frames", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    todo = [sequence for sequence in sequences if not (out / "labels" / f"{sequence}.mat").is_file()]
    done = len(sequences) - len(todo)
    report(done, len(sequences))
    totals = {"sequences": done, "frames": 0, "frames_without_label": 0}
    if todo:
        with _pool(min(workers or os.cpu_count() or 1, len(todo))) as pool:
            # Processes inherit that Ctrl-C is blocked, and so leave it to this one from their first moment on.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                jobs = [pool.submit(crop_sequence, source, out, sequence, quality) for sequence in todo]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for job in as_completed(jobs):
                frames, extra = job.result()
                totals["sequences"] += 1
                totals["frames"] += frames
                totals["frames_without_label"] += extra
                report(totals["sequences"], len(sequences))
    return totals


def crop_sequence(source: Path, out: Path, sequence: str, quality: int) -> tuple[int, int]:
    """Crop one sequence, label last. Returns the numbers of frames cropped, and of frame files that have no label."""
    label = penn_action.read_label(source / "labels" / f"{sequence}.mat")
    window = penn_action.crop_window(label)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    folder = out / "frames" / sequence
    folder.mkdir(exist_ok=True)
    with _decoder_log() as decode:
        for frame in range(label.frames):
            name = penn_action.frame_name(frame)
            image = _read_frame(source / "frames" / sequence / name, label, decode)
            written, jpeg = cv2.imencode(".jpg", image[rows, columns], [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not written:
                raise DataError(f"sequence {sequence}, frame {name}: its {window} cannot be encoded as JPEG.")
            (folder / name).write_bytes(jpeg.tobytes())
    extra = sum(1 for _ in (source / "frames" / sequence).glob("*.jpg")) - label.frames
    penn_action.write_label(out / "labels" / f"{sequence}.mat", penn_action.crop_label(label, window))
    return label.frames, extra


Decoder = Callable[[bytes], tuple[np.ndarray | None, str]]


def _read_frame(path: Path, label: penn_action.Label, decode: Decoder) -> np.ndarray:
    """The frame at `path`, (height, width, 3) uint8 BGR; DataError for one that is damaged or not of the label's size.

    A cut or corrupt JPEG may decode to a picture with only a warning, so the end marker is looked for (near the end:
    some cameras add a few bytes) and every warning of the decoder counts as damage.
    """
    where, advice = f"sequence {label.sequence}, frame {path.name}", f"unpack the archive again into {path.parents[2]}."
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{where} is missing, but its label tells {label.frames} frames; {advice}") from None
    if END_OF_IMAGE not in data[-1024:]:
        raise DataError(f"{where} is a JPEG of {len(data)} bytes without an end: it is cut short; {advice}")
    image, warning = decode(data)
    if image is None or warning:
        raise DataError(f"{where} is not a whole JPEG ({warning or 'it cannot be decoded'}); {advice}")
    if image.shape[:2] != (label.height, label.width):
        raise DataError(
            f"{where} is {image.shape[1]} x {image.shape[0]} px, but its label tells {label.width} x {label.height}; {advice}"
        )
    return image


@contextmanager
def _decoder_log() -> Iterator[Decoder]:
    """A JPEG decoder that returns the image (None if impossible) and what the JPEG library says on standard error.

    The library has no other way to tell of corrupt data that it guessed its way through. Standard error is turned aside
    for the moment of decoding only, in the whole process.
    """
    with tempfile.TemporaryFile() as log:
        aside = os.dup(2)

        def decode(data: bytes) -> tuple[np.ndarray | None, str]:
            os.dup2(log.fileno(), 2)
            try:
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            except cv2.error:
                image = None
            finally:
                os.dup2(aside, 2)
            if not os.fstat(log.fileno()).st_size:
                return image, ""
            log.seek(0)
            said = log.read().decode("utf-8", "replace").strip()
            log.truncate(0)
            log.seek(0)
            return image, said.splitlines()[0] if said else ""

        try:
            yield decode
        finally:
            os.close(aside)


def _check_folders(source: Path, sequences: list[str]) -> None:
    """DataError unless every label has a folder of frames and every folder of frames a label."""
    folders = {path.name for path in (source / "frames").glob("*") if path.name.isdigit()}
    for missing, what in ((set(sequences) - folders, "frames"), (folders - set(sequences), "label")):
        if missing:
            raise DataError(
                f"{source}: {len(missing)} sequences have no {what}, such as {min(missing)}; expected frames/NNNN and"
                " labels/NNNN.mat for each; unpack the archive again."
            )


def _pool_worker() -> None:
    """End with the parent process even if that is killed; decode on one core and without OpenCV's own messages."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes (forks of a process that has used OpenCV or torch can hang), ended when the block ends.

    When the block fails, jobs that have not begun are dropped; those at work finish their sequence first.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_pool_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
