"""Counters of what should happen rarely: compiles, ops that fall back to the CPU, transfers from the device."""

from __future__ import annotations

import threading
from collections import Counter

import torch_xla.debug.metrics as met

from xlatrain.xla.replica import Counts

_compiles: Counter[str] = Counter()
_lock = threading.Lock()


def uncached_compiles() -> int:
    """XLA compilations so far in this process, by anyone."""
    return met.counter_value("UncachedCompile") or 0


def record_compiles(name: str, count: int) -> None:
    """Book `count` compilations to the captured step `name`."""
    with _lock:
        _compiles[name] += count


def compiles(name: str) -> int:
    """Compilations booked to a captured step, over all replicas of this process."""
    return _compiles[name]


def other_compiles(*names: str) -> int:
    """Compilations in this process that are not booked to the named steps."""
    return uncached_compiles() - sum(_compiles[n] for n in names)


def unbooked_compiles() -> int:
    """Compilations in this process that are not booked to any step."""
    with _lock:
        return uncached_compiles() - sum(_compiles.values())


def fallback_ops() -> dict[str, int]:
    """Ops that XLA has no lowering for and that ran on the CPU, with counts: {"aten::nonzero": 3}."""
    return {name: met.counter_value(name) for name in met.counter_names() if name.startswith("aten::")}


def transfers_from_device() -> int:
    """Device-to-host copies so far in this process."""
    data = met.metric_data("TransferFromDeviceTime")
    return data[0] if data else 0


def counts(*names: str) -> Counts:
    """All of it, where torch_xla runs the steps. names: of captured steps."""
    return Counts({n: compiles(n) for n in names}, other_compiles(*names), fallback_ops(), transfers_from_device())
