"""Define the section [mocap] of luigi.cfg. The readers are in other modules, because their import takes half a second."""

from pydantic import field_validator

from datasets.section import Section, insignificant, setting


class Mocap(Section):
    """The settings of motion capture: its source, and the clips that are held out for validation."""

    intro = "Motion capture: movements in space, which the converter from 2D poses to 3D poses learns from."

    source: str = insignificant(
        "sample",
        "Path of a .npz file of movements, of a .bvh or .amc file, of a folder of such files, or of a folder with train.mat "
        "and val.mat of Human3.6M as skeleton2d3d makes them. Or `sample`: the movements of the drawn people.",
        min_length=1,
    )
    valid_clips: str = setting(
        "valid/",
        "Beginnings of names of clips, separated by spaces; these clips are for validation. For example, cmu/02 cmu/03 selects "
        "two people. The names in the sample and in Human3.6M begin with train/ or valid/.",
        min_length=1,
    )

    @field_validator("source")
    @classmethod
    def _path(cls, source: str) -> str:
        if "://" in source:
            raise ValueError("it should be a path, because motion capture is not downloaded")
        return source

    @field_validator("valid_clips")
    @classmethod
    def _some(cls, names: str) -> str:
        if not names.replace(",", " ").split():
            raise ValueError("it should contain at least one beginning of a clip's name")
        return names

    @property
    def valid_beginnings(self) -> tuple[str, ...]:
        """Return the beginnings of clip names that `valid_clips` lists."""
        return tuple(self.valid_clips.replace(",", " ").split())
