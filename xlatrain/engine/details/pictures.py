"""Pictures of an evaluation: which classes are taken for which, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xlatrain.drawing import pyplot
from xlatrain.engine.details.tally import BINS, Tally

_NAMED, _WRITTEN = 60, 20  # classes up to which they are named, and counts are written into the fields
_LONGEST = 24  # characters of a name


def draw_confusion(confusion: np.ndarray, names: Sequence[str], path: Path) -> None:
    """The share of each label's images by what they are taken for, as a field of squares: labels down, predictions
    across. confusion: int64 [classes, classes]."""
    classes = len(confusion)
    share = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    side = min(16.0, 4.0 + 0.28 * min(classes, _NAMED))
    figure, axes = pyplot().subplots(figsize=(side + 1, side), layout="constrained")
    smoothing = "nearest" if classes <= 200 else "antialiased"
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation=smoothing)
    axes.set(xlabel="taken for", ylabel="label")
    if classes <= _NAMED:
        short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in map(_plain, names)]
        size = "small" if classes <= _WRITTEN else 6
        axes.set_xticks(range(classes), short, rotation=60 if classes > 12 else 40, ha="right", fontsize=size)
        axes.set_yticks(range(classes), short, fontsize=size)
    if classes <= _WRITTEN:
        for i, j in np.argwhere(confusion):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{confusion[i, j]:,}", ha="center", va="center", fontsize="small", color=colour)
    figure.colorbar(shown, shrink=0.8, label="share of the label's images")
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def draw_reliability(tally: Tally, path: Path) -> None:
    """Accuracy against confidence in bins, and how many images lie in each."""
    figure, (upper, lower) = pyplot().subplots(
        2, 1, figsize=(5.5, 6.5), layout="constrained", sharex=True, height_ratios=(3, 1)
    )
    filled = tally.counts > 0
    counts = np.maximum(1, tally.counts)
    accuracy, confidence = tally.right / counts, tally.confidence / counts
    centres = (np.arange(BINS) + 0.5) / BINS
    upper.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="as sure as right")
    upper.bar(centres[filled], accuracy[filled], width=0.95 / BINS, color="#4878a8", label="accuracy")
    upper.plot(confidence[filled], accuracy[filled], "o", color="#c44e52", markersize=4, label="mean confidence")
    upper.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1))
    upper.set_title(f"expected calibration error {tally.calibration_error():.4f}", fontsize="medium")
    upper.legend(loc="upper left", fontsize="small", frameon=False)
    lower.bar(centres, tally.counts, width=0.95 / BINS, color="#8c8c8c")
    lower.set(xlabel="confidence", ylabel="images")
    if tally.counts.max() > 20 * max(1, np.median(tally.counts[filled]) if filled.any() else 1):
        lower.set_yscale("symlog", linthresh=1)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def _plain(name: str) -> str:
    """A name that matplotlib shows as it is written: `$` begins a formula, and of what it cannot write it says so."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")
