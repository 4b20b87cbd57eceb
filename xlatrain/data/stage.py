"""Where a process stands among all, and the sizes of images that training goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A process among all."""

    process: int
    processes: int


@dataclass(frozen=True)
class Stage:
    """The epochs from first_epoch on, until the next stage's: images of `size` pixels, `batch` of them a step in each
    process, cut from at least min_area of a picture."""

    first_epoch: int
    size: int
    batch: int
    min_area: float = 0.08


def stage_at(stages: Sequence[Stage], epoch: int) -> Stage:
    """The stage that an epoch belongs to."""
    return next(s for s in reversed(stages) if s.first_epoch <= epoch)
