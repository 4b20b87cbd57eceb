"""Durations with a unit: "90ep", "1000step", "5%", "1.28Mexample". lengths.py makes steps of them."""

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


def parse_duration(text: str) -> Duration:
    """Read a duration. Raises ValueError, saying what is allowed."""
    match = _FORM.fullmatch(str(text).strip())
    if not match:
        raise ValueError("write a number with a unit: 20ep, 300step, 1.28Mexample, or 5% of the run")
    if match["scale"] and match["unit"] == "%":
        raise ValueError("a percentage takes no k or M")
    return Duration(float(match["value"]) * _SCALE[match["scale"]], match["unit"])
