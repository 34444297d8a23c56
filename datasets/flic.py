"""FLIC (Frames Labeled In Cinema) as published with pose-hg-train: annotation files for 5,003 people in film frames.

`train.h5` and `valid.h5` call left what an observer sees on the right, as FLIC itself does: they take everybody to face the
camera. In `train_personcentric.h5` and `valid_personcentric.h5` left and right of the 247 people who turn their back are
exchanged, and nothing else differs: these are the person's own sides, as in the other datasets. `normalize` is the length
of the torso, from the right shoulder to the left hip (the person's own). Every box has a side of 440 px and reaches over
the frame's height. Two people are in both splits, labelled once each. There is no test split.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from datasets.skeletons import FLIC

Sides = Literal["person", "observer"]
VARIANTS: dict[Sides, str] = {"person": "personcentric", "observer": ""}


def read(folder: Path, sides: Sides) -> dict[str, Annotations]:
    """The people of `train`, `valid` and the empty `test` in the published files of `folder`, with 11 joints.

    sides: whose left and right the joints' names mean. Raises DataError where a file is missing, damaged or another
    dataset's.
    """
    splits = {split: annotations.read(folder, split, VARIANTS[sides]) for split in ("train", "valid")}
    for split, people in splits.items():
        if people.part.shape[1] != len(FLIC.joints):
            raise DataError(
                f"{folder / split}.h5 has {people.part.shape[1]} joints, expected FLIC's {len(FLIC.joints)}; it is another"
                " dataset's annotation file."
            )
    return splits | {"test": splits["valid"].select(np.zeros(len(splits["valid"]), bool))}
