"""Measure the time and peak memory of reading, splitting and writing the annotations of MPII and Penn Action."""

import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.bench_parts import in_process, show


def measure() -> None:
    """Measure the conversion of Penn Action and MPII at a quarter of their size and at full size.

    Each of these four conversions runs in a new process.
    """
    with tempfile.TemporaryDirectory() as name:
        for what, make, work, whole in (
            ("labels of Penn Action", _make_labels, _convert_labels, 2326),
            ("images of MPII", _make_release, _convert_release, 25_000),
        ):
            for count in (whole // 4, whole):
                raw, out = Path(name, f"{work.__name__}{count}"), Path(name, f"annot{count}")
                in_process(make, raw, count)
                rows, time_taken, before, peak = in_process(_measured, work, raw, out)
                note = f"peak memory {peak / 1e6:.0f} MB, {before / 1e6:.0f} MB before; {rows} rows"
                show(f"{count} {what} to annotation files", time_taken, "s", note)


def _measured(work: Callable[[Path, Path], int], raw: Path, out: Path) -> tuple[int, float, int, int]:
    """Return the result of work(raw, out), its time in s, and the process's peak memory in bytes before and after the call."""
    Path("/proc/self/clear_refs").write_text("5")  # reset the recorded peak memory, which this process inherits from its parent
    before, start = _peak(), time.perf_counter()
    rows = work(raw, out)
    return rows, time.perf_counter() - start, before, _peak()


def _peak() -> int:
    """Return the peak memory of this process in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def _make_labels(root: Path, count: int) -> None:
    """Write labels of `count` sequences of 18 to 123 frames (70 on average); about half of the sequences are for training.

    Each sequence shows one of 15 actions.
    """
    from datasets.formats import penn_labels

    (root / "labels").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, frames in enumerate(rng.integers(18, 124, count).tolist()):
        corner = rng.uniform(1, 100, (frames, 2))
        label = penn_labels.Label(
            f"{number + 1:04d}", f"action {15 * number // count}", "front", number % 100 < 54,
            rng.uniform(60, 200, (frames, 13, 2)), rng.random((frames, 13)) < 0.8,
            np.concatenate([corner, corner + rng.uniform(100, 160, (frames, 2))], axis=1), 480, 270,
        )  # fmt: skip
        penn_labels.write_label(root / "labels" / f"{label.sequence}.mat", label)


def _convert_labels(root: Path, out: Path) -> int:
    """Read all labels, crop them to their crop windows, split them and write annotation files; return the number of rows."""
    from datasets import penn_action
    from datasets.formats import penn_labels
    from datasets.penn_action import PENN_ACTION, conversion
    from stages.preparing.annotate import write_conversion

    def read(path: Path) -> penn_labels.Label:
        label = penn_labels.read_label(path)
        return penn_action.crop_label(label, penn_action.crop_window(label))

    heads = [penn_labels.head(read(path)) for path in penn_labels.label_paths(root)]
    found = conversion(heads, lambda head: read(root / "labels" / f"{head.sequence}.mat"))
    summary = write_conversion(PENN_ACTION, found, out)
    return sum(split["rows"] for split in summary.values())


def _make_release(root: Path, count: int) -> None:
    """Write a synthetic MPII annotation file (the struct RELEASE) with `count` images; `count` is a multiple of 50.

    The file repeats a block of 50 images with 58 people; seven of eight images are for training. SciPy's writer is not
    used, because it needs gigabytes of memory for so many records.
    """
    from datasets.formats import mpii_release

    rng = np.random.default_rng(0)

    def person() -> dict[str, bytes]:
        points = [{"x": _number(x), "y": _number(y), "id": _number(joint), "is_visible": _number(1)}
                  for joint, (x, y) in enumerate(rng.uniform(100, 700, (16, 2)))]  # fmt: skip
        corners = {name: _number(rng.uniform(100, 700)) for name in ("x1", "y1", "x2", "y2")}
        position = _records([{"x": _number(400), "y": _number(400)}])
        return corners | {"annopoints": _records([{"point": _records(points)}]), "scale": _number(3), "objpos": position}

    images = [
        {"image": _records([{"name": _variable(4, (1, 13), _element(16, b"015601864.jpg"))}]),
         "annorect": _records([person() for _ in range(1 + (number % 6 == 0) - (number == 0))])}
        for number in range(50)
    ]  # fmt: skip
    training = _element(2, bytes(number % 8 != 5 for number in range(count)))
    release = {"annolist": _records(images, times=count // 50), "img_train": _variable(9, (1, count), training)}
    root.mkdir()
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    (root / mpii_release.MAT_NAME).write_bytes(header + _records([release], name=b"RELEASE"))


def _element(kind: int, content: bytes) -> bytes:
    """Return the bytes of an element of a MATLAB 5 file (see `datasets.formats.matlab`); kind: number of the element's type."""
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def _variable(kind: int, shape: tuple[int, int], *content: bytes, name: bytes = b"") -> bytes:
    head = _element(6, struct.pack("<2I", kind, 0)) + _element(5, struct.pack("<2I", *shape)) + _element(1, name)
    return _element(14, head + b"".join(content))


def _number(value: float) -> bytes:
    return _variable(6, (1, 1), _element(9, struct.pack("<d", value)))


def _records(rows: list[dict[str, bytes]], times: int = 1, name: bytes = b"") -> bytes:
    """Return the bytes of a MATLAB struct array that contains the rows `times` times; name: the variable's name."""
    names = b"".join(field.encode().ljust(16, b"\0") for field in rows[0])
    values = b"".join(value for row in rows for value in row.values())
    head = _element(5, struct.pack("<I", 16)) + _element(1, names)
    return _variable(2, (1, len(rows) * times), head, values * times, name=name)


def _convert_release(root: Path, out: Path) -> int:
    """Read all people, split them and write annotation files; return the number of rows."""
    from datasets.formats import annotations, mpii_release
    from datasets.formats.mpii_split import split

    out.mkdir()
    splits = split(mpii_release.read(root / mpii_release.MAT_NAME), None, 0.12, 0)
    for name, people in splits.items():
        annotations.write(out, name, people)
    return sum(map(len, splits.values()))
