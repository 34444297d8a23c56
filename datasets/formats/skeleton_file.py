"""Read and write skeleton.json, a file next to the annotation files, for a dataset whose labels define the joints."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.skeletons import Skeleton

NAME = "skeleton.json"


class SkeletonFile(BaseModel):
    """The content of skeleton.json."""

    model_config = ConfigDict(extra="forbid")

    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]  # pairs of joints, counted from 0


def write_skeleton(folder: Path, skeleton: Skeleton) -> None:
    """Write skeleton.json into a folder. Raises OSError, e.g. for a full disk."""
    content = SkeletonFile(joints=skeleton.joints, limbs=skeleton.limbs)
    write_atomically(folder / NAME, content.model_dump_json(indent=1).encode())


def read_skeleton(folder: Path) -> Skeleton:
    """Read skeleton.json in a folder; all joints are scoring joints. Raises DataError if the file is missing or invalid."""
    path = folder / NAME
    try:
        found = SkeletonFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); make the annotation files again.") from None
    except ValidationError as error:
        raise DataError(f"{path} holds no skeleton ({str(error).splitlines()[0]}); make the annotation files again.") from None
    return Skeleton(found.joints, tuple(range(len(found.joints))), found.limbs)
