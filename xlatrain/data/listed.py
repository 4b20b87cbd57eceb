"""Images that have no labels, in the order in which they were named: files, and samples of shards."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data.order import Line, Run, plain_line
from xlatrain.data.shard_format import (
    IMAGE_TYPES,
    Members,
    Sample,
    Shard,
    ShardIndex,
    ToSample,
    image_faults,
    read_shard,
)
from xlatrain.data.sharded import open_decoder, read_options
from xlatrain.data.sources import OrderedSplit
from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.storage.streams import read_all
from xlatrain.errors import DataError, in_a_line

if TYPE_CHECKING:
    from xlatrain.data.prepare import Preparer

_MOST = 1 << 30  # bytes of an image's file


@dataclass(frozen=True)
class ImageFiles:
    """Files, or addresses, of an image each."""

    urls: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.urls)

    def name(self, i: int) -> str:
        return self.urls[i]

    def read(self, number: int, first: int, last: int, options: ReadOptions) -> Iterator[Sample]:
        """Images first <= i < last, numbered from `number` on. One that cannot be read has no bytes."""
        for i in range(first, last):
            try:
                image = self._content(i, options)
            except (OSError, DataError):
                image = b""
            yield Sample("", self.urls[i], number + i - first, image, 0)

    def problem(self, i: int, options: ReadOptions) -> str | None:
        """Why an image cannot be read; None where it can."""
        try:
            self._content(i, options)
        except FileNotFoundError:
            return "there is no such file"
        except OSError as error:
            return error.strerror or in_a_line(error)
        except DataError as error:
            return in_a_line(error)
        return None

    def _content(self, i: int, options: ReadOptions) -> bytes:
        return read_all(self.urls[i], options, _MOST, "image")


@dataclass(frozen=True)
class ShardImages:
    """The samples of a shard, by their keys."""

    url: str
    shard: Shard
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, i: int) -> str:
        return f"{self.url}/{self.keys[i]}"

    def read(
        self, number: int, first: int, last: int, options: ReadOptions, to_sample: ToSample | None = None
    ) -> Iterator[Sample]:
        """As of ImageFiles. Raises DataError for a tar that cannot be read on."""
        index = ShardIndex("", (self.shard,), ())
        return read_shard(index, self.shard, number - first, first, last, options, to_sample or _without_label)

    def problem(self, i: int, options: ReadOptions) -> str | None:
        """As of ImageFiles."""
        try:
            next(iter(self.read(i, i, i + 1, options, _with_one_image)))
        except (ValueError, DataError) as error:
            return in_a_line(error)
        return None


Part = ImageFiles | ShardImages


@dataclass(frozen=True)
class ListedImages(OrderedSplit):
    """A split (data.dataset.Split) of what a command named, which is evaluated and not trained on. All labels are 0."""

    parts: tuple[Part, ...]
    config: ShardsConfig
    augment: AugmentConfig
    classes: int

    @property
    def samples(self) -> int:
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        return [len(part) for part in self.parts]

    @property
    def window(self) -> int:
        return max(1, self.samples)

    def preparer(self) -> Preparer:
        from xlatrain.data.prepare import Preparer

        return Preparer(self.config, self.augment, self.classes, open_decoder(self.config), skip=True)

    def read(self, line: Line, first: int, last: int) -> Iterator[Sample]:
        for span in line.cut(first, last):
            number = self._starts[span.shard] + span.first
            yield from self.parts[span.shard].read(number, span.first, span.last, read_options(self.config))

    def shuffled(
        self, line: Line, runs: Sequence[Run], key: tuple[int, int, int], seconds: Counter[str]
    ) -> Iterator[list[Sample]]:
        raise NotImplementedError("images without labels train nothing")

    def names(self) -> Iterator[str]:
        """The name of every image in turn: its path or address, of a shard the shard's and its key."""
        return (part.name(i) for part in self.parts for i in range(len(part)))

    def problem(self, number: int, preparer: Preparer) -> str:
        """Why an image could not be shown to the model, in a line."""
        (span,) = plain_line(self.sizes).cut(number, number + 1)
        part, options = self.parts[span.shard], read_options(self.config)
        if found := part.problem(span.first, options):
            return found
        (sample,) = part.read(number, span.first, span.last, options)
        return preparer.problem(sample, self.config.image_size) or "it could not be read at the first attempt"

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(self.sizes)]


def _without_label(url: str, key: str, number: int, members: Members) -> Sample:
    """A sample of which nothing but its image counts; with none, or several, it has no bytes."""
    images = [member.data for kind, member in members if kind in IMAGE_TYPES]
    return Sample(url, key, number, images[0] if len(images) == 1 else b"", 0)


def _with_one_image(url: str, key: str, number: int, members: Members) -> Sample:
    """The same. Raises ValueError for none, or several."""
    if faults := image_faults([kind for kind, _ in members]):
        raise ValueError(faults[0])
    return _without_label(url, key, number, members)
