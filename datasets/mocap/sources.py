"""Read motion capture with the reader that fits the kind of the file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import DataError
from datasets.mocap import clips, human36m, recordings
from datasets.mocap.clips import Clips


@dataclass(frozen=True)
class Kind:
    """A kind of motion capture files, with the functions that find and read these files."""

    # Function that returns the files that `read` reads at a path; an empty list if the path is not of this kind.
    files: Callable[[Path], list[Path]]
    read: Callable[[Path], Clips]  # function that checks and returns all clips at a path; raises DataError


def _npz_files(path: Path) -> list[Path]:
    return [path] if path.suffix == ".npz" else []


# Description of a kind of files, as messages show it -> the kind.
KINDS: dict[str, Kind] = {
    "a .npz file": Kind(_npz_files, clips.read),
    "a folder with train.mat and val.mat of Human3.6M": Kind(human36m.files, human36m.read),
    "a .bvh or .amc file, or a folder of such files": Kind(recordings.files, recordings.read),
}


def files_of(path: Path) -> list[Path]:
    """Return the files that `read_clips` reads at a path; empty for a path of an unknown kind."""
    return next((found for kind in KINDS.values() if (found := kind.files(path))), [])


def read_clips(path: Path) -> Clips:
    """Return all clips in a file or folder. Raises DataError for a path of an unknown kind, and for damaged files."""
    for kind in KINDS.values():
        if kind.files(path):
            return kind.read(path)
    what = "is none of these" if path.exists() else "does not exist; give one of these"
    raise DataError(f"{path} {what}: {', '.join(KINDS)}. Correct [mocap] source.")
