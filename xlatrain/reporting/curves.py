"""From the lines of a run to curves: points of an epoch and a value, as many as a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlatrain.reporting.record import Line, number

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """run: the number of the run that it is of, which gives its colour. dots: its points are marked, as those of few
    evaluations; else it is a line, fainter where `faint`."""

    run: int
    label: str
    points: tuple[Point, ...]
    dots: bool = False
    faint: bool = False


def points(lines: Sequence[Line], name: str, most: int) -> tuple[Point, ...]:
    """The values of a name against epochs, thinned to at most so many; those that are no finite numbers left out."""
    found = [(float(line["epoch"]), value) for line in lines if (value := number(line.get(name))) is not None]
    return thinned(found, most)


def thinned(found: Sequence[Point], most: int) -> tuple[Point, ...]:
    """Of neighbours that share a place on the screen the lowest and the highest, so that no spike is lost."""
    if len(found) <= most:
        return tuple(found)
    places = max(1, most // 2)
    kept: list[Point] = []
    for i in range(places):
        group = found[i * len(found) // places : (i + 1) * len(found) // places]
        ends = {min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])}
        kept += sorted(ends)
    return tuple(kept)
