"""Options of the learning rate: its shape over a run, and how it follows the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from xlatrain.config.option import option


@dataclass
class ScheduleConfig:
    name: str = option(
        MISSING,
        "shape after the warm-up",
        choices=("constant", "cosine", "polynomial", "exponential", "step", "onecycle", "piecewise"),
    )
    warmup: str | None = option(
        None, "length of the warm-up; longer than the run is a fault; null = default_warmup", "duration"
    )
    default_warmup: str = option(
        "0step", "the schedule's warm-up where none is asked for; cut to a quarter of the run", "duration"
    )
    warmup_lr: float = option(0.0, "learning rate at its start", low=0)
    warmup_shape: str = option(
        "linear", "from warmup_lr to the peak, or warmup_lr all along", choices=("linear", "constant")
    )
    end_lr: float = option(0.0, "cosine, polynomial: learning rate at the end", low=0)
    power: float = option(2.0, "polynomial: exponent", low=0)
    length: str | None = option(
        None,
        "cosine, polynomial: the run that the curve is made for, where another length of it is run; null = this one",
        "duration",
    )
    from_start: bool = option(False, "cosine, polynomial: count from step 0, not from the end of the warm-up")
    decay: float = option(0.97, "exponential, step: factor", low=0, high=1)
    decay_every: str = option(
        "2.4ep", "exponential: the factor applies once every this long, in steps (staircase)", "duration"
    )
    milestones: list[str] = option([], "step: when the factor applies, as in [30ep,60ep,80ep]", "durations")
    points: list[Any] = option([], "piecewise: straight lines between [duration, learning rate] points")
    div: float = option(10.0, "onecycle: the cycle starts at the peak divided by this", low=1)
    tail: float = option(0.1, "onecycle: share of the run after the cycle", low=0, high=1)
    low_momentum: float | None = option(None, "onecycle: momentum at the peak; null = momentum stays", low=0, high=1)


@dataclass
class ScalingConfig:
    rule: str = option(
        "none",
        "how peak and warm-up follow the batch: linear (lr·k), sqrt (lr·√k), legw (lr·√k, warm-up epochs·k)",
        choices=("none", "linear", "sqrt", "legw"),
    )
    lr_per_256: float | None = option(None, "peak for a batch of 256; replaces optimizer.lr", low=0)
    base_lr: float | None = option(None, "peak for a batch of base_batch; replaces optimizer.lr", low=0)
    base_batch: int = option(256, "the batch that base_lr and base_warmup are for", "images", low=1)
    base_warmup: str | None = option(None, "warm-up for base_batch; null = that of the schedule", "duration")
