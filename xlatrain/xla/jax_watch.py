"""Counters of what JAX's runtime compiles, or finds compiled."""

from __future__ import annotations

import jax

_HIT = "/jax/compilation_cache/cache_hits"
_COMPILE = "/jax/core/compile/backend_compile_duration"
_counts = {_HIT: 0, _COMPILE: 0}


def watch() -> None:
    """Begin to count."""
    jax.monitoring.register_event_listener(lambda event, **more: _count(event))
    jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **more: _count(event))


def cache_hits() -> int:
    """Programs that were found compiled by an earlier process, so far."""
    return _counts[_HIT]


def own_compiles() -> int:
    """Compilations that JAX itself thought necessary, of other programs than steps, so far."""
    return _counts[_COMPILE]


def _count(event: str) -> None:
    if event in _counts:
        _counts[event] += 1
