"""Draw figures: loss and accuracy of trainings by epoch, and PCK by threshold.

Every figure is written as .png and .pdf on white, and as .svg without a background. The colours of the .svg adapt to the
reader's light or dark mode.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.evaluation.scores import Scored

# Colours that readers with any common kind of colour blindness can distinguish (after Okabe and Ito). DARK maps each colour to
# a lighter variant for dark mode.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6100", "#2b8cbe", "#777777")
INK = "#1c1e21"
DARK = dict(zip((*COLOURS, INK), ("#4db8ff", "#ff8c42", "#2fd3a2", "#eda4cb", "#e6b84d", "#9ad7f7", "#a8a8a8", "#e8eaed"),
                strict=True))  # fmt: skip
STYLE: dict[Any, Any] = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.facecolor": "none", "svg.fonttype": "none", "legend.frameon": False, "svg.hashsalt": "curves",
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A training to draw: its name, and its folder with train.log and valid.log.

    test: the trained network's accuracy (in the training metric) on test data, in [0, 1]; None if unknown.
    """

    name: str
    folder: Path
    test: float | None = None


@matplotlib.rc_context(STYLE)
def draw_training(path: Path, trainings: Sequence[Training]) -> None:
    """Draw accuracy and loss by epoch, for trainings on one dataset, as `path`.png, .pdf and .svg; no-op without logs.

    The style is the published one (pose-hg-train, branch image-play, compare_acc_*.m): one colour per network, dashed lines for
    training, solid lines for validation, and a dotted line for the test accuracy.
    """
    logged = [training for training in trainings if (training.folder / "valid.log").exists()]
    if not logged:
        return
    figure, (left, right) = new_figure(2)
    for training, colour in zip(logged, COLOURS * len(logged), strict=False):
        for part, line in (("train", "--"), ("valid", "-")):
            log = pd.read_csv(training.folder / f"{part}.log", sep="\t")
            label = f"{training.name} ({part})"
            left.plot(log["epoch"], 100 * log["acc"], line, color=colour, marker=".", label=label)
            right.plot(log["epoch"], log["loss"], line, color=colour, marker=".", label=label)
        if training.test is not None:
            left.axhline(100 * training.test, linestyle=":", color=colour, label=f"{training.name} (test)")
    left.set(xlabel="epoch", ylabel="training metric (%)", ylim=(0, 100))
    right.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path, left, columns=2)


@matplotlib.rc_context(STYLE)
def draw_pck(path: Path, scored: Sequence[Scored]) -> None:
    """Draw PCK by threshold, for networks scored on one dataset, as `path`.png, .pdf and .svg; one row of axes per split."""
    one = scored[0].accuracy
    shown = [(split, name, found.threshold) for split in one.labelled for name, found in one.splits[split].measures.items()]
    figure, axes = new_figure(len(one.measures), len(one.labelled))
    for axis, (split, measure, threshold) in zip(axes, shown, strict=True):
        for network, colour in zip(scored, COLOURS * len(scored), strict=False):
            if split in network.accuracy.labelled:
                curve = np.array(network.accuracy.splits[split].measures[measure].curve, dtype=np.float64)
                axis.plot(np.linspace(0, threshold, len(curve)), 100 * curve, color=colour, label=network.network)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set(title=f"{one.title} {split}: {measure}", xlabel="threshold", ylabel="%", ylim=(0, 100))
    save_figure(figure, path, axes[0])


def new_figure(columns: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def save_figure(figure: Figure, path: Path, named: Axes, columns: int = 1) -> None:
    """Write the figure as .png, .pdf and .svg; a legend below the figure lists the lines of the axes `named`."""
    figure.legend(*named.get_legend_handles_labels(), fontsize="small", loc="outside lower left", ncols=columns)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(path.with_suffix(".pdf"), metadata={"Creator": None, "Producer": None, "CreationDate": None})
    svg = io.StringIO()
    figure.savefig(svg, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Type", "Format")))
    path.with_suffix(".svg").write_text(_light_and_dark(svg.getvalue()))


def _light_and_dark(svg: str) -> str:
    """Return the SVG text with every colour replaced by a CSS variable whose value differs between light and dark mode."""
    names = {colour: f"--c{i}" for i, colour in enumerate(DARK)}
    for colour, name in names.items():
        svg = svg.replace(f": {colour}", f": var({name})")
    light, dark = (
        "".join(f"{names[colour]}:{value};" for colour, value in values.items())
        for values in (dict(zip(DARK, DARK, strict=True)), DARK)
    )
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return svg[svg.index("<svg") :].replace("<defs>", f"{style}<defs>", 1)  # the document type, which precedes <svg, is dropped
