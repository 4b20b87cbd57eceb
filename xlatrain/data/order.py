"""Who reads what, and when: pure functions of (seed, epoch, layout), no I/O.

An epoch is one line of samples: the shards in permuted order, laid end to end. The line is cut into equal ranges for
processes, and each of those into runs of whole batches for workers; inside a run, samples are shuffled in windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """A stretch of one shard: samples first <= i < last of the shard at `shard` in index order."""

    shard: int
    first: int
    last: int


def shard_line(sizes: Sequence[int], seed: int, epoch: int) -> list[int]:
    """The order of the shards in an epoch."""
    return [int(i) for i in _generator(seed, epoch, 0).permutation(len(sizes))]


def cut(sizes: Sequence[int], line: Sequence[int], first: int, last: int) -> list[Span]:
    """The spans of shards that hold positions first <= p < last of the line."""
    spans, start = [], 0
    for shard in line:
        a, b = max(first - start, 0), min(last - start, sizes[shard])
        if a < b:
            spans.append(Span(shard, a, b))
        start += sizes[shard]
    return spans


def train_range(samples: int, process_batch: int, process: int, processes: int) -> tuple[int, int]:
    """The part of an epoch's line that a process trains on: as many whole batches for each process.

    What is left at the end of the line, less than one global batch, is not read this epoch; the line differs each time.
    """
    batches = samples // (process_batch * processes)
    return process * batches * process_batch, (process + 1) * batches * process_batch


def eval_range(samples: int, process_batch: int, process: int, processes: int) -> tuple[int, int, int]:
    """(first, last, batches): the samples that a process evaluates, and how many batches every process runs.

    Every sample lies in exactly one process's range; ranges may be empty, batches are the same everywhere.
    """
    batches = -(-samples // (process_batch * processes))
    first = min(process * batches * process_batch, samples)
    return first, min(first + batches * process_batch, samples), batches


def worker_batches(batches: int, epoch: int, worker: int, workers: int) -> range:
    """Which batches of a process's epoch a worker makes: those that fall to it when workers take turns without pause
    over all epochs, so that a round-robin over workers sees every epoch whole and in order."""
    first = (worker - epoch * batches) % workers
    return range(first, batches, workers)


def worker_range(batches: int, epoch: int, worker: int, workers: int) -> tuple[int, int]:
    """Batches a <= n < b of a process's range that a worker reads, in one contiguous stretch of the line."""
    counts = [len(worker_batches(batches, epoch, w, workers)) for w in range(workers)]
    return sum(counts[:worker]), sum(counts[: worker + 1])


def window_order(size: int, seed: int, epoch: int, start: int) -> Sequence[int]:
    """The order in which the samples of a window leave it; start is the window's position on the line."""
    return _generator(seed, epoch, 1, start).permutation(size)


def sample_generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    """Random numbers for one sample, the same whichever process, worker or replica draws them."""
    return _generator(seed, epoch, 2, number)


def windows(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a range of the line into windows of `size` samples, the last one shorter."""
    for start in range(first, last, size):
        yield start, min(start + size, last)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k & 0xFFFFFFFF for k in key])))
