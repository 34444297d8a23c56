"""Score other programs' prediction files for MPII, on the validation people on whom our own networks are scored.

The results of each prediction file are stored in a folder like that of `evaluate`, so that a comparison can treat the program
like a network.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.dataset import DatasetFiles
from datasets.errors import DataError
from datasets.formats import annotations
from datasets.formats.annotations import Annotations
from stages.evaluation import accuracy
from stages.evaluation.evaluate import write_split
from stages.evaluation.prediction_files import read_predictions

SPLIT = "valid"


def score_stored(folder: Path, files: Mapping[str, Path], order: Path, data: DatasetFiles) -> dict[str, Any]:
    """Score other programs' prediction files; write the results to `folder`/<program>. Returns program -> number of people.

    order: path of the published valid.h5. files: program -> file with predictions for all people of valid.h5, in the order of
    valid.h5. Raises DataError for files that cannot be read, and for validation people of `data` who are not in valid.h5.
    """
    people = data.split(SPLIT)
    every = annotations.read(order.parent, order.stem)
    rows = rows_in(every, people, order, data.annotations / f"{SPLIT}.h5")
    for program, file in files.items():
        preds, _ = read_predictions(file, len(every))
        place = folder / program
        place.mkdir(exist_ok=True)
        confidence = np.ones(people.part.shape[:2])
        accuracy.write(place, data.dataset, {SPLIT: write_split(place, SPLIT, data, preds[rows] - 1, confidence, None)})
    return {program: len(people) for program in files}


def rows_in(every: Annotations, some: Annotations, order: Path, file: Path) -> np.ndarray:
    """Return, for each person in `some`, the person's row in `every`, (N,) int64.

    People are matched by image and by number in the image. order, file: paths of the files from which `every` and `some` were
    read, for error messages. Raises DataError if a person is not in `every`.
    """
    row_of = {person: row for row, person in enumerate(zip(every.images, every.person.tolist(), strict=True))}
    wanted = list(zip(some.images, some.person.tolist(), strict=True))
    if strangers := [person for person in wanted if person not in row_of]:
        image, number = strangers[0]
        raise DataError(
            f"{len(strangers)} people of {file} are not in {order}; the first is person {number} of {image}. Give a conversion "
            "whose validation people are among the published ones ([mpii] split_file)."
        )
    return np.array([row_of[person] for person in wanted], np.int64)
