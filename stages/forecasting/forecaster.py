"""Forecast from any image, for use in applications: load a network, pass an image, get sixteen poses in px of the image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.errors import DataError
from datasets.formats.annotations import frame_box, person_box
from datasets.imaging import geometry
from datasets.imaging.images import read_upright
from datasets.imaging.samples import warp
from datasets.links import follow
from datasets.penn_action import PENN_ACTION
from datasets.skeletons import mirrored
from stages.forecasting.checkpoints import ForecasterDescription, load_forecaster
from stages.forecasting.evaluate import forecast_images, on_cpu
from stages.forecasting.network import ForecastNet
from stages.inference.predict import compute_type, joints_in_image, pick_device, set_tf32
from stages.settings.forecasting import STEPS

FILES = ("forecaster.safetensors", "best.safetensors")  # name of the network's file in an export, and in a training's folder


@dataclass(frozen=True)
class Poses3D:
    """A movement of T steps in the camera frame: x right, y down, z forward. The focal length is the same at all steps.

    Sizes and distances are estimates, because multiplying both by one factor does not change the image.
    """

    repos: np.ndarray  # (T, J, 3) float32 mm: joints minus their mean
    trans: np.ndarray  # (T, 3) float32 mm: mean of the joints
    focal: np.ndarray  # (T,) float32: focal length in px of the heatmaps, which have a quarter of the input's side


@dataclass(frozen=True)
class PoseForecast:
    """The poses that follow one image: T steps of J joints; the first step is the image itself."""

    joints: np.ndarray  # (T, J, 2) float64, x and y in 0-based px of the image, pixel centres at integers
    confidence: np.ndarray  # (T, J) float32: height of the heatmap's peak, about 1 if the network is certain
    poses: Poses3D | None = None  # None if the network has no converter


class PoseForecaster:
    """A forecasting network with cropping and decoding: it turns an image into poses.

    joints: names of the joints; skeleton: limbs between the joints, for drawing.
    """

    def __init__(
        self, network: ForecastNet, about: ForecasterDescription, device: str = "auto", precision: str = "auto"
    ) -> None:
        """Move the network to a device. device: auto, cpu, cuda or mps; precision: as for `PosePredictor`."""
        self.joints, self.resolution, self.skeleton = about.joints, about.resolution, PENN_ACTION.skeleton
        self._device = pick_device(device)
        self._compute = compute_type(precision, self._device)
        set_tf32(precision)
        self._network = network.to(self._device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @classmethod
    def load(cls, source: str | Path, device: str = "auto", precision: str = "auto") -> "PoseForecaster":
        """Return a forecaster from the result folder of the stage Forecast or ExportForecast, or from a .safetensors file.

        Raises DataError if the folder or the file contains no forecasting network.
        """
        path = follow(Path(source).expanduser())
        found = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} contains none of {', '.join(FILES)}; give the folder of a Forecast or an ExportForecast.")
        return cls(*load_forecaster(found[0]), device, precision)

    def forecast(
        self, image: str | Path | np.ndarray, box: np.ndarray | None = None, flip: bool = True, steps: int = STEPS
    ) -> PoseForecast:
        """Return the poses of a person at `steps` steps, of which the first is the image itself.

        image: a path, or (H, W, 3) uint8 RGB. box: (4,), left, top, right, bottom of the person's whole movement in 0-based px;
        None: the whole image, which must be cropped to the whole movement, like the frames of the training. flip: average the
        outputs for the image and for the mirrored image. Raises DataError for an invalid image or box, and for a number of
        steps that is not from 1 to 16.
        """
        pixels = image if isinstance(image, np.ndarray) else read_upright(Path(image))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise DataError(f"an image is (H, W, 3) uint8 RGB; found {pixels.shape} {pixels.dtype}.")
        if not 1 <= steps <= STEPS:
            raise DataError(f"steps = {steps} should be from 1 to {STEPS}.")
        center, scale = _frame(pixels, box)
        to_crop = geometry.image_to_crop(center, scale, self.resolution)
        crop = warp(pixels, to_crop, self.resolution)
        images = (torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255).to(self._device)
        exchanged = mirrored(self.joints) if flip else None
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, self._compute, enabled=self._compute != torch.float32),
        ):
            maps, poses = on_cpu(forecast_images(self._network, images, steps, exchanged))
        joints, confidence = joints_in_image(maps[0].numpy(), np.repeat(to_crop[None], steps, axis=0), self.resolution)
        return PoseForecast(joints, confidence, Poses3D(*(part[0].numpy() for part in poses.steady())) if poses else None)


def _frame(pixels: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Return centre (2,) px and scale (side / 200 px) of the square that the network sees. Raises DataError for a bad box."""
    if box is None:
        center, scale = frame_box(np.array(pixels.shape[1::-1]))
        return center, float(scale)
    corners = np.asarray(box, dtype=np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all() or not (corners[2:] > corners[:2]).all():
        raise DataError(f"a box is left, top, right, bottom in px, with left < right and top < bottom; found {box}.")
    height, width = pixels.shape[:2]
    if (corners[2:] < 0).any() or (corners[:2] > (width - 1, height - 1)).any():
        raise DataError(f"the box {box} lies outside of the picture of {width} x {height} px.")
    center, size = (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]).max() / 200
    center, scale = person_box(center, np.asarray(size))
    return center, float(scale)
