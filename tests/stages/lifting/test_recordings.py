"""Recorded heatmaps are moved to the joints of synthetic samples, and keep the errors of the network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import DataError
from stages.lifting.recordings import Recordings, moved, read
from stages.lifting.samples import PoseSamples, draw_heatmaps
from stages.settings.lifting import Converter, ConverterTraining
from tests.stages.lifting.made import standing

SIDE = 32
TRAINING = ConverterTraining(targets="subpixel", flip_probability=0.5, target_sigma=1, target_radius=3, batch=40)


def blob(x: float, y: float) -> np.ndarray:
    """Return a heatmap (SIDE, SIDE) with a blob, as the training draws it in sharp heatmaps."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    near = (abs(columns - np.floor(x + 0.5)) <= 3) & (abs(rows - np.floor(y + 0.5)) <= 3)
    return np.where(near, np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2), 0)


def recordings(error: tuple[float, float]) -> Recordings:
    """Return two recordings whose labels are at (12, 14) and (9, 9), and whose blobs are `error` px away from them."""
    labels = np.array([[12.0, 14.0], [9.0, 9.0]])
    maps = np.stack([np.stack([blob(*(label + error))] * 13) for label in labels])
    return Recordings(maps.astype(np.float16), np.repeat(labels[:, None], 13, axis=1).astype(np.float32))


def batch(shown: Recordings | None) -> dict[str, np.ndarray]:
    return next(PoseSamples(standing(50), SIDE, Converter(), TRAINING, shown).batches(3, 4))


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def test_heatmaps_are_moved_and_cut_off_at_the_border() -> None:
    maps = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    shift = torch.tensor([[[1.0, 0.0], [0.0, -2.0], [0.5, 0.0]], [[0.0, 0.0], [9.0, 0.0], [torch.nan, torch.nan]]])
    found = moved(maps, shift)
    right, up, half = found[0]
    torch.testing.assert_close(right, torch.nn.functional.pad(maps[0, 0, :, :-1], (1, 0)))
    torch.testing.assert_close(up, torch.nn.functional.pad(maps[0, 1, 2:], (0, 0, 0, 2)))
    torch.testing.assert_close(half[1:3, 2], (maps[0, 2, 1:3, 1] + maps[0, 2, 1:3, 2]) / 2)  # away from the border
    torch.testing.assert_close(found[1, 0], maps[1, 0])
    assert not found[1, 1].any()


def test_a_recording_shows_the_joint_with_its_error() -> None:
    ours = batch(recordings(error=(2.0, -1.0)))
    shown = ~np.isnan(ours["shift"][:, 0, 0])
    assert 10 < shown.sum() < 30  # about half of 40
    np.testing.assert_allclose(ours["seen"][shown], ours["points"][shown] + [2, -1], atol=0.01)
    heatmaps = draw_heatmaps(tensors(ours), SIDE, TRAINING).numpy()
    inside = [
        (sample, joint, x, y)
        for sample in np.flatnonzero(shown)
        for joint, (x, y) in enumerate(ours["points"][sample] + [2, -1])
        if 4 < x < SIDE - 5 and 4 < y < SIDE - 5
    ]
    assert len(inside) > 50
    for sample, joint, x, y in inside:
        np.testing.assert_allclose(heatmaps[sample, joint], blob(x, y), atol=0.03)  # bicubic interpolation is inexact


def test_an_accurate_recording_moved_by_whole_pixels_is_the_drawn_blob() -> None:
    without = batch(None)
    whole = without | {"points": np.round(without["points"]), "seen": np.round(without["points"])}
    ours = recordings(error=(0.0, 0.0)).replace(whole, np.tile([0, 1], 20))
    found = draw_heatmaps(tensors(ours), SIDE, TRAINING)
    inside = torch.from_numpy(((whole["points"] > 4) & (whole["points"] < SIDE - 5)).all(axis=-1))
    torch.testing.assert_close(found[inside], draw_heatmaps(tensors(whole), SIDE, TRAINING)[inside], atol=1e-3, rtol=0)
    assert inside.sum() > 100


def test_recordings_change_nothing_in_the_other_samples() -> None:
    without, ours = batch(None), batch(recordings(error=(2.0, -1.0)))
    kept = np.isnan(ours["shift"][:, 0, 0])
    for name, values in without.items():
        np.testing.assert_array_equal(ours[name][kept], values[kept])
        if name != "seen":
            np.testing.assert_array_equal(ours[name], values)
    drawn = (draw_heatmaps(tensors(arrays), SIDE, TRAINING)[kept] for arrays in (without, ours))
    torch.testing.assert_close(*drawn, atol=0, rtol=0)
    again = batch(recordings(error=(2.0, -1.0)))
    assert all(np.array_equal(again[name], ours[name], equal_nan=True) for name in ours)


def test_recordings_of_another_size_as_data_error(tmp_path: Path) -> None:
    recordings(error=(0.0, 0.0)).write(tmp_path / "train.npz")
    assert len(read(tmp_path / "train.npz", 13, SIDE)) == 2
    with pytest.raises(DataError, match=r"13 heatmaps of 64 px; set \[converter\] heatmaps_from to a network with the resol"):
        read(tmp_path / "train.npz", 13, 64)
