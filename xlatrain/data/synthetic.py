"""Random images with labels that can be learnt, for benchmarks: no reading, no decoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from xlatrain.data import order
from xlatrain.data.batch import Batch
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place, phase_at

_PREPARED = 4  # distinct batches, made once and handed out in turn, so that making them costs a run nothing


@dataclass(frozen=True)
class SyntheticSplit:
    """`samples` images of uniform noise whose brightness tells the label."""

    samples: int
    image_size: int
    num_classes: int

    def train_batches(self, place: Place, seed: int, phases: tuple[Phase, ...], start: Position) -> Iterator[Batch]:
        phase = None
        for step in itertools.count(start.step):
            if phase != phase_at(phases, step):
                phase = phase_at(phases, step)
                prepared = [
                    self._batch(place, phase.batch(place.processes), phase.image_size, seed + i)
                    for i in range(_PREPARED)
                ]
            yield prepared[step % _PREPARED]

    def eval_batches(self, place: Place, batch: int) -> Iterator[Batch]:
        first, last, batches = order.eval_range(self.samples, batch, place.process, place.processes)
        prepared = [self._batch(place, batch, self.image_size, -1 - i) for i in range(_PREPARED)]
        for n in range(batches):
            present = min(max(last - first - n * batch, 0), batch)
            mask = (torch.arange(batch) < present).float()
            yield prepared[n % _PREPARED] | {"mask": mask}

    def _batch(self, place: Place, batch: int, size: int, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed * 65_537 + place.process)
        labels = torch.randint(0, self.num_classes, (batch,), generator=random)
        noise = torch.randint(0, 128, (batch, size, size, 3), generator=random, dtype=torch.uint8)
        light = (labels * 127 // max(1, self.num_classes - 1)).to(torch.uint8)
        return {"images": noise + light.view(-1, 1, 1, 1), "labels": labels, "skipped": torch.zeros(batch)}
