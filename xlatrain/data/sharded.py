"""Tar shards to host batches: the pipeline of digits and ImageNet alike."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from xlatrain.config import AugmentConfig, ShardsConfig
from xlatrain.data import order
from xlatrain.data.batch import Batch, BatchShape
from xlatrain.data.order import Leg, Line, Position
from xlatrain.data.prepare import Preparer
from xlatrain.data.retry import ReadOptions
from xlatrain.data.shards import Sample, ShardIndex, read_shard
from xlatrain.data.stage import Place, Stage, stage_at, stage_end
from xlatrain.data.workers import make_batches
from xlatrain.errors import bad_sample

Rows = dict[str, np.ndarray]
Fill = tuple[BatchShape, Callable[[Rows], None]]


@dataclass(frozen=True)
class ShardedSplit:
    """One split of a data set of shards."""

    index: ShardIndex
    config: ShardsConfig
    augment: AugmentConfig
    classes: int

    @property
    def samples(self) -> int:
        return self.index.samples

    def train_batches(self, place: Place, seed: int, stages: tuple[Stage, ...], start: Position) -> Iterator[Batch]:
        return make_batches(TrainStream(self, place, seed, stages, start), self.workers, self.config.prefetch)

    def eval_batches(self, place: Place, batch: int) -> Iterator[Batch]:
        return make_batches(EvalStream(self, place, batch), self.workers, self.config.prefetch)

    @property
    def workers(self) -> int:
        return self.config.workers or 0

    @property
    def sizes(self) -> list[int]:
        return [s.samples for s in self.index.shards]

    def read(self, line: Line, first: int, last: int) -> Iterator[Sample]:
        """The samples at positions first <= p < last of a line, in its order."""
        starts = [0, *itertools.accumulate(self.sizes)]
        for span in line.cut(first, last):
            shard, number = self.index.shards[span.shard], starts[span.shard]
            yield from read_shard(self.index, shard, number, span.first, span.last, read_options(self.config))


def read_options(config: ShardsConfig) -> ReadOptions:
    return ReadOptions(
        retries=config.retries,
        wait=config.retry_wait,
        read_ahead=round(config.read_ahead_mb * 1e6),
        cache=config.cache,
        cache_bytes=None if config.cache_gb is None else round(config.cache_gb * 1e9),
    )


@dataclass(frozen=True)
class Stretch:
    """Batches of one size that are read one after the other: from a position, in the last leg of it, up to batch
    `last` of the leg. line: what the leg is cut from; steps: the batches of the leg to the end of the line."""

    stage: Stage
    position: Position
    line: Line
    steps: int
    last: int

    @property
    def leg(self) -> Leg:
        return self.position.legs[-1]


class Stream:
    """The batches of one process, made by one or more workers in turns. Picklable; opens nothing until it is read.
    seconds: where a worker's time went, once it reads."""

    def __init__(self, split: ShardedSplit, place: Place):
        self.split, self.place = split, place
        self.streams = max(1, split.workers)

    def open(self) -> None:
        """Make what only the reading process has."""
        self.preparer = Preparer(self.split.config, self.split.augment, self.split.classes)
        self.seconds: Counter[str] = self.preparer.seconds

    def turns(self) -> Iterator[int]:
        """Which worker makes each batch."""
        raise NotImplementedError

    def fills(self, worker: int) -> Iterator[Fill]:
        """What a worker makes, batch after batch: shape, and a function that writes the batch to memory of it."""
        raise NotImplementedError

    @property
    def largest(self) -> int:
        """Bytes that hold any batch."""
        raise NotImplementedError


