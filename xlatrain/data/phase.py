"""Where a process stands among all, and the stretches of a run in which batches are of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xlatrain.data.order import share


@dataclass(frozen=True)
class Place:
    """A process among all."""

    process: int
    processes: int

    def rows(self, batch: int) -> tuple[int, int]:
        """The rows first <= r < last of a global batch that are this process's."""
        return share(batch, self.processes, self.process)


@dataclass(frozen=True)
class Phase:
    """The steps from first_step on, until the next phase's: `global_batch` images of image_size pixels a step, cut from
    at least min_area of a picture. A phase may begin and end within an epoch of the data.

    lr: factor on the schedule. bn_group: replicas that share batch norm statistics. fold: whether the first layers work
    on folded images. What reads data looks at none of these three.
    """

    first_step: int
    global_batch: int
    image_size: int
    min_area: float = 0.08
    lr: float = 1.0
    bn_group: int = 1
    fold: bool = False

    def batch(self, replicas: int) -> int:
        """Images a step of each of so many replicas."""
        return self.global_batch // replicas


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that a step belongs to."""
    return next(p for p in reversed(phases) if p.first_step <= step)


def phase_end(phases: Sequence[Phase], step: int) -> float:
    """The step at which the phase of a step ends; the last one's is infinite."""
    return min((p.first_step for p in phases if p.first_step > step), default=math.inf)
