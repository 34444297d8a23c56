"""Write predicted poses to poses.json and poses.csv, person by person."""

import csv
import json
from pathlib import Path

import numpy as np

from datasets.files import csv_text
from stages.inference.pictures import Picture


class Table:
    """A writer of poses.json, a list of people, and poses.csv, one row per person. Use as a context manager.

    Both files are valid even if an exception or Ctrl-C ends the block. The files are line-buffered: if the process is killed,
    poses.csv contains all people added so far, and only the closing bracket of poses.json is missing.
    """

    def __init__(self, folder: Path, joints: tuple[str, ...]) -> None:
        self.joints = joints
        self.json = open(folder / "poses.json", "w", 1, encoding="utf-8")  # noqa: SIM115
        # A file name may contain any bytes; surrogateescape writes them unchanged.
        self.csv = open(folder / "poses.csv", "w", 1, "utf-8", "surrogateescape", newline="")  # noqa: SIM115
        self.rows = csv.writer(self.csv)
        self.rows.writerow(
            ["image", "frame", "time", "person", *(f"{joint}_{part}" for joint in joints for part in ("x", "y", "confidence"))]
        )
        self.json.write("[")
        self.between = "\n"

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self.json.write("\n]\n")
        self.json.close()
        self.csv.close()

    def add(self, picture: Picture, person: int, joints: np.ndarray, confidence: np.ndarray) -> None:
        """Write the joints (J, 2) in px and confidences (J,) of a person; person: the person's number in the image or video."""
        height, width = picture.pixels.shape[:2]
        values = np.column_stack((joints, confidence)).round(3).tolist()
        time = None if picture.time is None else round(picture.time, 6)
        about = {
            "image": picture.name,
            "frame": picture.frame,
            "time": time,
            "width": width,
            "height": height,
            "person": person,
        }
        self.json.write(self.between + json.dumps(about | {"joints": dict(zip(self.joints, values, strict=True))}))
        self.between = ",\n"
        self.rows.writerow(
            [csv_text(picture.name), picture.frame, time, person, *(number for joint in values for number in joint)]
        )
