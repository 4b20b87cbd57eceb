"""The jobs of a sweep as a picture: the objective against what was swept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xlatrain.drawing import pyplot

_LOG_FROM = 8  # times the smallest value: a ladder, whose steps are factors
_WORDS = {
    "top1": "top-1",
    "top5": "top-5",
    "loss": "loss",
    "images_per_second": "images/s",
    "wall_seconds": "seconds",
}


@dataclass(frozen=True)
class Result:
    """overrides: those of a job that others have not. value: of the objective; None of a job that is not done."""

    overrides: tuple[str, ...]
    value: float | None


@dataclass(frozen=True)
class Curve:
    """Jobs that differ in one option. name: what they have in common, in words. points: (the option, the objective),
    ascending."""

    name: str
    points: tuple[tuple[float, float], ...]


def curves(results: Sequence[Result]) -> tuple[str, list[Curve]]:
    """The option with the most numbers for values, and one curve for each choice of the others. The name is empty where
    no option has two of them. Jobs without a value are on none."""
    numbers: dict[str, set[float]] = {}
    options = [_options(result) for result in results]
    for of_job in options:
        for key, value in of_job.items():
            numbers.setdefault(key, set()).add(value)
    along = {key: found for key, found in numbers.items() if len(found) > 1 and not any(map(math.isnan, found))}
    if not along:
        return "", []
    axis = max(along, key=lambda key: len(along[key]))
    found: dict[str, list[tuple[float, float]]] = {}
    for result, of_job in zip(results, options, strict=True):
        if result.value is not None and axis in of_job:
            name = " ".join(text for text in result.overrides if text.partition("=")[0] != axis)
            found.setdefault(name, []).append((of_job[axis], result.value))
    return axis, [Curve(name, tuple(sorted(points))) for name, points in found.items()]


def _options(result: Result) -> dict[str, float]:
    """Options with their values as numbers; NaN where one is none."""
    found = {}
    for text in result.overrides:
        key, _, value = text.partition("=")
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = math.nan
    return found


def draw_results(results: Sequence[Result], objective: str, best: float | None, path: Path) -> None:
    """Draw the results of a sweep: curves along an option with numbers for values, else a bar for each job. best: the
    value that is marked. path: .png, .svg or .pdf."""
    axis, drawn = curves(results)
    figure, axes = pyplot().subplots(figsize=(8, 4.5), layout="constrained")
    axes.set(ylabel=_WORDS[objective], title=_title(results))
    axes.grid(alpha=0.3)
    if axis and sum(len(curve.points) for curve in drawn) > 1:
        for curve in drawn:
            together = len(curve.points) > 1 and len(drawn) <= 12
            axes.plot(*zip(*curve.points, strict=True), "o-" if together else "o", markersize=4, label=curve.name)
        axes.set_xlabel(axis)
        values = [x for curve in drawn for x, _ in curve.points]
        if min(values) > 0 and max(values) >= _LOG_FROM * min(values):
            axes.set_xscale("log")
            if len(set(values)) <= 12:
                axes.set_xticks(sorted(set(values)), [f"{x:g}" for x in sorted(set(values))], rotation=45)
                axes.minorticks_off()
        marked = [point for curve in drawn for point in curve.points if point[1] == best]
        if 1 < len(drawn) <= 12:
            axes.legend(fontsize="small", frameon=False)
    else:
        done = [(" ".join(result.overrides), result.value) for result in results if result.value is not None]
        axes.bar(range(len(done)), [value for _, value in done], width=0.6)
        axes.set_xticks(range(len(done)), [name for name, _ in done], rotation=30, ha="right", fontsize="small")
        marked = [(number, value) for number, (_, value) in enumerate(done) if value == best]
    for place in marked:
        axes.annotate("best", place, xytext=(0, 6), textcoords="offset points", ha="center", fontweight="bold")
    axes.margins(y=0.15)
    figure.savefig(path, dpi=120)
    pyplot().close(figure)


def _title(results: Sequence[Result]) -> str:
    done = sum(result.value is not None for result in results)
    return f"{len(results)} jobs" + ("" if done == len(results) else f", of which {len(results) - done} have no value")
