"""A split of tar shards: digits and ImageNet alike."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data import order
from xlatrain.data.clustering import Reading
from xlatrain.data.order import Line, Run
from xlatrain.data.shard_format import Sample, ShardIndex, read_shard
from xlatrain.data.sources import OrderedSplit
from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.windows import WindowReader

if TYPE_CHECKING:
    from xlatrain.data.pixels.decode import Decoder
    from xlatrain.data.prepare import Preparer

_DECODERS = {"auto": None, "simplejpeg": False, "nvimgcodec": True}


@dataclass(frozen=True)
class ShardedSplit(OrderedSplit):
    """One split of a data set of shards."""

    index: ShardIndex
    config: ShardsConfig
    augment: AugmentConfig
    classes: int

    @property
    def samples(self) -> int:
        return self.index.samples

    @property
    def window(self) -> int:
        return self.config.shuffle_window

    @property
    def sizes(self) -> list[int]:
        return [s.samples for s in self.index.shards]

    def reading(self, batch: int, hosts: int) -> Reading:
        """How training reads the split. batch: of all replicas."""
        sizes, batch = [s.bytes for s in self.index.shards], order.distinct_images(batch, self.repeats)
        return Reading(
            samples=self.samples,
            batch=batch,
            streams=min(self.streams, batch),  # more have no row
            window=self.window,
            hosts=hosts,
            bytes=None if None in sizes else sum(sizes),
        )

    def preparer(self) -> Preparer:
        from xlatrain.data.prepare import Preparer  # with torch, which a command that only checks may do without

        config = self.config
        return Preparer(config, self.augment, self.classes, open_decoder(config), skip=config.on_error == "skip")

    def read(self, line: Line, first: int, last: int) -> Iterator[Sample]:
        starts = [0, *itertools.accumulate(self.sizes)]
        for span in line.cut(first, last):
            shard, number = self.index.shards[span.shard], starts[span.shard]
            yield from read_shard(self.index, shard, number, span.first, span.last, read_options(self.config))

    def shuffled(
        self, line: Line, runs: Sequence[Run], key: tuple[int, int, int], seconds: Counter[str]
    ) -> Iterator[list[Sample]]:
        windows = [order.handed_out(run, *key, self.window) for run in runs]
        with WindowReader(windows, partial(self.read, line), seconds) as reader:
            while True:
                yield [s for number, run in enumerate(runs) for s in reader.take(number, run.high - run.low)]


def open_decoder(config: ShardsConfig) -> Decoder:
    """The decoder that the options ask for."""
    from xlatrain.data.pixels.decode import Decoder

    return Decoder(config.interpolation, _DECODERS[config.decoder], config.max_pixels)


def read_options(config: ShardsConfig) -> ReadOptions:
    return ReadOptions(
        retries=config.retries,
        wait=config.retry_wait,
        read_ahead=round(config.read_ahead_mb * 1e6),
        cache=config.cache,
        cache_bytes=None if config.cache_gb is None else round(config.cache_gb * 1e9),
    )
