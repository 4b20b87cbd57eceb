"""Tar shards to host batches: the pipeline of digits and ImageNet alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from xlatrain.config import ShardsConfig
from xlatrain.data import order
from xlatrain.data.decode import decode_image, shift_image
from xlatrain.data.shards import Sample, ShardIndex, read_shard
from xlatrain.errors import bad_sample

if TYPE_CHECKING:
    from xlatrain.data.dataset import Batch, Place


@dataclass(frozen=True)
class ShardedSplit:
    """One split of a data set of shards. shift: random translation in training, pixels."""

    index: ShardIndex
    config: ShardsConfig
    shift: int

    @property
    def samples(self) -> int:
        return self.index.samples

    def train_batches(self, place: Place, seed: int, first_step: int) -> Iterator[Batch]:
        stream = _TrainStream(self, place, seed, first_step, max(1, self.config.workers))
        if not self.config.workers:
            return stream.batches(worker=0)
        return iter(
            torch.utils.data.DataLoader(
                stream,
                batch_size=None,
                num_workers=self.config.workers,
                prefetch_factor=self.config.prefetch,
                multiprocessing_context="forkserver",
                worker_init_fn=_one_thread,
            )
        )

    def eval_batches(self, place: Place) -> Iterator[Batch]:
        first, last, batches = order.eval_range(self.samples, place.batch, place.process, place.processes)
        line = range(len(self.index.shards))
        samples = _read_spans(self.index, order.cut(self._sizes(), line, first, last))
        for _ in range(batches):
            batch = self._empty_batch(place.batch) | {"mask": torch.zeros(place.batch)}
            for row, sample in enumerate(itertools.islice(samples, place.batch)):
                batch["mask"][row] = float(self._fill(batch, row, sample, None))
                batch["skipped"][row] = 1.0 - batch["mask"][row]
            yield batch
        for _ in samples:  # lets the reader see that the last shard ends where its index says
            pass

    def _sizes(self) -> list[int]:
        return [s.samples for s in self.index.shards]

    def _empty_batch(self, size: int) -> Batch:
        side = self.config.image_size
        return {
            "images": torch.zeros(size, side, side, 3, dtype=torch.uint8),
            "labels": torch.zeros(size, dtype=torch.int64),
            "skipped": torch.zeros(size),
        }

    def _fill(self, batch: Batch, row: int, sample: Sample, random: np.random.Generator | None) -> bool:
        """Decode a sample into a row. False when it cannot be, and is to be skipped; raises DataError if not."""
        try:
            image = decode_image(sample.image, self.config.image_size, self.config.interpolation)
        except Exception as error:  # decoders raise what they like: OSError, ValueError, SyntaxError, struct.error
            if self.config.on_error == "skip":
                return False
            raise bad_sample(sample.shard, sample.key, f"cannot be decoded: {error}") from error
        if not 0 <= sample.label < max(len(self.index.class_names), self.config.num_classes or 0):
            raise bad_sample(
                sample.shard, sample.key, f"label {sample.label} is outside 0..{len(self.index.class_names) - 1}"
            )
        if random is not None and self.shift:
            image = shift_image(image, self.shift, random)
        batch["images"][row] = torch.from_numpy(image.copy())
        batch["labels"][row] = sample.label
        return True


class _TrainStream(torch.utils.data.IterableDataset):
    """The training batches of one process, made by one or more workers taking turns."""

    def __init__(self, split: ShardedSplit, place: Place, seed: int, first_step: int, workers: int):
        self.split, self.place, self.seed, self.workers = split, place, seed, workers
        self.first_step = first_step
        self.range = order.train_range(split.samples, place.batch, place.process, place.processes)
        self.per_epoch = (self.range[1] - self.range[0]) // place.batch

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        # The first worker asked makes the first batch, whatever step the run starts at.
        return self.batches((info.id + self.first_step) % self.workers)

    def batches(self, worker: int) -> Iterator[Batch]:
        for epoch in itertools.count(self.first_step // self.per_epoch):
            done = self.first_step - epoch * self.per_epoch
            mine = order.worker_batches(self.per_epoch, epoch, worker, self.workers)
            skip = sum(1 for n in mine if n < done)
            yield from itertools.islice(self._epoch(epoch, worker), skip, None)

    def _epoch(self, epoch: int, worker: int) -> Iterator[Batch]:
        size = self.place.batch
        a, b = order.worker_range(self.per_epoch, epoch, worker, self.workers)
        samples = self._shuffled(epoch, self.range[0] + a * size, self.range[0] + b * size)
        for _ in range(b - a):
            yield self._batch(epoch, list(itertools.islice(samples, size)))

    def _shuffled(self, epoch: int, first: int, last: int) -> Iterator[Sample]:
        sizes = self.split._sizes()
        line = order.shard_line(sizes, self.seed, epoch)
        samples = _read_spans(self.split.index, order.cut(sizes, line, first, last))
        for start, end in order.windows(first, last, self.split.config.shuffle_window):
            window = list(itertools.islice(samples, end - start))
            for i in order.window_order(len(window), self.seed, epoch, start):
                yield window[i]

    def _batch(self, epoch: int, samples: list[Sample]) -> Batch:
        batch = self.split._empty_batch(self.place.batch)
        good: list[int] = []
        bad: list[int] = []
        for row, sample in enumerate(samples):
            random = order.sample_generator(self.seed, epoch, sample.number)
            (good if self.split._fill(batch, row, sample, random) else bad).append(row)
        if bad and not good:
            raise bad_sample(samples[0].shard, samples[0].key, "and all others of its batch cannot be decoded")
        for i, row in enumerate(bad):  # the shape stays: a good image of the batch stands in, and is counted
            source = good[i % len(good)]
            batch["images"][row], batch["labels"][row] = batch["images"][source], batch["labels"][source]
            batch["skipped"][row] = 1
        return batch


def _read_spans(index: ShardIndex, spans: Sequence[order.Span]) -> Iterator[Sample]:
    starts = [0, *itertools.accumulate(s.samples for s in index.shards)]
    for span in spans:
        samples = read_shard(index.root, index.shards[span.shard], starts[span.shard])
        whole = span.last == index.shards[span.shard].samples
        # Reading past the last sample lets the reader see whether the shard is as long as its index says.
        yield from itertools.islice(samples, span.first, None if whole else span.last)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
