"""Durations with a unit ("90ep", "1000step", "5%", "1.28Mexample"), and a run in steps and epochs: both ways, also
where images, batches and so the steps of an epoch change on the way.

An epoch is as many images as the training set has, so images / global batch steps: a real number. What is asked for in
epochs becomes steps once, at the end, rounded down, as the reference TPU code does it (train_steps, warmup_steps). The
order of the data counts its own epochs, of whole batches; training does not look at them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from xlatrain.data.phase import Phase

_FORM = re.compile(r"(?P<value>\d+(?:\.\d*)?|\.\d+)\s*(?P<scale>[kM]?)(?P<unit>ep|step|%|example)")
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000}
_HAIR = 1e-9  # so that 2.4 epochs of 5 steps are 12 whole ones in floating point too


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


@dataclass(frozen=True)
class Lengths:
    """The phases of a run in turn, and how long it is. samples: training images."""

    samples: int
    phases: tuple[Phase, ...]
    total_steps: int
    log_every: Duration
    eval_every: Duration

    def phase_number(self, step: int) -> int:
        """The phase that a step (from 0) belongs to."""
        return max(i for i, p in enumerate(self.phases) if p.first_step <= step)

    def steps_per_epoch(self, phase: Phase) -> float:
        """Steps in which a phase sees as many images as there are."""
        return self.samples / phase.global_batch

    def epoch(self, steps: int) -> float:
        """Epochs done after a number of steps: images seen / images."""
        return self._examples(steps) / self.samples

    def steps(self, duration: Duration) -> int:
        """A duration from the start of the run in whole steps, rounded down."""
        return whole_steps(self.samples, self.phases, duration, self.total_steps)

    def due(self, every: Duration, done: int) -> bool:
        """Whether what happens `every` so long, and at the end, happens after this many steps."""
        return done == self.total_steps or self.passed(every, done - 1, done)

    def passed(self, every: Duration, before: int, done: int) -> bool:
        """Whether what happens `every` so long falls to one of the steps after step `before`, up to `done`."""
        return self.times(every, done) > self.times(every, before)

    def evaluations(self) -> int:
        """How often the run evaluates."""
        return self.times(self.eval_every, self.total_steps - 1) + 1

    def times(self, every: Duration, done: int) -> int:
        """How often what happens `every` so long has come in so many steps."""
        match every.unit:
            case "ep":
                progress = self.epoch(done)
            case "%":
                progress = 100 * done / self.total_steps
            case "example":
                progress = self._examples(done)
            case _:
                progress = done
        return math.floor(progress / every.amount + _HAIR)

    def _examples(self, done: int) -> int:
        ends = [*(p.first_step for p in self.phases[1:]), max(done, self.phases[-1].first_step)]
        counts = [(max(0, min(done, end) - p.first_step), p) for p, end in zip(self.phases, ends, strict=True)]
        return sum(steps * p.global_batch for steps, p in counts)


def whole_steps(samples: int, phases: tuple[Phase, ...], duration: Duration, total_steps: int | None = None) -> int:
    """A duration from the start of the run in steps, rounded down. As exact_steps."""
    return math.floor(exact_steps(samples, phases, duration, total_steps) + _HAIR)


def exact_steps(samples: int, phases: tuple[Phase, ...], duration: Duration, total_steps: int | None = None) -> float:
    """A duration from the start of the run in steps, not rounded. samples: images of an epoch. Raises ValueError for
    "%" without total_steps."""
    if duration.unit == "step":
        return duration.amount
    if duration.unit == "%":
        if total_steps is None:
            raise ValueError("a percentage needs a run to be a part of")
        return duration.amount / 100 * total_steps
    left = duration.amount * (samples if duration.unit == "ep" else 1)  # images
    for phase, after in zip(phases, [*phases[1:], None], strict=True):
        length = math.inf if after is None else after.first_step - phase.first_step
        if left <= length * phase.global_batch + _HAIR:
            return phase.first_step + left / phase.global_batch
        left -= length * phase.global_batch
    raise AssertionError("the last phase has no end")
