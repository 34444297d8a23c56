"""Detect people in images with a detector in an ONNX file, run by onnxruntime."""

from pathlib import Path

import cv2
import numpy as np

from datasets.errors import DataError

# Type of an ONNX input that a detector may have -> NumPy's dtype.
DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class Detector:
    """A detector of people: a network in an ONNX file, with the outputs of torchvision's detectors.

    The network takes one RGB image, (3, H, W) or (1, 3, H, W), as float32 in [0, 1] or uint8. If the network has a fixed input
    size, images are scaled to fit, and padded with black at the right or the bottom. The network returns `boxes` (N, 4), left,
    top, right, bottom in px of the input, `scores` (N,), and `labels` (N,), the classes, if the network detects several
    classes.
    """

    def __init__(self, path: Path, score: float, label: int | None) -> None:
        """Load a detector. score: smallest score of a person; label: the class of people; None: all classes count as people.

        Raises DataError for a missing file, and for a network with other inputs or outputs than `Detector` describes.
        """
        import onnxruntime

        if not path.is_file():
            raise DataError(f"the detector {path} is missing; check the path.")
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises exceptions of its own
            why = " ".join(str(error).split())[-200:]
            raise DataError(f"{path} cannot be read as an ONNX network ({why}); give another detector.") from None
        (given, *more), outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        fits = not more and given.type in DTYPES and len(given.shape) in (3, 4)
        fits = fits and (given.shape[-3] == 3 or not isinstance(given.shape[-3], int))  # a named axis has any size
        if not fits or not {"boxes", "scores"} <= set(outputs) or (label is not None and "labels" not in outputs):
            raise DataError(
                f"{path} takes {given.name} {given.shape} {given.type} and returns {', '.join(outputs)}; a detector takes one "
                "RGB image, (3, H, W) or (1, 3, H, W), and returns boxes and scores, with --detector-label also labels."
            )
        self._path, self._input, self._score, self._label = path, given, score, label
        self._outputs = [name for name in ("boxes", "scores", "labels") if name in outputs]

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Return the boxes of P people, (P, 4), in descending order of score: left, top, right, bottom in px.

        image: (H, W, 3) uint8 RGB. Raises DataError if the network fails, or returns wrong shapes, NaN or infinite numbers.
        """
        height, width = image.shape[:2]
        high, wide = self._input.shape[-2:]
        factor, shown = 1.0, image
        if isinstance(high, int) and isinstance(wide, int):
            factor = min(high / height, wide / width)
            size = max(1, round(width * factor)), max(1, round(height * factor))
            shown = np.zeros((high, wide, 3), np.uint8)
            shown[: size[1], : size[0]] = cv2.resize(
                image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            )
        given = shown.transpose(2, 0, 1)
        given = given.astype(np.float32) / 255 if self._input.type == "tensor(float)" else given
        try:
            found = self._session.run(
                self._outputs, {self._input.name: given.reshape(([1] * (len(self._input.shape) - 3)) + list(given.shape))}
            )
            boxes, scores = (np.asarray(values, np.float64) for values in found[:2])
            boxes, scores = boxes.reshape(-1, 4), scores.reshape(-1)
            if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
                raise ValueError("it returned NaN or infinite numbers")
            chosen = scores >= self._score
            if self._label is not None:
                chosen &= np.asarray(found[2]).reshape(-1) == self._label
        except Exception as error:  # onnxruntime raises exceptions of its own
            raise DataError(
                f"{self._path} failed on an image ({' '.join(str(error).split())[-200:]}); give another detector."
            ) from None
        boxes, scores = boxes[chosen] / factor, scores[chosen]
        boxes = np.clip(boxes, 0, [width - 1, height - 1] * 2)
        whole = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        return boxes[whole][np.argsort(-scores[whole], kind="stable")]