class TrainStream(Stream):
    """Batches of training for ever, from a position on. An epoch has samples // global batch of them; where a stage
    ends within one, what is left of it is cut anew for the next stage's batch."""

    def __init__(self, split: ShardedSplit, place: Place, seed: int, stages: tuple[Stage, ...], start: Position):
        super().__init__(split, place)
        self.seed, self.stages, self.start = seed, stages, start

    @property
    def largest(self) -> int:
        return max(BatchShape(s.batch, s.size).bytes for s in self.stages)

    def turns(self) -> Iterator[int]:
        for stretch in self._stretches():
            yield from (n % stretch.leg.workers for n in range(stretch.leg.steps, stretch.last))

    def fills(self, worker: int) -> Iterator[Fill]:
        for stretch in self._stretches():
            leg, stage, position = stretch.leg, stretch.stage, stretch.position
            first, last = order.worker_range(stretch.steps, leg, self.place.process, worker)
            done, end = (len(range(worker, steps, leg.workers)) for steps in (leg.steps, stretch.last))
            samples = self._shuffled(stretch.line, first, last, done * leg.batch, position)
            for _ in range(done, end):
                group = list(itertools.islice(samples, leg.batch))
                yield BatchShape(leg.batch, stage.size), partial(self._fill, position.epoch, stage, group)

    def _stretches(self) -> Iterator[Stretch]:
        """What is read one after the other: what is left of the epoch that the start is in, then whole epochs, each in
        parts where a stage ends in it."""
        position, window = self.start, self.split.config.shuffle_window
        while True:
            stage = stage_at(self.stages, position.step)
            position = position.under(Leg(self.place.processes, self.streams, stage.batch))
            line, done = order.line_at(self.split.sizes, self.seed, position, window), position.legs[-1].steps
            steps = order.leg_steps(line.samples, position.legs[-1])
            last = int(min(steps, done + stage_end(self.stages, position.step) - position.step))
            yield Stretch(stage, position, line, steps, last)
            position = position.advance(last - done)
            if last == steps:
                position = Position(position.epoch + 1, step=position.step)

    def _shuffled(self, line: Line, first: int, last: int, skip: int, position: Position) -> Iterator[Sample]:
        """The samples of a run, window by window; the next window is read while one is used."""
        key = (self.seed, position.epoch, len(position.legs) - 1, self.split.config.shuffle_window)
        windows = order.handed_out(first, last, *key, skip)

        def load(start: int, end: int, ranks: np.ndarray) -> list[Sample]:
            started, wanted = time.thread_time(), set(ranks.tolist())
            kept = {i: s for i, s in enumerate(self.split.read(line, start, end)) if i in wanted}
            self.seconds["read"] += time.thread_time() - started
            return [kept.pop(i) for i in ranks.tolist()]

        pool = ThreadPoolExecutor(1, "window-reader")
        try:
            loading = [pool.submit(load, *window) for window in itertools.islice(windows, 1)]
            while loading:
                loaded = loading.pop().result()
                loading += [pool.submit(load, *window) for window in itertools.islice(windows, 1)]
                loaded.reverse()
                while loaded:
                    yield loaded.pop()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, epoch: int, stage: Stage, samples: list[Sample], rows: Rows) -> None:
        rows["skipped"][:] = 0
        good, bad = [], []
        for row, sample in enumerate(samples):
            random = order.sample_generator(self.seed, epoch, sample.number)
            label = self.preparer.train(sample, rows["images"][row], random, stage.min_area)
            (bad if label is None else good).append(row)
            rows["labels"][row] = -1 if label is None else label
        if bad and not good:
            raise bad_sample(samples[0].shard, samples[0].key, "and all others of its batch cannot be decoded")
        for i, row in enumerate(bad):  # the shape stays: a good image of the batch stands in, and is counted
            source = good[i % len(good)]
            rows["images"][row], rows["labels"][row] = rows["images"][source], rows["labels"][source]
            rows["skipped"][row] = 1


class EvalStream(Stream):
    """Each sample once, in batches of one shape: what is missing at the end is padded and masked."""

    def __init__(self, split: ShardedSplit, place: Place, batch: int):
        super().__init__(split, place)
        self.shape = BatchShape(batch, split.config.image_size, masked=True)
        self.range = order.eval_range(split.samples, batch, place.process, place.processes)

    @property
    def largest(self) -> int:
        return self.shape.bytes

    def turns(self) -> Iterator[int]:
        return (n % self.streams for n in range(self.range[2]))

    def fills(self, worker: int) -> Iterator[Fill]:
        size = self.shape.batch
        first, last = order.worker_batches(self.range[2], self.streams, worker)
        begin, _ = order.eval_batch_range(self.range, size, first)
        end, _ = order.eval_batch_range(self.range, size, last)
        samples = self.split.read(order.plain_line(self.split.sizes), begin, end)
        for n in range(first, last):
            a, b = order.eval_batch_range(self.range, size, n)
            yield self.shape, partial(self._fill, list(itertools.islice(samples, b - a)))
        for _ in samples:  # lets the reader see that the last shard ends where its index says
            pass

    def _fill(self, samples: list[Sample], rows: Rows) -> None:
        for name in ("labels", "skipped", "mask"):
            rows[name][:] = 0
        rows["images"][len(samples) :] = 0
        for row, sample in enumerate(samples):
            label = self.preparer.eval(sample, rows["images"][row])
            if label is None:
                rows["images"][row], rows["skipped"][row] = 0, 1
            else:
                rows["labels"][row], rows["mask"][row] = label, 1
