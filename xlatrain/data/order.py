"""Which sample is in which row of which global batch: pure functions of (seed, epoch, streams, batch), no I/O.

An epoch is one line of samples: the shards in permuted order, laid end to end. The line is cut into contiguous streams,
each of which fills the same rows of every global batch; inside a stream, samples are shuffled in windows, so that each
batch draws on the windows of all. Who reads is free: processes, and their workers, have a range of rows each, open the
streams that these rows meet, and read forward; sources.py does. What was read up to any step follows from a few
numbers, a position, whoever read it; what remains of an epoch is a line again, to be cut for another batch.

Where each image is seen several times in a batch (data.repeats), all this is of a batch of the images once: the legs
have its size, and the rows of the whole batch take its rows over and over (`views`), so that the views of an image lie
as far apart as can be, on other replicas. A pass through the line is then so many epochs of training long.

From a row on: phase.Place says which process makes it, sources.py which of its workers, xla/feed.py which replica gets
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

STREAMS = 8  # of a run with no more readers: then 1 x 8, 2 x 4 and 4 x 2 replicas see the same batches by default


@dataclass(frozen=True)
class Leg:
    """A stretch of an epoch that is cut in one way. streams: that fill a batch; batch: images of all processes; steps:
    batches made."""

    streams: int
    batch: int
    steps: int = 0


@dataclass(frozen=True)
class Position:
    """How far training has come in the data: the epoch, and the legs of it read so far, the last one still going on.
    No legs: its beginning. step: batches made since the run began, which sizes of images go by. All that a checkpoint
    need hold, and the same for any number of processes and workers."""

    epoch: int = 0
    legs: tuple[Leg, ...] = ()
    step: int = 0

    def advance(self, steps: int) -> Position:
        """Some steps further in the same leg."""
        *before, last = self.legs
        return replace(self, legs=(*before, replace(last, steps=last.steps + steps)), step=self.step + steps)

    def under(self, cut: Leg) -> Position:
        """The same position, to be gone on from under a cut: in the same leg, if it is cut like that already."""
        last = self.legs[-1] if self.legs else None
        if last and replace(last, steps=0) == replace(cut, steps=0):
            return self
        kept = self.legs if last and last.steps else self.legs[:-1]
        return replace(self, legs=(*kept, replace(cut, steps=0)))


@dataclass(frozen=True)
class Run:
    """What a reader hands out of a stream. The stream: positions first <= p < last of the line, shuffled, of which each
    batch takes the next `rows`. The reader's: of these those numbered low <= i < high, from batch `done` on."""

    first: int
    last: int
    rows: int
    low: int
    high: int
    done: int


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
    begun, and the remainder that belonged to no batch. number: of the leg in its epoch."""
    spans = []
    for run in stream_runs(line.samples, leg, (0, leg.batch)):
        done = run.done * run.rows
        begun = run.first + done // window * window
        if done % window:
            end = min(begun + window, run.last)
            left = np.sort(window_order(end - begun, seed, epoch, number, begun)[done % window :])
            for part in np.split(left, np.flatnonzero(np.diff(left) != 1) + 1):
                spans += line.cut(begun + int(part[0]), begun + int(part[-1]) + 1) if len(part) else []
            begun = end
        spans += line.cut(begun, run.last)
    return _line([*spans, *line.cut(leg_steps(line.samples, leg) * leg.batch, line.samples)])


def line_at(sizes: Sequence[int], seed: int, position: Position, window: int) -> Line:
    """The line that the last leg of a position is cut from."""
    line = epoch_line(sizes, seed, position.epoch)
    for number, leg in enumerate(position.legs[:-1]):
        line = remaining_line(line, leg, seed, position.epoch, number, window)
    return line


def distinct_images(batch: int, repeats: int) -> int:
    """Images of a batch in which each is seen so many times, or once less where that does not divide the batch."""
    return -(-batch // repeats)


def views(rows: tuple[int, int], distinct: int) -> list[tuple[int, int]]:
    """For rows first <= r < last of a batch in which `distinct` images lie over and over: of each the row of its image
    among the distinct ones, and which view of it this is, from 0."""
    return [(row % distinct, row // distinct) for row in range(*rows)]


def distinct_rows(rows: tuple[int, int], distinct: int) -> list[tuple[int, int]]:
    """The ranges of distinct rows, in order, that rows first <= r < last of a batch need: one, or two where they go
    over the end."""
    first, last = rows
    if last - first >= distinct:
        return [(0, distinct)]
    low, high = first % distinct, first % distinct + last - first
    parts = [(low, min(high, distinct))] + ([(0, high - distinct)] if high > distinct else [])
    return sorted(part for part in parts if part[0] < part[1])


def leg_steps(samples: int, leg: Leg) -> int:
    """Batches that are made of a line. What is left over, less than one of them, is not read."""
    return samples // leg.batch


def share(items: int, parts: int, part: int) -> tuple[int, int]:
    """Items first <= i < last of a part of contiguous, equal ones: of rows, for a stream, a process or a worker."""
    return part * items // parts, (part + 1) * items // parts


def streams_for(readers: int) -> int:
    """Streams where nobody says how many. More readers than STREAMS have one each, so that nothing is read twice."""
    return max(STREAMS, readers)


def stream_runs(samples: int, leg: Leg, rows: tuple[int, int]) -> list[Run]:
    """What a reader of rows first <= r < last of a leg's batches hands out, in the order of its rows. samples: of the
    line. Streams without a row of its own, where there are more than rows in a batch, do not appear."""
    steps, runs = leg_steps(samples, leg), []
    for stream in range(leg.streams):
        first, last = share(leg.batch, leg.streams, stream)
        low, high = max(first, rows[0]), min(last, rows[1])
        if low < high:
            runs.append(Run(first * steps, last * steps, last - first, low - first, high - first, leg.steps))
    return runs


def worker_run(samples: int, workers: int, worker: int) -> tuple[int, int]:
    """The samples first <= p < last of a process's evaluation that a worker reads: one contiguous run. They are
    dealt out to the rows of its batches in turns: row r of batch n is filled by worker (n * batch + r) % workers."""
    part, more = divmod(samples, workers)
    first = worker * part + min(worker, more)
    return first, first + part + (worker < more)


def worker_rows(batch: int, workers: int, worker: int, number: int) -> slice:
    """The rows that a worker fills in a process's batch of this number of an evaluation."""
    return slice((worker - number * batch) % workers, batch, workers)


