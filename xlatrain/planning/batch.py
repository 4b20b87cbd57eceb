"""The largest batch of a run that fits its TPU, found by its compiler."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from xlatrain.planning.estimate import GIB
from xlatrain.planning.plan import Say, compile_traced, trace
from xlatrain.planning.search import largest_fitting
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun

_MOST = 2**16  # images of a replica, in a micro-batch


@dataclass(frozen=True)
class LargestBatch:
    """local: images of a replica; 0 where not even one fits. needed: bytes of a replica's memory that this takes, of
    capacity. capped: it is not memory that ends it, but the number of images to train on."""

    local: int
    batch: int
    needed: int
    capacity: int
    capped: bool


def compiled_bytes(run: CheckedRun, names: Collection[str], capacity: int, say: Say) -> Callable[[int], int]:
    """Bytes that a run's steps, "train" and "eval", need of a replica's memory, by images of a micro-batch."""
    config, known = run.config, {}
    share = config.cluster.replicas * config.gradient.accumulate

    def needed(micro_batch: int) -> int:
        if micro_batch in known:
            return known[micro_batch]
        attempt = check([*run.overrides, f"train.global_batch={micro_batch * share}"], starts=False)
        traced = trace(attempt, say)
        steps = [compile_traced(traced, name, attempt, say) for name in names]
        size = max(step.needed for step in steps)
        # The compiler keeps some memory back: its verdict counts, not the sum.
        known[micro_batch] = size if all(step.fits for step in steps) else max(size, capacity + 1)
        return known[micro_batch]

    return needed


def find_largest(run: CheckedRun, say: Say) -> LargestBatch:
    """The largest batch, of those that have an image for each replica and micro-batch, from the run's own upwards or
    downwards. Raises ReplicaError."""
    config, chip = run.config, run.config.cluster.chip
    replicas, parts = config.cluster.replicas, config.gradient.accumulate
    capacity = int(chip.hbm_gib * GIB / chip.devices)
    needed = compiled_bytes(run, ["train"], capacity, say)
    most = min(_MOST, run.lengths.samples // (replicas * parts))
    fits, fails = 0, max(1, min(most, config.train.global_batch // (replicas * parts)))
    while needed(fails) <= capacity and fits < most:
        say(f"{fails * parts} images a replica fit: {needed(fails) / GIB:.2f} of {capacity / GIB:.1f} GiB")
        fits, fails = fails, min(most, 2 * fails)
    if fits < most:
        fits = largest_fitting(needed, capacity, fails, needed(fails), say, fits, needed(fits) if fits else 0)
    size = needed(fits) if fits else 0
    return LargestBatch(fits * parts, fits * parts * replicas, size, capacity, fits == most)
