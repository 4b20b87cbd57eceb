"""Samples to host batches: what training and evaluation read of a split, whatever it lies in."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from xlatrain.config.data import ImagesConfig
from xlatrain.data import order
from xlatrain.data.batch import Bad, Batch, BatchShape, Fill, Rows
from xlatrain.data.order import Leg, Line, Position, Run
from xlatrain.data.phase import Phase, Place, phase_at, phase_end
from xlatrain.data.shard_format import Sample
from xlatrain.data.workers import make_batches
from xlatrain.errors import bad_sample

if TYPE_CHECKING:
    from xlatrain.data.prepare import Preparer


class OrderedSplit(ABC):
    """A split (data.dataset.Split) whose samples lie in an order of its own, in parts, as shards are. Picklable.

    samples: of all parts. sizes: of each. window: samples of a stream that are shuffled together.
    """

    config: ImagesConfig
    samples: int
    sizes: Sequence[int]
    window: int

    @property
    def workers(self) -> int:
        """Processes that read it; 0 = a thread."""
        return self.config.workers or 0

    @property
    def repeats(self) -> int:
        """Views of each image in a batch of training."""
        return self.config.repeats

    @property
    def streams(self) -> int:
        """That fill a batch of training; see order.py."""
        return self.config.streams or order.streams_for(max(1, self.workers))

    def train_batches(self, place: Place, seed: int, phases: tuple[Phase, ...], start: Position) -> Iterator[Batch]:
        return make_batches(TrainSource(self, place, seed, phases, start), self.workers, self.config.prefetch)

    def eval_batches(self, place: Place, batch: int) -> Iterator[Batch]:
        return make_batches(EvalSource(self, place, batch), self.workers, self.config.prefetch)

    def position(self, seed: int, phases: tuple[Phase, ...], start: Position, steps: int) -> Position:
        return TrainSource(self, Place(0, 1), seed, phases, start).position(steps)

    @abstractmethod
    def preparer(self) -> Preparer:
        """What makes rows of samples, with its own scratch memory."""

    @abstractmethod
    def read(self, line: Line, first: int, last: int) -> Iterator[Sample]:
        """The samples at positions first <= p < last of a line, in its order."""

    @abstractmethod
    def shuffled(
        self, line: Line, runs: Sequence[Run], key: tuple[int, int, int], seconds: Counter[str]
    ) -> Iterator[list[Sample]]:
        """Batch after batch the samples of a reader's rows: of each run as many as it has rows, in the order that
        order.handed_out gives them for a key (seed, epoch, number of the leg); asked for no more than there are.
        seconds: of processor time, counted by name."""

    def again(self, sample: Sample, view: int, key: tuple[int, int, int]) -> Sample:
        """A sample that `shuffled` gave, for a further view of it, numbered from 1: what the data draw by themselves is
        drawn anew."""
        return sample


@dataclass(frozen=True)
class Stretch:
    """Batches of one size that are read one after the other: from a position, in the last leg of it, up to batch
    `last` of the leg. line: what the leg is cut from."""

    phase: Phase
    position: Position
    line: Line
    last: int

    @property
    def leg(self) -> Leg:
        return self.position.legs[-1]


class _Source:
    """What training and evaluation have in common of a BatchSource."""

    def __init__(self, split: OrderedSplit, place: Place):
        self.split, self.place = split, place
        self.workers = max(1, split.workers)

    def open(self) -> None:
        """Make what only the reading process has. seconds: where its time goes."""
        self.preparer = self.split.preparer()
        self.seconds: Counter[str] = self.preparer.seconds

    def finish(self, rows: Rows, bad: Bad | None) -> None:
        """A batch is complete when its rows are."""


class TrainSource(_Source):
    """A process's rows of the batches of training for ever, from a position on. A pass has samples // (different
    images in a batch) of them; where a phase ends within one, what is left of it is cut anew for the next's batch."""

    def __init__(self, split: OrderedSplit, place: Place, seed: int, phases: tuple[Phase, ...], start: Position):
        super().__init__(split, place)
        self.seed, self.phases, self.start = seed, phases, start

    @property
    def largest(self) -> int:
        return max(self._shape(phase).bytes for phase in self.phases)

    def shapes(self) -> Iterator[BatchShape]:
        for stretch in self._stretches():
            yield from itertools.repeat(self._shape(stretch.phase), stretch.last - stretch.leg.steps)

    def fills(self, worker: int) -> Iterator[Fill]:
        for stretch in self._stretches():
            leg, phase, position = stretch.leg, stretch.phase, stretch.position
            begin, end = self.place.rows(phase.global_batch)
            first, last = order.share(end - begin, self.workers, worker)
            rows = (begin + first, begin + last)
            parts = order.distinct_rows(rows, leg.batch)
            runs = [run for part in parts for run in order.stream_runs(stretch.line.samples, leg, part)]
            places, views = [row for part in parts for row in range(*part)], order.views(rows, leg.batch)
            key = (self.seed, position.epoch, len(position.legs) - 1)
            batches = self.split.shuffled(stretch.line, runs, key, self.seconds)
            for samples in itertools.islice(batches, stretch.last - leg.steps):
                at = dict(zip(places, samples, strict=True))
                mine = [(row, self._seen(at[place], view, key), view) for row, (place, view) in enumerate(views, first)]
                yield self._shape(phase), partial(self._fill, position.epoch, phase, mine)

    def _seen(self, sample: Sample, view: int, key: tuple[int, int, int]) -> Sample:
        return self.split.again(sample, view, key) if view else sample

    def _shape(self, phase: Phase) -> BatchShape:
        first, last = self.place.rows(phase.global_batch)
        return BatchShape(last - first, phase.image_size)

    def position(self, steps: int) -> Position:
        """Where the data stand after so many steps more."""
        target = self.start.step + steps
        for stretch in self._stretches():
            left = target - stretch.position.step
            if left < stretch.last - stretch.leg.steps:
                return stretch.position.advance(left)
        raise AssertionError("training has no end")

    def _stretches(self) -> Iterator[Stretch]:
        """What is read one after the other: what is left of the epoch that the start is in, then whole epochs, each in
        parts where a phase ends in it."""
        position, window = self.start, self.split.window
        while True:
            phase = phase_at(self.phases, position.step)
            distinct = order.distinct_images(phase.global_batch, self.split.repeats)
            position = position.under(Leg(self.split.streams, distinct))
            line, done = order.line_at(self.split.sizes, self.seed, position, window), position.legs[-1].steps
            steps = order.leg_steps(line.samples, position.legs[-1])
            last = int(min(steps, done + phase_end(self.phases, position.step) - position.step))
            yield Stretch(phase, position, line, last)
            position = position.advance(last - done)
            if last == steps:
                position = Position(position.epoch + 1, step=position.step)

    def _fill(self, epoch: int, phase: Phase, samples: list[tuple[int, Sample, int]], rows: Rows) -> Bad | None:
        bad = None
        for row, sample, view in samples:
            random = order.sample_generator(self.seed, epoch, sample.number, view)
            label = self.preparer.train(sample, rows["images"][row], random, phase.min_area)
            rows["labels"][row], rows["skipped"][row] = (-1, 1) if label is None else (label, 0)
            if label is None:
                bad = bad or (sample.shard, sample.key)
        return bad

    def finish(self, rows: Rows, bad: Bad | None) -> None:
        """The shape stays: good images of the batch stand in for what could not be decoded, and are counted."""
        if bad is None:
            return
        skipped, good = np.flatnonzero(rows["skipped"]), np.flatnonzero(rows["skipped"] == 0)
        if not len(good):
            raise bad_sample(*bad, "and all others of its batch cannot be decoded")
        source = np.resize(good, len(skipped))
        rows["images"][skipped], rows["labels"][skipped] = rows["images"][source], rows["labels"][source]


