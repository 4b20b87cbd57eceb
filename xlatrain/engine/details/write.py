"""The files of a closely looked at evaluation, in its folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlatrain.engine.details.page import write_page
from xlatrain.engine.details.pictures import draw_confusion, draw_reliability
from xlatrain.engine.details.tally import BINS, Tally
from xlatrain.engine.details.thumbnails import find_thumbnails
from xlatrain.preflight.checked import CheckedEvaluation

PER_CLASS, CONFUSION, CALIBRATION, MISTAKES = "per_class.csv", "confusion.csv", "calibration.csv", "mistakes.html"


def write_details(folder: Path, evaluation: CheckedEvaluation, tally: Tally, result: dict[str, Any]) -> dict[str, Any]:
    """Write tables, pictures and the page of mistakes; returns what the summary says of them. result: the figures of
    the evaluation."""
    names = class_names(evaluation.dataset.class_names, len(tally.images))
    images, right = tally.images, np.diag(tally.confusion)
    predicted = tally.confusion.sum(0)
    _write_table(
        folder / PER_CLASS,
        ("class", "name", "images", "right", "accuracy", "right_top5", "accuracy_top5", "predicted", "precision"),
        (
            (
                i, name, images[i], right[i], _share(right[i], images[i]), tally.right5[i],
                _share(tally.right5[i], images[i]), predicted[i], _share(right[i], predicted[i]),
            )
            for i, name in enumerate(names)
        ),
    )  # fmt: skip
    rows = ((name, *row.tolist()) for name, row in zip(names, tally.confusion, strict=True))
    _write_table(folder / CONFUSION, ("label \\ predicted", *names), rows)
    bins = zip(tally.counts, tally.confidence, tally.right, strict=True)
    _write_table(
        folder / CALIBRATION,
        ("above", "up_to", "images", "confidence", "accuracy"),
        ((i / BINS, (i + 1) / BINS, n, _share(c, n), _share(r, n)) for i, (n, c, r) in enumerate(bins)),
    )
    draw_confusion(tally.confusion, names, folder / "confusion.png")
    draw_reliability(tally, folder / "reliability.png")
    shown = write_page(folder / MISTAKES, evaluation, tally, names, result, find_thumbnails(evaluation, tally.mistakes))
    present = images > 0
    worst = min(np.flatnonzero(present), key=lambda i: (right[i] / images[i], i)) if present.any() else None
    return {
        "calibration_error": tally.calibration_error(),
        "mistakes_shown": shown,
        "worst_class": None if worst is None else names[worst],
        "worst_class_top1": None if worst is None else float(right[worst] / images[worst]),
    }


def class_names(known: Sequence[str], classes: int) -> list[str]:
    """A name for each class: its number where it has none."""
    return [known[i] if i < len(known) else str(i) for i in range(classes)]


def _share(part: float, whole: float) -> str:
    """A quotient; nothing where there is nothing to divide by."""
    return f"{part / whole:.6f}" if whole else ""


def _write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
