"""How all replicas of a run, in whatever processes, stop after the same step.

Each gives the step a 1 where its host was asked to stop, else a 0. What comes out with the metrics is their mean
(of an evaluation's step: their sum), which all replicas have alike and read in the same order: whoever reads more than
0 hands no further step to the device, and so do all. It costs nothing: both numbers are on the device from the start,
and the sum travels in the all-reduce, in what pads the metrics to a row.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from xlatrain.xla import pulse
from xlatrain.xla.replica import Replica, Tensors


class Stop:
    """Whether a run is to stop. seen: all replicas know it."""

    def __init__(self, replica: Replica):
        self._no, self._yes = (replica.to_device({"stop": torch.full((1,), value)}) for value in (0.0, 1.0))
        self.seen = False

    def input(self) -> Tensors:
        """What a step is given now: `stop` float32 [1]."""
        return self._no if pulse.stop_asked() is None else self._yes

    def read(self, value: float) -> bool:
        """Take what a step reported of it; whether the run is to stop."""
        self.seen = self.seen or value > 0
        return self.seen

    @property
    def why(self) -> str:
        """Who asked."""
        return pulse.stop_asked() or "a signal to another machine"


def begin() -> None:
    """To be called before the first step. Does not return when the run is being ended before it."""
    if not pulse.begin():
        threading.Event().wait()


def stopped(why: str, done: int, total: int, name: str, saved: bool) -> dict[str, Any]:
    """What the summary says of a run, of that name, that was stopped after so many steps. saved: whether all of it is.
    report: the last line of the command."""
    kept = f"all of it is saved; the same command with run.name={name} goes on" if saved else "it could not be saved"
    report = f"stopped by {why} after step {done:,} of {total:,}: {kept}"
    return {"status": "stopped", "stopped_by": why, "steps": done, "saved": saved, "report": report}
