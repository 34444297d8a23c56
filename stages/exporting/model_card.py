"""Write the text of MODEL_CARD.md: the facts that a person should know about an exported network before using it."""

import json
from dataclasses import dataclass
from typing import Any

from datasets.measures import TRAINING_METRIC
from datasets.sources import Origin
from stages.evaluation.accuracy import Accuracy
from stages.exporting.model_json import ExportedModel

USE_ONNX = "use_onnx.py"


@dataclass(frozen=True)
class Step:
    """A stage of the pipeline whose result the export uses, directly or through other stages."""

    name: str
    fingerprint: str  # 64 hexadecimal digits
    settings: dict[str, Any]
    sources: dict[str, str]  # name of each external input file -> its digest or address
    origin: Origin | None = None  # if the stage fetches a dataset: the origin of the dataset
    trained_by: str = ""  # if the stage fetches a network: a sentence that names the authors who trained it


@dataclass(frozen=True)
class History:
    """The origin and the accuracy of a network."""

    experiment: str
    accuracy: Accuracy
    steps: tuple[Step, ...]  # the stages in order: each comes after the stages whose results it reads


def model_card(model: ExportedModel, uses: dict[str, str], images: int, not_torch7: str, history: History) -> str:
    """Return the text of MODEL_CARD.md.

    model: the contents of model.json; uses: exported file -> its purpose; images: number of images on which the files were
    compared with the network; not_torch7: the reason why there is no Torch7 file, or "".
    """
    r, (_, joints, h, _) = model.input.shape[-1], model.output.shape
    differences = model.largest_difference_of_heatmaps
    files = _table(["file", "for", "largest difference"], [[f"`{n}`", uses[n], f"{d:.1e}"] for n, d in differences.items()])
    return "\n".join([
        f"# {history.experiment}: {joints} joints of a person",
        "",
        f"An hourglass network of {model.parameters:,} parameters. It takes images (N, 3, {r}, {r}), RGB in [0, 1], each with",
        f"one person in the middle, and returns heatmaps (N, {joints}, {h}, {h}). Image normalisation is part of the network.",
        "",
        f"- Joints, in the order of the channels: {', '.join(model.joints)}.",
        f"- Crop of a person: {model.input.crop}.",
        f"- Position of a joint in its heatmap: {model.output.decoding}.",
        f"- From heatmap to crop: {model.output.crop_from_heatmap}.",
        f"- Channels to exchange if the image is mirrored: {', '.join(f'{a} and {b}' for a, b in model.flip_pairs)}.",
        "",
        "## In a program",
        "",
        f"`{USE_ONNX}` needs `model.onnx`, numpy and onnxruntime, nothing else:",
        "",
        "```python",
        "import numpy as np",
        "from PIL import Image",
        "",
        "from use_onnx import find_joints",
        "",
        'image = np.asarray(Image.open("person.jpg").convert("RGB"))',
        'for joint, (x, y, confidence) in find_joints("model.onnx", image, (40, 20, 220, 460)).items():',
        '    print(f"{joint:15} {x:6.1f} {y:6.1f} {confidence:.2f}")',
        "```",
        "",
        "## Accuracy",
        "",
        *_accuracy(history.accuracy),
        "",
        "## Files",
        "",
        *files,
        "",
        f"Each file was read back and run on {images} images of the validation split. The table shows the largest difference",
        "between the file's heatmaps and the network's heatmaps, whose peaks are about 1 high.",
        *([f"There is no Torch7 file: {not_torch7}."] if not_torch7 else []),
        "",
        "## Data",
        "",
        *_data(history.steps),
        "",
        "## How it was made",
        "",
        *_steps(history.steps, model.network),
        "",
    ])  # fmt: skip


def _accuracy(found: Accuracy) -> list[str]:
    """Return the lines of two tables: each split's accuracies; each joint's accuracy in each split, by the first measure."""
    rows, by_joint, first = [], {}, found.measures[0]
    for split, metrics in found.splits.items():
        rates = {TRAINING_METRIC: metrics.acc} | {name: measure.value for name, measure in metrics.measures.items()}
        rows += [[split, str(metrics.people), name, _percent(rate)] for name, rate in rates.items()]
        by_joint[split] = metrics.measures[first].by_joint
    names = list(next(iter(by_joint.values())))
    joints = [[name, *(_percent(by_joint[split].get(name)) for split in by_joint)] for name in names]
    return [
        *_table(["split", "people", "measure", "accuracy"], rows),
        "",
        *_table([f"{first} by joint", *found.splits], joints),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _data(steps: tuple[Step, ...]) -> list[str]:
    """Return lines with the datasets and their terms of use, and with the network's authors if others trained the network."""
    elsewhere = [f"{step.trained_by} The data below was used to score the network." for step in steps if step.trained_by]
    lines = [
        f"- {origin.name}, {origin.page}. Owners: {origin.owners}. Terms: {origin.terms}"
        for origin in (step.origin for step in steps)
        if origin
    ]
    drawn = ["The built-in sample: pictures drawn by this workspace, no photographs."]
    return [*elsewhere, *([""] if elsewhere else []), *(lines or drawn)]


def _steps(steps: tuple[Step, ...], network: dict[str, Any]) -> list[str]:
    """Return lines with the fingerprints, external files and settings of the stages, and the options of the network."""
    rows = [[step.name, step.fingerprint, _as_text(step.sources)] for step in steps]
    settings = [f"- {step.name}: {_as_text(step.settings)}" for step in steps if step.settings]
    return [
        *_table(["stage", "fingerprint", "external files: sha256, or address"], rows),
        "",
        f"- network: {_as_text(network)}",
        *settings,
    ]


def _as_text(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {v if isinstance(v, str) else json.dumps(v)}" for name, v in values.items())


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
