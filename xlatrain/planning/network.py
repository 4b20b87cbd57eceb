"""The time of collectives on a torus of chips, by the alpha-beta model: hops of fixed latency, links of fixed rate.

All replicas: the replicas of a chip reduce through its memory, then the axes of the torus work at once, each on its
share of the data, in rings both ways round (an axis that does not wrap around has half the rate). A group does the same
on the box of chips that it is. Bytes are those of one replica's tensor. Links are taken as free of other traffic and
at full rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xlatrain.config.cluster import ClusterConfig


@dataclass(frozen=True)
class Collective:
    """Equal collectives of a step. bytes: of one replica's result; group_size: replicas; count: how many."""

    op: str
    bytes: int
    group_size: int
    count: int


def collective_ms(collective: Collective, cluster: ClusterConfig) -> float | None:
    """Milliseconds for all of them, one after the other; None if the cluster's facts do not suffice."""
    chip = cluster.chip
    if chip is None or not chip.ici_links or not chip.ici_gb_per_s or chip.hop_us is None or not cluster.topology:
        return None
    if collective.group_size == 1:
        return 0.0
    size = collective.bytes * (collective.group_size if collective.op == "reduce-scatter" else 1)
    chips = max(1, collective.group_size // chip.devices)
    seconds = _inside_chip(size, min(collective.group_size, chip.devices), chip.hbm_gb_per_s)
    link = chip.ici_gb_per_s * 1e9
    hop = chip.hop_us * 1e-6
    passes = 2 if collective.op == "all-reduce" else 1  # reduce-scatter and all-gather, or one of them
    if chips > 1:
        axes = group_axes(chips, cluster)
        rate = sum((2.0 if wraps else 1.0) * link for _, wraps in axes)
        hops = sum(n // 2 if wraps else n - 1 for n, wraps in axes)
        seconds += passes * (size * (chips - 1) / chips / rate + hops * hop)
    return collective.count * seconds * 1e3


def _inside_chip(size: int, replicas: int, hbm_gb_per_s: float | None) -> float:
    """Seconds for the replicas of a chip to combine: each reads the other's and writes the result."""
    return 3.0 * size / (hbm_gb_per_s * 1e9) if replicas > 1 and hbm_gb_per_s else 0.0


def group_axes(chips: int, cluster: ClusterConfig) -> list[tuple[int, bool]]:
    """The box of neighbouring chips that a group is: its length along each axis, and whether that axis is closed to a
    ring within it. Chips are taken as numbered along the last axis first, groups as contiguous."""
    wraps = list(cluster.wrap) or [False] * len(cluster.topology)
    axes, left = [], chips
    for length, wrap in zip(reversed(cluster.topology), reversed(wraps), strict=True):
        part = math.gcd(left, length)
        left //= part
        if part > 1:
            axes.append((part, wrap and part == length and part > 2))
    return [*axes, (left, False)] if left > 1 else axes
