"""Sums over pixels of [N, H, W, C], as XLA:CPU is fast at them.

Its own reductions add one number at a time. A sum of slices is added eight channels at a time and read where it is
made, and its matrix product keeps all cores busy. (A product of one row is another, slower routine, hence eight.)
"""

from __future__ import annotations

import torch

from xlatrain.models.dtypes import wide
from xlatrain.xla.barrier import written

_SLICES, _ROWS = 8, 8


def channel_sums(x: torch.Tensor) -> torch.Tensor:
    """[N, H, W, C] to [C], in float32, of float64 in float64. For use where no gradient is recorded."""
    x = written(fold(wide(x)))  # as it is: seen as rows, each would begin with divisions to find out where it is
    rows = x.reshape(-1, x.shape[3])
    return (rows.new_ones(_ROWS, len(rows)) @ rows)[0]


def image_sums(x: torch.Tensor) -> torch.Tensor:
    """[N, H, W, C] to [N, C], likewise."""
    return fold(wide(x)).sum((1, 2))


def fold(x: torch.Tensor) -> torch.Tensor:
    """[N, H, W, C] to [N, H, W / k, C]: the sums of k pixels that lie W / k apart, k of at most 8."""
    slices = max(k for k in range(1, _SLICES + 1) if x.shape[2] % k == 0)
    total, *others = x.chunk(slices, 2)
    for part in others:
        total = total + part
    return total
