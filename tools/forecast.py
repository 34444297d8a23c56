"""Forecast the movement of people in your own pictures: python -m tools.forecast IMAGE|FOLDER|VIDEO [--model MODEL]

The program writes three files for each picture into --out: NAME.png (the picture and the forecast poses), NAME.gif (the
movement) and NAME.json (joints in px of the picture, counted from 0, and confidences of all 16 steps). With a network that has
a converter to 3D, the program also writes NAME.html, a page whose 3D skeleton can be turned with the mouse, and adds the 3D
poses to NAME.json: for each step, the joints relative to their mean and the position of this mean, both in mm (x to the right,
y down, z away from the camera), and the focal length in px. For a video, one forecast is made every --every seconds. The
person should fill the picture, as in the training images: crop the picture to the area that the movement needs, or give --box.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from datasets.errors import DataError
from datasets.files import write_atomically
from datasets.imaging.images import PICTURES, read_upright
from datasets.skeletons import Skeleton
from pipeline import config
from pipeline.tasks.compare import result_at
from stages.inference.video import VideoReader
from tools import program

if TYPE_CHECKING:
    from stages.forecasting.forecaster import PoseForecast


@program
def main() -> int:
    """Read the options, forecast and draw; return the exit code, which is 1 if a picture could not be read."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.forecast", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="an image, a folder of images, or a video")
    parser.add_argument(
        "--model", default="hg-256-res-clstm", help="result or file of a forecasting network; default: hg-256-res-clstm"
    )
    config.add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("forecasts"), help="folder of the results; default: forecasts")
    parser.add_argument(
        "--box", type=float, nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="box of the person in the picture, in px"
    )
    parser.add_argument("--every", type=float, default=1.0, help="seconds between the forecasts of a video; default: 1")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="default: auto")
    options = parser.parse_args()
    if not options.every > 0:
        parser.error("--every should be above 0")
    if options.box and not (options.box[0] < options.box[2] and options.box[1] < options.box[3]):
        parser.error("--box needs LEFT < RIGHT and TOP < BOTTOM")
    config.use(options)
    try:
        return forecast(options)
    except OSError as error:
        print(f"error: {error.filename or options.out} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1


def forecast(options: argparse.Namespace) -> int:
    """Forecast from all pictures and write files; return the exit code. Raises DataError for an unusable source or network."""
    if not options.source.exists():
        raise DataError(f"{options.source} does not exist; give an image, a folder of images, or a video.")
    if options.source.is_dir() and options.out.resolve() == options.source.resolve():
        raise DataError(f"--out {options.out} is the folder of the pictures; give another folder.")
    from stages.forecast_comparison.pictures import sheet, strip, write_animation
    from stages.forecasting.forecaster import PoseForecaster

    forecaster, failed, done = PoseForecaster.load(result_at(options.model), options.device), list[str](), 0
    options.out.mkdir(parents=True, exist_ok=True)
    for name, pixels in tqdm(_pictures(options, failed), unit="picture", disable=not sys.stderr.isatty()):
        try:
            found = forecaster.forecast(pixels, options.box)
        except DataError as error:  # the box lies outside of this picture
            failed.append(f"{name}: {error}")
            continue
        picture = sheet(strip(pixels, found.joints), [name])
        from datasets.imaging import draw

        draw.write_png(options.out / f"{name}.png", picture)
        write_animation(options.out / f"{name}.gif", pixels, found.joints)
        values = np.dstack([found.joints, found.confidence[..., None]]).round(3).tolist()
        steps = [dict(zip(forecaster.joints, step, strict=True)) for step in values]
        space = _write_space(options.out / f"{name}.html", name, pixels, found, forecaster.skeleton)
        write_atomically(options.out / f"{name}.json", json.dumps({"picture": name, "steps": steps} | space).encode())
        done += 1
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    print(f"{done} forecasts of {len(steps) if done else 0} steps are in {options.out}")
    return 1 if failed or not done else 0


def _write_space(path: Path, name: str, pixels: np.ndarray, found: "PoseForecast", skeleton: Skeleton) -> dict[str, Any]:
    """Write the web page of the 3D poses; return their part of NAME.json. Without 3D poses, write no page and return {}."""
    from stages.reporting.movements3d import Movement3D, write_page

    poses = found.poses
    if poses is None:
        return {}
    movement = Movement3D(name, poses.repos + poses.trans[:, None], picture=pixels, joints=found.joints)
    write_page(path, f"Forecast from {name}", [movement], skeleton)
    steps = zip(poses.repos.round(1).tolist(), poses.trans.round(1).tolist(), poses.focal.round(2).tolist(), strict=True)
    names = skeleton.joints
    return {"space": [{"joints": dict(zip(names, repos, strict=True)), "mean": t, "focal": f} for repos, t, f in steps]}


def _pictures(options: argparse.Namespace, failed: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and pixels (H, W, 3) uint8 RGB of every picture; append the errors of unreadable pictures to `failed`."""
    source = options.source
    if source.is_dir() or source.suffix.lower() in PICTURES:
        inside = source.iterdir() if source.is_dir() else [source]
        # Names with ._ are metadata that macOS writes beside each file on other disks.
        paths = sorted(p for p in inside if p.suffix.lower() in PICTURES and not p.name.startswith("._"))
        if not paths:
            raise DataError(
                f"{source} holds no image ({', '.join(PICTURES)}); give a folder of images, or a video by its name."
            )
        for path in paths:
            try:
                yield path.name, read_upright(path)
            except DataError as error:
                failed.append(str(error))
        return
    reader, due = VideoReader(source), 0  # due: number of the next step of --every seconds, from 0
    for frame in reader:
        step = math.floor(frame.time / options.every + 1e-6)  # 0.3 / 0.1 is 2.9999999999999996
        if step >= due:
            due = step + 1
            yield f"{source.stem}-{frame.time:.3f}s", frame.pixels
    failed += reader.failed
    reader.close()


if __name__ == "__main__":
    sys.exit(main())
