"""From values to places on a chart, and the round numbers that stand beside an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scale:
    """An axis. low, high: values at its ends; start, end: places there."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = map(self._bent, (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _bent(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int = 5) -> list[float]:
        """Round values between the ends."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last - first >= 1:
                step = max(1, math.ceil((last - first + 1) / most))
                return [10.0**power for power in range(first, last + 1, step)]
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def fit(
    values: Sequence[float], start: float, end: float, log_from: float | None = None, zero: bool = False
) -> Scale:
    """An axis that holds all values. log_from: of factors, where all are positive and the largest is so many times the
    smallest. zero: begin at 0."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log_from is not None and low > 0 and high >= log_from * low:
        return Scale(low, high, start, end, log=True)
    low = min(low, 0.0) if zero else low
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return Scale(low, high, start, end)


def widened(scale: Scale) -> Scale:
    """The axis with a little room beyond its values, so that a dot at an end of it is whole."""
    room = 0.04 * (scale.high - scale.low)
    if scale.log:
        factor = (scale.high / scale.low) ** 0.04
        return replace(scale, low=scale.low / factor, high=scale.high * factor)
    return replace(scale, low=scale.low - (room if scale.low else 0.0), high=scale.high + room)


def shown(value: float, digits: int = 3) -> str:
    """A value as it stands beside an axis: 0.05, 1.2k, 3M, 1e-06."""
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{value:.{digits - 3}e}"
    if size >= 1e6:
        return f"{value / 1e6:.{digits}g}M"
    return f"{value / 1e3:.{digits}g}k" if size >= 1e4 else f"{value:.{digits}g}"


def all_shown(values: Sequence[float]) -> list[str]:
    """Several, with as many digits as tell them apart."""
    texts = ([shown(value, digits) for value in values] for digits in range(3, 8))
    return next((found for found in texts if len(set(found)) == len(set(values))), [shown(v, 8) for v in values])


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))
