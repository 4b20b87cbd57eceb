"""Schedules as tables: one learning rate, and one momentum, for each step, on the device before training starts.

The captured step picks its values by the step counter it carries, so no number crosses to the device during a run and
no value, 0 and 1 included, can cause a second compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule with its lengths resolved to steps.

    length: steps at which cosine and polynomial are at their end; None: total_steps.
    milestones: steps at which `step` applies its factor. points: (step, learning rate) of `piecewise`, in order.
    factors: (step, factor on the rate from there on), in order, for the phases of progressive resizing.
    """

    name: str
    peak_lr: float
    total_steps: int
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    warmup_shape: str = "linear"
    end_lr: float = 0.0
    power: float = 2.0
    decay: float = 0.97
    decay_steps: float = 1.0
    from_start: bool = False
    length: int | None = None
    milestones: tuple[int, ...] = ()
    points: tuple[tuple[int, float], ...] = ()
    div: float = 10.0
    tail: float = 0.1
    momentum: float = 0.9
    low_momentum: float | None = None
    factors: tuple[tuple[int, float], ...] = ()


def constant(spec: ScheduleSpec, step: int) -> float:
    return spec.peak_lr


def cosine(spec: ScheduleSpec, step: int) -> float:
    """end + (peak - end)/2 · (1 + cos(pi·t/T)), t and T counted after the warm-up, or from step 0."""
    progress = _progress(spec, step)
    return spec.end_lr + (spec.peak_lr - spec.end_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def polynomial(spec: ScheduleSpec, step: int) -> float:
    """end + (peak - end)·(1 - t/T)^power, t and T counted after the warm-up, or from step 0."""
    return spec.end_lr + (spec.peak_lr - spec.end_lr) * (1.0 - _progress(spec, step)) ** spec.power


def exponential(spec: ScheduleSpec, step: int) -> float:
    """peak · decay^floor(step / decay_steps), counted from step 0, not from the end of the warm-up: as the reference
    TPU EfficientNet does it, so the rate just after a 5-epoch warm-up already is peak · 0.97²."""
    # A hair more than the step, so that 2.4 epochs of 5 steps are 12 whole ones in floating point too.
    return spec.peak_lr * spec.decay ** math.floor(step / spec.decay_steps + 1e-9)


def step_decay(spec: ScheduleSpec, step: int) -> float:
    """peak · decay^(milestones passed)."""
    return spec.peak_lr * spec.decay ** sum(step >= m for m in spec.milestones)


def one_cycle(spec: ScheduleSpec, step: int) -> float:
    """fast.ai's cycle (`use_clr_beta`, verified): peak/div up to the peak and back, each in (1 - tail)/2 of the run,
    then down to peak/(100·div) over the last `tail` of it; all linear."""
    half = int(spec.total_steps * (1.0 - spec.tail) / 2)
    low = spec.peak_lr / spec.div
    if step < 2 * half:
        return low + (spec.peak_lr - low) * _triangle(step, half)
    rest = max(1, spec.total_steps - 2 * half)
    return low + (low / 100.0 - low) * (step - 2 * half) / rest


def piecewise(spec: ScheduleSpec, step: int) -> float:
    """Straight lines between the points; constant before the first and after the last. Where two points share a step
    the rate jumps to the later."""
    before = [p for p in spec.points if p[0] <= step]
    after = [p for p in spec.points if p[0] > step]
    if not before:
        return after[0][1]
    if not after:
        return before[-1][1]
    (a, from_lr), (b, to_lr) = before[-1], after[0]
    return from_lr + (to_lr - from_lr) * (step - a) / (b - a)


SHAPES: dict[str, Callable[[ScheduleSpec, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "exponential": exponential,
    "step": step_decay,
    "onecycle": one_cycle,
    "piecewise": piecewise,
}


def learning_rate(spec: ScheduleSpec, step: int) -> float:
    """The rate of a step: while step < warmup_steps, linear from warmup_lr to the peak or constantly warmup_lr; then
    the named shape. All times the factor of the phase."""
    factor = next((f for first, f in reversed(spec.factors) if first <= step), 1.0)
    if step < spec.warmup_steps:
        if spec.warmup_shape == "constant":
            return spec.warmup_lr * factor
        return (spec.warmup_lr + (spec.peak_lr - spec.warmup_lr) * step / spec.warmup_steps) * factor
    return SHAPES[spec.name](spec, step) * factor


def momentum(spec: ScheduleSpec, step: int) -> float:
    """The momentum of a step: constant, but for a one-cycle with a low_momentum, which it reaches when the rate is
    highest, and from which it is back when the tail begins."""
    half = int(spec.total_steps * (1.0 - spec.tail) / 2)
    if spec.name != "onecycle" or spec.low_momentum is None or step >= 2 * half:
        return spec.momentum
    return spec.momentum + (spec.low_momentum - spec.momentum) * _triangle(step, half)


def learning_rate_table(spec: ScheduleSpec) -> list[float]:
    """The rate of each step of the run."""
    return [learning_rate(spec, step) for step in range(spec.total_steps)]


def momentum_table(spec: ScheduleSpec) -> list[float]:
    """The momentum of each step of the run."""
    return [momentum(spec, step) for step in range(spec.total_steps)]


def _triangle(step: int, half: int) -> float:
    """0 at step 0, 1 at step `half`, 0 at 2·half."""
    return step / half if step < half else (2 * half - step) / half


def _progress(spec: ScheduleSpec, step: int) -> float:
    start, end = 0 if spec.from_start else spec.warmup_steps, spec.length or spec.total_steps
    return min(1.0, (step - start) / max(1, end - start))
