"""Learning rate schedules as tables: one value a step, on the device before training starts.

The captured step picks its value by the step counter it carries, so no number crosses to the device during a run and no
value, 0 and 1 included, can cause a second compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule with its lengths resolved to steps."""

    name: str
    peak_lr: float
    total_steps: int
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    end_lr: float = 0.0
    power: float = 2.0
    decay: float = 0.97
    decay_steps: int = 1


def constant(spec: ScheduleSpec, step: int) -> float:
    return spec.peak_lr


def cosine(spec: ScheduleSpec, step: int) -> float:
    """end + (peak - end)/2 · (1 + cos(pi·t/T)), t and T counted after the warm-up."""
    progress = _progress(spec, step)
    return spec.end_lr + (spec.peak_lr - spec.end_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def polynomial(spec: ScheduleSpec, step: int) -> float:
    """end + (peak - end)·(1 - t/T)^power, t and T counted after the warm-up."""
    return spec.end_lr + (spec.peak_lr - spec.end_lr) * (1.0 - _progress(spec, step)) ** spec.power


def exponential(spec: ScheduleSpec, step: int) -> float:
    """peak · decay^floor(step / decay_steps), counted from step 0, not from the end of the warm-up: as the reference
    TPU EfficientNet does it, so the rate just after a 5-epoch warm-up already is peak · 0.97²."""
    return spec.peak_lr * spec.decay ** (step // spec.decay_steps)


SHAPES: dict[str, Callable[[ScheduleSpec, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "exponential": exponential,
}


def learning_rate(spec: ScheduleSpec, step: int) -> float:
    """The rate of a step: linear from warmup_lr to the peak while step < warmup_steps, then the named shape."""
    if step < spec.warmup_steps:
        return spec.warmup_lr + (spec.peak_lr - spec.warmup_lr) * step / spec.warmup_steps
    return SHAPES[spec.name](spec, step)


def learning_rate_table(spec: ScheduleSpec) -> list[float]:
    """The rate of each step of the run."""
    return [learning_rate(spec, step) for step in range(spec.total_steps)]


def _progress(spec: ScheduleSpec, step: int) -> float:
    return min(1.0, (step - spec.warmup_steps) / max(1, spec.total_steps - spec.warmup_steps))
