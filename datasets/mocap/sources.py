"""The section [mocap], and which reader reads which kind of motion capture file."""

from collections.abc import Callable
from pathlib import Path

from datasets.errors import DataError
from datasets.mocap import clips, human36m
from datasets.mocap.clips import Clips
from datasets.section import Section, insignificant, setting


class Mocap(Section):
    """Motion capture: its source, and the people who are held out for validation."""

    intro = "Motion capture: movements in space, which the converter from 2D poses to 3D poses learns from."

    source: str = insignificant(
        "sample",
        "Path of a .npz file of movements, or of a folder with train.mat and val.mat of Human3.6M as skeleton2d3d makes them. "
        "Or `sample`: the movements of the drawn people.",
        min_length=1,
    )
    valid_clips: str = setting(
        "valid/",
        "Beginnings of the names of the clips that validate, such as cmu/02 cmu/03 to hold two people out. The names of the "
        "sample and of Human3.6M begin with train/ or valid/.",
        min_length=1,
    )

    @property
    def valid_beginnings(self) -> tuple[str, ...]:
        """The beginnings of names that `valid_clips` lists."""
        return tuple(self.valid_clips.replace(",", " ").split())


Reader = Callable[[Path], Clips]  # a file or folder -> all of its clips, checked; raises DataError

# What each kind of source is -> whether a path is of this kind, and its reader.
READERS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "a .npz file": (lambda path: path.suffix == ".npz", clips.read),
    "a folder with train.mat and val.mat of Human3.6M": (human36m.is_folder_of, human36m.read),
}


def read_clips(path: Path) -> Clips:
    """Return all clips of a file or folder. Raises DataError for a path of no known kind, and for damaged files."""
    for is_kind, read in READERS.values():
        if is_kind(path):
            return read(path)
    what = "is none of these" if path.exists() else "does not exist"
    raise DataError(f"{path} {what}: {', '.join(READERS)}; correct [mocap] source.")
