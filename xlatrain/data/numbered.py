"""A split of samples that are had by their number: torch Datasets of (image, label)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from xlatrain.config.data import AugmentConfig, OwnDataConfig
from xlatrain.data import order
from xlatrain.data.order import Line, Run
from xlatrain.data.pixels.decode import Decoder
from xlatrain.data.prepare import Preparer
from xlatrain.data.shard_format import Sample
from xlatrain.data.sources import OrderedSplit
from xlatrain.errors import bad_sample, in_a_line

_PART = 64  # samples that go together when an epoch is cut into streams, as those of a shard do


@dataclass(frozen=True)
class NumberedSplit(OrderedSplit):
    """One split: `dataset[i]` is (image, label) for 0 <= i < len(dataset). Reading any of them costs the same, so all
    of a stream is shuffled together, and nothing is held in memory."""

    dataset: Any
    config: OwnDataConfig
    augment: AugmentConfig
    classes: int

    @property
    def samples(self) -> int:
        return len(self.dataset)

    @property
    def window(self) -> int:
        return max(1, self.samples)

    @property
    def sizes(self) -> list[int]:
        whole, rest = divmod(self.samples, _PART)
        return [_PART] * whole + [rest] * (rest > 0)

    def preparer(self) -> Preparer:
        return Preparer(self.config, self.augment, self.classes, Decoder(self.config.interpolation, fast=False))

    def read(self, line: Line, first: int, last: int) -> Iterator[Sample]:
        return map(self.sample, self._numbers(line, first, last).tolist())

    def shuffled(
        self, line: Line, runs: Sequence[Run], key: tuple[int, int, int], seconds: Counter[str]
    ) -> Iterator[list[Sample]]:
        # Parts of a data set that is sorted by class would hold one class each: samples are dealt out to parts first.
        dealt = order.dealt(self.samples, seed=key[0])
        numbers = [self._shuffled_numbers(line, run, key, dealt) for run in runs]
        while True:
            parts = (itertools.islice(own, run.high - run.low) for run, own in zip(runs, numbers, strict=True))
            # What a data set draws by itself follows from the sample too, whichever process reads it.
            yield [self.sample(n, order.sample_seed(key[0], key[1], n)) for n in itertools.chain(*parts)]

    def again(self, sample: Sample, view: int, key: tuple[int, int, int]) -> Sample:
        return self.sample(sample.number, order.sample_seed(key[0], key[1], sample.number, view))

    def _shuffled_numbers(self, line: Line, run: Run, key: tuple[int, int, int], dealt: np.ndarray) -> Iterator[int]:
        for start, end, ranks in order.handed_out(run, *key, self.window):
            yield from dealt[self._numbers(line, start, end)][ranks].tolist()

    def sample(self, number: int, seed: int = 0) -> Sample:
        """A sample, its pixels decoded. seed: of the generators of random, numpy and torch while it is read. Raises
        DataError for whatever goes wrong in reading it."""
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack for each call: 1.4 ms
            image, label = self.dataset[number]
            return Sample(self.config.name, str(number), number, as_pixels(image), int(label))
        except Exception as error:  # of somebody's code
            problem = f"cannot be read: {type(error).__name__}: {in_a_line(error)}"
            raise bad_sample(self.config.name, str(number), problem) from error

    def _numbers(self, line: Line, first: int, last: int) -> np.ndarray:
        """The samples at positions first <= p < last of a line: int64 [last - first]."""
        runs = [np.arange(s.shard * _PART + s.first, s.shard * _PART + s.last) for s in line.cut(first, last)]
        return np.concatenate(runs) if runs else np.zeros(0, np.int64)


def as_pixels(image: object) -> np.ndarray:
    """A PIL image, a uint8 tensor [3 or 1, H, W] or [H, W], or a uint8 array [H, W, 3 or 1] or [H, W], as uint8
    [H, W, 3]. Raises TypeError."""
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if isinstance(image, torch.Tensor):
        pixels = image.numpy() if image.ndim == 2 else image.movedim(0, -1).numpy()
    else:
        pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        what = f"{type(image).__name__} {pixels.dtype}{list(getattr(image, 'shape', ()))}"
        raise TypeError(
            f"an image is a {what}; give a PIL image or uint8, tensors as [3, H, W] and arrays as [H, W, 3]. The "
            "device normalises: leave out ToTensor and Normalize"
        )
    return np.require(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), requirements=["C", "W"])  # torch wants them so
