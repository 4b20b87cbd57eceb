"""How many replicas a step is traced for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch_xla.runtime as xr

_planned_world: list[int] = []


def world_size() -> int:
    """Replicas of the run, or of the run that is being planned."""
    return _planned_world[-1] if _planned_world else xr.world_size()


@contextlib.contextmanager
def planned_world(size: int) -> Iterator[None]:
    """Trace as one of `size` replicas, on a device that is alone. What is traced so can be compiled, and run by a
    runtime that has so many; not by torch_xla."""
    _planned_world.append(size)
    try:
        yield
    finally:
        _planned_world.pop()
