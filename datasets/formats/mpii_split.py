"""Split MPII's people into train, valid and test: at random, or by a published file that lists the validation people."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.files import decode_text
from datasets.formats.annotations import Annotations, hold_out
from datasets.formats.hdf5 import h5_field, open_h5, read_numbers
from datasets.formats.mpii_published import open_json
from datasets.formats.mpii_release import Release


def split(release: Release, split_file: Path | None, fraction: float, seed: int) -> dict[str, Annotations]:
    """Return the people of `train`, `valid` and `test`, each in file order.

    `test` has all people on test images. `valid` has the people that `split_file` lists. The split file is one of:
    - `*.h5`: published annotations of the validation people (index and person, counted from 0);
    - `*.json`, `*.json.gz`: mpii_annotations.json, of which the fields isValidation, annolist_index and people_index are used
      (the indices count from 1), or the validation people of HRNet (valid.json) or mmpose (mpii_val.json), who are found
      by image, center and scale;
    - `*.txt`: names of images, one per line; all people on these images are validation people.
    Without a split file, `valid` has all people on a random fraction `fraction` of the training images with usable people,
    drawn by `numpy.random.default_rng(seed)`. (Tompson et al. hold out 2,958 of 25,204 people, a fraction of 0.12.) `train` has
    all people on training images without a validation person. If a published split lists only some of the people on an image,
    the other people on this image are in no split. Raises DataError if the split file is damaged or does not fit this release.
    """
    people, training = release.people, release.training
    if split_file is None:
        valid = np.zeros(len(people), bool)
        valid[training] = hold_out(people.index[training], fraction, seed)
    elif split_file.suffix == ".txt":
        valid = training & np.isin(people.index, _listed_images(release, split_file))
    elif split_file.suffix == ".h5":
        valid = _find_people(release, _people_of_h5(split_file), split_file)
    elif split_file.name.endswith((".json", ".json.gz")):
        valid = _find_people_of_json(release, split_file)
    else:
        raise DataError(f"{split_file} is not a split file: expected .h5, .json, .json.gz or .txt.")
    train = training & ~np.isin(people.index, people.index[valid])
    return {"train": people.select(train), "valid": people.select(valid), "test": people.select(~training)}


def _listed_images(release: Release, path: Path) -> list[int]:
    """Return the indices in annolist of the images named in the text file `path`.

    Raises DataError for a name that is not the name of a training image.
    """
    try:
        names = {line.strip() for line in decode_text(path.read_bytes()).splitlines()} - {""}
    except OSError as error:
        raise DataError(f"{path} cannot be read as a list of image names ({error.strerror}).") from None
    places = {name: i for i, name in enumerate(release.images) if release.training_images[i]}
    unknown = sorted(names - places.keys())
    if unknown or not names:
        example = f", such as {unknown[0]}" if unknown else ""
        raise DataError(
            f"{path} names {len(names)} images, of which {len(unknown)} are no training images of the release{example};"
            " expected names as in the images folder, one a line."
        )
    return [places[name] for name in names]


def _people_of_h5(path: Path) -> list[tuple[int, int, str]]:
    """Return (index, person, image name) of every row of published annotations; index and person count from 0."""
    with open_h5(path) as file:
        names = h5_field(file, path, "imgname")
        if names.dtype.kind != "S" or len(names.shape) != 1 or names.nbytes > path.stat().st_size:
            raise DataError(f"{path}: field 'imgname' does not hold one text per row; it is not a published annotation file.")
        count = names.shape[0]
        index, person = (read_numbers(file, path, name, count).tolist() for name in ("index", "person"))
        return list(zip(index, person, [name.decode("latin-1") for name in names[()]], strict=True))


def _find_people_of_json(release: Release, path: Path) -> np.ndarray:
    """Return (N,) bool: the validation people of a .json or .json.gz file in one of the layouts described in `split`."""
    with open_json(path) as entries:
        if "isValidation" in entries[0]:
            wanted = [
                (int(entry["annolist_index"]) - 1, int(entry["people_index"]) - 1, str(entry["img_paths"]))
                for entry in entries
                if entry["isValidation"]
            ]
            return _find_people(release, wanted, path)
        return _find_places(release, [_place(entry) for entry in entries], path)


def _place(entry: dict[str, Any]) -> tuple[str, np.ndarray]:
    """Return the image name and the place (3,) of a person in HRNet's layout.

    The place is x and y of objpos in px counted from 1 (in some files from 0), and size / 200 px.
    """
    x, y = entry["center"]
    return str(entry["image"]), np.array([float(x), float(y), float(entry["scale"])])


def _find_places(release: Release, wanted: Iterable[tuple[str, np.ndarray]], path: Path) -> np.ndarray:
    """Return a mask (N,) bool of the people at the wanted places; wanted: pairs (image name, place), as `_place` returns them.

    Positions may differ by 1 px, because some files count pixels from 0. Sizes may differ by 1 %. Any two people of MPII differ
    by more. Raises DataError unless exactly one training person matches each place.
    """
    people = release.people
    scale = people.scale / 1.25  # this line and the next two compute the inverse of `person_box`
    places = np.column_stack([people.center + 1, scale])
    places[:, 1] -= 15 * scale
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(release.training).tolist():
        rows.setdefault(people.images[row], []).append(row)
    valid = np.zeros(len(people), bool)
    for image, place in wanted:
        near = [row for row in rows.get(image, []) if (np.abs(places[row] - place) <= (1.01, 1.01, 0.01 * place[2])).all()]
        if len(near) != 1:
            raise DataError(
                f"{path} puts a person at {place[:2].tolist()} of scale {place[2]:g} in image {image} into validation, but"
                f" the release has {len(near)} such training people, expected 1; the split file belongs to another release."
            )
        valid[near] = True
    return valid


def _find_people(release: Release, wanted: Iterable[tuple[int, int, str]], path: Path) -> np.ndarray:
    """Return a mask (N,) bool of the wanted people; each is given as (index, person, image name).

    Raises DataError for a wanted person who is not in the release, or not on a training image of the given name.
    """
    people = release.people
    rows = {
        key: row
        for row, key in enumerate(zip(people.index.tolist(), people.person.tolist(), people.images, strict=True))
        if release.training[row]
    }
    valid = np.zeros(len(people), bool)
    for key in wanted:
        if key not in rows:
            raise DataError(
                f"{path} puts person {key[1]} (from 0) of image {key[2]}, number {key[0]} (from 0), into validation,"
                " but the release has no such training person; the split file belongs to another release."
            )
        valid[rows[key]] = True
    return valid
