"""Rules that carry a learning rate and a warm-up from one batch size to another.

linear: lr·k (Goyal et al., arXiv:1706.02677). sqrt: lr·sqrt(k). legw: lr·sqrt(k) and warm-up epochs·k (You et al.,
arXiv:1901.08256; the rule is recalled, its abstract verified). k = batch / base batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScalingRule:
    """lr, warmup: what a batch k times larger multiplies the peak learning rate and the warm-up epochs by."""

    lr: Callable[[float], float]
    warmup: Callable[[float], float]


RULES: dict[str, ScalingRule] = {
    "none": ScalingRule(lr=lambda k: 1.0, warmup=lambda k: 1.0),
    "linear": ScalingRule(lr=lambda k: k, warmup=lambda k: 1.0),
    "sqrt": ScalingRule(lr=math.sqrt, warmup=lambda k: 1.0),
    "legw": ScalingRule(lr=math.sqrt, warmup=lambda k: k),
}


def scale(rule: str, batch: int, base_batch: int, base_lr: float, base_warmup: float) -> tuple[float, float]:
    """The peak learning rate and the warm-up, in the unit it came in, for `batch` images."""
    k = batch / base_batch
    return base_lr * RULES[rule].lr(k), base_warmup * RULES[rule].warmup(k)
