"""Random images with labels that can be learnt, for benchmarks: no reading, no decoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xlatrain.data import order
from xlatrain.data.batch import Batch, as_tensors
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place, phase_at

_PREPARED = 4  # distinct batches, made once and handed out in turn, so that making them costs a run nothing


@dataclass(frozen=True)
class SyntheticSplit:
    """`samples` images of uniform noise whose brightness tells the label."""

    samples: int
    image_size: int
    num_classes: int
    repeats: int = 1

    def train_batches(self, place: Place, seed: int, phases: tuple[Phase, ...], start: Position) -> Iterator[Batch]:
        phase = None
        for step in itertools.count(start.step):
            if phase != phase_at(phases, step):
                phase = phase_at(phases, step)
                distinct = order.distinct_images(phase.global_batch, self.repeats)
                rows = [row for row, _ in order.views(place.rows(phase.global_batch), distinct)]
                prepared = [self._batch(rows, phase.image_size, seed, i) for i in range(_PREPARED)]
            yield prepared[step % _PREPARED]

    def eval_batches(self, place: Place, batch: int) -> Iterator[Batch]:
        first, last, batches = order.eval_range(self.samples, batch, place.process, place.processes)
        rows = range(place.process * batch, (place.process + 1) * batch)
        prepared = [self._batch(rows, self.image_size, -1, i) for i in range(_PREPARED)]
        for n in range(batches):
            present = min(max(last - first - n * batch, 0), batch)
            mask = (np.arange(batch) < present).astype(np.float32)
            yield prepared[n % _PREPARED] | as_tensors({"mask": mask})

    def _batch(self, rows: Sequence[int], size: int, seed: int, number: int) -> Batch:
        """These rows of a global batch: each has random numbers of its own, whoever asks for it."""
        draws = [order.sample_generator(seed, number, row) for row in rows]
        labels = np.array([int(draw.integers(self.num_classes)) for draw in draws], np.int64)
        images = np.empty((len(rows), size, size, 3), np.uint8)
        for image, draw, label in zip(images, draws, labels.tolist(), strict=True):
            light = label * 127 // max(1, self.num_classes - 1)
            np.add(draw.integers(0, 128, image.shape, np.uint8), light, out=image)
        return as_tensors({"images": images, "labels": labels, "skipped": np.zeros(len(rows), np.float32)})
