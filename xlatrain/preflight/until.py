"""train.until: what an evaluation has to say for a run to end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlatrain.errors import Fault

KEY = "train.until"
_FORM = re.compile(r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<|==?)\s*(?P<value>[^\s<>=]+)\s*")
_METRICS = ("top1", "top5", "loss")
_CURE = "write it as in train.until='top1>=0.94'"


@dataclass(frozen=True)
class Until:
    """text: as it was written. sign: >=, >, <= or <."""

    text: str
    metric: str
    sign: str
    value: float

    def met(self, result: Mapping[str, Any]) -> bool:
        """Whether an evaluation (engine.evaluate.EvalResult, as a dict) is enough; one that is not finite is not."""
        found = result[self.metric]
        match self.sign:
            case ">=":
                return found >= self.value
            case ">":
                return found > self.value
            case "<=":
                return found <= self.value
        return found < self.value


def parse_until(text: str) -> Until:
    """Raises ValueError, saying what is wrong; its second argument is the cure."""
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError("is no comparison", _CURE)
    metric, sign = match["metric"], match["sign"]
    if metric not in _METRICS:
        raise ValueError(f"{metric!r} is nothing that an evaluation says", f"take one of {', '.join(_METRICS)}")
    more = metric != "loss"
    if sign not in ((">=", ">") if more else ("<=", "<")):
        problem = f"{metric} is to {'rise' if more else 'fall'}, and {sign} does not wait for that"
        raise ValueError(problem, f"take {'>= or >' if more else '<= or <'}")
    try:
        value = float(match["value"])
    except ValueError:
        raise ValueError(f"{match['value']!r} is no number", _CURE) from None
    if more and not 0 <= value <= 1:
        as_share = f"; is {value / 100:g} meant?" if 1 < value <= 100 else ""
        raise ValueError(f"{metric} is a share of the images, from 0 to 1{as_share}", _CURE)
    if (sign == ">" and value == 1) or (not more and not 0 <= value < float("inf")) or value != value:
        raise ValueError("can never be true", _CURE)
    return Until(text, metric, sign, value)


def until_faults(text: str | None) -> list[Fault]:
    """What is wrong with the option."""
    try:
        if text is not None:
            parse_until(text)
    except ValueError as error:
        problem, cure = error.args
        return [Fault(KEY, f"{text!r}: {problem}", cure)]
    return []
