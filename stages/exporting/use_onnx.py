"""Find a person's joints with model.onnx, numpy and onnxruntime alone.

Each export folder has a copy of this file, which you may change.
"""

import numpy as np
import onnxruntime


def find_joints(model: str, image: np.ndarray, box: tuple[float, float, float, float]) -> dict[str, tuple[float, float, float]]:
    """Return joint name -> (x, y, confidence) of the person in a box of an image (H, W, 3) uint8 RGB.

    box: left, top, right, bottom in px of the image. In the box and in the result, pixel centres are at integers. If the box
    is more than twice as large as the network's input, first reduce the image: linear interpolation would skip pixels.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = session.get_modelmeta().custom_metadata_map["joints"].split(",")
    side = session.get_inputs()[0].shape[2]
    # The network sees a square whose side is 1.25 times the box's longer side. The square's centre lies 0.075 of the longer
    # side below the box's centre.
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    step = 1.25 * longer / side  # px of the image per px of the network's square input
    center = np.array([(left + right) / 2, (top + bottom) / 2 + 0.075 * longer])
    square = image.astype(np.float32) / 255
    for axis, middle in ((0, center[1]), (1, center[0])):  # linear interpolation along y, then x; black outside of the image
        places = middle + step * (np.arange(side) - (side - 1) / 2)
        padded = np.pad(np.moveaxis(square, axis, 0), ((1, 1), (0, 0), (0, 0)))
        places = np.clip(places + 1, 0, len(padded) - 1)
        first = np.minimum(places.astype(int), len(padded) - 2)
        part = (places - first).astype(np.float32)[:, None, None]
        square = np.moveaxis(padded[first] * (1 - part) + padded[first + 1] * part, 0, axis)
    heatmaps = session.run(["heatmaps"], {"images": square.transpose(2, 0, 1)[None]})[0][0]
    found = {}
    for name, heatmap in zip(names, heatmaps, strict=True):
        peak = np.array(np.unravel_index(heatmap.argmax(), heatmap.shape))  # y, x
        around = np.pad(heatmap, 1, mode="edge")[peak[0] : peak[0] + 3, peak[1] : peak[1] + 3]
        slope = np.sign([around[2, 1] - around[0, 1], around[1, 2] - around[1, 0]])
        inside = (peak > 0) & (peak < len(heatmap) - 1)
        y, x = peak + 0.25 * slope * inside  # move the peak by a quarter of a pixel towards the larger neighbour
        at = center + step * ((np.array([x, y]) + 0.5) * side / len(heatmap) - side / 2)
        found[name] = (float(at[0]), float(at[1]), float(heatmap.max()))
    return found
