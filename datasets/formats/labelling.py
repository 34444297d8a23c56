"""Labels of labelling programs (DeepLabCut, SLEAP, Label Studio, NWB ...), read and written by sleap-io.

sleap-io is an optional requirement: pip install sleap-io.
"""

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

    video: str  # path of the video, as the labels name it, or of the folder of images
    number: int  # of the frame in the video
    image: Path | None  # of a frame that is an image file
    people: list[np.ndarray]  # each (J, 2) float64 px, NaN where not labelled
    source: "sleap_io.LabeledFrame"


@dataclass(frozen=True)
class Labels:
    """The labels of one file."""

    joints: list[str]
    limbs: list[tuple[int, int]]
    pairs: list[tuple[int, int]]  # left and right
    frames: list[LabelledFrame]


def is_coco(path: Path) -> bool:
    """Return whether a file is .json and holds one object, as COCO does; Label Studio's files hold a list."""
    return path.suffix.lower() == ".json" and path.is_file() and decode_text(path.read_bytes()).lstrip()[:1] != "["


def read(path: Path) -> Labels:
    """Read labels that people made from a file, or from the folder of a DeepLabCut project; predictions are left out.

    Raises DataError for a file that sleap-io cannot read, without sleap-io, and for several skeletons.
    """
    sleap_io = _sleap_io(path)
    try:
        if path.is_dir():
            found = sleap_io.load_dlc_project(str(path / "config.yaml"))
        elif path.suffix.lower() == ".slp":
            found = sleap_io.load_slp(str(path), open_videos=False)
        elif path.suffix.lower() == ".csv":
            found = sleap_io.load_dlc(str(path))
        else:
            found = sleap_io.load_file(str(path))
    except Exception as error:  # of any kind: the file is somebody else's, and so is the reader
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


def _sleap_io(path: Path) -> ModuleType:
    """Return the package. Raises DataError, naming the file that needs it, where it is not installed."""
    try:
        import sleap_io
    except ImportError:
        raise DataError(f"{path} needs sleap-io, which is not installed; run: pip install sleap-io") from None
    return sleap_io


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _frame(frame: "sleap_io.LabeledFrame") -> LabelledFrame:
    names, number = frame.video.filename, int(frame.frame_idx)
    image = Path(names[number]) if isinstance(names, list) else None
    original = frame.video.source_video
    video = str(image.parent) if image else str(original.filename if original and not image else names)
    people = [np.asarray(person.numpy(), dtype=np.float64) for person in frame.user_instances]
    return LabelledFrame(video, number, image, [p for p in people if not np.isnan(p).all()], frame)


def as_coco(labels: Labels, images: list[str]) -> dict[str, Any]:
    """Return labels as the content of a file of COCO keypoints; images: the path of each frame's image."""
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


def pixels_of(frame: LabelledFrame, folder: Path | None) -> np.ndarray:
    """Return the pixels of a frame, (H, W, 3) uint8 RGB; folder: where videos are. Raises DataError if it cannot be read."""
    video = frame.source.video
    try:
        if frame.image is None and not _is_inside_the_labels(video):
            if folder is None:
                raise DataError(f"the labels name the video {frame.video}; give its folder by `images`.")
            place = folder / re.split(r"[/\\]", frame.video)[-1]
            if not place.is_file():
                raise DataError(
                    f"the video {frame.video}, which the labels name, is not in {folder}; set `images` to its folder."
                )
            if video.filename != str(place):
                video.replace_filename(str(place), open=True)
        video.open_backend = True
        pixels = np.asarray(video[frame.number])
    except DataError:
        raise
    except Exception as error:  # of any kind: the file is somebody else's, and so is the reader
        raise DataError(
            f"frame {frame.number} of {frame.video} cannot be read ({_in_words(error)}); "
            "copy the video again, or remove the labels of this frame."
        ) from None
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]


def _is_inside_the_labels(video: "sleap_io.Video") -> bool:
    return isinstance(video.filename, str) and Path(video.filename).suffix.lower() in (".slp", ".h5", ".hdf5")


def plain_name(name: str) -> str:
    """Return a name of letters, digits, - and _ alone, as the lists of images need it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "video"


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB as PNG, whatever the path's suffix. OSError (a full disk) passes."""
    path.write_bytes(cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes())


def write_slp(
    path: Path, folder: Path, images: list[str], people: list[np.ndarray], skeleton: Skeleton,
    confidence: list[np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Write people as a SLEAP project whose frames are image files.

    images: the image of each person, below `folder`; people: joints (J, 2) in 0-based px, NaN where unknown; confidence: (J,)
    of each person's joints, which makes the people predictions. Raises DataError without sleap-io; OSError passes.
    """
    sleap_io = _sleap_io(path)
    names = list(skeleton.joints)
    pairs = [(names[a], names[b]) for a, b in enumerate(skeleton.mirrored()) if a < b]
    body = sleap_io.Skeleton(names, edges=[(names[a], names[b]) for a, b in skeleton.limbs], symmetries=pairs, name="skeleton")
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    video = sleap_io.Video(filename=[str((folder / image).absolute()) for image in numbers])
    frames: dict[int, list] = {number: [] for number in numbers.values()}
    for row, image in enumerate(images):
        if confidence is None:
            person = sleap_io.Instance.from_numpy(people[row], skeleton=body)
        else:
            scores, known = confidence[row], ~np.isnan(people[row]).any(axis=1)
            person = sleap_io.PredictedInstance.from_numpy(
                people[row], skeleton=body, point_scores=scores, score=float(scores[known].mean()) if known.any() else 0.0
            )
        frames[numbers[image]].append(person)
    found = [sleap_io.LabeledFrame(video=video, frame_idx=number, instances=those) for number, those in frames.items()]
    partial = path.with_name(f".{path.stem}.writing.slp")
    sleap_io.save_slp(sleap_io.Labels(found), str(partial), verbose=False)
    os.replace(partial, path)


def write_deeplabcut(
    path: Path, scorer: str, images: list[str], preds: np.ndarray, confidence: np.ndarray, joints: tuple[str, ...]
) -> None:
    """Write predictions as the table that DeepLabCut writes for images: x, y and likelihood of each joint, one row an image.

    preds: (N, J, 2) in 0-based px; confidence: (N, J). Where an image has several people, the table has DeepLabCut's level
    `individuals`. OSError (a full disk) passes.
    """
    values = np.concatenate((preds, confidence[:, :, None]), axis=2).reshape(len(images), -1)
    seen, within = Counter[str](), []
    for image in images:
        within.append(seen[image])
        seen[image] += 1
    several, names = max(within, default=0) > 0, ["scorer", "individuals", "bodyparts", "coords"]
    people = [f"individual{number + 1}" for number in range(max(within, default=0) + 1)]
    table = np.full((len(seen), len(people), values.shape[1]), np.nan)
    rows = {image: row for row, image in enumerate(seen)}
    for image, number, row in zip(images, within, values, strict=True):
        table[rows[image], number] = row
    columns = pd.MultiIndex.from_product([[scorer], people, joints, ["x", "y", "likelihood"]], names=names)
    frame = pd.DataFrame(table.reshape(len(seen), -1), index=list(seen), columns=columns)
    write_atomically(path, (frame if several else frame.droplevel("individuals", axis=1)).to_csv().encode())
