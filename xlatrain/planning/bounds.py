"""How few bytes a product must move between memory and chip: communication lower bounds of projective loop nests.

Dinh and Demmel, arXiv:2003.00119 (bounds for loops of any lengths; the abstract is verified, the linear program below
is recalled). A pointwise convolution or a dense layer is Out[p, k] += In[p, c] · F[c, k]: three loops, three arrays,
each seen by two of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Product:
    """A product of p x c by c x k values, as the compiled program has it. moved: bytes that it reads and writes."""

    scope: str
    op: str
    p: int
    c: int
    k: int
    moved: int
    value_bytes: int = 2

    def bound(self, memory_bytes: float) -> float:
        """Bytes that no schedule can stay below with this much on-chip memory."""
        return lower_bound(self.p, self.c, self.k, memory_bytes / self.value_bytes) * self.value_bytes


def lower_bound(p: int, c: int, k: int, memory: float) -> float:
    """Values to move for p·c·k multiply-adds with `memory` values on the chip: memory · p·c·k / memory^κ, up to a
    constant, κ the largest sum of λ with λp + λc <= 1, λp + λk <= 1, λc + λk <= 1 and each λ below log_memory of its
    loop; never less than reading both inputs and writing the result once, which is all if the three fit the chip."""
    once = float(p * c + c * k + p * k)
    if once <= memory:
        return once
    limits = [min(1.0, math.log(n) / math.log(memory)) if n > 1 else 0.0 for n in (p, c, k)]
    volume = max(sum(point) for point in _vertices(limits))
    return max(p * c * k / memory ** (volume - 1.0), once)


def _vertices(limits: list[float]) -> list[tuple[float, float, float]]:
    """Points among which the optimum is: each λ at 0, at its limit, at one half, or as much as the others leave."""
    found = []
    for chosen in product(*[(0.0, 0.5, limit) for limit in limits]):
        for free in range(3):
            point = list(chosen)
            point[free] = min(limits[free], *(1.0 - point[i] for i in range(3) if i != free))
            pairs = (point[0] + point[1], point[0] + point[2], point[1] + point[2])
            if (
                min(point) >= 0
                and max(pairs) <= 1 + 1e-12
                and all(v <= m + 1e-12 for v, m in zip(point, limits, strict=True))
            ):
                found.append(tuple(point))
    return found
