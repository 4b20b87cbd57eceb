"""Parallel coordinates: each job of a sweep as a line through its options, to what it came to."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from xlatrain.page import Markup
from xlatrain.reporting.scale import fit, shown

_LOG_FROM = 8  # times the smallest value: a ladder, whose steps are factors
_APART, _HEIGHT, _TOP, _BOTTOM, _SIDE = 150, 260, 34, 14, 70

STYLE = """
svg.lines{width:auto;max-width:none}svg.lines path{fill:none;stroke:var(--s0);stroke-width:1.6;opacity:.5}
svg.lines path.axis{stroke:var(--line);opacity:1}svg.lines path.best{stroke:var(--s1);stroke-width:3;opacity:1}
svg.lines text{fill:var(--text);paint-order:stroke;stroke:var(--back);stroke-width:4px}
svg.lines text.name{font-weight:600}
"""


@dataclass(frozen=True)
class Trial:
    """A job: its values by the names of the axes, as they are typed; None where it has none. best: it is marked."""

    name: str
    values: tuple[str | None, ...]
    best: bool = False


def parallel_coordinates(axes: Sequence[str], trials: Sequence[Trial]) -> Markup:
    """One axis for each name, numbers by their size, on a scale of factors where they are a ladder, other values evenly
    in the order they come; a trial without all values has no line. "" where fewer than two have one, or axes are."""
    whole = sorted((t for t in trials if None not in t.values), key=lambda t: t.best)
    if len(whole) < 2 or len(axes) < 2:
        return Markup("")
    width = 2 * _SIDE + _APART * (len(axes) - 1)
    places, axis_lines, words_beside = [], [], []
    for i, axis in enumerate(axes):
        x = _SIDE + _APART * i
        at, ticks = _axis([trial.values[i] for trial in whole])
        places.append((x, at))
        axis_lines.append(f"<path class=axis d='M{x} {_TOP}V{_HEIGHT - _BOTTOM}'/>")
        words_beside.append(f"<text class=name x={x} y=14 text-anchor=middle>{html.escape(axis)}</text>")
        words_beside += [f"<text x={x + 5} y={y + 4:.1f}>{html.escape(words)}</text>" for words, y in ticks]
    lines = []
    for trial in whole:
        steps = zip(places, trial.values, strict=True)
        path = "M" + "L".join(f"{x} {at[value]:.1f}" for (x, at), value in steps)
        words = html.escape(trial.name + (" (best)" if trial.best else ""))
        lines.append(f"<path {'class=best ' if trial.best else ''}d='{path}'><title>{words}</title></path>")
    size = f"width={width} height={_HEIGHT} viewBox='0 0 {width} {_HEIGHT}'"
    drawn = "".join([*axis_lines, *lines, *words_beside])
    return Markup(f"<div class=wide><svg class=lines {size} role=img>{drawn}</svg></div>")


def _axis(values: Sequence[str]) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Where each value lies, and what stands beside the axis."""
    floor, unique = float(_HEIGHT - _BOTTOM), list(dict.fromkeys(values))
    numbers = _numbers(unique)
    if numbers is None:
        step = (floor - _TOP) / max(1, len(unique) - 1)
        at = {value: floor - i * step if len(unique) > 1 else (floor + _TOP) / 2 for i, value in enumerate(unique)}
        return at, list(at.items())
    scale = fit(list(numbers.values()), floor, float(_TOP), log_from=_LOG_FROM)
    ticks = sorted(set(numbers.values())) if len(unique) <= 6 else scale.ticks()
    return {v: scale(n) for v, n in numbers.items()}, [(shown(n), scale(n)) for n in ticks]


def _numbers(values: Sequence[str]) -> dict[str, float] | None:
    """Values as finite numbers; None where one is none."""
    try:
        found = {value: float(value) for value in values}
    except ValueError:
        return None
    return found if all(map(math.isfinite, found.values())) else None
