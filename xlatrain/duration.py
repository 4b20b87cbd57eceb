"""Durations with a unit: "90ep", "1000step", "5%", "1.28Mexample". Converted once, to steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(?P<value>\d+(?:\.\d*)?|\.\d+)\s*(?P<scale>[kM]?)(?P<unit>ep|step|%|example)")
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Duration:
    """An amount and its unit: ep, step, % or example."""

    amount: float
    unit: str

    def steps(self, steps_per_epoch: float, global_batch: int, total_steps: int | None = None) -> int:
        """The duration in whole steps, rounded to the nearest; otherwise as exact_steps."""
        return round(self.exact_steps(steps_per_epoch, global_batch, total_steps))

    def exact_steps(self, steps_per_epoch: float, global_batch: int, total_steps: int | None = None) -> float:
        """The duration in steps, not rounded.

        steps_per_epoch may be fractional; total_steps is what "%" refers to. Raises ValueError for "%" without it.
        """
        if self.unit == "%":
            if total_steps is None:
                raise ValueError("a percentage needs a run to be a part of")
            return self.amount / 100 * total_steps
        per_unit = {"ep": steps_per_epoch, "step": 1, "example": 1 / global_batch}
        return self.amount * per_unit[self.unit]


def parse_duration(text: str) -> Duration:
    """Read a duration. Raises ValueError, saying what is allowed."""
    match = _FORM.fullmatch(str(text).strip())
    if not match:
        raise ValueError("write a number with a unit: 20ep, 300step, 1.28Mexample, or 5% of the run")
    if match["scale"] and match["unit"] == "%":
        raise ValueError("a percentage takes no k or M")
    return Duration(float(match["value"]) * _SCALE[match["scale"]], match["unit"])
