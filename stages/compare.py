"""All accuracies side by side: a table, training curves, and predictions drawn on validation images.

The folder gets accuracy.csv, accuracy.md and accuracy.txt (one table, three forms), curves.png and predictions.png.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from datasets import geometry
from datasets.images import read_image
from stages import draw
from stages.evaluate import MEASURES
from stages.loader import Data

MODELS = ("pretrained", "finetuned")
SHOWN = 6  # people a row of the picture


def compare(folder: Path, inputs: dict[str, Path], mpii: Data, penn: Data, names: list[str]) -> dict[str, Any]:
    """Gather the evaluations `mpii-<model>` and `penn-<model>` and the logs of `<model>` among the input folders.

    names: what to call the pre-trained and the fine-tuned network.
    """
    table = accuracy_table(inputs)
    table.to_csv(folder / "accuracy.csv", index=False)
    percent = table.map(lambda v: f"{v:.2f} %" if isinstance(v, float) else v)
    (folder / "accuracy.md").write_text(percent.to_markdown(index=False) + "\n")
    legend = f"before fine-tuning: {names[0]}    after: {names[1]}\n\n"
    right = ("left", "right", "left", "right", "right", "right")
    (folder / "accuracy.txt").write_text(legend + percent.to_markdown(index=False, tablefmt="simple", colalign=right) + "\n")
    _draw_curves(folder / "curves.png", {name: inputs[model] for name, model in zip(names, MODELS, strict=True)})
    _draw_predictions(folder / "predictions.png", inputs, mpii, penn)
    return {"rows": len(table)}


def accuracy_table(inputs: dict[str, Path]) -> pd.DataFrame:
    """A row per split and measure; accuracies in per cent before and after fine-tuning.

    `joints` counts those that enter the mean; before/after where the two networks know different ones.
    """
    scores = {
        (dataset, model): json.loads((inputs[f"{dataset}-{model}"] / "accuracy.json").read_text())
        for dataset in ("mpii", "penn") for model in MODELS
    }  # fmt: skip
    rows = []
    for dataset, title, measure in (("mpii", "MPII", "mpii"), ("penn", "Penn Action", "penn_action")):
        for split in scores[dataset, "pretrained"]:
            for name in ("acc", MEASURES[measure].name):
                found = [scores[dataset, model][split] for model in MODELS]
                before, after = (float("nan") if f[name] is None else 100 * f[name] for f in found)
                joints = "/".join(dict.fromkeys(str(f[f"{name} joints"]) for f in found))
                what = "training metric" if name == "acc" else name
                rows.append([f"{title} {split}", str(found[0]["people"]), what, joints, before, after])
    return pd.DataFrame(rows, columns=["split", "people", "measure", "joints", "before", "after"])


def _draw_curves(path: Path, trainings: dict[str, Path]) -> None:
    """Loss and accuracy by epoch, a column per training that has logs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logged = {name: folder for name, folder in trainings.items() if (folder / "train.log").exists()}
    figure = Figure(figsize=(5 * max(len(logged), 1), 6), layout="constrained")
    axes = figure.subplots(2, max(len(logged), 1), squeeze=False)
    for column, (name, folder) in enumerate(logged.items()):
        for part, style in (("train", "--"), ("valid", "-")):
            log = pd.read_csv(folder / f"{part}.log", sep="\t")
            axes[0, column].plot(log["epoch"], log["loss"], style, marker=".", label=part)
            axes[1, column].plot(log["epoch"], 100 * log["acc"], style, marker=".", label=part)
        axes[0, column].set(title=name, ylabel="loss", yscale="log")
        axes[1, column].set(xlabel="epoch", ylabel="training metric (%)", ylim=(0, 100))
        for axis in axes[:, column]:
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
            axis.legend()
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_predictions(path: Path, inputs: dict[str, Path], mpii: Data, penn: Data) -> None:
    """People of both validation splits: the labels, and what the networks say."""
    rows, titles = [], []
    for dataset, data, models in (("mpii", mpii, MODELS[:1]), ("penn", penn, MODELS)):
        split = data.split("valid")
        chosen = np.unique(np.linspace(0, len(split) - 1, SHOWN).astype(int))
        versions = [("labels", split.part)] + [
            (f"{model} network", _predictions(inputs[f"{dataset}-{model}"])) for model in models
        ]
        for title, joints in versions:
            rows.append([_person(data, split, i, joints[i]) for i in chosen])
            titles.append(f"{'MPII' if dataset == 'mpii' else 'Penn Action'} valid: {title}")
    draw.write_png(path, draw.contact_sheet(rows, titles))


def _predictions(folder: Path) -> np.ndarray:
    with h5py.File(folder / "preds_valid.h5") as file:
        return file["preds"][:] - 1  # to 0-based pixels


def _person(data: Data, split: Any, row: int, joints: np.ndarray) -> np.ndarray:
    """The person's box, drawn at 224 px."""
    import cv2

    image = read_image(data.images / split.images[row])
    affine = geometry.image_to_crop(split.center[row], split.scale[row], 224)
    crop = cv2.warpAffine(image, affine, (224, 224))
    return draw.draw_person(crop, geometry.apply(affine, joints), data.skeleton)
