"""Where the tensors of a model lie in flat ones, as a bundle's manifest says it and weights of others are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """Where a tensor of the model lies: prod(shape) values of `of`, made flat, from `start`; brought into the model's
    order of axes by transposing them as `axes` says, where it does."""

    name: str
    of: str
    start: int
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