class EvalSource(_Source):
    """Each sample once, in batches of one shape: what is missing at the end is padded and masked."""

    def __init__(self, split: OrderedSplit, place: Place, batch: int):
        super().__init__(split, place)
        self.shape = BatchShape(batch, split.config.image_size, masked=True)
        self.range = order.eval_range(split.samples, batch, place.process, place.processes)

    @property
    def largest(self) -> int:
        return self.shape.bytes

    def shapes(self) -> Iterator[BatchShape]:
        return itertools.repeat(self.shape, self.range[2])

    def fills(self, worker: int) -> Iterator[Fill]:
        begin, end, batches = self.range
        first, last = order.worker_run(end - begin, self.workers, worker)
        samples = self.split.read(order.plain_line(self.split.sizes), begin + first, begin + last)
        for n in range(batches):
            places = range(self.shape.batch)[order.worker_rows(self.shape.batch, self.workers, worker, n)]
            mine = list(itertools.zip_longest(places, itertools.islice(samples, len(places))))
            yield self.shape, partial(self._fill, mine)
        for _ in samples:  # lets the reader see that the last shard ends where its index says
            pass

    def _fill(self, samples: list[tuple[int, Sample | None]], rows: Rows) -> None:
        for row, sample in samples:
            label = None if sample is None else self.preparer.eval(sample, rows["images"][row])
            if label is None:
                rows["images"][row] = 0
            rows["labels"][row], rows["mask"][row] = (0, 0) if label is None else (label, 1)
            rows["skipped"][row] = sample is not None and label is None
