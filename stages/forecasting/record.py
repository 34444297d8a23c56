"""Record the heatmaps of a forecasting network on Penn Action, for the training and the evaluation of the converter.

Files in the result folder: train.npz and valid.npz, see `stages.lifting.recordings`.
"""

from pathlib import Path

import numpy as np
import torch

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages.forecasting.checkpoints import load_forecaster
from stages.forecasting.evaluate import BATCH, ForecastFiles, forecast_images, on_cpu
from stages.forecasting.movements import Movements, Starts
from stages.forecasting.samples import PennSequences, starts_of
from stages.inference.predict import compute_type, pick_device, set_tf32
from stages.lifting.recordings import Recordings
from stages.loading.loader import batches, killed_reader_as_data_error
from stages.settings.forecasting import STEPS, ForecastTraining
from stages.settings.sections import Evaluation, Input, Workspace

IMAGES = {"train": 512, "valid": 64}  # largest number of images from which the network forecasts, by split
POSES = 4  # largest number of recorded poses per forecast
_SEED = 0  # seed of the random choice of images and poses


@killed_reader_as_data_error()
def record(folder: Path, model: Path, data: ForecastFiles, training: ForecastTraining, evaluation: Evaluation,
           workspace: Workspace, report: Report = silent) -> dict[str, int]:  # fmt: skip
    """Write train.npz and valid.npz; return the number of recorded poses in each split.

    The network forecasts from images chosen at random; mirrored images are not used. training: the settings with which the
    network was trained; these settings determine which frame belongs to each step. Only poses with a label for every joint
    are recorded. Raises DataError for a file that is not a forecasting network, for an unreadable frame, and for a split
    without a completely labelled pose.
    """
    network, about = load_forecaster(model)
    device = pick_device(workspace.device)
    compute = compute_type(evaluation.precision, device)
    set_tf32(evaluation.precision)
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    found = dict[str, int]()
    for split, most in IMAGES.items():
        movements = data.movements(split)
        starts, chosen = _choose(movements, training, most, split)
        samples = PennSequences(movements, starts, data.frames, Input(resolution=about.resolution), training)
        maps, points = list[np.ndarray](), list[np.ndarray]()
        for batch in batches(samples, BATCH, workspace.workers):  # type: ignore[arg-type]
            with torch.inference_mode(), torch.autocast(device.type, compute, enabled=compute != torch.float32):
                outputs = on_cpu(forecast_images(network, batch["input"].to(device), STEPS, None))
            kept = torch.from_numpy(chosen[batch["start"].numpy()])  # (n, T)
            maps.append(outputs.heatmaps[kept].numpy().astype(np.float16))
            points.append(batch["points"][kept].numpy())
            report(int(batch["start"][-1]) + 1, len(samples), split)
        recordings = Recordings(np.concatenate(maps), np.concatenate(points))
        recordings.write(folder / f"{split}.npz")
        found[split] = len(recordings)
    return found


def _choose(movements: Movements, training: ForecastTraining, most: int, split: str) -> tuple[Starts, np.ndarray]:
    """Return at most `most` random start frames, and which steps of their forecasts are recorded, (N, T) bool."""
    rng, starts = np.random.default_rng(_SEED), starts_of(movements, training)
    labelled = ~np.isnan(movements.joints[starts.rows]).any(axis=(2, 3))
    if not training.repeated_weight:  # the network was not trained on the repeated steps
        labelled &= ~starts.repeated
    possible = rng.permutation(np.flatnonzero(labelled.any(axis=1)))[:most]
    if not len(possible):
        raise DataError(f"no frame of the split {split} has a label for every joint, so no heatmap can be recorded.")
    starts, labelled = starts.select(np.sort(possible)), labelled[np.sort(possible)]
    order = np.where(labelled, rng.random(labelled.shape), 2.0)  # steps that are not labelled come last
    return starts, labelled & (order.argsort(axis=1).argsort(axis=1) < POSES)
