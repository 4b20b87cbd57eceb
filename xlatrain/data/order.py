"""Who reads what, and when: pure functions of (seed, epoch, layout), no I/O.

An epoch is one line of samples: the shards in permuted order, laid end to end. The line is cut into equal ranges for
processes, and each of those into equal runs for workers; inside a run, samples are shuffled in windows. The workers of
a process fill the rows of its batches in turns, so that each batch holds samples of every worker's window; sources.py
makes them. Whatever reads, reads forward. What was read up to any step follows from the layout alone, so a position in
the data is a few numbers, and what remains of an epoch is a line again, to be cut for another number of processes or
workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Leg:
    """A stretch of an epoch that is read under one layout. batch: images of one process; steps: batches made."""

    processes: int
    workers: int
    batch: int
    steps: int = 0


@dataclass(frozen=True)
class Position:
    """How far training has come in the data: the epoch, and the legs of it read so far, the last one still going on.
    No legs: its beginning. step: batches that each process made since the run began, which sizes of images go by. All
    that a checkpoint need hold."""

    epoch: int = 0
    legs: tuple[Leg, ...] = ()
    step: int = 0

    def advance(self, steps: int) -> Position:
        """Some steps further in the same leg."""
        *before, last = self.legs
        return replace(self, legs=(*before, replace(last, steps=last.steps + steps)), step=self.step + steps)

    def under(self, layout: Leg) -> Position:
        """The same position, to be gone on from under a layout: the same leg, if it is the same layout."""
        last = self.legs[-1] if self.legs else None
        if last and replace(last, steps=0) == replace(layout, steps=0):
            return self
        kept = self.legs if last and last.steps else self.legs[:-1]
        return replace(self, legs=(*kept, replace(layout, steps=0)))


@dataclass(frozen=True)
class Span:
    """A stretch of one shard: samples first <= i < last of the shard at `shard` in index order."""

    shard: int
    first: int
    last: int


@dataclass(frozen=True)
class Line:
    """Spans in reading order. Positions on the line count its samples from 0."""

    spans: tuple[Span, ...]
    starts: np.ndarray  # int64 [spans + 1]: the position of each span's first sample, and the length of the line

    @property
    def samples(self) -> int:
        return int(self.starts[-1])

    def cut(self, first: int, last: int) -> list[Span]:
        """The spans that hold positions first <= p < last."""
        spans = []
        i = int(np.searchsorted(self.starts, first, side="right")) - 1
        while first < last:
            span, start = self.spans[i], int(self.starts[i])
            end = min(last, start + span.last - span.first)
            if first < end:
                spans.append(Span(span.shard, span.first + first - start, span.first + end - start))
            first, i = max(first, end), i + 1
        return spans


def epoch_line(sizes: Sequence[int], seed: int, epoch: int) -> Line:
    """An epoch's line: every sample of every shard."""
    return _line(Span(int(i), 0, sizes[i]) for i in _generator(seed, epoch, 0).permutation(len(sizes)))


def plain_line(sizes: Sequence[int]) -> Line:
    """Every sample in index order, for evaluation."""
    return _line(Span(i, 0, size) for i, size in enumerate(sizes))


def remaining_line(line: Line, leg: Leg, seed: int, epoch: int, number: int, window: int) -> Line:
    """What a leg leaves of its line: of each window that was begun the samples not yet handed out, all windows not
    begun, and the remainder that belonged to no process. number: of the leg in its epoch."""
    spans, batches = [], leg_steps(line.samples, leg)
    for process, worker in itertools.product(range(leg.processes), range(leg.workers)):
        first, last = worker_range(batches, leg, process, worker)
        done = rows_before(leg, worker)
        begun = first + done // window * window
        if done % window:
            end = min(begun + window, last)
            left = np.sort(window_order(end - begun, seed, epoch, number, begun)[done % window :])
            for run in np.split(left, np.flatnonzero(np.diff(left) != 1) + 1):
                spans += line.cut(begun + int(run[0]), begun + int(run[-1]) + 1) if len(run) else []
            begun = end
        spans += line.cut(begun, last)
    return _line([*spans, *line.cut(batches * leg.batch * leg.processes, line.samples)])


