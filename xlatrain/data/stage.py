"""Where a process stands among all, and the sizes of images that training goes through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A process among all."""

    process: int
    processes: int


@dataclass(frozen=True)
class Stage:
    """The steps from first_step on, until the next stage's: images of `size` pixels, `batch` of them a step in each
    process, cut from at least min_area of a picture. A stage may begin and end within an epoch of the data."""

    first_step: int
    size: int
    batch: int
    min_area: float = 0.08


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(s for s in reversed(stages) if s.first_step <= step)


def stage_end(stages: Sequence[Stage], step: int) -> float:
    """The step at which the stage of a step ends; the last one's is infinite."""
    return min((s.first_step for s in stages if s.first_step > step), default=math.inf)
