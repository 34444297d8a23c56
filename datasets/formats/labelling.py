"""Read and write labels of labelling programs (DeepLabCut, SLEAP, Label Studio, NWB ...) with the package sleap-io.

sleap-io is an optional requirement; install it by: pip install sleap-io
"""

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

from datasets.errors import DataError
from datasets.files import decode_text, write_atomically
from datasets.skeletons import Skeleton

if TYPE_CHECKING:
    import sleap_io


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with labelled people (or animals)."""

    video: str  # path of the video or of the image file, as written in the labels
    number: int  # number of the frame in the video
    image: Path | None  # path of the image file; None for a frame of a video
    inside: bool  # whether the pixels are inside the file of labels
    people: list[np.ndarray]  # each (J, 2) float64 px, NaN where not labelled
    source: "sleap_io.LabeledFrame"


@dataclass(frozen=True)
class Labels:
    """The labels of one file."""

    joints: list[str]
    limbs: list[tuple[int, int]]
    pairs: list[tuple[int, int]]  # left-right pairs of joints
    frames: list[LabelledFrame]


def is_coco(path: Path) -> bool:
    """Return whether a .json file can be a COCO file, which contains an object; a file of Label Studio contains a list."""
    return path.suffix.lower() == ".json" and path.is_file() and decode_text(path.read_bytes()).lstrip()[:1] != "["


def read(path: Path) -> Labels:
    """Read the labels made by people from a file or from the folder of a DeepLabCut project; predictions are left out.

    Raises DataError if sleap-io is not installed or cannot read the file, or if the file has several skeletons or no labels.
    """
    sleap_io = _sleap_io(path)
    for table in path.glob("labeled-data/*/CollectedData_*.csv") if path.is_dir() else [path]:
        if table.name.startswith("CollectedData_"):
            _require_images(table)
    try:
        if path.is_dir():
            found = sleap_io.load_dlc_project(str(path / "config.yaml"))
        elif path.suffix.lower() == ".slp":
            found = sleap_io.load_slp(str(path), open_videos=False)
        elif path.suffix.lower() == ".csv":
            found = sleap_io.load_dlc(str(path))
        else:
            found = sleap_io.load_file(str(path))
    except Exception as error:  # sleap-io raises many kinds of exceptions for files it cannot read
        raise DataError(
            f"{path} cannot be read as labels ({_in_words(error)}); give COCO keypoints (.json), a DeepLabCut project or "
            "its CollectedData_*.csv, a SLEAP file (.slp), or export the labels again."
        ) from None
    if not isinstance(found, sleap_io.Labels):
        raise DataError(f"{path} holds no labels; give a file of labels, and its videos by `images`.")
    if len(found.skeletons) != 1:
        raise DataError(f"{path} has {len(found.skeletons)} skeletons, expected one; export the labels of one skeleton.")
    skeleton = found.skeletons[0]
    frames = [frame for frame in map(_frame, found.labeled_frames) if frame.people]
    if not frames:
        raise DataError(f"{path} has no frame that a person labelled; predictions of a network are not taken as labels.")
    return Labels(
        joints=list(skeleton.node_names),
        limbs=[(int(a), int(b)) for a, b in skeleton.edge_inds],
        pairs=[(min(pair), max(pair)) for pair in (tuple(map(int, both)) for both in skeleton.symmetry_inds)],
        frames=frames,
    )


def _require_images(table: Path) -> None:
    """Raise DataError if an image that DeepLabCut's table labels is missing from the table's folder.

    If one is missing, sleap-io would assign the labels of the images after it to wrong images.
    """
    with open(table, newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.reader(file):
            # a row contains the path of its image, labeled-data/VIDEO/img.png, in one cell or in three cells
            name = next(
                (re.split(r"[/\\]", cell)[-1] for cell in row[:3] if cell.lower().endswith((".png", ".jpg", ".jpeg"))), ""
            )
            if name and not (table.parent / name).is_file():
                raise DataError(
                    f"{table} labels {name}, which is not in the same folder; put the image there, or remove its line."
                )


def _sleap_io(path: Path) -> ModuleType:
    """Return the package sleap_io. Raises DataError if sleap-io is not installed; path: the file of labels, for the error
    message."""
    try:
        import sleap_io
    except ImportError:
        raise DataError(f"{path} needs sleap-io, which is not installed; run: pip install sleap-io") from None
    return sleap_io


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _frame(frame: "sleap_io.LabeledFrame") -> LabelledFrame:
    names, number = frame.video.filename, int(frame.frame_idx)
    if isinstance(names, list) and number >= len(names):
        raise DataError(f"the labels contain frame {number} (from 0), but only {len(names)} images; export the labels again.")
    image = Path(names[number]) if isinstance(names, list) else None
    original = frame.video.source_video
    inside = isinstance(names, str) and Path(names).suffix.lower() in (".slp", ".h5", ".hdf5")
    video = str(image if image else original.filename if original else names)
    people = [np.asarray(person.numpy(), dtype=np.float64) for person in frame.user_instances]
    return LabelledFrame(video, number, image, inside, [p for p in people if not np.isnan(p).all()], frame)


def as_coco(labels: Labels, images: list[str]) -> dict[str, Any]:
    """Return labels as the content of a COCO keypoints file. images: path of the image of each frame in `labels.frames`."""
    people: list[dict[str, Any]] = []
    for number, frame in enumerate(labels.frames, 1):
        for points in frame.people:
            labelled = ~np.isnan(points).any(axis=1, keepdims=True)
            values = np.concatenate((np.where(labelled, points, 0), 2.0 * labelled), axis=1)
            people.append({"id": len(people) + 1, "image_id": number, "category_id": 1, "keypoints": values.ravel().tolist()})
    category = {
        "id": 1, "name": "labelled", "keypoints": labels.joints,
        "skeleton": [[a + 1, b + 1] for a, b in labels.limbs], "flip_pairs": [[a + 1, b + 1] for a, b in labels.pairs],
    }  # fmt: skip
    names = [{"id": number, "file_name": image} for number, image in enumerate(images, 1)]
    return {"images": names, "annotations": people, "categories": [category]}


def pixels_of(frame: LabelledFrame, file: Path | None) -> np.ndarray:
    """Return the pixels of a frame of a video, (H, W, 3) uint8 RGB. Raises DataError if the frame cannot be read.

    file: the video, None if the images are inside the file of labels.
    """
    video = frame.source.video
    try:
        if file and video.filename != str(file):
            video.replace_filename(str(file), open=True)
        video.open_backend = True
        pixels = np.asarray(video[frame.number])
    except Exception as error:  # sleap-io raises many kinds of exceptions for videos it cannot read
        raise DataError(
            f"frame {frame.number} of {file or frame.video} cannot be read ({_in_words(error)}); copy the video again, or "
            "remove the labels of this frame."
        ) from None
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]


def plain_name(name: str) -> str:
    """Return a name with every character except A-Z, a-z, 0-9, - and _ replaced by _; `video` for an empty name.

    The replacement is needed because lists of images can only contain ASCII names.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "video"


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB as PNG, for a path with any suffix. Raises OSError, e.g. for a full disk."""
    path.write_bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes())


def write_slp(
    path: Path, pictures: Path | list[Path], frames: list[int], people: list[np.ndarray], skeleton: Skeleton,
    confidence: list[np.ndarray] | None = None, numbers: list[int] | None = None,
) -> None:  # fmt: skip
    """Write people as a SLEAP project (.slp).

    pictures: the video, or the list of image files. The other lists have one entry per person. frames: number of the frame in
    the video, or index of the image in `pictures`; people: joints (J, 2) in 0-based px, NaN if unknown; confidence: (J,), or
    None instead of the list if the people are labels; numbers: number of the person's track in the video, or None instead of
    the list if there are no tracks. Raises DataError if sleap-io is not installed, and OSError, e.g. for a full disk.
    """
    sleap_io = _sleap_io(path)
    names = list(skeleton.joints)
    pairs = [(names[a], names[b]) for a, b in enumerate(skeleton.mirrored()) if a < b]
    body = sleap_io.Skeleton(names, edges=[(names[a], names[b]) for a, b in skeleton.limbs], symmetries=pairs, name="skeleton")
    places = [str(picture.absolute()) for picture in pictures] if isinstance(pictures, list) else str(pictures.absolute())
    video = sleap_io.Video(filename=places)
    tracks = {number: sleap_io.Track(f"person {number}") for number in sorted(set(numbers or ()))}
    found: dict[int, list] = {}
    for row, frame in enumerate(frames):
        known = {"skeleton": body, "track": tracks[numbers[row]] if numbers else None}
        if confidence is None:
            person = sleap_io.Instance.from_numpy(people[row], **known)
        else:
            scores, seen = confidence[row], ~np.isnan(people[row]).any(axis=1)
            score = float(scores[seen].mean()) if seen.any() else 0.0
            person = sleap_io.PredictedInstance.from_numpy(people[row], point_scores=scores, score=score, **known)
        found.setdefault(frame, []).append(person)
    labels = sleap_io.Labels([sleap_io.LabeledFrame(video=video, frame_idx=n, instances=those) for n, those in found.items()])
    partial = path.with_name(f".{path.stem}.writing{path.suffix}")
    try:
        sleap_io.save_slp(labels, str(partial), verbose=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_deeplabcut(
    path: Path, scorer: str, frames: list[Any], preds: np.ndarray, confidence: np.ndarray, joints: tuple[str, ...],
    numbers: list[int],
) -> None:  # fmt: skip
    """Write predictions as a table of DeepLabCut: x, y and likelihood of each joint, with one row per frame or image.

    frames: each person's frame or image; scorer: name in the first level of the header; preds: (N, J, 2) in 0-based px;
    confidence: (N, J); numbers: each person's number in the frame or video. If people have different numbers, the table has
    DeepLabCut's header level `individuals`. Raises OSError, e.g. for a full disk.
    """
    values = np.concatenate((preds, confidence[:, :, None]), axis=2).reshape(len(frames), 3 * len(joints))
    rows = {frame: row for row, frame in enumerate(dict.fromkeys(frames))}
    people = {number: place for place, number in enumerate(sorted(set(numbers)) or [0])}
    table = np.full((len(rows), len(people), values.shape[1]), np.nan)
    for frame, number, row in zip(frames, numbers, values, strict=True):
        table[rows[frame], people[number]] = row
    columns = pd.MultiIndex.from_product(
        [[scorer], [f"individual{number + 1}" for number in people], joints, ["x", "y", "likelihood"]],
        names=["scorer", "individuals", "bodyparts", "coords"],
    )
    found = pd.DataFrame(table.reshape(len(rows), len(columns)), index=list(rows), columns=columns)
    write_atomically(path, (found if len(people) > 1 else found.droplevel("individuals", axis=1)).to_csv().encode())


def numbers_within(images: list[str]) -> list[int]:
    """Return each person's number within the image, from 0. images: the image of each person."""
    seen, within = Counter[str](), []
    for image in images:
        within.append(seen[image])
        seen[image] += 1
    return within