def line_at(sizes: Sequence[int], seed: int, position: Position, window: int) -> Line:
    """The line that the last leg of a position is cut from."""
    line = epoch_line(sizes, seed, position.epoch)
    for number, leg in enumerate(position.legs[:-1]):
        line = remaining_line(line, leg, seed, position.epoch, number, window)
    return line


def leg_steps(samples: int, leg: Leg) -> int:
    """Batches that each process makes of a line. What is left over, less than one global batch, is not read."""
    return samples // (leg.batch * leg.processes)


def worker_run(samples: int, workers: int, worker: int) -> tuple[int, int]:
    """The samples first <= p < last of a process that a worker reads: one contiguous run. They are dealt out to the
    rows of the process's batches in turns: row r of batch n is filled by worker (n * batch + r) % workers."""
    share, more = divmod(samples, workers)
    first = worker * share + min(worker, more)
    return first, first + share + (worker < more)


def worker_rows(batch: int, workers: int, worker: int, number: int) -> slice:
    """The rows that a worker fills in a process's batch of this number, counted from the beginning of a leg."""
    return slice((worker - number * batch) % workers, batch, workers)


def rows_before(leg: Leg, worker: int) -> int:
    """Rows that a worker has filled in the steps of a leg so far."""
    return len(range(worker, leg.steps * leg.batch, leg.workers))


def worker_range(batches: int, leg: Leg, process: int, worker: int) -> tuple[int, int]:
    """Positions first <= p < last of the line that a worker reads, for `batches` of each process."""
    samples = batches * leg.batch
    first, last = worker_run(samples, leg.workers, worker)
    return process * samples + first, process * samples + last


def window_order(size: int, seed: int, epoch: int, number: int, start: int) -> np.ndarray:
    """The order in which the samples of a window leave it; start is the window's position on the line of a leg."""
    return _generator(seed, epoch, 1, number, start).permutation(size)


def handed_out(
    first: int, last: int, seed: int, epoch: int, number: int, window: int, skip: int = 0
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Windows (first, last, order) of a run, in turn, from the sample on that follows the first `skip`: `order` counts
    from the window's own first sample and leaves out what was skipped. Windows wholly skipped do not appear."""
    for start in range(first + skip // window * window, last, window):
        end = min(start + window, last)
        order = window_order(end - start, seed, epoch, number, start)
        yield start, end, order[max(0, first + skip - start) :]


def eval_range(samples: int, process_batch: int, process: int, processes: int) -> tuple[int, int, int]:
    """(first, last, batches): the samples that a process evaluates, and how many batches every process runs.

    Every sample lies in exactly one process's range; ranges may be empty, batches are the same everywhere.
    """
    batches = -(-samples // (process_batch * processes))
    first = min(process * batches * process_batch, samples)
    return first, min(first + batches * process_batch, samples), batches


def sample_generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    """Random numbers for one sample, the same whichever process, worker or replica draws them."""
    return _generator(seed, epoch, 2, number)


def dealt(samples: int, seed: int) -> np.ndarray:
    """Samples dealt out at random, the same in every epoch: the sample that lies at each place. int64 [samples]."""
    return _generator(seed, 3).permutation(samples)


def sample_seed(seed: int, epoch: int, number: int) -> int:
    """A seed for what somebody else's code draws for one sample: 32 bits."""
    return int(np.random.SeedSequence([seed, epoch, 4, number]).generate_state(1)[0])


def _line(spans: Iterator[Span] | Sequence[Span]) -> Line:
    kept = tuple(s for s in spans if s.last > s.first)
    return Line(kept, np.cumsum([0, *(s.last - s.first for s in kept)], dtype=np.int64))


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k & 0xFFFFFFFF for k in key])))