def window_order(size: int, seed: int, epoch: int, number: int, start: int) -> np.ndarray:
    """The order in which the samples of a window leave it; start: its position on the line of a leg."""
    return _generator(seed, epoch, 1, number, start).permutation(size)


def handed_out(run: Run, seed: int, epoch: int, number: int, window: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Windows (first, last, ranks) of a run, in turn: `ranks` are the reader's samples of a window, in the order in
    which they leave it, counted from the window's own first. Windows of which it has none do not appear."""
    for start in range(run.first + run.done * run.rows // window * window, run.last, window):
        end = min(start + window, run.last)
        batch, row = np.divmod(np.arange(start - run.first, end - run.first), run.rows)
        mine = (batch >= run.done) & (row >= run.low) & (row < run.high)
        if mine.any():
            yield start, end, window_order(end - start, seed, epoch, number, start)[mine]


def eval_numbers(samples: int, process_batch: int, process: int, processes: int, workers: int) -> Iterator[np.ndarray]:
    """Batch after batch of a process's evaluation the sample that lies in each row, -1 for padding: int64
    [process_batch]. workers: that fill them, as of worker_run; 1 where all lie in their order."""
    begin, end, batches = eval_range(samples, process_batch, process, processes)
    runs = np.array([worker_run(end - begin, workers, worker) for worker in range(workers)])
    for number in range(batches):
        place = number * process_batch + np.arange(process_batch)
        found = runs[place % workers, 0] + place // workers
        yield np.where(found < runs[place % workers, 1], begin + found, -1)


def eval_range(samples: int, process_batch: int, process: int, processes: int) -> tuple[int, int, int]:
    """(first, last, batches): the samples that a process evaluates, and how many batches every process runs.

    Every sample lies in exactly one process's range; ranges may be empty, batches are the same everywhere.
    """
    batches = -(-samples // (process_batch * processes))
    first = min(process * batches * process_batch, samples)
    return first, min(first + batches * process_batch, samples), batches


def sample_generator(seed: int, epoch: int, number: int, view: int = 0) -> np.random.Generator:
    """Random numbers for one view of a sample, the same whichever process, worker or replica draws them."""
    return _generator(seed, epoch, 2, number, view) if view else _generator(seed, epoch, 2, number)


def dealt(samples: int, seed: int) -> np.ndarray:
    """Samples dealt out at random, the same in every epoch: the sample that lies at each place. int64 [samples]."""
    return _generator(seed, 3).permutation(samples)


def sample_seed(seed: int, epoch: int, number: int, view: int = 0) -> int:
    """A seed for what somebody else's code draws for one view of a sample: 32 bits."""
    key = [seed, epoch, 4, number, view] if view else [seed, epoch, 4, number]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _line(spans: Iterator[Span] | Sequence[Span]) -> Line:
    kept = tuple(s for s in spans if s.last > s.first)
    return Line(kept, np.cumsum([0, *(s.last - s.first for s in kept)], dtype=np.int64))


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k & 0xFFFFFFFF for k in key])))
