"""Which checkpoints stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """last: how many of the newest stay. best: top1 or loss, by which the best one stays too; None for none."""

    last: int
    best: str | None = None


@dataclass(frozen=True)
class Kept:
    """A checkpoint that stands. for_good: it stays. metrics: of the evaluation at its step, if there was one."""

    step: int
    for_good: bool = False
    metrics: dict[str, float] | None = None


def superfluous(standing: Sequence[Kept], rule: Rule) -> list[int]:
    """The steps of those that may go."""
    ordered = sorted(standing, key=lambda kept: kept.step)
    stay = {kept.step for kept in ordered[-rule.last :]} | {kept.step for kept in ordered if kept.for_good}
    if rule.best and (best := best_of(ordered, rule.best)):
        stay.add(best.step)
    return [kept.step for kept in ordered if kept.step not in stay]


def best_of(standing: Sequence[Kept], metric: str) -> Kept | None:
    """The best by a metric, of equal ones the latest; loss is better when it is less. One that is no number is none."""
    sign = -1 if metric == "loss" else 1
    known = [kept for kept in standing if kept.metrics and not math.isnan(kept.metrics[metric])]
    return max(known, key=lambda kept: (sign * kept.metrics[metric], kept.step), default=None)
