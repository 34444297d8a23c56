"""Which checkpoint a training goes on from: its last one, the one before where that is damaged, or another training's."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from datasets.errors import DataError
from datasets.links import follow
from stages.network.checkpoints import load_tensors

LAST = "last.safetensors"
BEFORE = "before-last.safetensors"  # what `LAST` replaced, while the training goes on


class Checkpoint(NamedTuple):
    """What a training goes on from."""

    path: Path
    branches: bool  # another training's
    tensors: dict[str, Tensor]
    description: dict[str, Any]


def find_checkpoint(folder: Path, branch: str) -> Checkpoint | None:
    """Return the checkpoint that the training in a folder starts from, if any; branch: path of another training's, or "".

    A damaged one, which a power cut may leave, is passed over, which is said. Raises DataError where none can be read: what
    was trained is then never begun again unasked.
    """
    there = [path for path in (folder / LAST, folder / BEFORE) if path.exists()]
    failures = list[Path]()
    for path in there:
        try:
            tensors, description = load_tensors(path)
            iteration = int(description["state"]["iteration"])
        except (DataError, LookupError, TypeError, ValueError):
            failures.append(path)
            continue
        if failures:
            sentence = f"{path.with_name(LAST)} is damaged; going on from the checkpoint before it, of iteration {iteration}."
            print(sentence, file=sys.stderr)
        return Checkpoint(path, False, tensors, description)
    if failures:
        raise DataError(_nothing_left(folder, failures))
    path = follow(Path(branch).expanduser())
    return Checkpoint(path, True, *load_tensors(path)) if branch else None


def _nothing_left(folder: Path, damaged: list[Path]) -> str:
    """What to say where every checkpoint is damaged."""
    whole = [path.name for path in sorted(folder.glob("*.safetensors")) if path not in damaged and _is_whole(path)]
    epochs = [name for name in whole if name.startswith("last-")]
    remains = f"What remains there: {', '.join(whole)}. " if whole else ""
    if epochs:
        how = f"To go on from an epoch, give {folder / epochs[-1]} as branch_from to an experiment of another name"
    else:
        how = "To train from the beginning, move that folder away and run again"
    named = " and ".join(path.name for path in damaged)
    are = "is" if len(damaged) == 1 else "are"
    return f"{named} in {folder} {are} damaged, and no other checkpoint of this training can be gone on from. {remains}{how}."


def _is_whole(path: Path) -> bool:
    try:
        load_tensors(path)
    except DataError:
        return False
    return True
