"""Write the poses in a video to an NWB file (Neurodata Without Borders), with the extension ndx-pose.

pynwb and ndx-pose are optional requirements; installing sleap-io installs both.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.skeletons import Skeleton

REFERENCE = "(0, 0) is the middle of the video's top left pixel."


def write_nwb(
    path: Path, video: Path, times: np.ndarray, people: np.ndarray, confidence: np.ndarray, numbers: np.ndarray,
    skeleton: Skeleton,
) -> None:  # fmt: skip
    """Write the poses in a video to the NWB file `path`; each person becomes one PoseEstimation of ndx-pose.

    times: (N,), time of each row in s since the video's start; people: joints (N, J, 2) in 0-based px; confidence: (N, J);
    numbers: (N,), number of the person in each row. NWB requires the start time of the session, for which the modification time
    of the video file is used. Raises DataError if pynwb or ndx-pose is not installed, and OSError, for example for a full disk.
    """
    try:
        from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeletons
        from ndx_pose import Skeleton as Nodes
        from pynwb import NWBHDF5IO, NWBFile
    except ImportError:
        raise DataError(f"{path} needs pynwb and ndx-pose, which are not installed; run: pip install sleap-io") from None
    start = datetime.fromtimestamp(video.stat().st_mtime, UTC)
    file = NWBFile(session_description=f"Poses in {video.name}", identifier=video.name, session_start_time=start)
    behavior = file.create_processing_module("behavior", "poses of people or animals")
    nodes = Nodes(name="skeleton", nodes=list(skeleton.joints), edges=np.array(skeleton.limbs, np.uint8).reshape(-1, 2))
    behavior.add(Skeletons(skeletons=[nodes]))
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        series = [
            PoseEstimationSeries(
                name=joint, description=joint, data=people[rows, j], unit="pixels", reference_frame=REFERENCE,
                timestamps=times[rows], confidence=confidence[rows, j],
                confidence_definition="height of the heatmap's peak, about 1 if the network is certain",
            )
            for j, joint in enumerate(skeleton.joints)
        ]  # fmt: skip
        behavior.add(
            PoseEstimation(
                name=f"person{number}",
                pose_estimation_series=series,
                description=f"Person {number}",
                original_videos=[video.name],
                source_software="pose-workspace",
                skeleton=nodes,
            )  # fmt: skip
        )
    partial = path.with_name(f".{path.name}.writing")
    with NWBHDF5IO(str(partial), "w") as io:
        io.write(file)
    os.replace(partial, path)
